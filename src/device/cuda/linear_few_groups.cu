/* Products of a few rows with weights in int8 and int4 on tensor cores (decoding), see linear_few.h. The goal is to
 * read every weight once, at full bandwidth.
 *
 * Integers become bf16, exactly. The sum over a group is multiplied by the group's scale in f32 and added to the sum of
 * the preceding groups. Thus the weights are not rounded.
 *
 * Each warp copies its share of a tile to shared memory in units, several units ahead of the products and across tiles,
 * without waiting for the other warps. The four lanes of a row copy adjacent bytes and then read those of each group.
 * Copies start before the preceding kernel has ended (launch.h). Rows of x are in shared memory if they fit. */
#include "device/cuda/groups.h"
#include "device/cuda/linear_few.h"

enum {
    SEGMENT = 64, /* bytes of a row of weights in a unit */
    COPY = SEGMENT / 4,
    MAX_STAGED_BYTES = 100 << 10, /* of rows of x in shared memory */
    BLOCKS = 2                    /* per multiprocessor; there is room for one of the next kernel besides */
};

template <dtype TYPE> struct format {
    static constexpr int COLS = TYPE == DTYPE_INT8 ? SEGMENT : 2 * SEGMENT; /* of a unit */
    static constexpr int GROUPS = COLS / DTYPE_GROUP;
    static constexpr int GROUP_BYTES = SEGMENT / GROUPS;
    static constexpr int LANE_BYTES = GROUP_BYTES / 4; /* of a group */

    /* Permutes the chunks of a row, so that rows that are read together are in different banks. */
    __device__ static int place(int row, int byte) {
        return TYPE == DTYPE_INT8 ? byte ^ (row & 2) * COPY : byte ^ (row >> 1 & 3) * COPY;
    }

    /* The pairs of a chunk of x in the order of the pairs of integers. */
    __device__ struct eight operator()(struct eight x) const {
        struct eight out = x;
#pragma unroll
        for (int i = 0; i < 4 && TYPE == DTYPE_INT4; i++)
            out.pair[i] = __byte_perm(x.pair[i / 2], x.pair[i / 2 + 2], i % 2 ? 0x7632 : 0x5410);
        return out;
    }

    __device__ static struct eight pairs(const char *from) {
        struct eight out;
        if (TYPE == DTYPE_INT8)
            groups_pairs_int8(*(const uint2 *)from, out.pair);
        else
            groups_pairs_int4(*(const uint32_t *)from, out.pair);
        return out;
    }
};

template <dtype TYPE> struct alignas(16) few_unit {
    char low[HALF_ROWS][SEGMENT], high[HALF_ROWS][SEGMENT];
    uint16_t scales[LEFT_ROWS][format<TYPE>::GROUPS];
};

/* ---------------------------------------------------------------- copies */

/* The units of a warp, of all tiles of its block in turn. */
template <dtype TYPE> struct unit_copies {
    int number, unit, units; /* of the tile */
    int64_t row_bytes, groups;
    const char *low, *high, *scales; /* this lane's rows */

    __device__ void take_tile(const struct few_call &a) {
        int lane = threadIdx.x % CUDA_WARP;
        struct few_tile tile(a, number);
        view one = a.part[tile.part].weight, two = a.part[tile.high_part].weight;
        low = (const char *)one.data + tile.low * row_bytes;
        high = (const char *)two.data + tile.high * row_bytes;
        scales = lane % 2 ? (const char *)two.scales + tile.high * groups * 2
                          : (const char *)one.scales + tile.low * groups * 2;
        unit = (int)threadIdx.x / CUDA_WARP;
    }

    __device__ unit_copies(const struct few_call &a) {
        view weight = a.part[0].weight;
        number = (int)blockIdx.x;
        row_bytes = groups_row_bytes(weight), groups = groups_per_row(weight);
        units = (int)((row_bytes + SEGMENT - 1) / SEGMENT);
        take_tile(a);
        if (unit >= units) number = a.tiles; /* the warp has no share */
    }

    /* Starts copying the next unit. Bytes behind a row are zeros. */
    __device__ void next(const struct few_call &a, struct few_unit<TYPE> *to) {
        int lane = threadIdx.x % CUDA_WARP, row = lane / 4;
        if (number < a.tiles) {
            int64_t at = (int64_t)unit * SEGMENT + lane % 4 * COPY;
            int place = format<TYPE>::place(row, lane % 4 * COPY);
            matrix_copy16(to->low[row] + place, low + (at < row_bytes ? at : 0), at < row_bytes);
            matrix_copy16(to->high[row] + place, high + (at < row_bytes ? at : 0), at < row_bytes);
            int pair = lane % 4 / 2 * 2; /* of scales */
            int64_t group = (int64_t)unit * format<TYPE>::GROUPS + pair;
            if (pair < format<TYPE>::GROUPS)
                matrix_copy4(&to->scales[row + lane % 2 * HALF_ROWS][pair], scales + (group < groups ? group * 2 : 0),
                             group < groups);
            unit += WARPS;
            if (unit >= units) {
                number += (int)gridDim.x;
                if (number < a.tiles) take_tile(a);
            }
        }
        matrix_commit();
    }
};

