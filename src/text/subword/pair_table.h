/* Hash table from pairs of 32-bit numbers to a 64-bit value: the merges of a BPE model, and the pairs of characters
 * that a token can span. Filled once, then only read. */
#ifndef TEXT_SUBWORD_PAIR_TABLE_H
#define TEXT_SUBWORD_PAIR_TABLE_H

#include "base/status.h"

typedef struct pair_slot {
    uint64_t key, value;
} pair_slot;

typedef struct pair_table {
    pair_slot *slots; /* [slot_count], a power of two; free slots have the reserved key */
    size_t slot_count, count;
    uint64_t seed; /* hash seed: random, see rng_entropy() */
} pair_table;      /* all zeros: empty */

static inline uint64_t pair_of(uint32_t left, uint32_t right) {
    return (uint64_t)left << 32 | right;
}

/* Replaces the value of an existing key. The pair (2^32-1, 2^32-1) is reserved. */
int pair_table_put(pair_table *t, uint64_t key, uint64_t value);

/* NULL if the key is absent. */
const uint64_t *pair_table_find(const pair_table *t, uint64_t key);

void pair_table_free(pair_table *t);

#endif
