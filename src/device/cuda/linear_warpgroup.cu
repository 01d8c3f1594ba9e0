/* Products of 33 to 64 rows with weights in bf16, int8 or int4 by the warpgroup instructions (warpgroup.h): queries,
 * keys and values with rotation and appending to pages, gate and up with swiglu, and products with bias and residual.
 * As in linear_few_matrix.cu, the goal is to read every weight once, at full bandwidth.
 *
 * Weights are the left factor. A block has a tile of 128 columns of the result, for all rows: two factors of 64
 * columns, which hold the two elements of what is rotated or multiplied together. One warp copies weights and rows to
 * shared memory, several steps of the depth ahead; it starts with the weights before the preceding kernel has ended
 * (launch.h). If there are fewer tiles than blocks that the GPU can hold, the depth is split among the blocks of a
 * cluster. They read one another's sums from shared memory and add them in the order of the blocks.
 *
 * Weights in int8 and int4 are copied as they are. The warps that multiply convert the integers to bf16 in registers
 * and multiply them by their scale, rounded to bf16, while the preceding products run. */
#include "device/cuda/groups.h"
#include "device/cuda/kv_int8.h"
#include "device/cuda/launch.h"
#include "device/cuda/products.h"
#include "device/cuda/rotate.h"
#include "device/cuda/warpgroup.h"

enum {
    HALF = WARPGROUP_ROWS,
    COLS = 2 * HALF,
    ROWS = 64,
    THREADS = WARPGROUP + CUDA_WARP,
    FOUR = 4,            /* adjacent columns of a thread */
    SUM_COLS = COLS + 4, /* so that what a warp writes at once goes to different banks */
    MAX_STAGES = 8,
    STAGES_BYTES = 192 << 10, /* of all blocks of a multiprocessor */
    BLOCKS = 2,               /* per multiprocessor */
    MAX_CLUSTER = 4,          /* larger ones wait until enough multiprocessors are free side by side */
    MIN_STEPS = 4             /* of a block of a cluster */
};

struct call {
    struct warpgroup_map x, weight[PROJECT_PARTS];
    int rows, steps, parts, tiles, blocks /* per tile */, stages;
    int rotated, head_dim; /* parts [0, rotated) are rotated, the last of them keys, and values follow */
    view angles, index, pages_k, pages_v, gated_y, residual;
    dtype type;  /* of the weights */
    bool rounds; /* keys and values become what pages hold */
    struct {
        view bias, y;
        int cols, begin /* its first tile */;
        const char *scales; /* of int8 and int4 */
    } part[PROJECT_PARTS];
};

/* A step's bytes of a row of weights of this type. */
template <dtype TYPE>
constexpr int STEP_BYTES = TYPE == DTYPE_INT4   ? WARPGROUP_DEPTH / 2
                           : TYPE == DTYPE_INT8 ? WARPGROUP_DEPTH
                                                : WARPGROUP_DEPTH * 2;

template <dtype TYPE> struct stage { char weights[2][HALF * STEP_BYTES<TYPE>], x[ROWS * WARPGROUP_DEPTH * 2]; };

/* The sums of a block, over its stages. */
struct sums {
    float at[ROWS][SUM_COLS];
};

struct barriers {
    uint64_t full[MAX_STAGES], empty[MAX_STAGES];
};

/* The columns of a block: HALF from `column` on, and HALF from `second` on, which is in the next part if gated. */
struct tile {
    int part, column, second;
    bool gated, far; /* far: the elements of a rotated pair are in different halves */

    __device__ tile(const struct call &a, int number) {
        int half = a.head_dim / 2;
        part = 0;
        gated = a.gated_y.data != NULL;
        while (!gated && part + 1 < a.parts && number >= a.part[part + 1].begin) part++;
        number -= a.part[part].begin;
        far = part >= a.rotated || a.head_dim > HALF;
        column = number * (gated ? HALF : COLS);
        second = gated ? column : column + HALF;
        if (part >= a.rotated || a.head_dim <= HALF) return;
        column = number / (half / HALF) * a.head_dim + number % (half / HALF) * HALF;
        second = column + half;
    }

    __device__ int second_part(void) const {
        return gated ? 1 : part;
    }

    /* The column of the tile with the first element of pair `pair`, and the distance to the second one. */
    __device__ int low(const struct call &a, int pair) const {
        int half = a.head_dim / 2;
        return far ? pair : pair / half * a.head_dim + pair % half;
    }
    __device__ int apart(const struct call &a) const {
        return far ? (int)HALF : a.head_dim / 2;
    }

