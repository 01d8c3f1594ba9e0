/* y = silu(gate) * up, the gated activation of the MLP (Shazeer 2020, "GLU Variants Improve Transformer"). */
#include "device/cuda/launch.h"

enum { THREADS = 256, EACH = 4 };

__device__ static float sigmoid(float x) {
    return 1.0f / (1.0f + expf(-x));
}

__device__ static int64_t first_element(void) {
    return ((int64_t)blockIdx.x * THREADS + threadIdx.x) * EACH;
}

__global__ static void forward(struct op_swiglu a, int64_t n) {
    int64_t at = first_element();
    struct cuda_four gate = cuda_get4(a.gate.data, a.gate.type, at, n), up = cuda_get4(a.up.data, a.up.type, at, n);
    struct cuda_four y;
    for (int i = 0; i < EACH; i++) y.at[i] = gate.at[i] * sigmoid(gate.at[i]) * up.at[i];
    cuda_set4(a.y.data, a.y.type, at, n, y);
}

enum { CHUNK = 8, CHUNKS = 2 /* per thread */ };

/* The same in bf16, in whole chunks. The error of the exponential is far below bf16's rounding. */
__global__ static void __launch_bounds__(THREADS) forward_chunks(struct op_swiglu a, int64_t chunks) {
    int64_t first = (int64_t)blockIdx.x * THREADS * CHUNKS + threadIdx.x;
    uint4 gate[CHUNKS], up[CHUNKS];
    cuda_let_next();
    cuda_begin();
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        int64_t at = first + i * THREADS;
        if (at >= chunks) break;
        gate[i] = ((const uint4 *)a.gate.data)[at];
        up[i] = ((const uint4 *)a.up.data)[at];
    }
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        int64_t at = first + i * THREADS;
        if (at >= chunks) break;
        const __nv_bfloat162 *g = (const __nv_bfloat162 *)&gate[i], *u = (const __nv_bfloat162 *)&up[i];
        uint4 y;
        __nv_bfloat162 *out = (__nv_bfloat162 *)&y;
#pragma unroll
        for (int j = 0; j < CHUNK / 2; j++) {
            float2 x = __bfloat1622float2(g[j]), factor = __bfloat1622float2(u[j]);
            out[j] = __floats2bfloat162_rn(__fdividef(x.x, 1.0f + __expf(-x.x)) * factor.x,
                                           __fdividef(x.y, 1.0f + __expf(-x.y)) * factor.y);
        }
        ((uint4 *)a.y.data)[at] = y;
    }
}

static bool in_chunks(view v) {
    return v.type == DTYPE_BF16 && (uintptr_t)v.data % sizeof(uint4) == 0;
}

int cuda_swiglu(device *d, const struct op_swiglu *a) {
    int64_t n = cuda_elements(a->y);
    if (n == 0) return LCKV_OK;
    if (n % CHUNK == 0 && in_chunks(a->gate) && in_chunks(a->up) && in_chunks(a->y)) {
        cuda_start(d, forward_chunks, dim3(cuda_blocks(n / CHUNK, THREADS * CHUNKS)), THREADS, 0, *a, n / CHUNK);
    } else {
        forward<<<cuda_blocks(n, THREADS * EACH), THREADS, 0, cuda_stream(d)>>>(*a, n);
    }
    return LCKV_OK;
}

/* silu'(x) = s (1 + x (1 - s)),  s = sigmoid(x) */
__global__ static void backward(struct op_swiglu a, int64_t n) {
    int64_t at = first_element();
    struct cuda_four gate = cuda_get4(a.gate.data, a.gate.type, at, n), up = cuda_get4(a.up.data, a.up.type, at, n);
    struct cuda_four dy = cuda_get4(a.dy.data, DTYPE_F32, at, n), dgate = {}, dup = {};
    if (a.dgate.data) dgate = cuda_get4(a.dgate.data, DTYPE_F32, at, n);
    if (a.dup.data) dup = cuda_get4(a.dup.data, DTYPE_F32, at, n);
    for (int i = 0; i < EACH; i++) {
        float x = gate.at[i], s = sigmoid(x);
        dgate.at[i] += dy.at[i] * up.at[i] * s * (1.0f + x * (1.0f - s));
        dup.at[i] += dy.at[i] * x * s;
    }
    if (a.dgate.data) cuda_set4(a.dgate.data, DTYPE_F32, at, n, dgate);
    if (a.dup.data) cuda_set4(a.dup.data, DTYPE_F32, at, n, dup);
}

int cuda_swiglu_backward(device *d, const struct op_swiglu *a) {
    int64_t n = cuda_elements(a->dy);
    if (n > 0) backward<<<cuda_blocks(n, THREADS * EACH), THREADS, 0, cuda_stream(d)>>>(*a, n);
    return LCKV_OK;
}
