/* The random numbers of base/rng.h on the GPU: Philox-4x32-10 (Salmon et al. 2011). Integers and uniform numbers
 * have the same bits; normal numbers use the GPU's logarithm, sine and cosine in f64. */
#ifndef DEVICE_CUDA_RANDOM_H
#define DEVICE_CUDA_RANDOM_H

#include "device/cuda/cuda.h"

__device__ static inline void random_block(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]) {
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* 53 bits; divided by 2^53 they are the uniform number in [0, 1). */
__device__ static inline uint64_t random_bits53(uint32_t high, uint32_t low) {
    return (((uint64_t)high << 32) | low) >> 11;
}

__device__ static inline void random_normal2(uint64_t seed, uint64_t stream, uint64_t counter, double out[2]) {
    uint32_t w[4];
    double sine, cosine;
    random_block(seed, stream, counter, w);
    double radius = sqrt(-2.0 * log(1.0 - (double)random_bits53(w[0], w[1]) * 0x1p-53));
    sincos(6.283185307179586476925286766559 * ((double)random_bits53(w[2], w[3]) * 0x1p-53), &sine, &cosine);
    out[0] = radius * cosine;
    out[1] = radius * sine;
}

#endif
