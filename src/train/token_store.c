/* The token ids of a corpus, see token_store.h. */
#include "train/token_store.h"

#include <stdlib.h>
#include <string.h>

static int grow(void **data, int64_t *capacity, int64_t needed, size_t each) {
    if (needed <= *capacity) return LCKV_OK;
    int64_t larger = *capacity ? *capacity : 1 << 12;
    while (larger < needed) larger *= 2;
    void *moved = realloc(*data, (size_t)larger * each);
    REQUIRE(moved, LCKV_ERROR_MEMORY, "no memory for a corpus of %lld tokens or documents", (long long)larger);
    *data = moved;
    *capacity = larger;
    return LCKV_OK;
}

static int append(token_store *s, const int32_t *ids, int64_t count) {
    TRY(grow((void **)&s->ids, &s->token_capacity, s->tokens + count, sizeof *s->ids));
    if (count) memcpy(s->ids + s->tokens, ids, (size_t)count * sizeof *ids);
    s->tokens += count;
    return LCKV_OK;
}

int token_store_add(token_store *s, const int32_t *ids, int64_t count) {
    TRY(grow((void **)&s->ends, &s->document_capacity, s->documents + 1, sizeof *s->ends));
    TRY(append(s, ids, count));
    s->ends[s->documents++] = s->tokens;
    return LCKV_OK;
}

int token_store_extend(token_store *s, const int32_t *ids, int64_t count) {
    TRY(append(s, ids, count));
    s->ends[s->documents - 1] = s->tokens;
    return LCKV_OK;
}

void token_store_free(token_store *s) {
    free(s->ids);
    free(s->ends);
    *s = (token_store){0};
}
