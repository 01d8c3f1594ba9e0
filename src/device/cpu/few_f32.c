/* Products of few rows in f32: weights in f32, bf16 and f16 are widened. See few.h. */
#include "device/cpu/few.h"

/* Vector v of row r of x is at x + (v * R + r) * TILE_LANES. */
static void pack(void *out, float *scales, int R, view x, int64_t r) {
    float *to = out;
    (void)scales;
    for (int64_t k = 0; k < x.cols; k += TILE_LANES, to += R * TILE_LANES)
        cpu_widen(to, cpu_at(x, r, k), x.type, x.cols - k < TILE_LANES ? x.cols - k : TILE_LANES);
}

static inline __attribute__((always_inline)) void add_vector(int R, tile_vector *wide, const float *x, tile_vector w0,
                                                             tile_vector w1) {
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        tile_vector part = tile_load(x + r * TILE_LANES);
        wide[r] += part * w0;
        wide[R + r] += part * w1;
    }
}

/* The last columns, fewer than a vector. */
static inline __attribute__((always_inline)) void add_rest(int R, dtype type, tile_vector *wide, const float *x,
                                                           const struct few_pair *p, int64_t k, int64_t depth) {
    float rest[FEW_PAIR][TILE_LANES] = {{0}};
    for (int o = 0; o < FEW_PAIR; o++)
        for (int64_t i = 0; k + i < depth; i++) rest[o][i] = cpu_widened(p->w[o], type, k + i);
    add_vector(R, wide, x, tile_load(rest[0]), tile_load(rest[1]));
}

/* Each vector of w is widened once for all rows. */
static inline __attribute__((always_inline)) void dot_pair(int R, dtype type, tile_vector *sum,
                                                           const struct few_block *b, const struct few_pair *p) {
    enum { CACHE_LINE = 64 };
    const int bytes = type == DTYPE_F32 ? 4 : 2, line = CACHE_LINE / bytes; /* elements */
    const float *x = b->x;
    const char *w0 = p->w[0], *w1 = p->w[1];
    int64_t k = 0, depth = b->depth;
    tile_vector wide[FEW_PAIR * FEW_ROWS] = {{0}};
    for (; k + line <= depth; k += line) {
        few_prefetch(b, p->next, k * bytes, CACHE_LINE);
#pragma GCC unroll 8
        for (int i = 0; i < line; i += TILE_LANES)
            add_vector(R, wide, x + (k + i) * R, tile_load_as(w0, type, k + i), tile_load_as(w1, type, k + i));
    }
    for (; k + TILE_LANES <= depth; k += TILE_LANES)
        add_vector(R, wide, x + k * R, tile_load_as(w0, type, k), tile_load_as(w1, type, k));
    if (k < depth) add_rest(R, type, wide, x + k * R, p, k, depth);
#pragma GCC unroll 16
    for (int i = 0; i < FEW_PAIR * R; i++) sum[i] = wide[i];
}

#define DOTS(R) FEW_DOT(R, f32, DTYPE_F32, ) FEW_DOT(R, bf16, DTYPE_BF16, ) FEW_DOT(R, f16, DTYPE_F16, )
DOTS(1)
DOTS(2)
DOTS(4)
#if TILE_LANES == 16
DOTS(8)
#endif

const struct few_form CPU_ENTRY(few_f32) = {
    .element_bytes = sizeof(float),
    .unit = TILE_LANES,
    .pack = pack,
    .dot = {[DTYPE_F32] = FEW_DOTS_OF(f32), [DTYPE_BF16] = FEW_DOTS_OF(bf16), [DTYPE_F16] = FEW_DOTS_OF(f16)},
    .factor = {[DTYPE_F32] = 1, [DTYPE_BF16] = 1, [DTYPE_F16] = 1},
};
