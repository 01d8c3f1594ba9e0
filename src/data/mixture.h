/* A mixture of several corpora by weight. The share of a source in each epoch is its weight divided by the sum of all
 * weights. An epoch ends when the first source is used up. The next epoch continues each of the other sources where
 * this one stopped, so that a large source is used completely before it repeats. The blocks of an epoch are a function
 * of the seed and the epoch.
 *
 * Leaves out: reading the corpora (train/run_data.c), and the order within an epoch (train/train_loop.c). */
#ifndef DATA_MIXTURE_H
#define DATA_MIXTURE_H

#include "data/blocks.h"

typedef struct mixture_source {
    const char *name; /* for messages; the caller's */
    double weight;
    token_store ids;
    blocks blocks;    /* of ids */
    int64_t an_epoch; /* blocks per epoch; set by mixture_weigh() */
} mixture_source;

typedef struct mixture {
    examples examples;
    mixture_source *sources; /* [count] owned */
    int count;
    bool shuffle;
    uint64_t seed;
} mixture; /* all zeros is an empty one */

/* Creates sources, whose ids and blocks the caller then sets. */
int mixture_create(int count, bool shuffle, uint64_t seed, mixture *out);
/* Sets the length of an epoch after all blocks are set. `max_blocks`: maximum number of blocks per epoch; 0: no limit.
 * LCKV_ERROR_FORMAT if an epoch would have no block of some source. */
int mixture_weigh(mixture *m, int64_t max_blocks);
void mixture_free(mixture *m);

#endif
