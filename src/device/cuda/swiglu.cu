/* y = silu(gate) * up, the gated activation of the MLP (Shazeer 2020, "GLU Variants Improve Transformer"). */
#include "device/cuda/launch.h"

enum { THREADS = 256, EACH = 4, CHUNK = 8 };

__device__ static float sigmoid(float x) {
    return 1.0f / (1.0f + expf(-x));
}

/* Elements of y come in runs of `cols` with which gate and up are `stride` apart: rows of one matrix with the columns
 * of both, or all elements of two matrices. */
struct places {
    int64_t n, cols, stride;
    void *gate, *up, *dgate, *dup;
};

static void *columns_after(view v, int64_t cols) {
    return v.data ? (char *)v.data + cols * (int64_t)cuda_bytes(v.type) : NULL;
}

static struct places places_of(const struct op_swiglu *a, int64_t n) {
    int64_t each = a->gate.cols / 2;
    if (a->up.data) return {n, n, n, a->gate.data, a->up.data, a->dgate.data, a->dup.data};
    return {
        n, each, 2 * each, a->gate.data, columns_after(a->gate, each), a->dgate.data, columns_after(a->dgate, each)};
}

/* Where element `at` of y is in gate and up, and the end of its run there. */
__device__ static int64_t place_of(const struct places &p, int64_t at, int64_t *end) {
    int64_t run = p.cols == p.n ? 0 : at / p.cols;
    *end = run * p.stride + p.cols;
    return at + run * (p.stride - p.cols);
}

/* ---------------------------------------------------------------- any type */

/* A thread has up to EACH elements of one run. */
__device__ static bool find_element(const struct places &p, int64_t *at, int64_t *end) {
    int64_t pieces = (p.cols + EACH - 1) / EACH, i = (int64_t)blockIdx.x * THREADS + threadIdx.x, run = i / pieces;
    *at = run * p.cols + i % pieces * EACH;
    *end = (run + 1) * p.cols;
    return *at < p.n;
}

static unsigned element_blocks(const struct places &p) {
    int64_t pieces = (p.cols + EACH - 1) / EACH;
    return cuda_blocks(p.n / p.cols * pieces, THREADS);
}

__global__ static void forward(struct op_swiglu a, struct places p) {
    int64_t at, end, there_end;
    if (!find_element(p, &at, &end)) return;
    int64_t there = place_of(p, at, &there_end);
    struct cuda_four gate = cuda_get4(p.gate, a.gate.type, there, there_end);
    struct cuda_four up = cuda_get4(p.up, a.gate.type, there, there_end), y;
    for (int i = 0; i < EACH; i++) y.at[i] = gate.at[i] * sigmoid(gate.at[i]) * up.at[i];
    cuda_set4(a.y.data, a.y.type, at, end, y);
}

/* silu'(x) = s (1 + x (1 - s)),  s = sigmoid(x) */
__global__ static void backward(struct op_swiglu a, struct places p) {
    int64_t at, end, there_end;
    if (!find_element(p, &at, &end)) return;
    int64_t there = place_of(p, at, &there_end);
    struct cuda_four gate = cuda_get4(p.gate, a.gate.type, there, there_end);
    struct cuda_four up = cuda_get4(p.up, a.gate.type, there, there_end);
    struct cuda_four dy = cuda_get4(a.dy.data, a.dy.type, at, end), dgate = {}, dup = {};
    dtype up_type = a.up.data ? a.dup.type : a.dgate.type;
    if (p.dgate && !a.dgate.fresh) dgate = cuda_get4(p.dgate, a.dgate.type, there, there_end);
    if (p.dup && !(a.up.data ? a.dup.fresh : a.dgate.fresh)) dup = cuda_get4(p.dup, up_type, there, there_end);
    for (int i = 0; i < EACH; i++) {
        float x = gate.at[i], s = sigmoid(x);
        dgate.at[i] += dy.at[i] * up.at[i] * s * (1.0f + x * (1.0f - s));
        dup.at[i] += dy.at[i] * x * s;
    }
    if (p.dgate) cuda_set4(p.dgate, a.dgate.type, there, there_end, dgate);
    if (p.dup) cuda_set4(p.dup, up_type, there, there_end, dup);
}

/* ---------------------------------------------------------------- bf16 in whole chunks */

enum { CHUNKS = 2 /* per thread */ };

/* The error of the exponential is far below bf16's rounding. */
__device__ static float fast_sigmoid(float x) {
    return __fdividef(1.0f, 1.0f + __expf(-x));
}

/* y of two elements */
__device__ static __nv_bfloat162 gated(float2 gate, float2 up) {
    return __floats2bfloat162_rn(__fdividef(gate.x, 1.0f + __expf(-gate.x)) * up.x,
                                 __fdividef(gate.y, 1.0f + __expf(-gate.y)) * up.y);
}

