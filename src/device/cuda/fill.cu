/* Normal random numbers for new weights. Element i is number i % 2 of counter i / 2, so a thread makes two. */
#include "device/cuda/cuda.h"
#include "device/cuda/random.h"

enum { THREADS = 256 };

__global__ static void fill(struct op_fill_normal a, int64_t n) {
    int64_t counter = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    double pair[2];
    if (2 * counter >= n) return;
    random_normal2(a.seed, a.stream, (uint64_t)counter, pair);
    for (int i = 0; i < 2 && 2 * counter + i < n; i++) {
        cuda_set(a.dst.data, a.dst.type, 2 * counter + i, (float)(pair[i] * (double)a.deviation));
    }
}

int cuda_fill_normal(device *d, const struct op_fill_normal *a) {
    int64_t n = cuda_elements(a->dst);
    if (n > 0) fill<<<cuda_blocks(n, 2 * THREADS), THREADS, 0, cuda_stream(d)>>>(*a, n);
    return LCKV_OK;
}
