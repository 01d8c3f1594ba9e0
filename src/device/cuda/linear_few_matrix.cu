/* Products of a few rows with bf16 weights on tensor cores (decoding). The goal is to read every weight once, at
 * full bandwidth.
 *
 * Weights are the left factor. A block has 16 columns of the result for all rows; its warps divide the depth, and
 * their parts are summed in the order of the warps. The four lanes of a row of a fragment would hold pairs of
 * elements that are apart. Since a sum may be taken in any order, each lane holds eight adjacent elements instead,
 * of both factors alike, and reads them at once. Weights are loaded before the preceding kernel has ended
 * (launch.h), and two groups of steps ahead of the products from then on.
 *
 * One launch computes the products of several weights (op_project), optionally with RMSNorm before them, or swiglu
 * or a residual after them. */
#include "device/cuda/launch.h"
#include "device/cuda/matrix.h"
#include "device/cuda/products.h"

enum {
    LEFT_ROWS = 16,
    HALF_ROWS = LEFT_ROWS / 2,
    RIGHT_ROWS = 8,
    WARPS = 8,
    THREADS = WARPS * CUDA_WARP,
    DEPTH = 32, /* per step: two products */
    STEP = DEPTH / MATRIX_CHUNK,
    PAD = 4 * MATRIX_CHUNK,     /* elements between normed rows, so that they begin in different banks */
    PART_COLS = LEFT_ROWS + 4,  /* columns of a warp's part of the result; no two lanes write to one bank */
    MAX_NORMED_BYTES = 72 << 10 /* of normed rows in shared memory */
};

struct few_call {
    view x;        /* bf16; with a norm f32 */
    view norm;     /* may be absent */
    view residual; /* may be absent */
    view gated_y;  /* may be absent */
    float eps;
    int rows, chunks, parts, tiles;
    /* op_heads: parts [0, rotated) are rotated, the last of them are the keys, then come the values */
    int rotated, head_dim;
    view angles, index, pages_k, pages_v;
    struct {
        view weight, bias, y;
        int begin; /* its first tile */
    } part[PROJECT_PARTS];
};

/* What a lane reads of one row in one step. */
struct alignas(16) eight {
    uint32_t pair[4];
};

/* Padded with the last row, whose result is not stored. */
__device__ static const struct eight *row_of(view v, int64_t row) {
    row = row < v.rows ? row : v.rows - 1;
    return (const struct eight *)((const __nv_bfloat16 *)v.data + row * v.cols);
}

/* ---------------------------------------------------------------- normed rows */

/* Chunk c of a row of f32, and the weights of its norm. */
struct norm_chunk {
    float x[MATRIX_CHUNK], weight[MATRIX_CHUNK];

    __device__ void load_weight(const struct few_call &a, int c) {
#pragma unroll
        for (int i = 0; i < MATRIX_CHUNK; i += 4) {
            struct cuda_four four = cuda_get4(a.norm.data, a.norm.type, c * MATRIX_CHUNK + i, a.norm.cols);
#pragma unroll
            for (int j = 0; j < 4; j++) weight[i + j] = four.at[j];
        }
    }

    __device__ void load_x(const struct few_call &a, int row, int c) {
        const float4 *from = (const float4 *)((const float *)a.x.data + (int64_t)row * a.x.cols) + 2 * c;
        float4 low = from[0], high = from[1];
        x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
        x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
    }

    __device__ float squares(void) const {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < MATRIX_CHUNK; i++) sum += x[i] * x[i];
        return sum;
    }

    __device__ struct eight normed(float rstd) const {
        struct eight out;
#pragma unroll
        for (int i = 0; i < 4; i++)
            out.pair[i] = matrix_pair(weight[2 * i] * (x[2 * i] * rstd), weight[2 * i + 1] * (x[2 * i + 1] * rstd));
        return out;
    }
};

/* All rows, at most RIGHT_ROWS, normed into shared memory. Equal numbers of warps share a row; a thread keeps the
 * first of its chunks, whose weights are loaded already. */
