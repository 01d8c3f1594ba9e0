/* Encoding with a Unigram model, see unigram.h. unigram_read.c reads the model. */
#include "text/subword/unigram.h"

#include "base/text/utf8.h"
#include "base/work.h"

#include <stdlib.h>

void unigram_free(unigram *u) {
    free(u->scores);
    free(u->nodes);
    free(u->ends);
    word_cache_free(&u->cache);
    *u = (unigram){0};
}

static int reserve(unigram *u, size_t bytes) {
    if (bytes < u->capacity) return LCKV_OK;
    REQUIRE(bytes < INT32_MAX / 2, LCKV_ERROR_UNSUPPORTED,
            "the text has a segment of %zu bytes; at most 1 GiB can be tokenized at once", bytes);
    size_t capacity = u->capacity ? u->capacity * 2 : 1024;
    if (capacity <= bytes) capacity = bytes + 1;
    free(u->ends);
    u->capacity = 0;
    u->ends = malloc(capacity * sizeof *u->ends);
    REQUIRE(u->ends, LCKV_ERROR_MEMORY, "no memory to tokenize %zu bytes", bytes);
    u->capacity = capacity;
    return LCKV_OK;
}

static const unigram_node *child_of(const unigram *u, const unigram_node *node, unsigned char byte) {
    const unigram_node *children = u->nodes + node->child;
    size_t low = 0, high = node->children;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (children[middle].byte < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low < node->children && children[low].byte == byte ? &children[low] : NULL;
}

/* Considers a token that ends at `end`. Among paths with equal scores the first one found is kept. */
static void offer(unigram_end *end, double score, size_t token_bytes, int32_t id) {
    if (end->token_bytes && score <= end->score) return;
    *end = (unigram_end){score, (uint32_t)token_bytes, id};
}

/* Considers all tokens that start at `at`. Returns true if one of them is the character there. */
static bool offer_tokens(unigram *u, const char *text, size_t bytes, size_t at, size_t character_bytes) {
    const unigram_node *node = u->nodes;
    bool single = false;
    for (size_t end = at; end < bytes && (node = child_of(u, node, (unsigned char)text[end]));) {
        end++;
        work_count(1);
        if (node->id == NO_TOKEN) continue;
        offer(&u->ends[end], u->scores[node->id] + u->ends[at].score, end - at, node->id);
        single = single || end - at == character_bytes;
    }
    return single;
}

/* Fills `ends` for the text. */
static int find_best_row(unigram *u, const char *text, size_t bytes) {
    work_count(bytes);
    for (size_t i = 0; i <= bytes; i++) u->ends[i] = (unigram_end){0};
    for (size_t at = 0, length; at < bytes; at += length) {
        uint32_t code_point;
        length = utf8_next(text + at, &code_point);
        if (offer_tokens(u, text, bytes, at, length)) continue;
        REQUIRE(u->unk_id != NO_TOKEN, LCKV_ERROR_FORMAT,
                "tokenizer: U+%04X has no token, and the model has no 'unk_id'", code_point);
        offer(&u->ends[at + length], u->unk_score + u->ends[at].score, length, u->unk_id);
    }
    return LCKV_OK;
}

/* Appends, in reverse order, the ids of unknown text: a token (adjacent unknown characters may form one), its bytes, or
 * unk. */
static int append_unknown(const unigram *u, const char *text, size_t bytes, id_list *out) {
    int32_t whole = vocabulary_find(u->vocabulary, text, bytes);
    if (whole != NO_TOKEN && !u->vocabulary->tokens[whole].added) return id_list_append(out, &whole, 1);
    bool falls_back = u->byte_fallback;
    for (size_t i = 0; i < bytes && falls_back; i++) falls_back = u->byte_ids[(unsigned char)text[i]] != NO_TOKEN;
    if (!falls_back) return id_list_append(out, &u->unk_id, 1);
    for (size_t i = bytes; i > 0; i--) TRY(id_list_append(out, &u->byte_ids[(unsigned char)text[i - 1]], 1));
    return LCKV_OK;
}

/* Appends the best path in reverse order. Adjacent unknown characters are one token. */
static int append_backwards(const unigram *u, const char *text, size_t bytes, id_list *out) {
    work_count(bytes);
    size_t unknown_end = 0; /* of the current run of unknown text; 0: none */
    for (size_t end = bytes; end > 0; end -= u->ends[end].token_bytes) {
        int32_t id = u->ends[end].id;
        if (id == u->unk_id) {
            if (!unknown_end) unknown_end = end;
            continue;
        }
        if (unknown_end) TRY(append_unknown(u, text + end, unknown_end - end, out));
        unknown_end = 0;
        TRY(id_list_append(out, &id, 1));
    }
    return unknown_end ? append_unknown(u, text, unknown_end, out) : LCKV_OK;
}

static void reverse(int32_t *ids, size_t count) {
    for (size_t i = 0; i < count / 2; i++) {
        int32_t id = ids[i];
        ids[i] = ids[count - 1 - i];
        ids[count - 1 - i] = id;
    }
}

int unigram_encode(unigram *u, const char *text, size_t bytes, id_list *out) {
    cached_word *place = NULL;
    if (bytes == 0) return LCKV_OK;
    if (bytes <= CACHED_WORD_BYTES) {
        bool hit;
        place = word_cache_find(&u->cache, text, bytes, &hit);
        if (hit) return id_list_append(out, place->ids, place->count);
    }
    size_t before = out->count;
    TRY(reserve(u, bytes));
    TRY(find_best_row(u, text, bytes));
    TRY(append_backwards(u, text, bytes, out));
    reverse(out->ids + before, out->count - before);
    if (place) word_cache_store(place, text, bytes, out->ids + before, out->count - before);
    return LCKV_OK;
}