/* ---------------------------------------------------------------- products */

/* Rows of x in shared memory, in the order of the format. */
template <dtype TYPE> __device__ void stage_rows(const struct few_call &a, __nv_bfloat16 *to) {
    for (int i = threadIdx.x; i < a.rows * a.chunks; i += THREADS) {
        int r = i / a.chunks, c = i % a.chunks;
        ((struct eight *)(to + (int64_t)r * (a.x.cols + PAD)))[c] = format<TYPE>()(few_row(a.x, r)[c]);
    }
    __syncthreads();
}

/* sum += the products of a unit, which begins at chunk `first`, with the rows of x. */
template <dtype TYPE, int TILES, bool STAGED>
__device__ void multiply_unit(float sum[TILES][4], const struct few_unit<TYPE> *from,
                              const struct eight *const x[TILES], int first, int chunks) {
    using kind = format<TYPE>;
    int lane = threadIdx.x % CUDA_WARP, row = lane / 4;
#pragma unroll
    for (int g = 0; g < kind::GROUPS; g++) {
        int place = kind::place(row, g * kind::GROUP_BYTES + lane % 4 * kind::LANE_BYTES), c = first + 4 * g + lane % 4;
        struct eight low = kind::pairs(from->low[row] + place), high = kind::pairs(from->high[row] + place);
        uint32_t one[4] = {low.pair[0], high.pair[0], low.pair[1], high.pair[1]};
        uint32_t two[4] = {low.pair[2], high.pair[2], low.pair[3], high.pair[3]};
        float low_scale = __half2float(*(const __half *)&from->scales[row][g]);
        float high_scale = __half2float(*(const __half *)&from->scales[row + HALF_ROWS][g]);
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            float part[4] = {};
            struct eight right = {};
            if (c < chunks) right = STAGED ? x[t][c] : kind()(x[t][c]);
            matrix_multiply(part, one, right.pair[0], right.pair[1]);
            matrix_multiply(part, two, right.pair[2], right.pair[3]);
            sum[t][0] += low_scale * part[0], sum[t][1] += low_scale * part[1];
            sum[t][2] += high_scale * part[2], sum[t][3] += high_scale * part[3];
        }
    }
}