__global__ static void __launch_bounds__(THREADS) forward_chunks(struct op_swiglu a, struct places p) {
    int64_t first = ((int64_t)blockIdx.x * THREADS * CHUNKS + threadIdx.x) * CHUNK, end;
    uint4 gate[CHUNKS], up[CHUNKS];
    cuda_let_next();
    cuda_begin();
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        int64_t at = first + i * THREADS * CHUNK;
        if (at >= p.n) break;
        int64_t there = place_of(p, at, &end) / CHUNK;
        gate[i] = ((const uint4 *)p.gate)[there];
        up[i] = ((const uint4 *)p.up)[there];
    }
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        int64_t at = first + i * THREADS * CHUNK;
        if (at >= p.n) break;
        const __nv_bfloat162 *g = (const __nv_bfloat162 *)&gate[i], *u = (const __nv_bfloat162 *)&up[i];
        uint4 y;
        __nv_bfloat162 *out = (__nv_bfloat162 *)&y;
#pragma unroll
        for (int j = 0; j < CHUNK / 2; j++) {
            float2 x = __bfloat1622float2(g[j]), factor = __bfloat1622float2(u[j]);
            out[j] = gated(x, factor);
        }
        ((uint4 *)a.y.data)[at / CHUNK] = y;
    }
}

/* Fresh gradients of both, in bf16, and y as in forward_chunks(). */
__global__ static void __launch_bounds__(THREADS) backward_chunks(struct op_swiglu a, struct places p) {
    int64_t first = ((int64_t)blockIdx.x * THREADS * CHUNKS + threadIdx.x) * CHUNK, end;
    uint4 gate[CHUNKS], up[CHUNKS], dy[CHUNKS];
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        int64_t at = first + i * THREADS * CHUNK;
        if (at >= p.n) break;
        int64_t there = place_of(p, at, &end) / CHUNK;
        gate[i] = ((const uint4 *)p.gate)[there];
        up[i] = ((const uint4 *)p.up)[there];
        dy[i] = ((const uint4 *)a.dy.data)[at / CHUNK];
    }
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        int64_t at = first + i * THREADS * CHUNK;
        if (at >= p.n) break;
        const __nv_bfloat162 *g = (const __nv_bfloat162 *)&gate[i], *u = (const __nv_bfloat162 *)&up[i];
        const __nv_bfloat162 *from = (const __nv_bfloat162 *)&dy[i];
        uint4 dgate, dup, y;
#pragma unroll
        for (int j = 0; j < CHUNK / 2; j++) {
            float2 x = __bfloat1622float2(g[j]), factor = __bfloat1622float2(u[j]), d = __bfloat1622float2(from[j]);
            float s = fast_sigmoid(x.x), t = fast_sigmoid(x.y);
            ((__nv_bfloat162 *)&dgate)[j] = __floats2bfloat162_rn(d.x * factor.x * s * (1.0f + x.x * (1.0f - s)),
                                                                  d.y * factor.y * t * (1.0f + x.y * (1.0f - t)));
            ((__nv_bfloat162 *)&dup)[j] = __floats2bfloat162_rn(d.x * x.x * s, d.y * x.y * t);
            ((__nv_bfloat162 *)&y)[j] = gated(x, factor);
        }
        int64_t there = place_of(p, at, &end) / CHUNK;
        ((uint4 *)p.dgate)[there] = dgate;
        ((uint4 *)p.dup)[there] = dup;
        if (a.y_again.data) ((uint4 *)a.y_again.data)[at / CHUNK] = y;
    }
}

static bool in_chunks(view v) {
    return v.data == NULL || (v.type == DTYPE_BF16 && (uintptr_t)v.data % sizeof(uint4) == 0);
}

static bool is_first_in_chunks(view v) {
    return v.data && v.fresh && in_chunks(v);
}

/* ---------------------------------------------------------------- the entries */

int cuda_swiglu(device *d, const struct op_swiglu *a) {
    int64_t n = cuda_elements(a->y);
    if (n == 0) return LCKV_OK;
    struct places p = places_of(a, n);
    if (p.cols % CHUNK == 0 && in_chunks(a->gate) && in_chunks(a->up) && in_chunks(a->y)) {
        cuda_start(d, forward_chunks, dim3(cuda_blocks(n / CHUNK, THREADS * CHUNKS)), THREADS, 0, *a, p);
    } else {
        forward<<<element_blocks(p), THREADS, 0, cuda_stream(d)>>>(*a, p);
    }
    return LCKV_OK;
}

int cuda_swiglu_backward(device *d, const struct op_swiglu *a) {
    int64_t n = cuda_elements(a->dy);
    if (n == 0) return LCKV_OK;
    struct places p = places_of(a, n);
    bool fresh = is_first_in_chunks(a->dgate) && (!a->up.data || is_first_in_chunks(a->dup));
    bool chunks = in_chunks(a->gate) && in_chunks(a->up) && in_chunks(a->dy) && in_chunks(a->y_again);
    if (fresh && p.cols % CHUNK == 0 && chunks) {
        backward_chunks<<<cuda_blocks(n / CHUNK, THREADS * CHUNKS), THREADS, 0, cuda_stream(d)>>>(*a, p);
        return LCKV_OK;
    }
    backward<<<element_blocks(p), THREADS, 0, cuda_stream(d)>>>(*a, p);
    struct op_swiglu again = *a;
    again.y = a->y_again;
    return again.y.data ? cuda_swiglu(d, &again) : LCKV_OK;
}
