/* Text to ids and back: the public functions for tokenizers (lckv.h), and the order of the stages (tokenizer.h). */
#include "text/tokenizer/tokenizer.h"

#include "base/text/utf8.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int lckv_tokenizer_open(const char *folder_or_file, lckv_tokenizer **out) {
    *out = NULL;
    lckv_tokenizer *t = calloc(1, sizeof *t);
    REQUIRE(t, LCKV_ERROR_MEMORY, "no memory for a tokenizer");
    int status = tokenizer_read(t, folder_or_file);
    if (status < 0)
        lckv_tokenizer_free(t);
    else
        *out = t;
    return status;
}

void lckv_tokenizer_free(lckv_tokenizer *t) {
    if (!t) return;
    bpe_free(&t->model);
    unigram_free(&t->unigram);
    vocabulary_free(&t->vocabulary);
    added_tokens_free(&t->added);
    normalizer_free(&t->normalizer);
    pre_tokenizer_free(&t->pre_tokenizer);
    post_processor_free(&t->post_processor);
    detokenizer_free(&t->detokenizer);
    for (int i = 0; i < 2; i++) pieces_free(&t->pieces[i]);
    text_free(&t->given);
    text_free(&t->text);
    free(t);
}

/* ---- encoding */

/* Normalizes the pieces of `from`, and splits at added tokens that are searched for in normalized text. */
static int normalize_pieces(lckv_tokenizer *t, const pieces *from, pieces *to) {
    pieces_clear(to);
    for (size_t i = 0; i < from->count; i++) {
        const piece *item = &from->items[i];
        if (item->id != NO_TOKEN) {
            TRY(pieces_add_token(to, item->id));
            continue;
        }
        bool starts_text = item->starts_text;
        t->text.length = 0;
        t->text.limit = to->text.limit - to->text.length + 1;
        TRY(text_append(&t->text, piece_text(from, item), item->bytes));
        TRY(normalizer_apply(&t->normalizer, &t->text, &starts_text));
        TRY(added_tokens_cut(&t->added.in_normalized, t->text.data, t->text.length, starts_text, to));
    }
    return LCKV_OK;
}

static int encode_word(lckv_tokenizer *t, const char *word, size_t bytes, id_list *ids) {
    return t->unigram.nodes ? unigram_encode(&t->unigram, word, bytes, ids) : bpe_encode(&t->model, word, bytes, ids);
}

/* Splits a text into `words`, which the model encodes one by one. */
static int cut_text(lckv_tokenizer *t, const char *text, size_t bytes, pieces *words, pieces *given) {
    size_t used;
    t->given.length = 0;
    TRY(utf8_append_replacing(&t->given, text, bytes, false, &used));
    pieces_clear(given);
    given->text.limit = words->text.limit = text_growth_limit(bytes);
    TRY(added_tokens_cut(&t->added.in_given, t->given.data, t->given.length, true, given));
    normalizer_begin(&t->normalizer);
    TRY(normalize_pieces(t, given, words));
    return pre_tokenizer_apply(&t->pre_tokenizer, words, given);
}

static int encode_text(lckv_tokenizer *t, const char *text, size_t bytes, id_list *ids) {
    pieces *given = &t->pieces[0], *words = &t->pieces[1];
    int status = cut_text(t, text, bytes, words, given);
    if (status == LCKV_ERROR_UNSUPPORTED)
        return fail_within(status, "tokenizer: a text of %zu byte%s", bytes, plural((int64_t)bytes));
    TRY(status);
    for (size_t i = 0; i < words->count; i++) {
        const piece *item = &words->items[i];
        if (item->id != NO_TOKEN)
            TRY(id_list_append(ids, &item->id, 1));
        else
            TRY(encode_word(t, piece_text(words, item), item->bytes, ids));
    }
    return LCKV_OK;
}

static int encode_all(lckv_tokenizer *t, const char *text, size_t bytes, bool add_special_tokens, id_list *ids) {
    const post_processor *around = &t->post_processor;
    if (add_special_tokens) TRY(id_list_append(ids, around->before.ids, around->before.count));
    TRY(encode_text(t, text, bytes, ids));
    if (add_special_tokens) TRY(id_list_append(ids, around->after.ids, around->after.count));
    return LCKV_OK;
}

int lckv_tokenizer_encode(lckv_tokenizer *t, const char *text, size_t bytes, bool add_special_tokens, int32_t **ids,
                          size_t *count) {
    return lckv_tokenizer_encode_at_most(t, text, bytes, add_special_tokens, 0, ids, count);
}

int lckv_tokenizer_encode_at_most(lckv_tokenizer *t, const char *text, size_t bytes, bool add_special_tokens,
                                  size_t limit, int32_t **ids, size_t *count) {
    id_list list = {.limit = limit};
    *ids = NULL;
    *count = 0;
    int status = encode_all(t, text, bytes, add_special_tokens, &list);
    if (status < 0) {
        id_list_free(&list);
        return status;
    }
    *ids = list.ids;
    *count = list.count;
    return LCKV_OK;
}

