/* Gradients of products of a few rows with a weight (sequential training). The weight and its gradient are read once,
 * in place, because memory bandwidth is the limit. */
#include "device/cpu/cpu.h"
#include "device/cpu/groups.h"
#include "device/cpu/linear.h"
#include "device/cpu/tile.h"

enum { LINE = 1024 }; /* floats of a row that fit into the first-level cache besides others */

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
            w[i] = lines[i];
            if (a->weight.type == DTYPE_F32)
                w[i] = cpu_at(a->weight, o + i, first);
            else
                cpu_widen_part(lines[i], a->weight, o + i, first, n);
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
    int64_t x_row = tile_round(a->x.cols, TILE_LANES);
    float *x;
    TRY(cpu_scratch(d, CPU_SCRATCH_OPERAND, (size_t)(a->x.rows * x_row) * sizeof *x, (void **)&x));
    for (int64_t r = 0; r < a->x.rows; r++) cpu_widen(x + r * x_row, cpu_row(a->x, r), a->x.type, a->x.cols);
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