    /* The column of the part with column `c` of the tile. */
    __device__ int column_of(int c) const {
        return c < HALF ? column + c : second + c - HALF;
    }
};

/* ---------------------------------------------------------------- copying */

/* A step's weights, or its rows, to a stage; `full` counts their bytes. */
template <dtype TYPE>
__device__ void copy_weights(const struct call &a, const struct tile &own, struct stage<TYPE> *to, uint64_t *full,
                             int step) {
    int column = step * (TYPE == DTYPE_BF16 ? (int)WARPGROUP_DEPTH : STEP_BYTES<TYPE>); /* of the map */
    warpgroup_expect(full, sizeof *to);
    warpgroup_copy(to->weights[0], &a.weight[own.part], column, own.column, full);
    warpgroup_copy(to->weights[1], &a.weight[own.second_part()], column, own.second, full);
}

template <dtype TYPE>
__device__ void copy_rows(const struct call &a, struct stage<TYPE> *to, uint64_t *full, int step) {
    warpgroup_copy(to->x, &a.x, step * WARPGROUP_DEPTH, 0, full);
}

/* One thread copies steps [begin, end). */
template <dtype TYPE>
__device__ void copy_steps(const struct call &a, const struct tile &own, struct stage<TYPE> *stages,
                           struct barriers *barriers, int begin, int end) {
    int first = min(end, begin + a.stages);
    warpgroup_map_soon(&a.x);
#pragma unroll 1
    for (int i = begin; i < first; i++) copy_weights(a, own, &stages[i - begin], &barriers->full[i - begin], i);
    cuda_begin();
    warpgroup_order_copies();
#pragma unroll 1
    for (int i = begin; i < first; i++) copy_rows(a, &stages[i - begin], &barriers->full[i - begin], i);
    int slot = 0, round = 0;
#pragma unroll 1
    for (int i = first; i < end; i++) {
        warpgroup_wait_for(&barriers->empty[slot], round);
        copy_weights(a, own, &stages[slot], &barriers->full[slot], i);
        copy_rows(a, &stages[slot], &barriers->full[slot], i);
        if (++slot == a.stages) slot = 0, round ^= 1;
    }
}

/* ---------------------------------------------------------------- products */

/* The sums of `steps` steps; a slot is empty once the products with it are done. */
__device__ static void multiply(float (&sum)[2][ROWS / 2], struct stage<DTYPE_BF16> *stages, struct barriers *barriers,
                                int slots, int steps) {
    int slot = 0, round = 0, before = 0;
    for (int i = 0; i < steps; i++) {
        warpgroup_wait_for(&barriers->full[slot], round);
        warpgroup_begin();
        warpgroup_multiply_tiles(sum[0], stages[slot].weights[0], stages[slot].x);
        warpgroup_multiply_tiles(sum[1], stages[slot].weights[1], stages[slot].x);
        warpgroup_commit();
        warpgroup_wait<1>();
        if (i > 0 && threadIdx.x % CUDA_WARP == 0) warpgroup_arrive(&barriers->empty[before]);
        before = slot;
        if (++slot == slots) slot = 0, round ^= 1;
    }
    warpgroup_wait<0>();
}

/* Where a thread finds the scales of its rows, 16 w + l / 4 in warp w and 8 rows below, of both halves of the tile. */
struct scale_rows {
    const char *at[2][2];

    __device__ scale_rows(const struct call &a, const struct tile &own, int step) {
        int row = (int)threadIdx.x / CUDA_WARP % 4 * 16 + (int)threadIdx.x % CUDA_WARP / 4;
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int part = h ? own.second_part() : own.part, column = (h ? own.second : own.column) + row + 8 * i;
                int64_t last = a.part[part].cols - 1, pair = (int64_t)min((int64_t)column, last) * a.steps + step;
                at[h][i] = a.part[part].scales + pair * 4;
            }
    }
};

/* The scales of a step, which has two groups: those of a row are a pair of f16. */
struct step_scales {
    uint32_t pair[2][2];

