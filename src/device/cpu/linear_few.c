/* Products of a few rows with a weight (decoding; training token by token): the weight and its gradient are read once,
 * in place, which is all that can be asked for where memory sets the pace. */
#include "device/cpu/cpu.h"
#include "device/cpu/linear.h"
#include "device/cpu/tile.h"

enum {
    GROUP = 8,    /* rows of x that share one pass over the weight */
    OUTPUTS = 32, /* that are finished together */
    MOST_AT_ONCE = 4,
    SUMS = (OUTPUTS + MOST_AT_ONCE) * GROUP,
    LINE = 1024 /* floats of a row that fit the first-level cache beside others */
};

/* sum[o * GROUP + r] += x[r] . w[o], for R rows of x, [R, x_row], and O rows of w. Each vector of w is widened once
 * for all rows of x; R * O chains of sums hide the latency of one. */
static inline __attribute__((always_inline)) void dot_rows(int R, int O, dtype type, float *sum, const float *x,
                                                           int64_t x_row, const void *const *w, int64_t w_row,
                                                           int64_t depth) {
    tile_vector wide[8] = {0};
    int64_t k = 0;
    for (; k + TILE_LANES <= depth; k += TILE_LANES) {
#pragma GCC unroll 8
        for (int o = 0; o < O; o++) {
            tile_vector part = tile_load_as(w[o], type, k);
            __builtin_prefetch((const char *)w[o] + (O * w_row + k) * (type == DTYPE_F32 ? 4 : 2));
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) wide[o * R + r] += tile_load(x + r * x_row + k) * part;
        }
    }
#pragma GCC unroll 8
    for (int o = 0; o < O; o++)
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            float total = tile_sum(wide[o * R + r]);
            for (int64_t rest = k; rest < depth; rest++) total += x[r * x_row + rest] * cpu_widened(w[o], type, rest);
            sum[o * GROUP + r] += total;
        }
}

typedef void dot_function(float *sum, const float *x, int64_t x_row, const void *const *w, int64_t w_row,
                          int64_t depth);

#define DOT(R, O, name, type)                                                                                          \
    static void dot_##R##_##name(float *sum, const float *x, int64_t x_row, const void *const *w, int64_t w_row,       \
                                 int64_t depth) {                                                                      \
        dot_rows(R, O, type, sum, x, x_row, w, w_row, depth);                                                          \
    }
#define DOTS(name, type) DOT(1, 4, name, type) DOT(2, 4, name, type) DOT(4, 2, name, type) DOT(8, 1, name, type)
DOTS(f32, DTYPE_F32)
DOTS(bf16, DTYPE_BF16)
DOTS(f16, DTYPE_F16)

static const struct {
    int rows, outputs;
    dot_function *of[DTYPE_COUNT];
} dots[] = {{1, 4, {[DTYPE_F32] = dot_1_f32, [DTYPE_BF16] = dot_1_bf16, [DTYPE_F16] = dot_1_f16}},
            {2, 4, {[DTYPE_F32] = dot_2_f32, [DTYPE_BF16] = dot_2_bf16, [DTYPE_F16] = dot_2_f16}},
            {4, 2, {[DTYPE_F32] = dot_4_f32, [DTYPE_BF16] = dot_4_bf16, [DTYPE_F16] = dot_4_f16}},
            {8, 1, {[DTYPE_F32] = dot_8_f32, [DTYPE_BF16] = dot_8_bf16, [DTYPE_F16] = dot_8_f16}}};

/* The products of up to GROUP rows of x with outputs [first, first + count) of the weight, in pieces of depth of
 * which x's stay in the first-level cache. */
static void few_outputs(float *sum, const float *x, int64_t x_row, int64_t rows, view weight, int64_t first,
                        int64_t count) {
    int which = 0;
    while (dots[which].rows < rows) which++;
    int64_t piece = 4096 / dots[which].rows;
    memset(sum, 0, SUMS * sizeof *sum);
    for (int64_t k = 0; k < weight.cols; k += piece)
        for (int64_t o = 0; o < count; o += dots[which].outputs) {
            const void *w[MOST_AT_ONCE];
            for (int i = 0; i < dots[which].outputs; i++) /* behind the last: the last once more, not kept */
                w[i] = cpu_at(weight, first + (o + i < count ? o + i : count - 1), k);
            dots[which].of[weight.type](sum + o * GROUP, x + k, x_row, w, weight.cols,
                                        weight.cols - k < piece ? weight.cols - k : piece);
        }
}

static void store_few(const struct op_linear *a, const float *sum, int64_t row, int64_t rows, int64_t first,
                      int64_t count) {
    float line[OUTPUTS], bias[OUTPUTS];
    if (a->bias.data) cpu_widen(bias, cpu_at(a->bias, 0, first), a->bias.type, count);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t o = 0; o < count; o++) line[o] = sum[o * GROUP + r] + (a->bias.data ? bias[o] : 0);
        cpu_narrow(cpu_at(a->y, row + r, first), a->y.type, line, count);
    }
}