__device__ static void norm_rows(const struct few_call &a, struct norm_chunk *kept, int row, int first, int step,
                                 __nv_bfloat16 *to) {
    __shared__ float sums[WARPS];
    int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP, team = step / CUDA_WARP;
    bool has = row < a.rows && first < a.chunks;
    float sum = 0, total = 0;
    if (has) {
        kept->load_x(a, row, first);
        sum = kept->squares();
    }
#pragma unroll 1
    for (int c = first + step; has && c < a.chunks; c += step) {
        struct norm_chunk other;
        other.load_x(a, row, c);
        sum += other.squares();
    }
    sum = cuda_join_lanes(sum, CUDA_WARP, cuda_plus());
    if (lane == 0) sums[warp] = sum;
    __syncthreads();
    if (has) {
        for (int w = 0; w < team; w++) total += sums[warp / team * team + w];
        float rstd = 1.0f / sqrtf(total / (float)a.x.cols + a.eps);
        struct eight *out = (struct eight *)(to + (int64_t)row * (a.x.cols + PAD));
        out[first] = kept->normed(rstd);
#pragma unroll 1
        for (int c = first + step; c < a.chunks; c += step) {
            struct norm_chunk other;
            other.load_weight(a, c);
            other.load_x(a, row, c);
            out[c] = other.normed(rstd);
        }
    }
    __syncthreads();
}

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

/* One element of the block's result: row `c` of its left rows, from the warps' parts. */
template <int ROWS>
__device__ float few_sum(const float parts[WARPS][ROWS][PART_COLS], const struct few_call &a, int part, int64_t column,
                         int r, int c) {
    float y = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++) y += parts[w][r][c];
    view bias = a.part[part].bias;
    return bias.data ? y + cuda_get(bias.data, bias.type, column) : y;
}

template <int ROWS>
__device__ void few_store(const float parts[WARPS][ROWS][PART_COLS], const struct few_call &a, int part,
                          int64_t column) {
    for (int i = threadIdx.x; i < a.rows * LEFT_ROWS; i += THREADS) {
        int r = i / LEFT_ROWS, c = i % LEFT_ROWS;
        view y = a.part[part].y;
        if (column + c >= y.cols) continue;
        float value = few_sum<ROWS>(parts, a, part, column + c, r, c);
        if (a.residual.data) value += ((const float *)a.residual.data)[r * y.cols + column + c];
        cuda_set(cuda_row(y, r), y.type, column + c, value);
    }
}

/* The upper half of the left rows belongs to gate, the lower half to up. */
template <int ROWS>
__device__ void few_store_gated(const float parts[WARPS][ROWS][PART_COLS], const struct few_call &a, int64_t column) {
    for (int i = threadIdx.x; i < a.rows * HALF_ROWS; i += THREADS) {
        int r = i / HALF_ROWS, c = i % HALF_ROWS;
        if (column + c >= a.gated_y.cols) continue;
        float gate = few_sum<ROWS>(parts, a, 0, column + c, r, c);
        float up = few_sum<ROWS>(parts, a, 1, column + c, r, c + HALF_ROWS);
        cuda_set(cuda_row(a.gated_y, r), a.gated_y.type, column + c, gate / (1.0f + expf(-gate)) * up);
    }
}

/* Rotates the tile's pairs, and writes keys and values to their pages too. */
template <int ROWS>
__device__ void few_store_heads(const float parts[WARPS][ROWS][PART_COLS], const struct few_call &a, int part,
                                int64_t column) {
    bool rotated = part < a.rotated, pages = a.index.data && part + 1 >= a.rotated;
    int half = a.head_dim / 2;
    for (int i = threadIdx.x; i < a.rows * HALF_ROWS; i += THREADS) {
        int r = i / HALF_ROWS, c = i % HALF_ROWS;
        view y = a.part[part].y, to = rotated ? a.pages_k : a.pages_v;
        int64_t low = column + c, high = low + (rotated ? half : HALF_ROWS);
        float x0 = few_sum<ROWS>(parts, a, part, low, r, c), x1 = 0;
        if (high < y.cols) x1 = few_sum<ROWS>(parts, a, part, high, r, c + HALF_ROWS);
        if (rotated) {
            const float *angles = (const float *)a.angles.data + (int64_t)r * a.head_dim + low % a.head_dim;
            float y0 = x0 * angles[0] - x1 * angles[half], y1 = x1 * angles[0] + x0 * angles[half];
            x0 = y0, x1 = y1;
        }
        x0 = __bfloat162float(__float2bfloat16_rn(x0)), x1 = __bfloat162float(__float2bfloat16_rn(x1));
        if (low >= y.cols) continue;
        cuda_set(cuda_row(y, r), y.type, low, x0);
        if (high < y.cols) cuda_set(cuda_row(y, r), y.type, high, x1);
        int64_t row = pages ? ((const int64_t *)a.index.data)[r] : -1;
        if (row < 0 || row >= to.rows) continue;
        cuda_set(cuda_row(to, row), to.type, low, x0);
        if (high < y.cols) cuda_set(cuda_row(to, row), to.type, high, x1);
    }
}