    __device__ void load(const struct scale_rows &rows, int step) {
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int i = 0; i < 2; i++) pair[h][i] = __ldg((const uint32_t *)rows.at[h][i] + step);
    }

    /* A group's scale, twice in bf16. */
    __device__ uint32_t twice(int h, int i, int group) const {
        float scale = __half2float(__ushort_as_half((uint16_t)(pair[h][i] >> 16 * group)));
        return matrix_pair(scale, scale);
    }
};

/* A half's step as left factors. */
template <dtype TYPE>
__device__ void widen_step(uint32_t (&to)[4][4], const char *weights, const struct step_scales &scales, int h) {
    int lane = (int)threadIdx.x % CUDA_WARP, row = (int)threadIdx.x / CUDA_WARP * 16 + lane / 4;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int k = 0; k < 4; k++) {
            uint32_t scale = scales.twice(h, i, k / 2);
#pragma unroll
            for (int j = 0; j < 2; j++) {
                int byte = (16 * k + 8 * j + lane % 4 * 2) * STEP_BYTES<TYPE> / WARPGROUP_DEPTH;
                int place = warpgroup_groups_chunk<TYPE>(row, byte / 16) * 16 + byte % 16;
                uint32_t pair = groups_pair<TYPE>(weights + (row + 8 * i) * STEP_BYTES<TYPE> + place);
                __nv_bfloat162 product = __hmul2(*(__nv_bfloat162 *)&pair, *(__nv_bfloat162 *)&scale);
                to[k][i + 2 * j] = *(uint32_t *)&product;
            }
        }
}

/* multiply() with weights in int8 or int4. The products with a half run while the other half is widened. */
template <dtype TYPE>
__device__ void multiply_groups(float (&sum)[2][ROWS / 2], struct stage<TYPE> *stages, struct barriers *barriers,
                                int slots, int steps, const struct scale_rows &rows) {
    int slot = 0, round = 0, before = 0;
    uint32_t left[2][4][4];
    struct step_scales now, next;
    now.load(rows, 0);
    warpgroup_hold(sum[0]);
    warpgroup_hold(sum[1]);
    for (int i = 0; i < steps; i++) {
        next.load(rows, min(i + 1, steps - 1));
        warpgroup_wait_for(&barriers->full[slot], round);
        uint64_t right = warpgroup_tile(stages[slot].x);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            warpgroup_wait<1>(); /* the preceding products with this half */
            if (h == 1 && i > 0 && threadIdx.x % CUDA_WARP == 0) warpgroup_arrive(&barriers->empty[before]);
            widen_step<TYPE>(left[h], stages[slot].weights[h], now, h);
            warpgroup_begin();
#pragma unroll
            for (int k = 0; k < 4; k++) warpgroup_multiply_left(sum[h], left[h][k], right + k * (32 >> 4));
            warpgroup_commit();
        }
        now = next;
        before = slot;
        if (++slot == slots) slot = 0, round ^= 1;
    }
    warpgroup_wait<0>();
    warpgroup_hold(sum[0]);
    warpgroup_hold(sum[1]);
}

__device__ static void leave(struct sums *to, const float (&sum)[ROWS / 2], int first) {
    int lane = (int)threadIdx.x % CUDA_WARP, column = first + (int)threadIdx.x / CUDA_WARP * 16 + lane / 4;
#pragma unroll
    for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) to->at[8 * j + 2 * (lane % 4) + i % 2][column + i / 2 * 8] = sum[4 * j + i];
}

/* ---------------------------------------------------------------- storing */

/* FOUR pairs of a row. */
struct pairs {
    struct cuda_four low, high;
};

__device__ static void add_four(struct cuda_four *to, float4 x) {
    to->at[0] += x.x, to->at[1] += x.y, to->at[2] += x.z, to->at[3] += x.w;
}

/* The sums of a cluster's blocks. */
__device__ static struct pairs add_blocks(const struct sums *own, int blocks, int r, int low, int high) {
    struct pairs x = {};
#pragma unroll
    for (int i = 0; i < MAX_CLUSTER; i++) {
        if (i >= blocks) break;
        add_four(&x.low, cluster_get4(&own->at[r][low], i));
        add_four(&x.high, cluster_get4(&own->at[r][high], i));
    }
    return x;
}

/* What is needed besides the sums: the residual or the angles, and the row in the pages. It is loaded early. */
struct other {
    struct pairs x;
    int64_t page;

