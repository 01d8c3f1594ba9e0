/* Dropout. A thread handles the four elements of one block of random words. */
#include "device/cuda/cuda.h"
#include "device/cuda/random.h"

enum { THREADS = 256, EACH = 4 };

/* The factor of each of the thread's elements; 0 if it is dropped. */
__device__ static struct cuda_four make_mask(struct op_dropout a, int64_t at, uint32_t threshold, float scale) {
    uint32_t words[EACH];
    struct cuda_four mask;
    random_block(*(const uint64_t *)a.seed.data, a.stream, (uint64_t)at / EACH, words);
    for (int i = 0; i < EACH; i++) mask.at[i] = words[i] < threshold ? 0 : scale;
    return mask;
}

__device__ static int64_t first_element(void) {
    return ((int64_t)blockIdx.x * THREADS + threadIdx.x) * EACH;
}

__global__ static void forward(struct op_dropout a, int64_t n, uint32_t threshold, float scale) {
    int64_t at = first_element();
    struct cuda_four mask = make_mask(a, at, threshold, scale), y = cuda_get4(a.x.data, a.x.type, at, n);
    for (int i = 0; i < EACH; i++) y.at[i] *= mask.at[i];
    cuda_set4(a.y.data, a.y.type, at, n, y);
}

int cuda_dropout(device *d, const struct op_dropout *a) {
    int64_t n = cuda_elements(a->y);
    if (n > 0)
        forward<<<cuda_blocks(n, THREADS * EACH), THREADS, 0, cuda_stream(d)>>>(*a, n, dropout_threshold(a->p),
                                                                                dropout_scale(a->p));
    return LCKV_OK;
}

__global__ static void backward(struct op_dropout a, int64_t n, uint32_t threshold, float scale) {
    int64_t at = first_element();
    struct cuda_four mask = make_mask(a, at, threshold, scale);
    struct cuda_four dy = cuda_get4(a.dy.data, a.dy.type, at, n), dx = cuda_gradient4(a.dx, at, n);
    for (int i = 0; i < EACH; i++) dx.at[i] += dy.at[i] * mask.at[i];
    cuda_set4(a.dx.data, a.dx.type, at, n, dx);
}

int cuda_dropout_backward(device *d, const struct op_dropout *a) {
    int64_t n = cuda_elements(a->dy);
    if (n > 0 && a->dx.data)
        backward<<<cuda_blocks(n, THREADS * EACH), THREADS, 0, cuda_stream(d)>>>(*a, n, dropout_threshold(a->p),
                                                                                 dropout_scale(a->p));
    return LCKV_OK;
}
