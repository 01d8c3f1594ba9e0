/* Reading a Unigram model, see unigram.h. */
#include "base/work.h"
#include "text/subword/component.h"
#include "text/subword/unigram.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Difference between the lowest score and the score of an unknown character (SentencePiece's kUnkPenalty). */
static const double UNKNOWN_PENALTY = 10;

/* ---- the vocabulary */

static int read_token(unigram *u, const json_t *entry, vocabulary *v, const component *c, size_t id) {
    const json_t *token = json_array_get(entry, 0), *score = json_array_get(entry, 1);
    REQUIRE(json_array_size(entry) == 2 && json_is_string(token) && json_is_number(score), LCKV_ERROR_FORMAT,
            "%s: entry %zu of 'vocab' should be [\"token\", score]", c->where, id);
    size_t bytes = json_string_length(token);
    REQUIRE(bytes <= UNIGRAM_TOKEN_BYTES, LCKV_ERROR_UNSUPPORTED,
            "%s: entry %zu of 'vocab' has %zu bytes; tokens of at most %d bytes are supported", c->where, id, bytes,
            UNIGRAM_TOKEN_BYTES);
    u->scores[id] = json_number_value(score);
    if (u->scores[id] - UNKNOWN_PENALTY < u->unk_score) u->unk_score = u->scores[id] - UNKNOWN_PENALTY;
    return vocabulary_add_latest(v, json_string_value(token), bytes, (int64_t)id, c->where);
}

static int read_vocabulary(unigram *u, const component *c, vocabulary *v) {
    const json_t *list, *entry;
    size_t index;
    TRY(component_list(c, "vocab", &list));
    u->scores = calloc(json_array_size(list) + 1, sizeof *u->scores);
    REQUIRE(u->scores, LCKV_ERROR_MEMORY, "%s: no memory for %zu tokens", c->where, json_array_size(list));
    u->unk_score = (double)INFINITY;
    json_array_foreach((json_t *)(uintptr_t)list, index, entry) TRY(read_token(u, entry, v, c, index));
    return LCKV_OK;
}

static int read_unknown(unigram *u, const component *c, const vocabulary *v) {
    int64_t unk_id;
    TRY(json_get_int(c->object, c->where, "unk_id", NO_TOKEN, &unk_id));
    REQUIRE(unk_id >= NO_TOKEN && unk_id < v->size, LCKV_ERROR_FORMAT, "%s: no token has the 'unk_id'", c->where);
    u->unk_id = (int32_t)unk_id;
    TRY(json_get_bool(c->object, c->where, "byte_fallback", false, &u->byte_fallback));
    for (int byte = 0; byte < 256; byte++) {
        char token[8];
        u->byte_ids[byte] = vocabulary_find(v, token, (size_t)snprintf(token, sizeof token, "<0x%02X>", byte));
    }
    return LCKV_OK;
}

/* ---- the trie, built breadth first from the sorted tokens */

typedef struct token_text {
    const unsigned char *text;
    uint32_t bytes;
    int32_t id;
} token_text;

static int by_text(const void *a, const void *b) {
    const token_text *left = a, *right = b;
    work_count(1);
    int order = memcmp(left->text, right->text, left->bytes < right->bytes ? left->bytes : right->bytes);
    return order ? order : (left->bytes > right->bytes) - (left->bytes < right->bytes);
}

/* The tokens below a node: [first, end) of the sorted tokens, which share `depth` bytes. */
typedef struct span {
    uint32_t first, end, depth;
} span;

typedef struct trie_work {
    token_text *tokens; /* [count], sorted */
    span *spans;        /* [capacity], parallel to the nodes */
    size_t count, capacity;
} trie_work;

static int grow(unigram *u, trie_work *w, const char *where) {
    if (u->node_count < w->capacity) return LCKV_OK;
    size_t capacity = w->capacity ? w->capacity * 2 : 4096;
    REQUIRE(capacity <= UINT32_MAX / 2, LCKV_ERROR_UNSUPPORTED, "%s: 'vocab' is too large", where);
    span *spans = realloc(w->spans, capacity * sizeof *spans);
    if (spans) w->spans = spans;
    unigram_node *nodes = spans ? realloc(u->nodes, capacity * sizeof *nodes) : NULL;
    REQUIRE(nodes, LCKV_ERROR_MEMORY, "%s: no memory for a trie of %zu nodes", where, capacity);
    u->nodes = nodes;
    w->capacity = capacity;
    return LCKV_OK;
}

static int add_node(unigram *u, trie_work *w, span s, uint8_t byte, const char *where) {
    TRY(grow(u, w, where));
    w->spans[u->node_count] = s;
    u->nodes[u->node_count++] = (unigram_node){.id = NO_TOKEN, .byte = byte};
    return LCKV_OK;
}

static int add_children(unigram *u, trie_work *w, size_t node, const char *where) {
    span s = w->spans[node];
    uint32_t at = s.first;
    if (at < s.end && w->tokens[at].bytes == s.depth) u->nodes[node].id = w->tokens[at++].id;
    if (s.depth == 0) u->nodes[node].id = NO_TOKEN; /* the empty token is not in the trie */
    u->nodes[node].child = (uint32_t)u->node_count;
    work_count(s.end - s.first);
    while (at < s.end) {
        uint32_t end = at + 1;
        uint8_t byte = w->tokens[at].text[s.depth];
        while (end < s.end && w->tokens[end].text[s.depth] == byte) end++;
        TRY(add_node(u, w, (span){at, end, s.depth + 1}, byte, where));
        u->nodes[node].children++;
        at = end;
    }
    return LCKV_OK;
}

static int build_trie(unigram *u, trie_work *w, const char *where) {
    if (w->count) qsort(w->tokens, w->count, sizeof *w->tokens, by_text);
    TRY(add_node(u, w, (span){0, (uint32_t)w->count, 0}, 0, where));
    for (size_t node = 0; node < u->node_count; node++) TRY(add_children(u, w, node, where));
    return LCKV_OK;
}

static int read_trie(unigram *u, const vocabulary *v, const char *where) {
    trie_work w = {.tokens = calloc((size_t)v->size + 1, sizeof *w.tokens)};
    REQUIRE(w.tokens, LCKV_ERROR_MEMORY, "%s: no memory for %zu tokens", where, (size_t)v->size);
    for (int32_t id = 0; id < v->size; id++) {
        const token_entry *entry = &v->tokens[id];
        if (vocabulary_find(v, vocabulary_text(v, entry), entry->bytes) != id) continue; /* listed again later */
        w.tokens[w.count++] = (token_text){(const unsigned char *)vocabulary_text(v, entry), entry->bytes, id};
    }
    int status = build_trie(u, &w, where);
    free(w.tokens);
    free(w.spans);
    return status;
}

int unigram_read(unigram *u, const json_t *model, vocabulary *v, const char *name) {
    component c;
    *u = (unigram){.vocabulary = v};
    TRY(component_open(model, name, "model", "Unigram", &c));
    TRY(component_keys(&c, "unk_id vocab byte_fallback"));
    TRY(read_vocabulary(u, &c, v));
    TRY(read_unknown(u, &c, v));
    TRY(read_trie(u, v, c.where));
    return word_cache_create(&u->cache);
}