    __device__ void load(const struct call &a, const struct tile &own, int r, int low, int high) {
        view residual = a.residual, angles = a.angles;
        page = a.index.data && own.part + 1 >= a.rotated ? ((const int64_t *)a.index.data)[r] : -1;
        if (residual.data) {
            x.low = cuda_get4(cuda_row(residual, r), residual.type, own.column_of(low), residual.cols);
            x.high = cuda_get4(cuda_row(residual, r), residual.type, own.column_of(high), residual.cols);
        } else if (own.part < a.rotated) {
            int at = own.column_of(low) % a.head_dim, half = a.head_dim / 2;
            x.low = cuda_get4(cuda_row(angles, r), DTYPE_F32, at, half);
            x.high = cuda_get4(cuda_row(angles, r), DTYPE_F32, half + at, 2 * half);
        }
    }
};

__device__ static void add_bias(const struct call &a, int part, int column, struct cuda_four *x) {
    view bias = a.part[part].bias;
    if (!bias.data) return;
    struct cuda_four four = cuda_get4(bias.data, bias.type, column, bias.cols);
    for (int i = 0; i < FOUR; i++) x->at[i] += four.at[i];
}

__device__ static void store_row(view y, int64_t row, int column, const struct cuda_four &x) {
    if (column < y.cols) cuda_set4(cuda_row(y, row), y.type, column, y.cols, x);
}

__device__ static void store_gated(const struct call &a, int r, int column, const struct pairs &x) {
    struct cuda_four y;
    for (int i = 0; i < FOUR; i++) y.at[i] = x.low.at[i] / (1.0f + expf(-x.low.at[i])) * x.high.at[i];
    store_row(a.gated_y, r, column, y);
}

/* Four pairs of keys or values to their pages in kv_int8. The threads of a head are adjacent; of values, the two halves
 * of a tile are different heads if they have room for several. Half a warp has a row. */
__device__ static void store_int8(const struct call &a, const struct tile &own, view pages, int64_t row, int low,
                                  int high, struct pairs *x) {
    bool joined = own.part < a.rotated || a.head_dim > HALF;
    int lanes = a.head_dim / FOUR / (joined ? 2 : 1), lane = (int)threadIdx.x % CUDA_WARP;
    unsigned mates = 0xffffu << (lane & 16);
    int first = kv_int8_largest(x->low), second = kv_int8_largest(x->high);
    if (joined) first = second = max(first, second);
    for (int i = lanes / 2; i > 0; i /= 2) {
        first = max(first, __shfl_xor_sync(mates, first, i));
        second = max(second, __shfl_xor_sync(mates, second, i));
    }
    struct kv_int8_scale low_scale(first), high_scale(second);
    bool there = row >= 0 && row < pages.rows, leads = lane % lanes == 0;
    if (there && low < pages.cols) {
        if (leads) low_scale.store(pages, row, low / a.head_dim);
        low_scale.store4(pages, row, low, pages.cols, x->low);
    }
    if (there && high < pages.cols) {
        if (leads && !joined) high_scale.store(pages, row, high / a.head_dim);
        high_scale.store4(pages, row, high, pages.cols, x->high);
    }
    if (a.rounds) low_scale.round(&x->low), high_scale.round(&x->high);
}

/* Pairs are rotated; keys and values also go to their pages, rounded once. */
__device__ static void store_heads(const struct call &a, const struct tile &own, int r, int low, int high,
                                   struct pairs x, const struct other &other) {
    view y = a.part[own.part].y, pages = own.part < a.rotated ? a.pages_k : a.pages_v;
    for (int i = 0; i < FOUR; i++) {
        if (own.part < a.rotated) cuda_rotate_pair(&x.low.at[i], &x.high.at[i], other.x.low.at[i], other.x.high.at[i]);
        x.low.at[i] = __bfloat162float(__float2bfloat16_rn(x.low.at[i]));
        x.high.at[i] = __bfloat162float(__float2bfloat16_rn(x.high.at[i]));
    }
    bool int8 = a.index.data && own.part + 1 >= a.rotated && pages.type == DTYPE_KV_INT8;
    if (int8) store_int8(a, own, pages, other.page, low, high, &x);
    store_row(y, r, low, x.low);
    store_row(y, r, high, x.high);
    if (int8 || other.page < 0 || other.page >= pages.rows) return;
    store_row(pages, other.page, low, x.low);
    store_row(pages, other.page, high, x.high);
}

