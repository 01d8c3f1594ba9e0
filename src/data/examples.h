/* Training examples. An example is the tokens of one or more sequences, one after another. Each sequence has its own
 * positions and attention.
 *
 * This is the training step's only interface to data. Blocks of documents (blocks.h), mixtures of them (mixture.h) and
 * instruction data (tuning_set.h) implement it. Leaves out: the order of examples (shuffle.h, train_loop.c). */
#ifndef DATA_EXAMPLES_H
#define DATA_EXAMPLES_H

#include "base/status.h"

/* Buffers of an example, each with room for examples.block_size numbers. */
typedef struct example {
    int32_t *ids;     /* [tokens] */
    int32_t *labels;  /* [tokens]: the next id; negative: ignored in the loss */
    int32_t *lengths; /* [sequences]: tokens of each, at least 1 */
    int32_t tokens, sequences;
} example;

typedef struct examples examples;
struct examples {
    int64_t count;      /* per epoch */
    int32_t block_size; /* tokens of the longest example */
    /* Example i of epoch e has number e * count + i, so that epochs may differ. */
    int (*read)(const examples *from, int64_t number, example *out);
    /* Number of tokens with a label. */
    int (*count_labels)(const examples *from, int64_t number, int64_t *out);
    /* Number of tokens; NULL: always block_size. */
    int64_t (*count_tokens)(const examples *from, int64_t number);
    /* Contribution to the divisor of a step's loss; NULL: the number of labels. */
    int (*count_items)(const examples *from, int64_t number, int64_t *out);
};

/* Makes out->ids one sequence of `tokens` tokens, each with the next one as its label. */
static inline void example_of_one(example *out, int32_t tokens) {
    for (int32_t t = 0; t + 1 < tokens; t++) out->labels[t] = out->ids[t + 1];
    out->labels[tokens - 1] = -1;
    out->lengths[0] = tokens;
    out->tokens = tokens;
    out->sequences = 1;
}

#endif
