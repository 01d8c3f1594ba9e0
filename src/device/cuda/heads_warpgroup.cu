/* Queries, keys and values of 33 to 64 normed rows (op_heads) in one kernel: products with bf16 weights by the
 * warpgroup instructions (warpgroup.h), with rotation and appending to pages behind them. As in linear_few_matrix.cu,
 * what counts is that every weight is read once, and fast.
 *
 * Weights are the left factor. A block has a tile of 64 columns of the result, for all rows; its two halves are the two
 * elements of pairs that are rotated together. Weights and rows are copied to shared memory STAGES steps of the depth
 * ahead, the first weights before the kernel in front has ended (launch.h). Where tiles are fewer than what the GPU can
 * hold, the depth is split among the blocks of a cluster, which read one another's sums from shared memory and add them
 * in the order of the blocks. */
#include "device/cuda/launch.h"
#include "device/cuda/products.h"
#include "device/cuda/warpgroup.h"

enum {
    COLS = WARPGROUP_ROWS,
    HALF = COLS / 2,
    ROWS = 64,
    THREADS = WARPGROUP,
    CHUNKS = WARPGROUP_DEPTH / MATRIX_CHUNK, /* of a step */
    EACH = THREADS / CHUNKS,                 /* rows that are copied at a time */
    STAGES = 4,
    BLOCKS = 3,          /* of a multiprocessor */
    SUM_COLS = COLS + 4, /* so that what a warp writes at once goes to different banks */
    MAX_CLUSTER = 8,
    MIN_STEPS = 4 /* of a block of a cluster */
};

/* op_heads as the kernel sees it. */
struct heads_call {
    view x; /* bf16 [rows, in] */
    int rows, chunks, parts, tiles;
    int rotated, head_dim; /* parts [0, rotated) are rotated, the last of them keys, and values follow */
    view angles, index, pages_k, pages_v;
    struct {
        view weight, bias, y;
        int begin; /* its first tile */
    } part[PROJECT_PARTS];
};

struct stage {
    char weights[COLS * WARPGROUP_DEPTH * 2], x[ROWS * WARPGROUP_DEPTH * 2];
};
struct sums {
    float at[ROWS][SUM_COLS];
};

/* Which columns of which part a block has: HALF from `column` on, and HALF that lie `further`. */
struct tile {
    int part, column, further;

    __device__ tile(const struct heads_call &a, int number) {
        int half = a.head_dim / 2;
        part = 0;
        while (part + 1 < a.parts && number >= a.part[part + 1].begin) part++;
        number -= a.part[part].begin;
        column = number * COLS;
        further = HALF;
        if (part >= a.rotated) return;
        column = number / (half / HALF) * a.head_dim + number % (half / HALF) * HALF;
        further = half;
    }
};

/* ---------------------------------------------------------------- copying */

/* This thread's chunks of COLS or ROWS rows: one of each step of every EACH-th row. Rows behind the last are the last
 * once more. */
struct reader {
    const char *from[COLS / EACH];

    __device__ void set(int i, const view &v, int row, int chunk) {
        int64_t at = min((int64_t)row, v.rows - 1);
        from[i] = (const char *)v.data + (at * v.cols + chunk * MATRIX_CHUNK) * 2;
    }

    __device__ void copy(char *to, int step, bool there) const {
        int chunk = (int)threadIdx.x % CHUNKS, row = (int)threadIdx.x / CHUNKS;
#pragma unroll
        for (int i = 0; i < COLS / EACH; i++) {
            const char *at = there ? from[i] + step * (WARPGROUP_DEPTH * 2) : from[i];
            matrix_copy16(matrix_at<WARPGROUP_DEPTH>(to, i * EACH + row, chunk), at, there);
        }
    }
};

__device__ static struct reader weights_of(const struct heads_call &a, const struct tile &own) {
    struct reader weights;
    int chunk = (int)threadIdx.x % CHUNKS, row = (int)threadIdx.x / CHUNKS;
    view weight = a.part[own.part].weight;
#pragma unroll
    for (int i = 0; i < COLS / EACH; i++) {
        int r = i * EACH + row;
        weights.set(i, weight, own.column + (r < HALF ? r : own.further + r - HALF), chunk);
    }
    return weights;
}

