/* Batches of examples (example_batch.h). */
#include "train/step/example_batch.h"

#include <stdlib.h>

static void place_examples(example_batch *b) {
    for (int i = 0; i < b->size; i++) {
        int32_t *at = b->numbers + 3 * (int64_t)i * b->block_size;
        b->examples[i] = (example){.ids = at, .labels = at + b->block_size, .lengths = at + 2 * (int64_t)b->block_size};
    }
}

static int allocate(example_batch *b) {
    size_t size = (size_t)b->size;
    b->examples = malloc(size * sizeof *b->examples);
    b->numbers = malloc(3 * size * (size_t)b->block_size * sizeof *b->numbers);
    b->entries = malloc(size * sizeof *b->entries);
    b->entry_room = b->size; /* initially one sequence per example */
    REQUIRE(b->examples && b->numbers && b->entries, LCKV_ERROR_MEMORY,
            "no memory for a batch of %d blocks of %d tokens", b->size, b->block_size);
    place_examples(b);
    return LCKV_OK;
}

int example_batch_create(device *d, int size, int32_t block_size, example_batch **out) {
    *out = NULL;
    example_batch *b = calloc(1, sizeof *b);
    REQUIRE(b, LCKV_ERROR_MEMORY, "no memory for a batch of %d blocks", size);
    *b = (example_batch){.size = size, .block_size = block_size};
    int status = allocate(b);
    if (status >= 0) status = batch_create(d, (batch_limits){.rows = size * block_size, .sequences = size}, &b->batch);
    if (status < 0)
        example_batch_free(b);
    else
        *out = b;
    return status;
}

void example_batch_free(example_batch *b) {
    if (!b) return;
    batch_free(b->batch);
    free(b->examples);
    free(b->numbers);
    free(b->entries);
    free(b);
}

static int reserve_entries(example_batch *b, int sequences) {
    if (sequences <= b->entry_room) return LCKV_OK;
    batch_entry *more = realloc(b->entries, (size_t)sequences * sizeof *more);
    REQUIRE(more, LCKV_ERROR_MEMORY, "no memory for a batch of %d sequences", sequences);
    b->entries = more;
    b->entry_room = sequences;
    return LCKV_OK;
}

/* Adds the sequences of an example as entries of the batch, from `at` on. */
static void add_entries(batch_entry *at, const example *e, bool labeled) {
    int32_t begin = 0;
    for (int32_t i = 0; i < e->sequences; i++) {
        int32_t rows = e->lengths[i];
        at[i] = (batch_entry){.ids = e->ids + begin,
                              .labels = labeled ? e->labels + begin : NULL,
                              .rows = rows,
                              .wanted = rows,
                              .cache_id = -1,
                              .planned = true};
        begin += rows;
    }
}

static int fill(example_batch *b, const examples *data, const int64_t *chosen, int count, bool labeled) {
    int64_t sequences = 0;
    for (int i = 0; i < count; i++) {
        TRY(data->read(data, chosen[i], &b->examples[i]));
        sequences += b->examples[i].sequences;
    }
    TRY(reserve_entries(b, (int)sequences)); /* at most the number of tokens */
    batch_entry *at = b->entries;
    for (int i = 0; i < count; at += b->examples[i++].sequences) add_entries(at, &b->examples[i], labeled);
    return batch_fill(b->batch, NULL, b->entries, (int)sequences);
}

int example_batch_fill(example_batch *b, const examples *data, const int64_t *chosen, int count) {
    return fill(b, data, chosen, count, true);
}

int example_batch_fill_unlabeled(example_batch *b, const examples *data, int64_t which) {
    return fill(b, data, &which, 1, false);
}
