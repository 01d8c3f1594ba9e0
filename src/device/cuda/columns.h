/* Sums over rows, one per column, for the gradients of biases and norms. Each block sums some rows of some columns;
 * a second kernel adds the parts in their order.
 *
 *     struct columns_plan plan;
 *     TRY(columns_begin(d, rows, cols, &plan));
 *     columns_parts<<<plan.blocks, COLUMNS_THREADS, 0, cuda_stream(d)>>>(plan, f);    f(row, column): a term
 *     columns_end(d, &plan, out);                                                     out[column] += the sums */
#ifndef DEVICE_CUDA_COLUMNS_H
#define DEVICE_CUDA_COLUMNS_H

#include "device/cuda/cuda.h"

enum { COLUMNS_WIDE = 32, COLUMNS_HIGH = 8, COLUMNS_THREADS = COLUMNS_WIDE * COLUMNS_HIGH, COLUMNS_MAX_PARTS = 64 };

struct columns_plan {
    int64_t rows, cols, rows_each;
    int parts;
    float *partial; /* [parts, cols], CUDA_WORK_PARTIAL */
    dim3 blocks;
};

static inline int columns_begin(device *d, int64_t rows, int64_t cols, struct columns_plan *plan) {
    int64_t worth = (rows + 4 * COLUMNS_HIGH - 1) / (4 * COLUMNS_HIGH);
    *plan = {};
    plan->rows = rows;
    plan->cols = cols;
    plan->parts = worth < COLUMNS_MAX_PARTS ? (int)worth : COLUMNS_MAX_PARTS;
    plan->rows_each = (rows + plan->parts - 1) / plan->parts;
    plan->blocks = dim3(cuda_blocks(cols, COLUMNS_WIDE), (unsigned)plan->parts);
    return cuda_workspace(d, CUDA_WORK_PARTIAL, (size_t)(plan->parts * cols) * sizeof(float), (void **)&plan->partial);
}

template <typename Term> __global__ void columns_parts(struct columns_plan plan, Term term) {
    __shared__ float sums[COLUMNS_HIGH][COLUMNS_WIDE];
    int wide = threadIdx.x % COLUMNS_WIDE, high = threadIdx.x / COLUMNS_WIDE;
    int64_t column = (int64_t)blockIdx.x * COLUMNS_WIDE + wide, part = blockIdx.y;
    int64_t begin = part * plan.rows_each, end = begin + plan.rows_each;
    if (end > plan.rows) end = plan.rows;
    float sum = 0;
    for (int64_t row = begin + high; row < end && column < plan.cols; row += COLUMNS_HIGH) sum += term(row, column);
    sums[high][wide] = sum;
    __syncthreads();
    if (high > 0 || column >= plan.cols) return;
    for (int i = 1; i < COLUMNS_HIGH; i++) sum += sums[i][wide];
    plan.partial[part * plan.cols + column] = sum;
}

__global__ static void columns_add_parts(struct columns_plan plan, float *out) {
    int64_t column = (int64_t)blockIdx.x * COLUMNS_THREADS + threadIdx.x;
    if (column >= plan.cols) return;
    float sum = 0;
    for (int part = 0; part < plan.parts; part++) sum += plan.partial[part * plan.cols + column];
    out[column] += sum;
}

static inline void columns_end(device *d, const struct columns_plan *plan, float *out) {
    unsigned blocks = cuda_blocks(plan->cols, COLUMNS_THREADS);
    columns_add_parts<<<blocks, COLUMNS_THREADS, 0, cuda_stream(d)>>>(*plan, out);
}

#endif
