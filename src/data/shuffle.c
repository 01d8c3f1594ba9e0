/* Permutations without a table, see shuffle.h. */
#include "data/shuffle.h"

#include "base/rng.h"

enum {
    ROUNDS = 6,
    MIN_HALF_BITS = 4, /* a narrower network has too few permutations */
};

static const uint64_t ORDER_STREAM = 0x6f72646572000000; /* "order": apart from the streams of weights */

static uint64_t feistel(uint64_t seed, uint64_t stream, int half_bits, uint64_t x) {
    uint64_t mask = (UINT64_C(1) << half_bits) - 1;
    uint64_t left = x >> half_bits, right = x & mask;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint32_t words[4];
        rng_block(seed, stream, round << 32 | right, words);
        uint64_t next = (left ^ words[0]) & mask;
        left = right;
        right = next;
    }
    return left << half_bits | right;
}

int64_t shuffle_index(uint64_t seed, uint64_t epoch, int64_t count, int64_t i) {
    int half_bits = MIN_HALF_BITS;
    while (half_bits < 31 && UINT64_C(1) << (2 * half_bits) < (uint64_t)count) half_bits++;
    uint64_t x = (uint64_t)i;
    do x = feistel(seed, ORDER_STREAM + epoch, half_bits, x);
    while (x >= (uint64_t)count);
    return (int64_t)x;
}
