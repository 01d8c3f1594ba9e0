/* Products of a few rows with weights in int8 and int4 on tensor cores (decoding), see linear_few.h. The goal is to
 * read every weight once, at full bandwidth.
 *
 * As on the CPU, rows of x are rounded to 15 bits in the groups of the weight, with an f32 scale each: 128 times a high
 * byte plus a low one. Tensor cores multiply bytes; the high ones and the low ones of a row are two columns, and the
 * sum over a group is exact:
 *     x[r] . w[o] = sum over groups of scale of x * scale of w * integer sum.
 * Integers of the weight are used as they are; int4 becomes 16 times its value in a byte.
 *
 * Each warp copies its share of a tile to shared memory in units, several units ahead of the products and across tiles,
 * without waiting for the other warps. The four lanes of a row copy adjacent bytes and then read those of each group.
 * Copies start before the preceding kernel has ended (launch.h). */
#include "device/cuda/groups.h"
#include "device/cuda/linear_few.h"

enum {
    SEGMENT = 128, /* bytes of a row of weights in a unit */
    COPY = 16,
    STAGES = 3,                    /* units of a warp in shared memory */
    COLUMN_ROWS = 4,               /* rows of x in the eight columns of a product */
    HIGH = 128,                    /* a value is HIGH times its high byte, plus its low byte */
    LARGEST = HIGH * HIGH - 1,     /* of x */
    GROUP_BYTES = 2 * DTYPE_GROUP, /* of a row of x: high bytes, then low ones */
    BLOCKS = 2,                    /* per multiprocessor; few rows leave room for one of the next kernel besides */
    MAX_ROUNDED_BYTES = 144 << 10
};

template <dtype TYPE> struct format {
    static constexpr int GROUPS = (TYPE == DTYPE_INT8 ? SEGMENT : 2 * SEGMENT) / DTYPE_GROUP; /* of a unit */
    static constexpr int BYTES = SEGMENT / GROUPS;                                            /* of a group */

    /* Permutes the chunks of a row, so that rows that are read together are in different banks. */
    __device__ static int place(int row, int byte) {
        return byte ^ (TYPE == DTYPE_INT8 ? row << 1 & 7 : row) * COPY;
    }
};

template <dtype TYPE> struct alignas(16) few_unit {
    char low[HALF_ROWS][SEGMENT], high[HALF_ROWS][SEGMENT];
    uint16_t scales[LEFT_ROWS][format<TYPE>::GROUPS];
};

/* ---------------------------------------------------------------- copies */

/* The units of a warp, of all tiles of its block in turn. */
template <dtype TYPE> struct unit_copies {
    int number, unit, units /* of the tile */, row_bytes, groups;
    const char *low, *high, *scales; /* this lane's rows */

    __device__ void take_tile(const struct few_call &a) {
        struct few_tile tile(a, number);
        view one = a.part[tile.part].weight, two = a.part[tile.high_part].weight;
        low = (const char *)one.data + tile.low * row_bytes;
        high = (const char *)two.data + tile.high * row_bytes;
        scales = threadIdx.x % 2 ? (const char *)two.scales + tile.high * groups * 2
                                 : (const char *)one.scales + tile.low * groups * 2;
        unit = (int)threadIdx.x / CUDA_WARP;
    }

    __device__ unit_copies(const struct few_call &a) {
        view weight = a.part[0].weight;
        number = (int)blockIdx.x;
        row_bytes = (int)groups_row_bytes(weight), groups = (int)groups_per_row(weight);
        units = (row_bytes + SEGMENT - 1) / SEGMENT;
        take_tile(a);
        if (unit >= units) number = a.tiles; /* the warp has no share */
    }

    __device__ void copy(struct few_unit<TYPE> *to) const {
        int lane = threadIdx.x % CUDA_WARP, row = lane / 4, at = unit * SEGMENT;
#pragma unroll
        for (int byte = lane % 4 * COPY, k = 0; k < 2; byte += 4 * COPY, k++) {
            bool there = at + byte < row_bytes;
            int place = format<TYPE>::place(row, byte), from = there ? at + byte : 0;
            matrix_copy16(to->low[row] + place, low + from, there);
            matrix_copy16(to->high[row] + place, high + from, there);
        }
#pragma unroll
        for (int k = 0; k < format<TYPE>::GROUPS / 4; k++) { /* two scales */
            int pair = 4 * k + lane % 4 / 2 * 2, group = unit * format<TYPE>::GROUPS + pair;
            bool there = group < groups;
            matrix_copy4(&to->scales[row + lane % 2 * HALF_ROWS][pair], scales + (there ? group * 2 : 0), there);
        }
    }

    /* Starts copying the next unit. */
    __device__ void next(const struct few_call &a, struct few_unit<TYPE> *to) {
        if (number < a.tiles) {
            copy(to);
            unit += WARPS;
            if (unit >= units) {
                number += (int)gridDim.x;
                if (number < a.tiles) take_tile(a);
            }
        }
        matrix_commit();
    }
};

/* ---------------------------------------------------------------- rows of x */

