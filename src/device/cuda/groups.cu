/* Weights in grouped formats as f32 or bf16, for products of many rows. */
#include "device/cuda/groups.h"

enum { THREADS = 256, EACH = 8, CHUNKS = 4 /* per thread */ };

/* Any number of columns: a thread has four of a row. */
__global__ static void widen(view v, view out) {
    int64_t pieces = (v.cols + 3) / 4, at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    int64_t row = at / pieces, c = at % pieces * 4;
    if (row < v.rows) cuda_set4(cuda_row(out, row), out.type, c, v.cols, groups_get4(v, row, c));
}

/* Rows of whole groups: integers, scales and results are three arrays without gaps. */
template <dtype TYPE> __global__ static void __launch_bounds__(THREADS) widen_chunks(view v, view out) {
    int64_t first = (int64_t)blockIdx.x * THREADS * CHUNKS + threadIdx.x, chunks = v.rows * v.cols / EACH;
    uint2 words[CHUNKS] = {};
    float scales[CHUNKS];
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        int64_t chunk = first + i * THREADS;
        if (chunk >= chunks) break;
        if (TYPE == DTYPE_INT8)
            words[i] = ((const uint2 *)v.data)[chunk];
        else
            words[i].x = ((const uint32_t *)v.data)[chunk];
        scales[i] = __half2float(((const __half *)v.scales)[chunk / (DTYPE_GROUP / EACH)]);
    }
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        int64_t chunk = first + i * THREADS;
        if (chunk >= chunks) break;
        struct cuda_eight x = groups_floats<TYPE>(words[i]);
        for (int j = 0; j < EACH; j++) x.at[j] *= scales[i];
        cuda_set8(out.data, out.type, chunk * EACH, chunks * EACH, x);
    }
}

int cuda_widen_groups(device *d, view v, view out) {
    bool whole = v.cols % DTYPE_GROUP == 0 && (uintptr_t)v.data % sizeof(uint2) == 0;
    unsigned blocks = cuda_blocks(v.rows * v.cols / EACH, THREADS * CHUNKS);
    if (cuda_elements(v) == 0) return LCKV_OK;
    if (!whole)
        widen<<<cuda_blocks(v.rows * ((v.cols + 3) / 4), THREADS), THREADS, 0, cuda_stream(d)>>>(v, out);
    else if (v.type == DTYPE_INT8)
        widen_chunks<DTYPE_INT8><<<blocks, THREADS, 0, cuda_stream(d)>>>(v, out);
    else
        widen_chunks<DTYPE_INT4><<<blocks, THREADS, 0, cuda_stream(d)>>>(v, out);
    return LCKV_OK;
}
