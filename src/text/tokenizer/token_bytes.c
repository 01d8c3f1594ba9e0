/* The bytes that a token adds to a text: lckv_tokenizer_token_bytes().
 *
 * The result of a decoder depends on neighbouring tokens: most decoders remove a space at the start of a text, and a
 * byte that is part of a character is not text by itself. Therefore the token is decoded after another token, whose
 * text is cut off. The bytes of an incomplete character are read from the token itself. */
#include "base/text/utf8.h"
#include "text/tokenizer/steps/decoder_steps.h"
#include "text/tokenizer/tokenizer.h"
#include "text/unicode/byte_alphabet.h"

#include <stdlib.h>
#include <string.h>

static const char BEFORE[] = "a"; /* a token that decodes to some text with any decoder */

/* The token's own bytes if they are not whole characters; otherwise `out` stays empty. */
static int part_of_character(const detokenizer *d, const char *token, size_t bytes, text_buffer *out) {
    int byte = decoder_byte(token, bytes);
    for (size_t i = 0; i < d->count; i++) {
        decoder_kind kind = d->steps[i].kind;
        if (kind == DECODE_BYTE_FALLBACK && byte >= 0x80) return text_append(out, &(char){(char)byte}, 1);
        if (kind != DECODE_BYTE_LEVEL) continue;
        TRY(byte_alphabet_read(out, token, bytes));
        if (utf8_valid(out->data, out->length)) out->length = 0;
        return LCKV_OK;
    }
    return LCKV_OK;
}

/* Decodes BEFORE and a token; NULL: without it. */
static int decode(const detokenizer *d, const char *before, const char *token, size_t bytes, text_buffer *out) {
    detokenizer_run *run;
    int status = LCKV_OK;
    TRY(detokenizer_begin(d, &run));
    if (before) status = detokenizer_push(run, before, strlen(before), out);
    if (token && status >= 0) status = detokenizer_push(run, token, bytes, out);
    if (status >= 0) status = detokenizer_finish(run, out);
    detokenizer_end(run);
    return status;
}

static int in_context(const detokenizer *d, const char *token, size_t bytes, bool at_start, text_buffer *out) {
    text_buffer before = {0};
    int status = decode(d, at_start ? NULL : BEFORE, token, bytes, out);
    if (status >= 0 && !at_start) status = decode(d, BEFORE, NULL, 0, &before);
    if (status >= 0 && before.length && before.length <= out->length &&
        !memcmp(out->data, before.data, before.length)) {
        out->length -= before.length;
        memmove(out->data, out->data + before.length, out->length);
    }
    text_free(&before);
    return status;
}

int lckv_tokenizer_token_bytes(lckv_tokenizer *t, int32_t id, bool at_start, char **bytes, size_t *count) {
    const token_entry *entry = vocabulary_entry(&t->vocabulary, id);
    text_buffer out = {0};
    *bytes = NULL;
    *count = 0;
    REQUIRE(entry, LCKV_ERROR_ARGUMENT, "token id %d does not exist; the largest is %d", (int)id,
            (int)t->vocabulary.size - 1);
    const char *token = vocabulary_text(&t->vocabulary, entry);
    int status = part_of_character(&t->detokenizer, token, entry->bytes, &out);
    if (status >= 0 && !out.length) status = in_context(&t->detokenizer, token, entry->bytes, at_start, &out);
    size_t length = out.length;
    if (status >= 0) status = text_take(&out, bytes);
    if (status >= 0) *count = length;
    text_free(&out);
    return status;
}
