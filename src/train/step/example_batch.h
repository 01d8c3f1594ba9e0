/* A batch of examples: reads them into host memory and copies them to the device together.
 *
 * Leaves out: the choice of examples (step.c). */
#ifndef TRAIN_EXAMPLE_BATCH_H
#define TRAIN_EXAMPLE_BATCH_H

#include "data/examples.h"
#include "model/batch.h"

typedef struct example_batch {
    batch *batch;
    example *examples; /* [size] */
    int size;          /* capacity in examples */
    int32_t block_size;
    int32_t *numbers;     /* [size, block_size, 3] ids, labels and lengths of the examples */
    batch_entry *entries; /* [entry_room] sequences of the batch */
    int entry_room;
} example_batch;

/* Room for `size` examples of at most `block_size` tokens. The caller owns *out until example_batch_free(). */
int example_batch_create(device *d, int size, int32_t block_size, example_batch **out);
void example_batch_free(example_batch *b); /* NULL is fine */

/* Reads examples chosen[0..count-1] and copies them to the device. */
int example_batch_fill(example_batch *b, const examples *data, const int64_t *chosen, int count);
/* The same for one example without its labels. */
int example_batch_fill_unlabeled(example_batch *b, const examples *data, int64_t which);

#endif
