/* Shuffling: a pure function of seed, epoch and position, without any state to store. */
#ifndef DATA_SHUFFLE_H
#define DATA_SHUFFLE_H

#include <stdint.h>

/* The element at position i of a random permutation of 0 .. count - 1 that depends on (seed, epoch). Uses a Feistel
 * network over the smallest domain 2^(2k) >= count, repeated until the result is below count (cycle walking; Black and
 * Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002). */
int64_t shuffle_index(uint64_t seed, uint64_t epoch, int64_t count, int64_t i);

#endif