__host__ __device__ static inline int rounded_row_bytes(int64_t cols) {
    return (int)cols * 2 + GROUP_BYTES; /* rows begin in different banks */
}

static size_t rounded_bytes(int64_t rows, int64_t cols) {
    return (size_t)rows * ((size_t)rounded_row_bytes(cols) + (size_t)(cols / DTYPE_GROUP + 1) * sizeof(float));
}

/* Rows of x in shared memory, rounded. Four adjacent lanes call it with the chunks of a group. */
template <dtype TYPE> struct rounded_rows {
    char *integers; /* [rows][groups][2][DTYPE_GROUP] */
    float *scales;  /* [rows][groups + 1] */
    int row_bytes, row_scales;

    __device__ rounded_rows(const struct few_call &a, char *memory)
        : integers(memory), scales((float *)(memory + a.rows * rounded_row_bytes(a.x.cols))),
          row_bytes(rounded_row_bytes(a.x.cols)), row_scales((int)a.x.cols / DTYPE_GROUP + 1) {}

    /* The column of the chunk that is byte `i` of the lane's eight: int4 has even columns, then odd ones. */
    __device__ static constexpr int column(int i) {
        return TYPE == DTYPE_INT8 ? i : i % 4 * 2 + i / 4;
    }

    /* A value that is not finite makes the scale NaN. */
    __device__ void operator()(int row, int chunk, const struct cuda_eight &x) const {
        unsigned four = 15u << (threadIdx.x % CUDA_WARP & 28);
        int bits = 0; /* of the largest |x|; those of positive numbers are ordered as integers */
#pragma unroll
        for (int i = 0; i < MATRIX_CHUNK; i++) bits = max(bits, __float_as_int(x.at[i]) & 0x7fffffff);
        bits = max(bits, __shfl_xor_sync(four, bits, 1));
        bits = max(bits, __shfl_xor_sync(four, bits, 2));
        float largest = __int_as_float(bits), scale = bits < 0x7f800000 ? 0 : NAN, inverse = 0;
        if (largest > 1e-30f && bits < 0x7f800000) scale = largest / LARGEST, inverse = LARGEST / largest;
        uint32_t high[2] = {}, low[2] = {};
#pragma unroll
        for (int i = 0; i < MATRIX_CHUNK; i++) {
            int integer = __float2int_rn(x.at[column(i)] * inverse);
            high[i / 4] |= (uint32_t)(integer >> 7 & 255) << i % 4 * 8;
            low[i / 4] |= (uint32_t)(integer & 127) << i % 4 * 8;
        }
        char *to = integers + row * row_bytes + chunk / 4 * GROUP_BYTES + chunk % 4 * MATRIX_CHUNK;
        *(uint2 *)to = make_uint2(high[0], high[1]);
        *(uint2 *)(to + DTYPE_GROUP) = make_uint2(low[0], low[1]);
        if (chunk % 4 == 0) scales[row * row_scales + chunk / 4] = scale * (TYPE == DTYPE_INT8 ? 1 : 0x1p-4f);
    }

    __device__ void round(const struct few_call &a) const {
        for (int i = threadIdx.x; i < a.rows * a.chunks; i += THREADS) {
            int r = i / a.chunks, c = i % a.chunks;
            (*this)(r, c, cuda_get8(few_row(a.x, r), DTYPE_BF16, c * MATRIX_CHUNK, a.x.cols));
        }
        __syncthreads();
    }
};

/* ---------------------------------------------------------------- products */

/* What a lane reads of COLUMN_ROWS rows of x: its column's bytes, and the scales of the row whose sums it has. */
struct lane_rows {
    const char *integers;
    const float *scales;
};

template <dtype TYPE> __device__ uint2 lane_integers(const char *row, int place) {
    if (TYPE == DTYPE_INT8) return *(const uint2 *)(row + place);
    uint32_t word = *(const uint32_t *)(row + place); /* even columns are in the low halves of bytes */
    return make_uint2(word << 4 & 0xf0f0f0f0u, word & 0xf0f0f0f0u);
}

/* sum += the products of a unit, whose first group is `first`, with the rows of x. Lane l has those of rows l / 4 and
 * l / 4 + 8 of the weights. */
template <dtype TYPE, int TILES>
__device__ void multiply_unit(float (&sum)[TILES][2], const struct few_unit<TYPE> *from,
                              const struct lane_rows (&x)[TILES], int first, int groups) {
    using kind = format<TYPE>;
    int lane = threadIdx.x % CUDA_WARP, row = lane / 4;
#pragma unroll
    for (int g = 0; g < kind::GROUPS; g++) {
        if (first + g >= groups) break;
        int place = kind::place(row, g * kind::BYTES + lane % 4 * (kind::BYTES / 4));
        uint2 low = lane_integers<TYPE>(from->low[row], place), high = lane_integers<TYPE>(from->high[row], place);
        uint32_t left[4] = {low.x, high.x, low.y, high.y};
        float low_scale = __half2float(__ushort_as_half(from->scales[row][g]));
        float high_scale = __half2float(__ushort_as_half(from->scales[row + HALF_ROWS][g]));
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            int part[4] = {};
            uint2 right = *(const uint2 *)(x[t].integers + (first + g) * GROUP_BYTES);
            float scale = x[t].scales[first + g];
            matrix_multiply_integers(part, left, right.x, right.y);
            sum[t][0] += (float)(part[0] * HIGH + part[1]) * (low_scale * scale);
            sum[t][1] += (float)(part[2] * HIGH + part[3]) * (high_scale * scale);
        }
    }
}

