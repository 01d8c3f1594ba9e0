/* Encoding with a BPE model, see bpe.h. bpe_read.c reads the model. */
#include "text/subword/bpe.h"

#include "base/text/utf8.h"
#include "base/work.h"

#include <stdlib.h>

void bpe_free(bpe *b) {
    pair_table_free(&b->merges);
    pair_table_free(&b->joins);
    free(b->unk_token);
    merge_free(&b->work);
    word_cache_free(&b->cache);
    *b = (bpe){0};
}

int32_t bpe_find(const bpe *b, const char *token, size_t bytes) {
    int32_t id = vocabulary_find(b->vocabulary, token, bytes);
    return id != NO_TOKEN && b->vocabulary->tokens[id].added ? NO_TOKEN : id;
}

static int32_t character_id(const bpe *b, const char *character, size_t bytes, uint32_t code_point) {
    return code_point < BPE_CHARACTERS ? b->character_ids[code_point] : bpe_find(b, character, bytes);
}

static bool has_byte_tokens(const bpe *b, const char *character, size_t bytes) {
    if (!b->byte_fallback) return false;
    for (size_t i = 0; i < bytes; i++)
        if (b->byte_ids[(unsigned char)character[i]] == NO_TOKEN) return false;
    return true;
}

/* A character without a token becomes the tokens of its bytes, if the model has all of them. */
static bool push_bytes(bpe *b, const char *character, size_t bytes) {
    if (!has_byte_tokens(b, character, bytes)) return false;
    for (size_t i = 0; i < bytes; i++) merge_push(&b->work, b->byte_ids[(unsigned char)character[i]]);
    return true;
}

/* Converts the characters of a word to symbols. An unknown token is emitted at the next known character, so that
 * adjacent unknown characters can be fused; byte tokens do not end the run. (Both as in the tokenizers library, whose
 * ids are the reference.) */
static int push_characters(bpe *b, const char *word, size_t bytes) {
    bool unknown = false;
    for (size_t at = 0, length; at < bytes; at += length) {
        uint32_t code_point;
        length = utf8_next(word + at, &code_point);
        int32_t id = character_id(b, word + at, length, code_point);
        if (id != NO_TOKEN) {
            if (unknown) merge_push(&b->work, b->unk_id);
            unknown = false;
            merge_push(&b->work, id);
        } else if (!push_bytes(b, word + at, length) && b->unk_token) {
            REQUIRE(b->unk_id != NO_TOKEN, LCKV_ERROR_FORMAT,
                    "tokenizer: U+%04X has no token, and 'vocab' does not contain the unk_token '%s'", code_point,
                    b->unk_token);
            if (unknown && !b->fuse_unk) merge_push(&b->work, b->unk_id);
            unknown = true;
        }
    }
    if (unknown) merge_push(&b->work, b->unk_id);
    return LCKV_OK;
}

/* Returns LCKV_ERROR_TOO_LONG if a long text certainly has more tokens than `out` may take: a token covers at most
 * `longest` bytes of characters that the model knows. Other characters do not count, because any number of them may
 * become one token. */
static int check_length(const bpe *b, const char *text, size_t bytes, const id_list *out) {
    uint32_t code_point;
    size_t covered = 0;
    if (!out->limit || bytes / b->longest <= out->limit - out->count) return LCKV_OK;
    for (size_t at = 0, length; at < bytes; at += length) {
        length = utf8_next(text + at, &code_point);
        bool known = character_id(b, text + at, length, code_point) != NO_TOKEN;
        if (known || has_byte_tokens(b, text + at, length)) covered += length;
    }
    return id_list_check(out, covered / b->longest);
}

static int encode_word(bpe *b, const char *word, size_t bytes, id_list *out) {
    cached_word *place = NULL;
    if (bytes <= CACHED_WORD_BYTES) {
        bool hit;
        place = word_cache_find(&b->cache, word, bytes, &hit);
        if (hit) return id_list_append(out, place->ids, place->count);
    }
    size_t before = out->count;
    TRY(check_length(b, word, bytes, out));
    work_count(bytes);
    TRY(merge_reserve(&b->work, bytes));
    b->work.count = 0;
    TRY(push_characters(b, word, bytes));
    TRY(merge_word(&b->work, &b->merges, out));
    size_t count = out->count - before;
    if (place) word_cache_store(place, word, bytes, count ? out->ids + before : NULL, count);
    return LCKV_OK;
}

/* Whether no token can span `at`: both neighbours are tokens, and no merge joins them. */
static bool is_bound(const bpe *b, const char *text, size_t before, size_t at) {
    uint32_t left, right;
    size_t left_bytes = utf8_next(text + before, &left), right_bytes = utf8_next(text + at, &right);
    return !pair_table_find(&b->joins, pair_of(left, right)) &&
           character_id(b, text + at, right_bytes, right) != NO_TOKEN &&
           character_id(b, text + before, left_bytes, left) != NO_TOKEN;
}

int bpe_encode(bpe *b, const char *text, size_t bytes, id_list *out) {
    if (bytes == 0) return LCKV_OK;
    work_count(bytes);
    if (b->ignore_merges) {
        int32_t whole = bpe_find(b, text, bytes);
        if (whole != NO_TOKEN) return id_list_append(out, &whole, 1);
    }
    if (bytes <= CACHED_WORD_BYTES) return encode_word(b, text, bytes, out);
    uint32_t code_point;
    size_t begin = 0, before = 0;
    for (size_t at = utf8_next(text, &code_point); at < bytes; at += utf8_next(text + at, &code_point)) {
        if (is_bound(b, text, before, at)) {
            TRY(encode_word(b, text + begin, at - begin, out));
            begin = at;
        }
        before = at;
    }
    return encode_word(b, text + begin, bytes - begin, out);
}