__device__ static void store_pairs(const struct call &a, const struct tile &own, int r, int low, int high,
                                   struct pairs x, const struct other &other) {
    add_bias(a, own.part, low, &x.low);
    add_bias(a, own.second_part(), high, &x.high);
    if (own.gated) return store_gated(a, r, low, x);
    if (a.rotated > 0) return store_heads(a, own, r, low, high, x, other);
    for (int i = 0; a.residual.data && i < FOUR; i++)
        x.low.at[i] += other.x.low.at[i], x.high.at[i] += other.x.high.at[i];
    store_row(a.part[own.part].y, r, low, x.low);
    store_row(a.part[own.part].y, r, high, x.high);
}

/* This thread's share of the tile: units [at, end), WARPGROUP apart, each FOUR pairs of a row. */
struct share {
    static constexpr int EACH = HALF / FOUR; /* units per row */
    int at, end, low, high /* columns of the tile */;
    struct other other;

    __device__ void load(const struct call &a, const struct tile &own) {
        if (at < end) other.load(a, own, at / EACH, low, high);
    }

    /* Rows [first, last). */
    __device__ share(const struct call &a, const struct tile &own, int first, int last) {
        at = first * EACH + (int)threadIdx.x, end = threadIdx.x < WARPGROUP ? last * EACH : 0;
        low = own.low(a, at % EACH * FOUR), high = low + own.apart(a);
        load(a, own);
    }

    __device__ void store(const struct call &a, const struct tile &own, const struct sums *mine) {
        while (at < end) {
            struct pairs x = add_blocks(mine, a.blocks, at / EACH, low, high);
            struct other now = other;
            int row = at / EACH;
            at += WARPGROUP;
            load(a, own);
            store_pairs(a, own, row, own.column_of(low), own.column_of(high), x, now);
        }
    }
};

/* ---------------------------------------------------------------- the kernel */

__device__ static void prepare_barriers(struct barriers *barriers, int stages) {
#pragma unroll 1
    for (int i = 0; i < stages; i++) {
        warpgroup_barrier(&barriers->full[i], 1);
        warpgroup_barrier(&barriers->empty[i], WARPGROUP / CUDA_WARP);
    }
    warpgroup_barriers_ready();
}

template <dtype TYPE>
__global__ static void __launch_bounds__(THREADS, BLOCKS) products(const __grid_constant__ struct call a) {
    extern __shared__ char shared[];
    __shared__ struct barriers barriers;
    uint32_t address = (uint32_t)__cvta_generic_to_shared(shared);
    char *aligned = shared + (WARPGROUP_ALIGN - address % WARPGROUP_ALIGN) % WARPGROUP_ALIGN;
    struct stage<TYPE> *stages = (struct stage<TYPE> *)aligned;
    struct sums *sums = (struct sums *)aligned;
    struct tile own(a, (int)blockIdx.x / a.blocks);
    int place = (int)blockIdx.x % a.blocks;
    int begin = a.steps * place / a.blocks, end = a.steps * (place + 1) / a.blocks;
    bool copies = threadIdx.x == WARPGROUP;
    cuda_let_next();
    if (copies) prepare_barriers(&barriers, a.stages);
    __syncthreads();
    if (copies) copy_steps(a, own, stages, &barriers, begin, end);
    __syncwarp();
    cuda_begin();
    struct share share(a, own, a.rows * place / a.blocks, a.rows * (place + 1) / a.blocks);
    if (threadIdx.x < WARPGROUP) {
        float sum[2][ROWS / 2] = {};
        if constexpr (TYPE == DTYPE_BF16)
            multiply(sum, stages, &barriers, a.stages, end - begin);
        else
            multiply_groups<TYPE>(sum, stages, &barriers, a.stages, end - begin, scale_rows(a, own, begin));
        warpgroup_meet();
        leave(sums, sum[0], 0);
        leave(sums, sum[1], HALF);
    }
    cluster_wait();
    share.store(a, own, sums);
    if (a.blocks > 1) cluster_wait(); /* the others may still read this block's sums */
}

/* ---------------------------------------------------------------- the entries */

/* Blocks per tile: all blocks of the grid run at the same time, and each has at least MIN_STEPS steps. */
static int blocks_per_tile(device *d, const struct call *a) {
    int blocks = 1, most = BLOCKS * cuda_state_of(d)->multiprocessors;
    while (blocks < MAX_CLUSTER && 2 * blocks * a->tiles <= most && a->steps >= 2 * blocks * MIN_STEPS) blocks *= 2;
    return blocks;
}

