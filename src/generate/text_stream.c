/* memmem() is declared for _GNU_SOURCE, which gnu11 with glibc does not set by itself. */
#define _GNU_SOURCE
#include "generate/text_stream.h"

#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

/* A model may have more rows than its tokenizer has tokens; such an id has no text. */
static bool has_text(const lckv_tokenizer *tokenizer, int32_t id) {
    return lckv_tokenizer_id_to_token(tokenizer, id) != NULL;
}

/* Decodes ids, special tokens left out; release with free(). */
static int decode(lckv_tokenizer *tokenizer, const int32_t *ids, int64_t count, char **text, size_t *bytes) {
    int32_t *known = malloc((size_t)count * sizeof *known + 1);
    *text = NULL;
    REQUIRE(known, LCKV_ERROR_MEMORY, "no memory to decode %lld tokens", (long long)count);
    size_t n = 0;
    for (int64_t i = 0; i < count; i++)
        if (has_text(tokenizer, ids[i])) known[n++] = ids[i];
    int status = lckv_tokenizer_decode(tokenizer, known, n, true, text, bytes);
    free(known);
    return status;
}

/* Lets the decoder read the prompt. What it says to that is part of the prompt's text; what is then missing of that
 * text it will say with the tokens that follow. */
static int read_prompt(text_stream *s, const int32_t *prompt, int64_t count) {
    size_t said = 0, all, bytes;
    const char *text;
    char *whole;
    for (int64_t i = 0; i < count; i++) {
        if (!has_text(s->tokenizer, prompt[i])) continue;
        TRY(lckv_decode_stream_push(s->decoder, prompt[i], &text, &bytes));
        said += bytes;
    }
    TRY(decode(s->tokenizer, prompt, count, &whole, &all));
    int status = said < all ? text_append(&s->owed, whole + said, all - said) : LCKV_OK;
    free(whole);
    return status;
}

int text_stream_open(text_stream *s, lckv_tokenizer *tokenizer, const int32_t *prompt, int64_t count,
                     const char *const *stops, int stop_count) {
    *s = (text_stream){.tokenizer = tokenizer, .stops = stops, .stop_count = stop_count};
    TRY(lckv_decode_stream_open(tokenizer, true, &s->decoder));
    return read_prompt(s, prompt, count);
}

int text_stream_copy(text_stream *s, const text_stream *from) {
    *s = (text_stream){.tokenizer = from->tokenizer, .stops = from->stops, .stop_count = from->stop_count};
    TRY(decode_stream_copy(from->decoder, &s->decoder));
    return from->owed.length ? text_append(&s->owed, from->owed.data, from->owed.length) : LCKV_OK;
}

void text_stream_close(text_stream *s) {
    lckv_decode_stream_free(s->decoder);
    text_free(&s->owed);
    text_free(&s->text);
    *s = (text_stream){0};
}

/* The earliest stop string of `text` that begins at `from` or later. */
static const char *find_stop(const text_stream *s, const char *text, size_t bytes, size_t from) {
    const char *first = NULL;
    for (int i = 0; i < s->stop_count; i++) {
        const char *at = memmem(text + from, bytes - from, s->stops[i], strlen(s->stops[i]));
        if (at && (!first || at < first)) first = at;
    }
    return first;
}

/* How many bytes at the end may be the beginning of a stop string. */
static size_t held_back(const text_stream *s) {
    size_t most = 0;
    for (int i = 0; i < s->stop_count; i++) {
        size_t length = strlen(s->stops[i]) - 1;
        if (length > s->text.length) length = s->text.length;
        while (length > most && memcmp(s->text.data + s->text.length - length, s->stops[i], length) != 0) length--;
        if (length > most) most = length;
    }
    return most;
}

/* Text that the decoder owes to the prompt is not part of the continuation, unless it has changed: bytes at the end of
 * the prompt became a character together with those that came. */
static void pay_owed(text_stream *s, const char **text, size_t *bytes) {
    size_t paid = s->owed.length < *bytes ? s->owed.length : *bytes;
    if (!paid) return;
    bool changed = memcmp(s->owed.data, *text, paid) != 0;
    s->owed.length -= changed ? s->owed.length : paid;
    if (changed) return;
    memmove(s->owed.data, s->owed.data + paid, s->owed.length);
    *text += paid;
    *bytes -= paid;
}

static int add_text(text_stream *s, const char *text, size_t bytes) {
    size_t longest = 1;
    for (int i = 0; i < s->stop_count; i++)
        if (strlen(s->stops[i]) > longest) longest = strlen(s->stops[i]);
    size_t from = s->text.length < longest ? 0 : s->text.length - longest + 1;
    pay_owed(s, &text, &bytes);
    if (s->stopped || !bytes) return LCKV_OK;
    TRY(text_append(&s->text, text, bytes));
    const char *stop = find_stop(s, s->text.data, s->text.length, from);
    if (!stop) return LCKV_OK;
    s->stopped = true;
    s->text.length = (size_t)(stop - s->text.data);
    return LCKV_OK;
}

int text_stream_push(text_stream *s, int32_t id) {
    const char *text;
    size_t bytes;
    if (!has_text(s->tokenizer, id)) return LCKV_OK;
    TRY(lckv_decode_stream_push(s->decoder, id, &text, &bytes));
    return add_text(s, text, bytes);
}

int text_stream_finish(text_stream *s) {
    const char *text;
    size_t bytes;
    s->finished = true;
    TRY(lckv_decode_stream_finish(s->decoder, &text, &bytes));
    return add_text(s, text, bytes);
}

const char *text_stream_take(text_stream *s, size_t *bytes) {
    bool whole = s->finished || s->stopped;
    size_t end = whole ? s->text.length : s->text.length - held_back(s);
    const char *text = s->text.data ? s->text.data + s->taken : "";
    *bytes = end - s->taken;
    s->taken = end;
    return text;
}

/* Where `text`, decoded by itself, stops. It is what was streamed, except that the decoder may have taken a space from
 * its beginning; or that its first bytes belonged to a character of the prompt, and then the stop string tells. */
static size_t find_end(const text_stream *s, const char *text, size_t bytes) {
    for (size_t taken = 0; taken <= 1 && taken <= s->text.length; taken++) {
        size_t end = s->text.length - taken;
        if (!end || (end <= bytes && memcmp(text, s->text.data + taken, end) == 0)) return end;
    }
    const char *stop = find_stop(s, text, bytes, 0);
    return stop ? (size_t)(stop - text) : bytes;
}

int text_stream_decode(const text_stream *s, const int32_t *ids, int64_t count, char **text, size_t *bytes) {
    TRY(decode(s->tokenizer, ids, count, text, bytes));
    if (s->stopped) *bytes = find_end(s, *text, *bytes);
    (*text)[*bytes] = '\0';
    return LCKV_OK;
}
