/* The order of data: a pure function of seed, epoch and place, so that nothing about it need be kept or stored. */
#ifndef DATA_SHUFFLE_H
#define DATA_SHUFFLE_H

#include <stdint.h>

/* Which of `count` blocks stands at place i of the epoch's order, 0 <= i < count: a permutation drawn by (seed, epoch).
 * It needs no table: a Feistel network over the smallest domain of 2^(2k) that holds `count` places, walked until it
 * falls inside (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002). */
int64_t order_index(uint64_t seed, uint64_t epoch, int64_t count, int64_t i);

#endif
