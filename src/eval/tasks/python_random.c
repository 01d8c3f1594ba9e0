/* Python's random.Random, see python_random.h. */
#include "eval/tasks/python_random.h"

#include <math.h>
#include <stdlib.h>

enum { WORDS = 624, MIDDLE = 397 };

static void init_genrand(python_random *r, uint32_t seed) {
    r->state[0] = seed;
    for (uint32_t i = 1; i < WORDS; i++) r->state[i] = 1812433253u * (r->state[i - 1] ^ (r->state[i - 1] >> 30)) + i;
    r->at = WORDS;
}

/* init_by_array() with a key of one word: CPython seeds with the 32-bit words of the number. */
void python_random_seed(python_random *r, uint32_t seed) {
    uint32_t *mt = r->state;
    int i = 1;
    init_genrand(r, 19650218u);
    for (int k = 0; k < WORDS; k++) {
        mt[i] = (mt[i] ^ ((mt[i - 1] ^ (mt[i - 1] >> 30)) * 1664525u)) + seed;
        if (++i >= WORDS) mt[0] = mt[WORDS - 1], i = 1;
    }
    for (int k = 0; k < WORDS - 1; k++) {
        mt[i] = (mt[i] ^ ((mt[i - 1] ^ (mt[i - 1] >> 30)) * 1566083941u)) - (uint32_t)i;
        if (++i >= WORDS) mt[0] = mt[WORDS - 1], i = 1;
    }
    mt[0] = 0x80000000u;
}

static void regenerate(python_random *r) {
    uint32_t *mt = r->state;
    for (int i = 0; i < WORDS; i++) {
        uint32_t y = (mt[i] & 0x80000000u) | (mt[(i + 1) % WORDS] & 0x7fffffffu);
        mt[i] = mt[(i + MIDDLE) % WORDS] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    r->at = 0;
}

static uint32_t next_word(python_random *r) {
    if (r->at >= WORDS) regenerate(r);
    uint32_t y = r->state[r->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

/* _randbelow_with_getrandbits(); n below 2^32. */
static int64_t below(python_random *r, int64_t n) {
    int bits = 0;
    while (n >> bits) bits++;
    uint32_t value;
    do value = next_word(r) >> (32 - bits);
    while (value >= n);
    return value;
}

static bool occurs(const int64_t *numbers, int64_t count, int64_t number) {
    for (int64_t i = 0; i < count; i++)
        if (numbers[i] == number) return true;
    return false;
}

/* Small k: draws again if a number has occurred before. */
static void sample_few(python_random *r, int64_t n, int64_t k, int64_t *out) {
    for (int64_t i = 0; i < k; i++) {
        do out[i] = below(r, n);
        while (occurs(out, i, out[i]));
    }
}

/* Large k: draws from a pool; the last entry replaces the drawn one. */
static int sample_many(python_random *r, int64_t n, int64_t k, int64_t *out) {
    int64_t *pool = malloc((size_t)(n + 1) * sizeof *pool);
    REQUIRE(pool, LCKV_ERROR_MEMORY, "no memory to draw from %lld", (long long)n);
    for (int64_t i = 0; i < n; i++) pool[i] = i;
    for (int64_t i = 0; i < k; i++) {
        int64_t j = below(r, n - i);
        out[i] = pool[j];
        pool[j] = pool[n - i - 1];
    }
    free(pool);
    return LCKV_OK;
}

int python_random_sample(python_random *r, int64_t n, int64_t k, int64_t *out) {
    REQUIRE(k >= 0 && k <= n && n <= UINT32_MAX, LCKV_ERROR_ARGUMENT, "cannot draw %lld of %lld numbers", (long long)k,
            (long long)n);
    double set_size = 21; /* CPython's estimate of when a set takes more memory than a list */
    if (k > 5) set_size += pow(4, ceil(log((double)k * 3) / log(4)));
    if ((double)n <= set_size) return sample_many(r, n, k, out);
    sample_few(r, n, k, out);
    return LCKV_OK;
}

int64_t python_random_choice(python_random *r, int64_t n) {
    uint32_t a = next_word(r) >> 5, b = next_word(r) >> 6;
    double uniform = ((double)a * 67108864.0 + (double)b) * (1.0 / 9007199254740992.0);
    return (int64_t)(uniform * (double)n);
}
