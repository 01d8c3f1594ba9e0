/* y = x weight^T + bias for up to 8 rows of any types. A warp computes COLS columns of y; its lanes run along the
 * rows of the weight, which is read in its own type. linear_few_matrix.cu and
 * linear_few_groups.cu handle what tensor cores support. */
#include "device/cuda/groups.h"
#include "device/cuda/products.h"

enum { WARPS = 4, COLS = 2, EACH = 4 };

/* A lane's share of the products of all rows with COLS rows of weights from `column` on. */
template <int ROWS> __device__ void dot_products(const struct op_linear &a, int64_t column, float sum[ROWS][COLS]) {
    int64_t depth = a.x.cols;
    for (int64_t at = threadIdx.x % CUDA_WARP * EACH; at < depth; at += CUDA_WARP * EACH) {
        struct cuda_four weight[COLS];
#pragma unroll
        for (int c = 0; c < COLS; c++) { /* padded with the last column, whose result is dropped */
            int64_t row = column + c < a.weight.rows ? column + c : a.weight.rows - 1;
            weight[c] = groups_get4(a.weight, row, at);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (r >= a.x.rows) break;
            struct cuda_four x = cuda_get4(cuda_row(a.x, r), a.x.type, at, depth);
#pragma unroll
            for (int c = 0; c < COLS; c++) {
                for (int i = 0; i < EACH; i++) sum[r][c] += x.at[i] * weight[c].at[i];
            }
        }
    }
}

template <int ROWS> __global__ static void few_rows(struct op_linear a) {
    int64_t column = ((int64_t)blockIdx.x * WARPS + threadIdx.x / CUDA_WARP) * COLS;
    float sum[ROWS][COLS] = {};
    if (column >= a.y.cols) return;
    dot_products<ROWS>(a, column, sum);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
#pragma unroll
        for (int c = 0; c < COLS; c++) {
            float y = cuda_join_lanes(sum[r][c], CUDA_WARP, cuda_plus());
            if (threadIdx.x % CUDA_WARP != 0 || r >= a.y.rows || column + c >= a.y.cols) continue;
            if (a.bias.data) y += cuda_get(a.bias.data, a.bias.type, column + c);
            cuda_set(cuda_row(a.y, r), a.y.type, column + c, y);
        }
    }
}

template <int ROWS> static void run_rows(device *d, const struct op_linear *a) {
    few_rows<ROWS><<<cuda_blocks(a->y.cols, WARPS * COLS), WARPS * CUDA_WARP, 0, cuda_stream(d)>>>(*a);
}

bool cuda_linear_few(device *d, const struct op_linear *a) {
    int64_t rows = a->x.rows;
    if (cuda_linear_few_matrix(d, a, {}) || cuda_linear_few_groups(d, a, {})) return true;
    if (rows > CUDA_PLAIN_ROWS) return false;
    if (rows == 1) {
        run_rows<1>(d, a);
    } else if (rows <= 4) {
        run_rows<4>(d, a);
    } else {
        run_rows<CUDA_PLAIN_ROWS>(d, a);
    }
    return true;
}
