/* Examples of several corpora, mixed by weight: a source's weight, divided by the sum of all, is its share of every
 * epoch's blocks. An epoch ends where the first source has given all of its blocks; of each other source it takes the
 * share that is its due, and the next epoch goes on from there, so that a large source is seen whole before any of it
 * is seen again. What an epoch takes of a source is a function of seed and epoch alone.
 *
 * Leaves out: reading the corpora (run_data.c), and the order within an epoch (trainer.c). */
#ifndef DATA_MIXTURE_H
#define DATA_MIXTURE_H

#include "data/blocks.h"

typedef struct mixture_source {
    const char *name; /* the caller's, for messages */
    double weight;
    token_store ids;
    blocks blocks;    /* of ids */
    int64_t an_epoch; /* blocks that an epoch takes; mixture_weigh() sets it */
} mixture_source;

typedef struct mixture {
    examples examples;
    mixture_source *sources; /* [count] owned */
    int count;
    bool shuffle;
    uint64_t seed;
} mixture; /* all zeros is an empty one */

/* Sources whose ids and blocks are still to come. */
int mixture_create(int count, bool shuffle, uint64_t seed, mixture *out);
/* Sets the length of an epoch, once all blocks are there. `most`: blocks of an epoch, 0: as many as there are.
 * LCKV_ERROR_FORMAT: a source would give none. */
int mixture_weigh(mixture *m, int64_t most);
void mixture_free(mixture *m);

#endif