/* The columns and the part of a tile, and the addresses of a lane's rows of weights. */
struct few_tile {
    int part;
    int64_t column;  /* of the left rows' upper half */
    int64_t further; /* from there to the lower half, in the part or, if gated, in the second part */
    const struct eight *low, *high;

    __device__ few_tile(const struct few_call &a, int number) {
        int row = threadIdx.x % CUDA_WARP / 4, half = a.head_dim / 2;
        bool gated = a.gated_y.data != NULL;
        part = 0;
        while (!gated && part + 1 < a.parts && number >= a.part[part + 1].begin) part++;
        number -= a.part[part].begin;
        column = (int64_t)number * (gated ? HALF_ROWS : LEFT_ROWS);
        further = gated ? 0 : HALF_ROWS;
        if (part < a.rotated) { /* pairs that are rotated together */
            int tiles = half / HALF_ROWS;
            column = (int64_t)(number / tiles) * a.head_dim + number % tiles * HALF_ROWS;
            further = half;
        }
        low = row_of(a.part[part].weight, column + row);
        high = row_of(a.part[gated ? 1 : part].weight, column + further + row);
    }
};

/* Blocks take tiles in turn; weights of a tile are loaded before the preceding one is done. */
template <int TILES, int GROUP, bool NORMED>
__global__ static void __launch_bounds__(THREADS, 2) few_products(struct few_call a) {
    constexpr int ROWS = TILES * RIGHT_ROWS;
    __shared__ float parts[WARPS][ROWS][PART_COLS];
    extern __shared__ float4 shared[];
    __nv_bfloat16 *normed = (__nv_bfloat16 *)shared;
    int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
    struct few_tile tile(a, (int)blockIdx.x);
    struct few_group<TILES, GROUP> even, odd;
    const struct eight *x[TILES];
    int steps = (a.chunks + WARPS * STEP - 1) / (WARPS * STEP);
    cuda_let_next();
    even.load_weights(tile.low, tile.high, 0, a.chunks);
    odd.load_weights(tile.low, tile.high, GROUP, a.chunks);
    int team = WARPS;
    while (NORMED && WARPS / team < a.rows) team /= 2;
    int norm_row = warp / team, norm_first = warp % team * CUDA_WARP + lane;
    struct norm_chunk kept;
    if (NORMED && norm_first < a.chunks) kept.load_weight(a, norm_first);
    cuda_begin();
    if (NORMED) norm_rows(a, &kept, norm_row, norm_first, team * CUDA_WARP, normed);
#pragma unroll
    for (int t = 0; t < TILES; t++) {
        int r = min(t * RIGHT_ROWS + lane / 4, a.rows - 1);
        x[t] = NORMED ? (const struct eight *)(normed + (int64_t)r * (a.x.cols + PAD)) : row_of(a.x, r);
    }
    if (!NORMED) even.load_x(x, 0, a.chunks), odd.load_x(x, GROUP, a.chunks);
    for (int number = (int)blockIdx.x; number < a.tiles; number += (int)gridDim.x) {
        struct few_tile next(a, min(number + (int)gridDim.x, a.tiles - 1));
        float sum[TILES][4] = {};
        for (int at = 0; at < steps; at += 2 * GROUP) {
            bool last = at + 2 * GROUP >= steps;
            const struct eight *low = last ? next.low : tile.low, *high = last ? next.high : tile.high;
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
#pragma unroll
        for (int t = 0; t < TILES; t++)
            for (int i = 0; i < 4; i++) {
                parts[warp][t * RIGHT_ROWS + lane % 4 * 2 + i % 2][lane / 4 + i / 2 * 8] = sum[t][i];
            }
        __syncthreads();
        if (a.gated_y.data) {
            few_store_gated<ROWS>(parts, a, tile.column);
        } else if (a.rotated > 0) {
            few_store_heads<ROWS>(parts, a, tile.part, tile.column);
        } else {
            few_store<ROWS>(parts, a, tile.part, tile.column);
        }
        __syncthreads();
        tile = next;
    }
}

/* ---------------------------------------------------------------- the entries */

template <int TILES, int GROUP, bool NORMED> static int run(device *d, const struct few_call &a) {
    size_t normed = NORMED ? (size_t)a.rows * (size_t)(a.x.cols + PAD) * sizeof(__nv_bfloat16) : 0;
    size_t parts = sizeof(float) * WARPS * TILES * RIGHT_ROWS * PART_COLS;
    int max_blocks = 2 * cuda_state_of(d)->multiprocessors;
    TRY(cuda_allow_shared(d, few_products<TILES, GROUP, NORMED>, normed + parts));
    cuda_start(d, few_products<TILES, GROUP, NORMED>, dim3((unsigned)(a.tiles < max_blocks ? a.tiles : max_blocks)),
               THREADS, normed, a);
    return LCKV_OK;
}

static int run_few(device *d, struct few_call *a) {
    a->rows = (int)a->x.rows;
    a->chunks = (int)(a->x.cols / MATRIX_CHUNK);
    a->tiles = 0;
    for (int i = 0; i < a->parts; i++) {
        a->part[i].begin = a->tiles;
        a->tiles += (int)cuda_blocks(a->part[i].weight.rows, LEFT_ROWS);
    }
    if (a->gated_y.data) a->tiles = (int)cuda_blocks(a->gated_y.cols, HALF_ROWS);
    if (a->tiles == 0) return LCKV_OK;
    if (a->norm.data) return run<1, 4, true>(d, *a);
    if (a->rows <= RIGHT_ROWS) return run<1, 4, false>(d, *a);
    if (a->rows <= 2 * RIGHT_ROWS) return run<2, 2, false>(d, *a);
    return run<4, 1, false>(d, *a);
}

bool cuda_linear_few_matrix(device *d, const struct op_linear *p, view residual) {
    struct few_call a = {};
    if (p->x.rows > CUDA_FEW_ROWS || !products_in_chunks(p->x) || !products_in_chunks(p->weight)) return false;
    a.x = p->x;
    a.residual = residual;
    a.parts = 1;
    a.part[0] = {p->weight, p->bias, p->y, 0};
    return run_few(d, &a) >= 0;
}

/* The call of a projection; false if this file does not support it. */
static bool few_projection(const struct op_project *p, bool with_norm, struct few_call *a) {
    size_t normed = (size_t)p->x.rows * (size_t)(p->x.cols + PAD) * sizeof(__nv_bfloat16);
    if (p->x.rows > (with_norm ? (int64_t)RIGHT_ROWS : (int64_t)CUDA_FEW_ROWS) || !products_in_chunks(p->normed))
        return false;
    if (with_norm && (normed > MAX_NORMED_BYTES || (uintptr_t)p->x.data % 16 != 0)) return false;
    a->x = with_norm ? p->x : p->normed;
    if (with_norm) a->norm = p->norm;
    a->eps = p->eps;
    a->gated_y = p->gated_y;
    a->parts = p->parts;
    for (int i = 0; i < p->parts; i++) {
        if (!products_in_chunks(p->part[i].weight)) return false;
        a->part[i] = {p->part[i].weight, p->part[i].bias, p->part[i].y, 0};
    }
    return true;
}

bool cuda_project_few_matrix(device *d, const struct op_project *p, bool with_norm) {
    struct few_call a = {};
    return few_projection(p, with_norm, &a) && run_few(d, &a) >= 0;
}

bool cuda_heads_few_matrix(device *d, const struct op_heads *h, bool with_norm) {
    struct few_call a = {};
    const struct op_rope_append *append = &h->append;
    if (append->head_dim % LEFT_ROWS != 0 || !few_projection(&h->project, with_norm, &a)) return false;
    products_take_heads(append, &a);
    return run_few(d, &a) >= 0;
}
