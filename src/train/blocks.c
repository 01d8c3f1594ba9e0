/* Blocks out of documents, see blocks.h. */
#include "train/blocks.h"

#include <stdlib.h>

void blocks_free(blocks *b) {
    free(b->groups);
    *b = (blocks){0};
}

/* The groups of BLOCKS_DOCUMENTS_A_GROUP documents, and how many blocks they make together. */
static int cut_groups(const token_store *s, int64_t first, blocks *b) {
    int64_t begin = token_store_begin(s, first), each = BLOCKS_DOCUMENTS_A_GROUP;
    b->group_count = (b->documents + each - 1) / each;
    b->groups = malloc((size_t)(b->group_count + 1) * sizeof *b->groups);
    REQUIRE(b->groups, LCKV_ERROR_MEMORY, "no memory for %lld groups of documents", (long long)b->group_count);
    for (int64_t g = 0; g < b->group_count; g++) {
        int64_t last = (g + 1) * each < b->documents ? (g + 1) * each : b->documents;
        int64_t from = token_store_begin(s, first + g * each), to = token_store_begin(s, first + last);
        b->groups[g] = (block_group){b->count, from - begin};
        b->count += (to - from) / b->block_size;
    }
    return LCKV_OK;
}

int blocks_cut(const token_store *store, int64_t first, int64_t documents, const block_rules *rules, blocks *out) {
    int64_t begin = token_store_begin(store, first), end = token_store_begin(store, first + documents);
    *out = (blocks){0};
    REQUIRE(rules->block_size >= 2, LCKV_ERROR_ARGUMENT, "block_size should be at least 2, found %d",
            rules->block_size);
    *out = (blocks){.block_size = rules->block_size, .documents = documents, .tokens = end - begin};
    out->ids = store->ids;
    out->begin = begin;
    if (rules->group_all)
        out->count = out->tokens / rules->block_size;
    else
        TRY(cut_groups(store, first, out));
    if (rules->most && out->count > rules->most) out->count = rules->most;
    return LCKV_OK;
}

/* The last group that begins at block i or before it: those before it at the same block have none. */
static const block_group *group_of(const blocks *b, int64_t i) {
    int64_t low = 0, high = b->group_count - 1;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (b->groups[middle].block <= i)
            low = middle;
        else
            high = middle - 1;
    }
    return &b->groups[low];
}

int blocks_read(const blocks *b, int64_t i, int32_t *out) {
    int64_t first = i * b->block_size;
    if (b->groups) {
        const block_group *g = group_of(b, i);
        first = g->id + (i - g->block) * b->block_size;
    }
    return id_view_read(&b->ids, b->begin + first, b->block_size, out);
}

blocks blocks_of_ids(const int32_t *ids, int32_t block_size, int64_t count) {
    return (blocks){
        .block_size = block_size, .count = count, .ids = {.data = ids, .bytes = sizeof *ids, .largest = INT32_MAX}};
}
