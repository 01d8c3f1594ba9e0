/* The rotation of a pair (RoPE), with the same bits in every kernel: a compiler may contract either of two products. */
#ifndef DEVICE_CUDA_ROTATE_H
#define DEVICE_CUDA_ROTATE_H

#include "device/cuda/cuda.h"

/* *x0 = x0 cosine - x1 sine, *x1 = x1 cosine + x0 sine. */
__device__ static inline void cuda_rotate_pair(float *x0, float *x1, float cosine, float sine) {
    float low = __fmaf_rn(*x0, cosine, -__fmul_rn(*x1, sine)), high = __fmaf_rn(*x1, cosine, __fmul_rn(*x0, sine));
    *x0 = low, *x1 = high;
}

#endif
