/* Philox-4x32-10; see rng.h. */
#include "base/rng.h"

#include <math.h>
#include <sys/random.h>

void rng_block(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]) {
    uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t next0 = (uint32_t)(b >> 32) ^ c[1] ^ k0, next2 = (uint32_t)(a >> 32) ^ c[3] ^ k1;
        c[1] = (uint32_t)b;
        c[3] = (uint32_t)a;
        c[0] = next0;
        c[2] = next2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < 4; i++) out[i] = c[i];
}

uint64_t rng_entropy(void) {
    uint64_t number = 0;
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        number = (uint64_t)(uintptr_t)&number; /* better than 0 */
    return number;
}

static double to_uniform(uint32_t high, uint32_t low) {
    return (double)((((uint64_t)high << 32) | low) >> 11) * 0x1p-53;
}

double rng_uniform(uint64_t seed, uint64_t stream, uint64_t counter) {
    uint32_t w[4];
    rng_block(seed, stream, counter, w);
    return to_uniform(w[0], w[1]);
}

void rng_normal2(uint64_t seed, uint64_t stream, uint64_t counter, double out[2]) {
    uint32_t w[4];
    rng_block(seed, stream, counter, w);
    double radius = sqrt(-2.0 * log(1.0 - to_uniform(w[0], w[1]))); /* 1 - u is in (0, 1] */
    double angle = 6.283185307179586476925286766559 * to_uniform(w[2], w[3]);
    out[0] = radius * cos(angle);
    out[1] = radius * sin(angle);
}