__device__ static struct reader rows_of(const struct heads_call &a) {
    struct reader rows;
#pragma unroll
    for (int i = 0; i < ROWS / EACH; i++)
        rows.set(i, a.x, i * EACH + (int)threadIdx.x / CHUNKS, (int)threadIdx.x % CHUNKS);
    return rows;
}

/* ---------------------------------------------------------------- storing */

/* The sum of a cluster's blocks. */
struct cluster_sums {
    const struct sums *own;
    int blocks;

    __device__ float at(int r, int c) const {
        float y = 0;
#pragma unroll
        for (int i = 0; i < MAX_CLUSTER; i++)
            if (i < blocks) y += cluster_get(&own->at[r][c], i);
        return y;
    }
};

__device__ static float with_bias(const struct heads_call &a, int part, float y, int column) {
    view bias = a.part[part].bias;
    return bias.data && column < bias.cols ? y + cuda_get(bias.data, bias.type, column) : y;
}

/* Rows [first, end) of a tile. Pairs are rotated; keys and values also go to their pages. */
__device__ static void store(const struct heads_call &a, const struct tile &own, const struct cluster_sums &sums,
                             int first, int end) {
    bool rotated = own.part < a.rotated, pages = a.index.data && own.part + 1 >= a.rotated;
    int half = a.head_dim / 2;
    view y = a.part[own.part].y, to = rotated ? a.pages_k : a.pages_v;
    for (int i = first * HALF + (int)threadIdx.x; i < end * HALF; i += THREADS) {
        int r = i / HALF, c = i % HALF, low = own.column + c, high = low + own.further;
        float x0 = with_bias(a, own.part, sums.at(r, c), low), x1 = with_bias(a, own.part, sums.at(r, c + HALF), high);
        if (rotated) {
            const float *angles = (const float *)a.angles.data + (int64_t)r * a.head_dim + low % a.head_dim;
            float y0 = x0 * angles[0] - x1 * angles[half], y1 = x1 * angles[0] + x0 * angles[half];
            x0 = y0, x1 = y1;
        }
        x0 = __bfloat162float(__float2bfloat16_rn(x0)), x1 = __bfloat162float(__float2bfloat16_rn(x1));
        cuda_set(cuda_row(y, r), y.type, low, x0);
        cuda_set(cuda_row(y, r), y.type, high, x1);
        int64_t row = pages ? ((const int64_t *)a.index.data)[r] : -1;
        if (row < 0 || row >= to.rows) continue;
        cuda_set(cuda_row(to, row), to.type, low, x0);
        cuda_set(cuda_row(to, row), to.type, high, x1);
    }
}

/* ---------------------------------------------------------------- the kernel */

__device__ static void leave(struct sums *to, const float (&sum)[ROWS / 2]) {
    int lane = (int)threadIdx.x % CUDA_WARP, column = (int)threadIdx.x / CUDA_WARP * 16 + lane / 4;
#pragma unroll
    for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) to->at[8 * j + 2 * (lane % 4) + i % 2][column + i / 2 * 8] = sum[4 * j + i];
}

/* Steps [begin, begin + steps) of the products of a tile. */
__device__ static void multiply(float (&sum)[ROWS / 2], struct stage *stages, const struct heads_call &a,
                                const struct tile &own, int begin, int steps) {
    struct reader weights = weights_of(a, own), rows = rows_of(a);
    int chunk = (int)threadIdx.x % CHUNKS;
    cuda_let_next();
#pragma unroll
    for (int i = 0; i < STAGES; i++)
        if (i < steps) weights.copy(stages[i].weights, begin + i, (begin + i) * CHUNKS + chunk < a.chunks);
    cuda_begin();
#pragma unroll
    for (int i = 0; i < STAGES; i++) {
        if (i < steps) rows.copy(stages[i].x, begin + i, (begin + i) * CHUNKS + chunk < a.chunks);
        matrix_commit();
    }
    for (int i = 0; i < steps; i++) {
        int ahead = i + STAGES - 1;
        matrix_wait<STAGES - 1>();
        warpgroup_wait<0>();
        warpgroup_publish();
        __syncthreads(); /* this step is there, and nobody works on the one before it any more */
        warpgroup_begin();
        warpgroup_multiply_tiles(sum, stages[i % STAGES].weights, stages[i % STAGES].x);
        warpgroup_commit();
        if (i > 0 && ahead < steps) {
            bool there = (begin + ahead) * CHUNKS + chunk < a.chunks;
            weights.copy(stages[ahead % STAGES].weights, begin + ahead, there);
            rows.copy(stages[ahead % STAGES].x, begin + ahead, there);
        }
        matrix_commit();
    }
    warpgroup_wait<0>();
    matrix_wait<0>();
    __syncthreads();
}

