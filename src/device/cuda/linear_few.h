/* Common parts of the products of a few rows on tensor cores (linear_few_matrix.cu: bf16 weights, linear_few_groups.cu:
 * int8 and int4): the call, tiles, normed rows, and storing the result.
 *
 * Weights are the left factor. A block has 16 columns of the result for all rows; its warps divide the depth, and
 * their parts are summed in the order of the warps. One launch computes the products of several weights (op_project),
 * optionally with RMSNorm before them, or swiglu or a residual after them. */
#ifndef DEVICE_CUDA_LINEAR_FEW_H
#define DEVICE_CUDA_LINEAR_FEW_H

#include "device/cuda/launch.h"
#include "device/cuda/matrix.h"
#include "device/cuda/products.h"
#include "device/cuda/rotate.h"

enum {
    LEFT_ROWS = 16,
    HALF_ROWS = LEFT_ROWS / 2,
    RIGHT_ROWS = 8,
    WARPS = 8,
    THREADS = WARPS * CUDA_WARP,
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

/* A row of bf16. */
__device__ static inline const struct eight *few_row(view v, int64_t row) {
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

    __device__ struct cuda_eight normed(float rstd) const {
        struct cuda_eight out;
#pragma unroll
        for (int i = 0; i < MATRIX_CHUNK; i++) out.at[i] = weight[i] * (x[i] * rstd);
        return out;
    }
};

/* The warps that share a row, the row and the first chunk of this thread, and its step from chunk to chunk. */
struct norm_share {
    int row, first, step;

    __device__ norm_share(int rows) {
        int team = WARPS, warp = threadIdx.x / CUDA_WARP;
        while (WARPS / team < rows) team /= 2;
        row = warp / team;
        first = warp % team * CUDA_WARP + (int)threadIdx.x % CUDA_WARP;
        step = team * CUDA_WARP;
    }
};

/* All rows, at most RIGHT_ROWS, normed: store(row, chunk, values). A thread keeps the first of its chunks, whose
 * weights are loaded already. Adjacent lanes have adjacent chunks. */
template <typename Store>
__device__ void norm_rows(const struct few_call &a, struct norm_chunk *kept, struct norm_share own, Store store) {
    __shared__ float sums[WARPS];
    int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP, team = own.step / CUDA_WARP;
    int row = own.row, first = own.first, step = own.step;
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
        store(row, first, kept->normed(rstd));
#pragma unroll 1
        for (int c = first + step; c < a.chunks; c += step) {
            struct norm_chunk other;
            other.load_weight(a, c);
            other.load_x(a, row, c);
            store(row, c, other.normed(rstd));
        }
    }
    __syncthreads();
}

/* ---------------------------------------------------------------- tiles */

/* The columns of a block's left rows, and the rows of weights that a lane multiplies. */
struct few_tile {
    int part, high_part;
    int64_t column;    /* of the left rows' upper half */
    int64_t low, high; /* rows of the weights of both parts. Padded with the last row, whose result is not stored */

    __device__ few_tile(const struct few_call &a, int number) {
        int row = threadIdx.x % CUDA_WARP / 4, half = a.head_dim / 2;
        bool gated = a.gated_y.data != NULL;
        part = 0;
        while (!gated && part + 1 < a.parts && number >= a.part[part + 1].begin) part++;
        high_part = gated ? 1 : part;
        number -= a.part[part].begin;
        column = (int64_t)number * (gated ? HALF_ROWS : LEFT_ROWS);
        int64_t further = gated ? 0 : HALF_ROWS; /* from the upper half to the lower one */
        if (part < a.rotated) {                  /* pairs that are rotated together */
            int tiles = half / HALF_ROWS;
            column = (int64_t)(number / tiles) * a.head_dim + number % tiles * HALF_ROWS;
            further = half;
        }
        low = min(column + row, a.part[part].weight.rows - 1);
        high = min(column + further + row, a.part[high_part].weight.rows - 1);
    }
};

/* ---------------------------------------------------------------- storing */

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
            cuda_rotate_pair(&x0, &x1, angles[0], angles[half]);
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

/* What few_products of either kind does with the parts of a tile. */
template <int ROWS>
__device__ void few_store_tile(const float parts[WARPS][ROWS][PART_COLS], const struct few_call &a,
                               const struct few_tile &tile) {
    if (a.gated_y.data) {
        few_store_gated<ROWS>(parts, a, tile.column);
    } else if (a.rotated > 0) {
        few_store_heads<ROWS>(parts, a, tile.part, tile.column);
    } else {
        few_store<ROWS>(parts, a, tile.part, tile.column);
    }
}

/* This warp's sums of a tile, to its part. */
template <int TILES>
__device__ void few_leave(float parts[WARPS][TILES * RIGHT_ROWS][PART_COLS], const float sum[TILES][4]) {
    int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            parts[warp][t * RIGHT_ROWS + lane % 4 * 2 + i % 2][lane / 4 + i / 2 * 8] = sum[t][i];
}

/* ---------------------------------------------------------------- calls */

/* Numbers the tiles; false if there are none. */
static inline bool few_number_tiles(struct few_call *a) {
    a->rows = (int)a->x.rows;
    a->chunks = (int)(a->x.cols / MATRIX_CHUNK);
    a->tiles = 0;
    for (int i = 0; i < a->parts; i++) {
        a->part[i].begin = a->tiles;
        a->tiles += (int)cuda_blocks(a->part[i].weight.rows, LEFT_ROWS);
    }
    if (a->gated_y.data) a->tiles = (int)cuda_blocks(a->gated_y.cols, HALF_ROWS);
    return a->tiles > 0;
}

static inline size_t few_normed_bytes(int64_t rows, int64_t cols) {
    return (size_t)rows * (size_t)(cols + PAD) * sizeof(__nv_bfloat16);
}

/* The call of a product whose weights `takes` accepts, of at most `most` rows; false otherwise. */
typedef bool few_takes(view weight);

static inline bool few_linear(const struct op_linear *p, view residual, few_takes *takes, struct few_call *a) {
    if (p->x.rows > CUDA_FEW_ROWS || !products_in_chunks(p->x) || !takes(p->weight)) return false;
    a->x = p->x;
    a->residual = residual;
    a->parts = 1;
    a->part[0] = {p->weight, p->bias, p->y, 0};
    return true;
}

/* The same for a projection, whose weights have one format. */
static inline bool few_projection(const struct op_project *p, bool with_norm, few_takes *takes, struct few_call *a) {
    if (p->x.rows > (with_norm ? (int64_t)RIGHT_ROWS : (int64_t)CUDA_FEW_ROWS) || !products_in_chunks(p->normed))
        return false;
    if (with_norm && (few_normed_bytes(p->x.rows, p->x.cols) > MAX_NORMED_BYTES || (uintptr_t)p->x.data % 16 != 0))
        return false;
    a->x = with_norm ? p->x : p->normed;
    if (with_norm) a->norm = p->norm;
    a->eps = p->eps;
    a->gated_y = p->gated_y;
    a->parts = p->parts;
    for (int i = 0; i < p->parts; i++) {
        view weight = p->part[i].weight;
        if (!takes(weight) || weight.type != p->part[0].weight.type) return false;
        a->part[i] = {weight, p->part[i].bias, p->part[i].y, 0};
    }
    return true;
}

/* The same for op_heads. */
static inline bool few_heads(const struct op_heads *h, bool with_norm, few_takes *takes, struct few_call *a) {
    if (h->append.head_dim % LEFT_ROWS != 0 || !few_projection(&h->project, with_norm, takes, a)) return false;
    products_take_heads(&h->append, a);
    return true;
}

#endif
