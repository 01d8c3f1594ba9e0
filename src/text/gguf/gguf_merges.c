/* Merges of a vocabulary with scores, see gguf_merges.h. */
#include "text/gguf/gguf_merges.h"

#include "base/text/utf8.h"

#include <stdlib.h>

/* A token as the sum of two others. */
typedef struct merge {
    float score;
    int32_t token;
    int left_bytes; /* of the first part */
    int left_characters, right_characters;
} merge;

typedef struct merge_list {
    merge *items;
    size_t count, capacity;
} merge_list;

/* The highest score first. Of equal scores, the longest left part first, then the longest right part. */
static int by_score(const void *left, const void *right) {
    const merge *a = left, *b = right;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    if (a->left_characters != b->left_characters) return a->left_characters > b->left_characters ? -1 : 1;
    if (a->right_characters != b->right_characters) return a->right_characters > b->right_characters ? -1 : 1;
    return (a->token > b->token) - (a->token < b->token);
}

static int append(merge_list *l, merge item) {
    if (l->count == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 1024;
        merge *items = realloc(l->items, capacity * sizeof *items);
        REQUIRE(items, LCKV_ERROR_MEMORY, "no memory for %zu merges", capacity);
        l->items = items;
        l->capacity = capacity;
    }
    l->items[l->count++] = item;
    return LCKV_OK;
}

static int count_characters(const char *text, int bytes) {
    uint32_t unused;
    int count = 0;
    for (int at = 0; at < bytes; count++) at += (int)utf8_next(text + at, &unused);
    return count;
}

/* Both parts of a split have to be tokens. */
static int split_token(const vocabulary *v, int32_t id, float score, const char *name, merge_list *out) {
    const token_entry *token = &v->tokens[id];
    const char *text = vocabulary_text(v, token);
    uint32_t unused;
    REQUIRE(token->bytes <= GGUF_MERGE_MAX_BYTES, LCKV_ERROR_UNSUPPORTED,
            "%s: token %d has %u bytes; tokens with scores have at most %d", name, id, (unsigned)token->bytes,
            GGUF_MERGE_MAX_BYTES);
    int bytes = (int)token->bytes, left = 0, characters = count_characters(text, bytes);
    for (int at = 0; at < bytes; left++) {
        bool both = at && vocabulary_find(v, text, (size_t)at) != NO_TOKEN &&
                    vocabulary_find(v, text + at, (size_t)(bytes - at)) != NO_TOKEN;
        if (both) TRY(append(out, (merge){score, id, at, left, characters - left}));
        at += (int)utf8_next(text + at, &unused);
    }
    return LCKV_OK;
}

/* NULL if memory ran out. */
static json_t *list_of(const vocabulary *v, const merge_list *l) {
    json_t *list = json_array();
    int failed = 0;
    for (size_t i = 0; i < l->count && !failed; i++) {
        const merge *m = &l->items[i];
        const token_entry *token = &v->tokens[m->token];
        const char *text = vocabulary_text(v, token);
        failed = json_array_append_new(list, json_pack("[s%, s%]", text, (size_t)m->left_bytes, text + m->left_bytes,
                                                       (size_t)token->bytes - (size_t)m->left_bytes));
    }
    if (!failed) return list;
    json_decref(list);
    return NULL;
}

int gguf_merges(const vocabulary *v, const bool *merged, const float *scores, const char *name, json_t **out) {
    merge_list l = {0};
    int status = LCKV_OK;
    *out = NULL;
    for (int32_t id = 0; id < v->size && status >= 0; id++)
        if (merged[id] && v->tokens[id].present) status = split_token(v, id, scores[id], name, &l);
    if (l.count) qsort(l.items, l.count, sizeof *l.items, by_score);
    if (status >= 0 && !(*out = list_of(v, &l))) status = fail(LCKV_ERROR_MEMORY, "%s: no memory for its merges", name);
    free(l.items);
    return status;
}
