/* y = x weight^T + bias for a few rows (decoding): what counts is that every weight is read once, and fast.
 *
 * In bf16 the matrix units do it, weights on the left: a block has 16 columns of y for all rows, its warps take turns
 * along the depth, and their parts are summed in the order of the warps. A fragment's four lanes of a row should hold
 * pairs of elements that lie apart; since a sum may be taken in any order, each lane has eight elements side by side
 * instead, of both factors alike, and reads them from memory at once.
 *
 * Other types go to a kernel in which a warp makes COLS columns of y, its lanes going along the weights' rows; weights
 * are read in their own type. */
#include "device/cuda/matrix.h"
#include "device/cuda/products.h"

/* ---------------------------------------------------------------- any types */

enum { WARPS = 4, COLS = 2, EACH = 4, MOST_ROWS = 8 };

/* The lane's share of the products of all rows with COLS rows of weights from `column` on. */
template <int ROWS> __device__ void dot_products(const struct op_linear &a, int64_t column, float sum[ROWS][COLS]) {
    int64_t depth = a.x.cols;
    for (int64_t at = threadIdx.x % CUDA_WARP * EACH; at < depth; at += CUDA_WARP * EACH) {
        struct cuda_four weight[COLS];
#pragma unroll
        for (int c = 0; c < COLS; c++) { /* behind the last column: the last once more, not used */
            int64_t row = column + c < a.weight.rows ? column + c : a.weight.rows - 1;
            weight[c] = cuda_get4(cuda_row(a.weight, row), a.weight.type, at, depth);
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

/* ---------------------------------------------------------------- bf16 */

enum { LEFT_ROWS = 16, RIGHT_ROWS = 8, MATRIX_WARPS = 8, DEPTH = 32 /* of a step: two products */, UNROLLED = 4 };

/* What a lane reads of one row in one step. */
struct alignas(16) eight {
    uint32_t pair[4];
};

/* Rows behind the last are the last once more: what becomes of them is not stored. */
__device__ static const struct eight *row_of(view v, int64_t row) {
    row = row < v.rows ? row : v.rows - 1;
    return (const struct eight *)((const __nv_bfloat16 *)v.data + row * v.cols);
}

/* sum += 16 rows of weights from `column` on times all rows of x, over this warp's share of the depth. */
template <int TILES> __device__ void matrix_products(const struct op_linear &a, int64_t column, float sum[TILES][4]) {
    constexpr int STEP = DEPTH / MATRIX_CHUNK;
    int row = threadIdx.x % CUDA_WARP / 4, mine = threadIdx.x % 4, chunks = (int)(a.x.cols / MATRIX_CHUNK);
    const struct eight *low = row_of(a.weight, column + row), *high = row_of(a.weight, column + row + 8), *x[TILES];
#pragma unroll
    for (int t = 0; t < TILES; t++) x[t] = row_of(a.x, t * RIGHT_ROWS + row);
#pragma unroll UNROLLED
    for (int base = threadIdx.x / CUDA_WARP * STEP; base < chunks; base += MATRIX_WARPS * STEP) {
        const struct eight none = {};
        bool there = base + mine < chunks;
        int at = there ? base + mine : 0;
        struct eight w0 = low[at], w1 = high[at];
        uint32_t first[4] = {w0.pair[0], w1.pair[0], w0.pair[1], w1.pair[1]};
        uint32_t second[4] = {w0.pair[2], w1.pair[2], w0.pair[3], w1.pair[3]};
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            struct eight right = there ? x[t][at] : none;
            matrix_multiply(sum[t], first, right.pair[0], right.pair[1]);
            matrix_multiply(sum[t], second, right.pair[2], right.pair[3]);
        }
    }
}

template <int TILES>
__global__ static void __launch_bounds__(MATRIX_WARPS *CUDA_WARP) few_rows_matrix(struct op_linear a) {
    __shared__ float parts[MATRIX_WARPS][TILES * RIGHT_ROWS][LEFT_ROWS + 1];
    int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
    int64_t column = (int64_t)blockIdx.x * LEFT_ROWS;
    float sum[TILES][4] = {};
    matrix_products<TILES>(a, column, sum);
#pragma unroll
    for (int t = 0; t < TILES; t++)
        for (int i = 0; i < 4; i++) {
            parts[warp][t * RIGHT_ROWS + lane % 4 * 2 + i % 2][lane / 4 + i / 2 * 8] = sum[t][i];
        }
    __syncthreads();
    for (int i = threadIdx.x; i < TILES * RIGHT_ROWS * LEFT_ROWS; i += MATRIX_WARPS * CUDA_WARP) {
        int r = i / LEFT_ROWS, c = i % LEFT_ROWS;
        if (r >= a.y.rows || column + c >= a.y.cols) continue;
        float y = 0;
        for (int w = 0; w < MATRIX_WARPS; w++) y += parts[w][r][c];
        if (a.bias.data) y += cuda_get(a.bias.data, a.bias.type, column + c);
        cuda_set(cuda_row(a.y, r), a.y.type, column + c, y);
    }
}

template <int TILES> static void run_matrix(device *d, const struct op_linear *a) {
    few_rows_matrix<TILES><<<cuda_blocks(a->y.cols, LEFT_ROWS), MATRIX_WARPS * CUDA_WARP, 0, cuda_stream(d)>>>(*a);
}

/* ---------------------------------------------------------------- the entry */

static bool in_chunks(view v) {
    return v.type == DTYPE_BF16 && v.cols % MATRIX_CHUNK == 0 && (uintptr_t)v.data % 16 == 0;
}

bool cuda_linear_few(device *d, const struct op_linear *a) {
    int64_t rows = a->x.rows;
    if (rows <= 4 * RIGHT_ROWS && in_chunks(a->x) && in_chunks(a->weight)) {
        if (rows <= RIGHT_ROWS) {
            run_matrix<1>(d, a);
        } else if (rows <= 2 * RIGHT_ROWS) {
            run_matrix<2>(d, a);
        } else {
            run_matrix<4>(d, a);
        }
        return true;
    }
    if (rows > MOST_ROWS) return false;
    if (rows == 1) {
        run_rows<1>(d, a);
    } else if (rows <= 4) {
        run_rows<4>(d, a);
    } else {
        run_rows<MOST_ROWS>(d, a);
    }
    return true;
}
