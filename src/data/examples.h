/* Examples: what a step learns from, some at a time. An example is the tokens of one or more sequences, end to end;
 * each has positions and attention of its own, so that nothing of one is seen by another.
 *
 * This is the stepper's only view of data. Blocks of documents (blocks.h), mixtures of them (mixture.h) and rows of
 * instructions (row_set.h) are such sources. Leaves out: which examples, and in which order (shuffle.h, trainer.c). */
#ifndef DATA_EXAMPLES_H
#define DATA_EXAMPLES_H

#include "base/status.h"

/* Where an example is written: room for examples.block_size numbers each. */
typedef struct example {
    int32_t *ids;     /* [tokens] */
    int32_t *labels;  /* [tokens]: the id that is to follow, negative: nothing to learn there */
    int32_t *lengths; /* [sequences]: their tokens; at least 1 each */
    int32_t tokens, sequences;
} example;

typedef struct examples examples;
struct examples {
    int64_t count;      /* of an epoch */
    int32_t block_size; /* tokens of the longest one */
    /* Example i of epoch e is number e * count + i: a source may go on from where an epoch has ended. */
    int (*read)(const examples *from, int64_t number, example *out);
    /* The tokens of it that have a label. */
    int (*count_labels)(const examples *from, int64_t number, int64_t *out);
    /* All tokens of it; NULL: block_size, always. */
    int64_t (*count_tokens)(const examples *from, int64_t number);
    /* What it adds to the divisor of a step's loss; NULL: its labels. */
    int (*count_items)(const examples *from, int64_t number, int64_t *out);
};

/* The one sequence of `tokens` tokens that out->ids holds: each one's label is the next. */
static inline void example_of_one(example *out, int32_t tokens) {
    for (int32_t t = 0; t + 1 < tokens; t++) out->labels[t] = out->ids[t + 1];
    out->labels[tokens - 1] = -1;
    out->lengths[0] = tokens;
    out->tokens = tokens;
    out->sequences = 1;
}

#endif
