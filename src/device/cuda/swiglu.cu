/* y = silu(gate) * up, the gated activation of the MLP (Shazeer 2020, "GLU Variants Improve Transformer"). */
#include "device/cuda/cuda.h"

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

int cuda_swiglu(device *d, const struct op_swiglu *a) {
    int64_t n = cuda_elements(a->y);
    if (n > 0) forward<<<cuda_blocks(n, THREADS * EACH), THREADS, 0, cuda_stream(d)>>>(*a, n);
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