/* Stages per block: as many as fit if every block has a multiprocessor for itself, or half as many. */
static int stages_per_block(device *d, const struct call *a, size_t stage) {
    int steps = (a->steps + a->blocks - 1) / a->blocks, most = (int)(STAGES_BYTES / stage);
    if (a->tiles * a->blocks > cuda_state_of(d)->multiprocessors) most /= BLOCKS;
    if (most > MAX_STAGES) most = MAX_STAGES;
    return steps < most ? steps : most;
}

template <dtype TYPE> static bool run_as(device *d, struct call *a) {
    a->blocks = blocks_per_tile(d, a);
    a->stages = stages_per_block(d, a, sizeof(struct stage<TYPE>));
    size_t stages = (size_t)a->stages * sizeof(struct stage<TYPE>), sums = sizeof(struct sums);
    if (cuda_allow_shared(d, products<TYPE>, WARPGROUP_ALIGN + STAGES_BYTES) < 0) return false;
    cuda_start_clusters(d, products<TYPE>, dim3((unsigned)(a->tiles * a->blocks)), THREADS,
                        WARPGROUP_ALIGN + (stages > sums ? stages : sums), (unsigned)a->blocks, *a);
    return true;
}

static bool run(device *d, struct call *a) {
    for (int i = 0; i < a->parts; i++) {
        a->part[i].begin = a->tiles;
        a->tiles += (int)cuda_blocks(a->part[i].cols, COLS);
    }
    if (a->gated_y.data) a->tiles = (int)cuda_blocks(a->gated_y.cols, HALF);
    if (a->tiles == 0) return true;
    return a->type == DTYPE_INT8   ? run_as<DTYPE_INT8>(d, a)
           : a->type == DTYPE_INT4 ? run_as<DTYPE_INT4>(d, a)
                                   : run_as<DTYPE_BF16>(d, a);
}

/* Whether this file supports the rows, which it then takes. */
static bool take_rows(device *d, view x, struct call *a) {
    if (!cuda_state_of(d)->encode_map || x.rows <= CUDA_PLAIN_ROWS || x.rows > ROWS || x.cols == 0) return false;
    a->rows = (int)x.rows;
    a->steps = (int)cuda_blocks(x.cols, WARPGROUP_DEPTH);
    return products_in_chunks(x) && warpgroup_map_of(d, x, &a->x);
}

static bool take_part(device *d, view weight, view bias, view y, struct call *a) {
    int i = a->parts++;
    a->part[i] = {bias, y, (int)weight.rows, 0, (const char *)weight.scales};
    if (i == 0) a->type = weight.type;
    if (weight.type != a->type || weight.rows == 0) return false;
    if (groups_in_chunks(weight)) return warpgroup_map_of_groups(d, weight, &a->weight[i]);
    return products_in_chunks(weight) && warpgroup_map_of(d, weight, &a->weight[i]);
}

static bool take_projection(device *d, const struct op_project *p, struct call *a) {
    if (!take_rows(d, p->normed, a)) return false;
    a->gated_y = p->gated_y;
    for (int i = 0; i < p->parts; i++)
        if (!take_part(d, p->part[i].weight, p->part[i].bias, p->part[i].y, a)) return false;
    return true;
}

bool cuda_linear_warpgroup(device *d, const struct op_linear *p, view residual) {
    struct call a = {};
    a.residual = residual;
    return take_rows(d, p->x, &a) && take_part(d, p->weight, p->bias, p->y, &a) && run(d, &a);
}

bool cuda_project_warpgroup(device *d, const struct op_project *p) {
    struct call a = {};
    return take_projection(d, p, &a) && run(d, &a);
}

/* Pairs that are rotated together are in the same tile. */
bool cuda_heads_warpgroup(device *d, const struct op_heads *h) {
    struct call a = {};
    int dim = h->append.head_dim;
    bool fits = dim > HALF ? dim % COLS == 0 : dim >= 2 * FOUR && HALF % dim == 0;
    bool int8 = h->append.pages_k.type == DTYPE_KV_INT8, rounds = h->append.room.data != NULL;
    if ((int8 && dim > COLS) || (rounds && !int8)) return false;
    if (!fits || !take_projection(d, &h->project, &a)) return false;
    products_take_heads(&h->append, &a);
    a.rounds = rounds;
    return run(d, &a);
}
