/* Elementwise ops: add, accumulate, cast. A thread handles four elements. */
#include "device/cuda/kv_int8.h"

enum { THREADS = 256, EACH = 4 };

__device__ static int64_t first_element(void) {
    return ((int64_t)blockIdx.x * THREADS + threadIdx.x) * EACH;
}

__global__ static void add(struct op_add a, int64_t n) {
    int64_t at = first_element();
    struct cuda_four x = cuda_get4(a.a.data, DTYPE_F32, at, n), y = cuda_get4(a.b.data, DTYPE_F32, at, n);
    for (int i = 0; i < EACH; i++) x.at[i] += y.at[i];
    cuda_set4(a.y.data, DTYPE_F32, at, n, x);
}

int cuda_add(device *d, const struct op_add *a) {
    int64_t n = cuda_elements(a->y);
    if (n > 0) add<<<cuda_blocks(n, THREADS * EACH), THREADS, 0, cuda_stream(d)>>>(*a, n);
    return LCKV_OK;
}

__global__ static void accumulate(struct op_accumulate a, int64_t n) {
    int64_t at = first_element();
    struct cuda_four x = cuda_get4(a.src.data, a.src.type, at, n), y = cuda_gradient4(a.dst, at, n);
    for (int i = 0; i < EACH; i++) y.at[i] += a.scale * x.at[i];
    cuda_set4(a.dst.data, a.dst.type, at, n, y);
}

int cuda_accumulate(device *d, const struct op_accumulate *a) {
    int64_t n = cuda_elements(a->dst);
    if (n > 0) accumulate<<<cuda_blocks(n, THREADS * EACH), THREADS, 0, cuda_stream(d)>>>(*a, n);
    return LCKV_OK;
}

__global__ static void cast(struct op_cast a, int64_t n) {
    int64_t at = first_element();
    cuda_set4(a.dst.data, a.dst.type, at, n, cuda_get4(a.src.data, a.src.type, at, n));
}

int cuda_cast(device *d, const struct op_cast *a) {
    int64_t n = cuda_elements(a->dst);
    if (n == 0) return LCKV_OK;
    if (a->src.type == DTYPE_KV_INT8 || a->dst.type == DTYPE_KV_INT8) return cuda_kv_int8_cast(d, a);
    if (a->src.type != a->dst.type) {
        cast<<<cuda_blocks(n, THREADS * EACH), THREADS, 0, cuda_stream(d)>>>(*a, n);
        return LCKV_OK;
    }
    CUDA_TRY(d,
             cudaMemcpyAsync(a->dst.data, a->src.data, view_bytes(a->dst), cudaMemcpyDeviceToDevice, cuda_stream(d)));
    return LCKV_OK;
}
