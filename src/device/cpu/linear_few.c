/* Products of a few rows with a weight (decoding; sequential training; any number of rows if sums must not depend on
 * it). The weight and its gradient are read once, in place, because memory bandwidth is the limit. */
#include "device/cpu/cpu.h"
#include "device/cpu/dots.h"
#include "device/cpu/linear.h"

enum {
    GROUP = DOTS_ROWS, /* rows of x that share one pass over the weight */
    OUTPUTS = 32,      /* outputs computed together: a multiple of DOTS_MAX_OUTPUTS */
    LINE = 1024        /* floats of a row that fit into the first-level cache besides others */
};

/* sum[r * OUTPUTS + o]: the products of up to GROUP rows of x with outputs [first, first + count) of the weight, in
 * depth blocks whose part of x stays in the first-level cache. With `invariant`, the blocks are the same for any
 * number of rows; the rest of the summation order of a row is so anyway. */
static void few_outputs(float *sum, const float *x, int64_t x_row, int64_t rows, view weight, int64_t first,
                        int64_t count, bool invariant) {
    int which = dots_for(rows);
    int64_t chunk = 4096 / (invariant ? GROUP : dots[which].rows);
    memset(sum, 0, GROUP * OUTPUTS * sizeof *sum);
    for (int64_t k = 0; k < weight.cols; k += chunk)
        for (int64_t o = 0; o < count; o += dots[which].outputs) {
            const void *w[DOTS_MAX_OUTPUTS];
            for (int i = 0; i < dots[which].outputs; i++) /* padded with the last output, whose result is dropped */
                w[i] = cpu_at(weight, first + (o + i < count ? o + i : count - 1), k);
            dots[which].of[weight.type](sum + o, OUTPUTS, x + k, x_row, w,
                                        weight.cols - k < chunk ? weight.cols - k : chunk);
        }
}

static void store_few(const struct op_linear *a, const float *sum, int64_t row, int64_t rows, int64_t first,
                      int64_t count) {
    float line[OUTPUTS], bias[OUTPUTS];
    if (a->bias.data) cpu_widen(bias, cpu_at(a->bias, 0, first), a->bias.type, count);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t o = 0; o < count; o++) line[o] = sum[r * OUTPUTS + o] + (a->bias.data ? bias[o] : 0);
        cpu_narrow(cpu_at(a->y, row + r, first), a->y.type, line, count);
    }
}

/* x as f32, padded with zeros to a whole group of rows. The row stride is no power of two, so that rows do not
 * compete for cache lines. */
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
        float sum[GROUP * OUTPUTS];
        for (int64_t o = mine.begin; o < mine.end; o += OUTPUTS)
            for (int64_t r = 0; r < a->x.rows; r += GROUP) {
                int64_t count = mine.end - o < OUTPUTS ? mine.end - o : OUTPUTS;
                int64_t rows = a->x.rows - r < GROUP ? a->x.rows - r : GROUP;
                few_outputs(sum, x + r * x_row, x_row, rows, a->weight, o, count, d->invariant_rows);
                store_few(a, sum, r, rows, o, count);
            }
    }
    return LCKV_OK;
}

/* to += factor * from */
static void add_times(float *restrict to, float factor, const float *restrict from, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] += factor * from[i];
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
            tile_add4(cpu_at(a->dx, r, first), dy, w, n);
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
