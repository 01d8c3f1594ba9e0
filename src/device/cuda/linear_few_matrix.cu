/* Products of a few rows with bf16 weights on tensor cores (decoding), see linear_few.h. The goal is to read every
 * weight once, at full bandwidth.
 *
 * The four lanes of a row of a fragment would hold pairs of elements that are apart. Since a sum may be taken in any
 * order, each lane holds eight adjacent elements instead, of both factors alike, and reads them at once. Weights are
 * loaded before the preceding kernel has ended (launch.h), and two groups of steps ahead of the products from then
 * on. */
#include "device/cuda/linear_few.h"

enum {
    DEPTH = 32, /* per step: two products */
    STEP = DEPTH / MATRIX_CHUNK
};

/* ---------------------------------------------------------------- products */

/* GROUP steps of this warp's share of the depth, from step `at` on; zeros from `chunks` on. */
template <int TILES, int GROUP> struct few_group {
    struct eight low[GROUP], high[GROUP], x[GROUP][TILES];

    __device__ static int chunk(int at, int i) {
        return ((at + i) * WARPS + (int)threadIdx.x / CUDA_WARP) * STEP + (int)threadIdx.x % STEP;
    }

    __device__ void load_weights(const struct eight *low_row, const struct eight *high_row, int at, int chunks) {
#pragma unroll
        for (int i = 0; i < GROUP; i++) {
            int c = chunk(at, i);
            const struct eight none = {};
            low[i] = c < chunks ? low_row[c] : none;
            high[i] = c < chunks ? high_row[c] : none;
        }
    }

    __device__ void load_x(const struct eight *const rows[TILES], int at, int chunks) {
#pragma unroll
        for (int i = 0; i < GROUP; i++) {
            int c = chunk(at, i);
            const struct eight none = {};
#pragma unroll
            for (int t = 0; t < TILES; t++) x[i][t] = c < chunks ? rows[t][c] : none;
        }
    }

    __device__ void multiply(float sum[TILES][4]) const {
#pragma unroll
        for (int i = 0; i < GROUP; i++) {
            uint32_t first[4] = {low[i].pair[0], high[i].pair[0], low[i].pair[1], high[i].pair[1]};
            uint32_t second[4] = {low[i].pair[2], high[i].pair[2], low[i].pair[3], high[i].pair[3]};
#pragma unroll
            for (int t = 0; t < TILES; t++) {
                matrix_multiply(sum[t], first, x[i][t].pair[0], x[i][t].pair[1]);
                matrix_multiply(sum[t], second, x[i][t].pair[2], x[i][t].pair[3]);
            }
        }
    }
};

/* Rows of x in shared memory. */
struct staged_rows {
    __nv_bfloat16 *to;
    int64_t pitch;

    __device__ void operator()(int row, int chunk, const struct cuda_eight &x) const {
        struct eight *out = (struct eight *)(to + row * pitch) + chunk;
#pragma unroll
        for (int i = 0; i < 4; i++) out->pair[i] = matrix_pair(x.at[2 * i], x.at[2 * i + 1]);
    }
};

/* A lane's rows of the weights of a tile. */
struct weight_rows {
    const struct eight *low, *high;

    __device__ weight_rows(const struct few_call &a, const struct few_tile &tile)
        : low(few_row(a.part[tile.part].weight, tile.low)), high(few_row(a.part[tile.high_part].weight, tile.high)) {}
};