/* ---- decoding */

struct lckv_decode_stream {
    const lckv_tokenizer *tokenizer;
    detokenizer_run *run;
    bool skip_special_tokens;
    text_buffer text; /* the result of the last call */
};

int lckv_decode_stream_open(lckv_tokenizer *t, bool skip_special_tokens, lckv_decode_stream **out) {
    *out = NULL;
    lckv_decode_stream *stream = calloc(1, sizeof *stream);
    REQUIRE(stream, LCKV_ERROR_MEMORY, "no memory to decode a text");
    *stream = (lckv_decode_stream){.tokenizer = t, .skip_special_tokens = skip_special_tokens};
    int status = detokenizer_begin(&t->detokenizer, &stream->run);
    if (status < 0)
        lckv_decode_stream_free(stream);
    else
        *out = stream;
    return status;
}

int decode_stream_copy(const lckv_decode_stream *from, lckv_decode_stream **out) {
    *out = NULL;
    lckv_decode_stream *stream = calloc(1, sizeof *stream);
    REQUIRE(stream, LCKV_ERROR_MEMORY, "no memory to decode a text");
    *stream = (lckv_decode_stream){.tokenizer = from->tokenizer, .skip_special_tokens = from->skip_special_tokens};
    int status = detokenizer_copy(from->run, &stream->run);
    if (status < 0)
        lckv_decode_stream_free(stream);
    else
        *out = stream;
    return status;
}

void lckv_decode_stream_free(lckv_decode_stream *stream) {
    if (!stream) return;
    detokenizer_end(stream->run);
    text_free(&stream->text);
    free(stream);
}

static int push_id(lckv_decode_stream *stream, int32_t id) {
    const vocabulary *v = &stream->tokenizer->vocabulary;
    const token_entry *token = vocabulary_entry(v, id);
    REQUIRE(token, LCKV_ERROR_ARGUMENT, "the tokenizer has no token with id %" PRId32 "; its largest is %" PRId32, id,
            v->size - 1);
    if (token->special && stream->skip_special_tokens) return LCKV_OK;
    return detokenizer_push(stream->run, vocabulary_text(v, token), token->bytes, &stream->text);
}

/* Returns the content of `text`. */
static int hand_out(lckv_decode_stream *stream, const char **text, size_t *bytes) {
    TRY(text_append(&stream->text, "", 0)); /* NUL-terminated also if it is empty */
    *text = stream->text.data;
    *bytes = stream->text.length;
    return LCKV_OK;
}

int lckv_decode_stream_push(lckv_decode_stream *stream, int32_t id, const char **text, size_t *bytes) {
    *text = NULL;
    *bytes = 0;
    stream->text.length = 0;
    TRY(push_id(stream, id));
    return hand_out(stream, text, bytes);
}

int lckv_decode_stream_finish(lckv_decode_stream *stream, const char **text, size_t *bytes) {
    *text = NULL;
    *bytes = 0;
    stream->text.length = 0;
    TRY(detokenizer_finish(stream->run, &stream->text));
    detokenizer_end(stream->run);
    TRY(detokenizer_begin(&stream->tokenizer->detokenizer, &stream->run));
    return hand_out(stream, text, bytes);
}

static int decode_all(lckv_decode_stream *stream, const int32_t *ids, size_t count) {
    for (size_t i = 0; i < count; i++) TRY(push_id(stream, ids[i]));
    return detokenizer_finish(stream->run, &stream->text);
}

int lckv_tokenizer_decode(lckv_tokenizer *t, const int32_t *ids, size_t count, bool skip_special_tokens, char **text,
                          size_t *bytes) {
    lckv_decode_stream *stream;
    *text = NULL;
    *bytes = 0;
    TRY(lckv_decode_stream_open(t, skip_special_tokens, &stream));
    int status = decode_all(stream, ids, count);
    size_t length = stream->text.length;
    if (status >= 0) status = text_take(&stream->text, text);
    if (status >= 0) *bytes = length;
    lckv_decode_stream_free(stream);
    return status;
}

/* ---- questions */

int32_t lckv_tokenizer_vocab_size(const lckv_tokenizer *t) {
    return t->vocabulary.size;
}

int32_t lckv_tokenizer_token_to_id(const lckv_tokenizer *t, const char *token) {
    return vocabulary_find(&t->vocabulary, token, strlen(token));
}

const char *lckv_tokenizer_id_to_token(const lckv_tokenizer *t, int32_t id) {
    const token_entry *token = vocabulary_entry(&t->vocabulary, id);
    return token ? vocabulary_text(&t->vocabulary, token) : NULL;
}

bool lckv_tokenizer_is_special(const lckv_tokenizer *t, int32_t id) {
    const token_entry *token = vocabulary_entry(&t->vocabulary, id);
    return token && token->special;
}

int32_t lckv_tokenizer_bos_id(const lckv_tokenizer *t) {
    return t->bos_id;
}

int32_t lckv_tokenizer_eos_id(const lckv_tokenizer *t) {
    return t->eos_id;
}
