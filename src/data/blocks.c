/* Cutting documents into blocks, see blocks.h. */
#include "data/blocks.h"

#include <stdlib.h>

void blocks_free(blocks *b) {
    free(b->groups);
    *b = (blocks){0};
}

/* ---------------------------------------------------------------- reading */

/* The group of block i: the last one that starts at block i or before. (Groups without blocks start where the next one
 * does.) */
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

/* Index in the store of the first id of block i. */
static int64_t first_id(const blocks *b, int64_t i) {
    const block_group *g = b->groups ? group_of(b, i) : &(block_group){0};
    return b->begin + g->id + (i - g->block) * b->examples.block_size;
}

/* The document that contains the id at index `at`. */
static int64_t document_at(const blocks *b, int64_t at) {
    int64_t low = 0, high = b->documents - 1;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (b->ends[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Number of ids of this document within at .. end - 1, where a block continues at `at`; 0 for an empty document. */
static int64_t part_length(const blocks *b, int64_t document, int64_t at, int64_t end) {
    int64_t to = document + 1 < b->documents && b->ends[document] < end ? b->ends[document] : end;
    return to - at;
}

static int32_t count_parts(const blocks *b, int64_t at) {
    int64_t end = at + b->examples.block_size;
    int32_t count = 0;
    for (int64_t d = document_at(b, at); at < end; d++) {
        int64_t length = part_length(b, d, at, end);
        count += length > 0;
        at += length;
    }
    return count;
}

/* Splits the single sequence in `e` at the ends of documents. */
static void cut_documents(const blocks *b, int64_t at, example *e) {
    int64_t begin = at, end = at + e->tokens;
    e->sequences = 0;
    for (int64_t d = document_at(b, at); at < end; d++) {
        int64_t length = part_length(b, d, at, end);
        if (length == 0) continue;
        at += length;
        e->lengths[e->sequences++] = (int32_t)length;
        e->labels[at - begin - 1] = -1;
    }
}

static int read_block(const examples *from, int64_t number, example *out) {
    const blocks *b = (const blocks *)from;
    int64_t first = first_id(b, number % from->count);
    TRY(id_view_read(&b->ids, first, from->block_size, out->ids));
    example_of_one(out, from->block_size);
    if (b->ends) cut_documents(b, first, out);
    return LCKV_OK;
}

static int count_block_labels(const examples *from, int64_t number, int64_t *out) {
    const blocks *b = (const blocks *)from;
    *out = from->block_size - (b->ends ? count_parts(b, first_id(b, number % from->count)) : 1);
    return LCKV_OK;
}

static examples examples_of(int32_t block_size, int64_t count) {
    return (examples){count, block_size, read_block, count_block_labels};
}

/* ---------------------------------------------------------------- cutting */

/* Sets the groups of BLOCKS_DOCUMENTS_PER_GROUP documents and the total number of blocks. */
static int cut_groups(const token_store *s, int64_t first, blocks *b) {
    int64_t begin = token_store_begin(s, first), each = BLOCKS_DOCUMENTS_PER_GROUP;
    b->group_count = (b->documents + each - 1) / each;
    b->groups = malloc((size_t)(b->group_count + 1) * sizeof *b->groups);
    REQUIRE(b->groups, LCKV_ERROR_MEMORY, "no memory for %lld groups of documents", (long long)b->group_count);
    for (int64_t g = 0; g < b->group_count; g++) {
        int64_t last = (g + 1) * each < b->documents ? (g + 1) * each : b->documents;
        int64_t from = token_store_begin(s, first + g * each), to = token_store_begin(s, first + last);
        b->groups[g] = (block_group){b->examples.count, from - begin};
        b->examples.count += (to - from) / b->examples.block_size;
    }
    return LCKV_OK;
}

int blocks_cut(const token_store *store, int64_t first, int64_t documents, const block_rules *rules, blocks *out) {
    int64_t begin = token_store_begin(store, first), end = token_store_begin(store, first + documents);
    *out = (blocks){0};
    REQUIRE(rules->block_size >= 2, LCKV_ERROR_ARGUMENT, "expected block_size of at least 2, found %d",
            rules->block_size);
    *out = (blocks){.examples = examples_of(rules->block_size, 0),
                    .ids = store->ids,
                    .begin = begin,
                    .ends = rules->document_mask ? store->ends + first : NULL,
                    .documents = documents,
                    .tokens = end - begin};
    if (rules->group_all)
        out->examples.count = out->tokens / rules->block_size;
    else
        TRY(cut_groups(store, first, out));
    if (rules->max_blocks && out->examples.count > rules->max_blocks) out->examples.count = rules->max_blocks;
    return LCKV_OK;
}

blocks blocks_of_ids(const int32_t *ids, int32_t block_size, int64_t count) {
    return (blocks){.examples = examples_of(block_size, count),
                    .ids = {.data = ids, .bytes = sizeof *ids, .largest = INT32_MAX}};
}