/* Blocks take tiles in turn. */
template <dtype TYPE, int TILES, int STAGES, bool NORMED, bool STAGED>
__global__ static void __launch_bounds__(THREADS, TILES == 1 ? BLOCKS + 1 : BLOCKS) few_products(struct few_call a) {
    constexpr int ROWS = TILES * RIGHT_ROWS;
    __shared__ float parts[WARPS][ROWS][PART_COLS];
    extern __shared__ float4 shared[];
    int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP, slot = 0;
    struct few_unit<TYPE> *ring = (struct few_unit<TYPE> *)shared + warp * STAGES;
    __nv_bfloat16 *staged = (__nv_bfloat16 *)((struct few_unit<TYPE> *)shared + WARPS * STAGES);
    const struct eight *x[TILES];
    struct unit_copies<TYPE> ahead(a);
    int units = ahead.units;
    cuda_let_next();
#pragma unroll 1
    for (int i = 0; i + 1 < STAGES; i++) ahead.next(a, &ring[i]);
    struct norm_share share(NORMED ? a.rows : 1);
    struct norm_chunk kept;
    if (NORMED && share.first < a.chunks) kept.load_weight(a, share.first);
    cuda_begin();
    if (NORMED)
        norm_rows(a, &kept, share, format<TYPE>(), staged);
    else if (STAGED)
        stage_rows<TYPE>(a, staged);
#pragma unroll
    for (int t = 0; t < TILES; t++) {
        int r = min(t * RIGHT_ROWS + lane / 4, a.rows - 1);
        x[t] = STAGED ? (const struct eight *)(staged + (int64_t)r * (a.x.cols + PAD)) : few_row(a.x, r);
    }
    for (int number = (int)blockIdx.x; number < a.tiles; number += (int)gridDim.x) {
        float sum[TILES][4] = {};
#pragma unroll 1
        for (int u = warp; u < units; u += WARPS) {
            matrix_wait<STAGES - 2>();
            __syncwarp(); /* all lanes have copied this unit and read the one before */
            ahead.next(a, &ring[slot == 0 ? STAGES - 1 : slot - 1]);
            multiply_unit<TYPE, TILES, STAGED>(sum, &ring[slot], x, u * (format<TYPE>::COLS / MATRIX_CHUNK), a.chunks);
            slot = slot + 1 < STAGES ? slot + 1 : 0;
        }
        few_leave<TILES>(parts, sum);
        __syncthreads();
        few_store_tile<ROWS>(parts, a, few_tile(a, number));
        __syncthreads();
    }
}

/* ---------------------------------------------------------------- the entries */

template <dtype TYPE, int TILES, int STAGES, bool NORMED, bool STAGED>
static bool run(device *d, const struct few_call &a) {
    struct cuda_state *s = cuda_state_of(d);
    auto kernel = few_products<TYPE, TILES, STAGES, NORMED, STAGED>;
    size_t ring = WARPS * STAGES * sizeof(struct few_unit<TYPE>);
    size_t shared = ring + (STAGED ? few_normed_bytes(a.rows, a.x.cols) : 0);
    int most = BLOCKS * s->multiprocessors;
    if (cuda_allow_shared(d, kernel, shared) < 0) return false;
    cuda_start(d, kernel, dim3((unsigned)(a.tiles < most ? a.tiles : most)), THREADS, shared, a);
    return true;
}

template <dtype TYPE> static bool run_as(device *d, const struct few_call &a) {
    bool staged = few_normed_bytes(a.rows, a.x.cols) <= MAX_STAGED_BYTES;
    if (a.norm.data) return run<TYPE, 1, 6, true, true>(d, a);
    if (a.rows <= RIGHT_ROWS) return staged ? run<TYPE, 1, 6, false, true>(d, a) : run<TYPE, 1, 6, false, false>(d, a);
    if (a.rows <= 2 * RIGHT_ROWS)
        return staged ? run<TYPE, 2, 4, false, true>(d, a) : run<TYPE, 2, 8, false, false>(d, a);
    return staged ? run<TYPE, 4, 4, false, true>(d, a) : run<TYPE, 4, 8, false, false>(d, a);
}

static bool run_few(device *d, struct few_call *a) {
    if (!few_number_tiles(a)) return true;
    return a->part[0].weight.type == DTYPE_INT8 ? run_as<DTYPE_INT8>(d, *a) : run_as<DTYPE_INT4>(d, *a);
}

bool cuda_linear_few_groups(device *d, const struct op_linear *p, view residual) {
    struct few_call a = {};
    return few_linear(p, residual, groups_in_chunks, &a) && run_few(d, &a);
}

bool cuda_project_few_groups(device *d, const struct op_project *p, bool with_norm) {
    struct few_call a = {};
    return few_projection(p, with_norm, groups_in_chunks, &a) && run_few(d, &a);
}

bool cuda_heads_few_groups(device *d, const struct op_heads *h, bool with_norm) {
    struct few_call a = {};
    return few_heads(h, with_norm, groups_in_chunks, &a) && run_few(d, &a);
}
