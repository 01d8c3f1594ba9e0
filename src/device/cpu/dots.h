/* Inner products of a few rows with long rows that are read once, in place, of any type: products with weights and
 * with cached keys in decoding. */
#ifndef DEVICE_CPU_DOTS_H
#define DEVICE_CPU_DOTS_H

#include "device/cpu/tile.h"

enum {
    DOTS_ROWS = 8,       /* maximum rows of x at a time */
    DOTS_MAX_OUTPUTS = 4 /* maximum rows of w at a time */
};

/* sum[r * sum_row + o] += x[r] . w[o], for R rows of x, [R, x_row], and O rows of w. Each vector of w is widened
 * once for all rows of x; R * O independent sums hide the latency of one. */
static inline __attribute__((always_inline)) void dot_rows(int R, int O, dtype type, float *sum, int64_t sum_row,
                                                           const float *x, int64_t x_row, const void *const *w,
                                                           int64_t depth) {
    tile_vector wide[8] = {0};
    int64_t k = 0;
    for (; k + TILE_LANES <= depth; k += TILE_LANES) {
#pragma GCC unroll 8
        for (int o = 0; o < O; o++) {
            tile_vector part = tile_load_as(w[o], type, k);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) wide[o * R + r] += tile_load(x + r * x_row + k) * part;
        }
    }
#pragma GCC unroll 8
    for (int o = 0; o < O; o++)
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) sum[r * sum_row + o] += tile_sum(wide[o * R + r]);
    for (; k < depth; k++)
        for (int o = 0; o < O; o++)
            for (int r = 0; r < R; r++) sum[r * sum_row + o] += x[r * x_row + k] * cpu_widened(w[o], type, k);
}

typedef void dot_function(float *sum, int64_t sum_row, const float *x, int64_t x_row, const void *const *w,
                          int64_t depth);

#define DOT(R, O, name, type)                                                                                          \
    static void dot_##R##_##name(float *sum, int64_t sum_row, const float *x, int64_t x_row, const void *const *w,     \
                                 int64_t depth) {                                                                      \
        dot_rows(R, O, type, sum, sum_row, x, x_row, w, depth);                                                        \
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

/* The first of `dots` for `rows` rows. */
static inline int dots_for(int64_t rows) {
    int which = 0;
    while (dots[which].rows < rows) which++;
    return which;
}

#endif