/* x as f32, its rows made up to a whole group by zeros, and apart by more than a power of two, so that they do not fall
 * on the same lines of the cache. */
static int widened_rows(device *d, view x, float **out, int64_t *x_row) {
    *x_row = tile_round(x.cols, TILE_LANES) + TILE_LANES;
    int64_t padded = tile_round(x.rows, GROUP);
    TRY(cpu_scratch(d, CPU_SCRATCH_OPERAND, (size_t)(padded * *x_row) * sizeof **out, (void **)out));
    for (int64_t r = 0; r < x.rows; r++) cpu_widen(*out + r * *x_row, cpu_row(x, r), x.type, x.cols);
    memset(*out + x.rows * *x_row, 0, (size_t)((padded - x.rows) * *x_row) * sizeof **out);
    return LCKV_OK;
}

int CPU_ENTRY(linear_few)(device *d, const struct op_linear *a) {
    float *x;
    int64_t x_row;
    TRY(widened_rows(d, a->x, &x, &x_row));
    int parts = cpu_parts(d, a->x.rows * a->weight.rows * a->weight.cols / TILE_LANES);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(a->weight.rows, parts, part);
        float sum[SUMS];
        for (int64_t o = mine.begin; o < mine.end; o += OUTPUTS)
            for (int64_t r = 0; r < a->x.rows; r += GROUP) {
                int64_t count = mine.end - o < OUTPUTS ? mine.end - o : OUTPUTS;
                int64_t rows = a->x.rows - r < GROUP ? a->x.rows - r : GROUP;
                few_outputs(sum, x + r * x_row, x_row, rows, a->weight, o, count);
                store_few(a, sum, r, rows, o, count);
            }
    }
    return LCKV_OK;
}

/* to += factor * from */
static void add_times(float *restrict to, float factor, const float *restrict from, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] += factor * from[i];
}

/* to += the sum of four of them: to is read and written once. */
static void add_times4(float *restrict to, const float factor[4], const float *const from[4], int64_t n) {
    const float *restrict a = from[0], *restrict b = from[1], *restrict c = from[2], *restrict d = from[3];
    for (int64_t i = 0; i < n; i++) to[i] += factor[0] * a[i] + factor[1] * b[i] + factor[2] * c[i] + factor[3] * d[i];
}

/* dx += dy weight for columns [first, first + n), four rows of the weight at a time. */
static void few_dx_columns(const struct op_linear *a, int64_t first, int64_t n) {
    static const float zeros[LINE];
    float lines[4][LINE];
    for (int64_t o = 0; o < a->weight.rows; o += 4) {
        const float *w[4] = {zeros, zeros, zeros, zeros};
        int64_t rows = a->weight.rows - o < 4 ? a->weight.rows - o : 4;
        for (int64_t i = 0; i < rows; i++) {
            w[i] = cpu_at(a->weight, o + i, first);
            if (a->weight.type == DTYPE_F32) continue;
            cpu_widen(lines[i], w[i], a->weight.type, n);
            w[i] = lines[i];
        }
        for (int64_t r = 0; r < a->dy.rows; r++) {
            float dy[4] = {0};
            memcpy(dy, cpu_at(a->dy, r, o), (size_t)rows * sizeof *dy);
            add_times4(cpu_at(a->dx, r, first), dy, w, n);
        }
    }
}

/* Threads share the columns. */
static void few_dx(device *d, const struct op_linear *a) {
    int parts = cpu_parts(d, a->dy.rows * a->weight.rows * a->weight.cols / TILE_LANES);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(a->weight.cols, parts, part);
        for (int64_t i = mine.begin; i < mine.end; i += LINE)
            few_dx_columns(a, i, mine.end - i < LINE ? mine.end - i : LINE);
    }
}

/* dweight += dy^T x: threads share the rows. */
static int few_dweight(device *d, const struct op_linear *a) {
    float *x;
    int64_t x_row;
    TRY(widened_rows(d, a->x, &x, &x_row));
    int parts = cpu_parts(d, a->dy.rows * a->dweight.rows * a->dweight.cols / TILE_LANES);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        struct cpu_range mine = cpu_share(a->dweight.rows, parts, part);
        for (int64_t o = mine.begin; o < mine.end; o++)
            for (int64_t r = 0; r < a->dy.rows; r++)
                add_times(cpu_row(a->dweight, o), *(float *)cpu_at(a->dy, r, o), x + r * x_row, a->dweight.cols);
    }
    return LCKV_OK;
}

int CPU_ENTRY(linear_few_backward)(device *d, const struct op_linear *a) {
    if (a->dx.data) few_dx(d, a);
    if (a->dweight.data) TRY(few_dweight(d, a));
    return LCKV_OK;
}