/* Blocks take tiles in turn. The parts of a tile are summed while the warps multiply the next one. */
template <dtype TYPE, int TILES, bool NORMED>
__global__ static void __launch_bounds__(THREADS, TILES <= 2 ? BLOCKS + 1 : BLOCKS) few_products(struct few_call a) {
    constexpr int ROWS = TILES * COLUMN_ROWS;
    extern __shared__ float4 shared[];
    float(*parts)[WARPS][ROWS][PART_COLS] = (float(*)[WARPS][ROWS][PART_COLS])shared;
    struct few_unit<TYPE> *units = (struct few_unit<TYPE> *)(parts + 2);
    int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP, slot = 0, twin = 0;
    struct few_unit<TYPE> *ring = units + warp * STAGES;
    struct unit_copies<TYPE> ahead(a);
    cuda_let_next();
#pragma unroll 1
    for (int i = 0; i + 1 < STAGES; i++) ahead.next(a, &ring[i]);
    struct rounded_rows<TYPE> rounded(a, (char *)(units + WARPS * STAGES));
    struct norm_share share(NORMED ? a.rows : 1);
    struct norm_chunk kept;
    if (NORMED && share.first < a.chunks) kept.load_weight(a, share.first);
    cuda_begin();
    if (NORMED)
        norm_rows(a, &kept, share, rounded);
    else
        rounded.round(a);
    struct lane_rows x[TILES];
#pragma unroll
    for (int t = 0; t < TILES; t++) {
        int column = min(t * COLUMN_ROWS + lane / 8, a.rows - 1), own = min(t * COLUMN_ROWS + lane % 4, a.rows - 1);
        x[t].integers = rounded.integers + column * rounded.row_bytes + lane / 4 % 2 * DTYPE_GROUP + lane % 4 * 8;
        x[t].scales = rounded.scales + own * rounded.row_scales;
    }
    for (int number = (int)blockIdx.x; number < a.tiles; number += (int)gridDim.x, twin ^= 1) {
        float sum[TILES][2] = {};
#pragma unroll 1
        for (int u = warp; u < ahead.units; u += WARPS) {
            matrix_wait<STAGES - 2>();
            __syncwarp(); /* all lanes have copied this unit and read the one before */
            ahead.next(a, &ring[slot == 0 ? STAGES - 1 : slot - 1]);
            multiply_unit<TYPE, TILES>(sum, &ring[slot], x, u * format<TYPE>::GROUPS, ahead.groups);
            slot = slot + 1 < STAGES ? slot + 1 : 0;
        }
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                parts[twin][warp][t * COLUMN_ROWS + lane % 4][lane / 4 + i * HALF_ROWS] = sum[t][i];
        __syncthreads();
        few_store_tile<ROWS>(parts[twin], a, few_tile(a, number));
    }
}

/* ---------------------------------------------------------------- the entries */

template <dtype TYPE, int TILES, bool NORMED> static bool run(device *d, const struct few_call &a) {
    struct cuda_state *s = cuda_state_of(d);
    auto kernel = few_products<TYPE, TILES, NORMED>;
    size_t parts = 2 * sizeof(float) * WARPS * TILES * COLUMN_ROWS * PART_COLS;
    size_t shared = parts + WARPS * STAGES * sizeof(struct few_unit<TYPE>) + rounded_bytes(a.rows, a.x.cols);
    int most = BLOCKS * s->multiprocessors;
    if (shared > (size_t)s->shared_bytes || cuda_allow_shared(d, kernel, shared) < 0) return false;
    cuda_start(d, kernel, dim3((unsigned)(a.tiles < most ? a.tiles : most)), THREADS, shared, a);
    return true;
}

template <dtype TYPE> static bool run_as(device *d, const struct few_call &a) {
    if (a.norm.data) return a.rows <= COLUMN_ROWS ? run<TYPE, 1, true>(d, a) : run<TYPE, 2, true>(d, a);
    if (a.rows <= COLUMN_ROWS) return run<TYPE, 1, false>(d, a);
    if (a.rows <= 2 * COLUMN_ROWS) return run<TYPE, 2, false>(d, a);
    if (a.rows <= 4 * COLUMN_ROWS) return run<TYPE, 4, false>(d, a);
    return run<TYPE, 8, false>(d, a);
}

static bool run_few(device *d, struct few_call *a) {
    if (!few_number_tiles(a)) return true;
    if (rounded_bytes(a->rows, a->x.cols) > MAX_ROUNDED_BYTES) return false;
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
