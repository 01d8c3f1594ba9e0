/* Blocks out of documents, see blocks.h. */
#include "train/blocks.h"

#include <stdlib.h>
#include <string.h>

int blocks_begin(int32_t block_size, blocks *out) {
    *out = (blocks){.block_size = block_size};
    REQUIRE(block_size >= 2, LCKV_ERROR_ARGUMENT, "block_size should be at least 2, found %d", block_size);
    return LCKV_OK;
}

void blocks_free(blocks *b) {
    free(b->ids);
    *b = (blocks){0};
}

static int reserve(blocks *b, int64_t more) {
    if (b->capacity - b->filled >= more) return LCKV_OK;
    int64_t capacity = b->capacity ? b->capacity : 1 << 16;
    while (capacity - b->filled < more) capacity *= 2;
    int32_t *ids = realloc(b->ids, (size_t)capacity * sizeof *ids);
    REQUIRE(ids, LCKV_ERROR_MEMORY, "no memory for %lld token ids", (long long)capacity);
    b->ids = ids;
    b->capacity = capacity;
    return LCKV_OK;
}

static void end_group(blocks *b) {
    b->count = b->filled / b->block_size;
    b->filled = b->count * b->block_size;
}

int blocks_add(blocks *b, const int32_t *ids, int64_t count) {
    TRY(reserve(b, count));
    if (count) memcpy(b->ids + b->filled, ids, (size_t)count * sizeof *ids);
    b->filled += count;
    b->tokens += count;
    if (++b->documents % BLOCKS_DOCUMENTS_A_GROUP == 0) end_group(b);
    return LCKV_OK;
}

void blocks_finish(blocks *b) {
    end_group(b);
    int32_t *ids = b->filled ? realloc(b->ids, (size_t)b->filled * sizeof *ids) : NULL;
    if (!ids) return; /* nothing to give back, or realloc left all as it was */
    b->ids = ids;
    b->capacity = b->filled;
}