__global__ static void __launch_bounds__(THREADS, BLOCKS) products(struct heads_call a, int blocks) {
    extern __shared__ char shared[];
    uint32_t address = (uint32_t)__cvta_generic_to_shared(shared);
    char *aligned = shared + (WARPGROUP_ALIGN - address % WARPGROUP_ALIGN) % WARPGROUP_ALIGN;
    struct sums *mine = (struct sums *)aligned;
    struct cluster_sums all = {mine, blocks};
    struct tile own(a, (int)blockIdx.x / blocks);
    int place = (int)blockIdx.x % blocks, steps = (a.chunks + CHUNKS - 1) / CHUNKS, begin = steps * place / blocks;
    float sum[ROWS / 2] = {};
    multiply(sum, (struct stage *)aligned, a, own, begin, steps * (place + 1) / blocks - begin);
    leave(mine, sum);
    cluster_wait();
    store(a, own, all, a.rows * place / blocks, a.rows * (place + 1) / blocks);
    cluster_wait(); /* others may still read this block's sums */
}

/* ---------------------------------------------------------------- the entry */

/* Number of blocks per tile: all blocks of the grid run at the same time, and each has at least MIN_STEPS steps. */
static int cluster_blocks(device *d, const struct heads_call *a) {
    int blocks = 1, steps = (a->chunks + CHUNKS - 1) / CHUNKS;
    while (blocks < MAX_CLUSTER && 2 * blocks * a->tiles <= BLOCKS * cuda_state_of(d)->multiprocessors &&
           steps >= 2 * blocks * MIN_STEPS)
        blocks *= 2;
    return blocks;
}

static bool run(device *d, struct heads_call *a) {
    size_t stages = STAGES * sizeof(struct stage), bytes = WARPGROUP_ALIGN + stages;
    a->rows = (int)a->x.rows;
    a->chunks = (int)(a->x.cols / MATRIX_CHUNK);
    a->tiles = 0;
    for (int i = 0; i < a->parts; i++) {
        a->part[i].begin = a->tiles;
        a->tiles += (int)cuda_blocks(a->part[i].weight.rows, COLS);
    }
    int blocks = cluster_blocks(d, a);
    if (a->tiles == 0 || cuda_allow_shared(d, products, bytes) < 0) return false;
    cuda_start_clusters(d, products, dim3((unsigned)(a->tiles * blocks)), THREADS, bytes, (unsigned)blocks, *a, blocks);
    return true;
}

bool cuda_heads_warpgroup(device *d, const struct op_heads *h) {
    struct heads_call a = {};
    const struct op_rope_append *append = &h->append;
    const struct op_project *p = &h->project;
    if (!cuda_state_of(d)->warpgroups || p->x.rows <= CUDA_FEW_ROWS || p->x.rows > ROWS) return false;
    if (!products_in_chunks(p->normed) || append->head_dim % COLS != 0) return false;
    a.x = p->normed;
    a.parts = p->parts;
    for (int i = 0; i < a.parts; i++) {
        if (!products_in_chunks(p->part[i].weight)) return false;
        a.part[i] = {p->part[i].weight, p->part[i].bias, p->part[i].y, 0};
    }
    products_take_heads(append, &a);
    return run(d, &a);
}