/* Blocks take tiles in turn; weights of a tile are loaded before the preceding one is done. */
template <int TILES, int GROUP, bool NORMED>
__global__ static void __launch_bounds__(THREADS, 2) few_products(struct few_call a) {
    constexpr int ROWS = TILES * RIGHT_ROWS;
    __shared__ float parts[WARPS][ROWS][PART_COLS];
    extern __shared__ float4 shared[];
    __nv_bfloat16 *normed = (__nv_bfloat16 *)shared;
    int lane = threadIdx.x % CUDA_WARP;
    struct few_tile tile(a, (int)blockIdx.x);
    struct weight_rows rows(a, tile);
    struct few_group<TILES, GROUP> even, odd;
    const struct eight *x[TILES];
    int steps = (a.chunks + WARPS * STEP - 1) / (WARPS * STEP);
    cuda_let_next();
    even.load_weights(rows.low, rows.high, 0, a.chunks);
    odd.load_weights(rows.low, rows.high, GROUP, a.chunks);
    struct norm_share share(NORMED ? a.rows : 1);
    struct norm_chunk kept;
    if (NORMED && share.first < a.chunks) kept.load_weight(a, share.first);
    cuda_begin();
    if (NORMED) norm_rows(a, &kept, share, staged_rows{normed, a.x.cols + PAD});
#pragma unroll
    for (int t = 0; t < TILES; t++) {
        int r = min(t * RIGHT_ROWS + lane / 4, a.rows - 1);
        x[t] = NORMED ? (const struct eight *)(normed + (int64_t)r * (a.x.cols + PAD)) : few_row(a.x, r);
    }
    if (!NORMED) even.load_x(x, 0, a.chunks), odd.load_x(x, GROUP, a.chunks);
    for (int number = (int)blockIdx.x; number < a.tiles; number += (int)gridDim.x) {
        struct few_tile next(a, min(number + (int)gridDim.x, a.tiles - 1));
        struct weight_rows next_rows(a, next);
        float sum[TILES][4] = {};
        for (int at = 0; at < steps; at += 2 * GROUP) {
            bool last = at + 2 * GROUP >= steps;
            const struct eight *low = last ? next_rows.low : rows.low, *high = last ? next_rows.high : rows.high;
            int then = last ? 0 : at + 2 * GROUP, there = last && number + (int)gridDim.x >= a.tiles ? 0 : a.chunks;
            if (NORMED) even.load_x(x, at, a.chunks);
            even.multiply(sum);
            even.load_weights(low, high, then, there);
            if (!NORMED) even.load_x(x, then, there);
            if (NORMED) odd.load_x(x, at + GROUP, a.chunks);
            odd.multiply(sum);
            odd.load_weights(low, high, then + GROUP, there);
            if (!NORMED) odd.load_x(x, then + GROUP, there);
        }
        few_leave<TILES>(parts, sum);
        __syncthreads();
        few_store_tile<ROWS>(parts, a, tile);
        __syncthreads();
        tile = next;
        rows = next_rows;
    }
}

/* ---------------------------------------------------------------- the entries */

template <int TILES, int GROUP, bool NORMED> static int run(device *d, const struct few_call &a) {
    size_t normed = NORMED ? few_normed_bytes(a.rows, a.x.cols) : 0;
    size_t parts = sizeof(float) * WARPS * TILES * RIGHT_ROWS * PART_COLS;
    int max_blocks = 2 * cuda_state_of(d)->multiprocessors;
    TRY(cuda_allow_shared(d, few_products<TILES, GROUP, NORMED>, normed + parts));
    cuda_start(d, few_products<TILES, GROUP, NORMED>, dim3((unsigned)(a.tiles < max_blocks ? a.tiles : max_blocks)),
               THREADS, normed, a);
    return LCKV_OK;
}

static bool run_few(device *d, struct few_call *a) {
    if (!few_number_tiles(a)) return true;
    if (a->norm.data) return run<1, 4, true>(d, *a) >= 0;
    if (a->rows <= RIGHT_ROWS) return run<1, 4, false>(d, *a) >= 0;
    if (a->rows <= 2 * RIGHT_ROWS) return run<2, 2, false>(d, *a) >= 0;
    return run<4, 1, false>(d, *a) >= 0;
}

bool cuda_linear_few_matrix(device *d, const struct op_linear *p, view residual) {
    struct few_call a = {};
    return few_linear(p, residual, products_in_chunks, &a) && run_few(d, &a);
}

bool cuda_project_few_matrix(device *d, const struct op_project *p, bool with_norm) {
    struct few_call a = {};
    return few_projection(p, with_norm, products_in_chunks, &a) && run_few(d, &a);
}

bool cuda_heads_few_matrix(device *d, const struct op_heads *h, bool with_norm) {
    struct few_call a = {};
    return few_heads(h, with_norm, products_in_chunks, &a) && run_few(d, &a);
}
