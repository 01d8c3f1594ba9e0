/* The inner kernels of linear_few.c: products of up to FEW_ROWS rows of x with two rows of a weight.
 *
 * A form is a way to pack rows of x and to multiply them. few_f32.c widens weights to f32. few_groups.c rounds x to 16
 * bits in groups and multiplies integers. few_bf16.c and few_amx.c use the processor's products of bf16. */
#ifndef DEVICE_CPU_FEW_H
#define DEVICE_CPU_FEW_H

#include "device/cpu/cpu.h"
#include "device/cpu/tile.h"

enum {
    FEW_ROWS = TILE_LANES == 16 ? 8 : 4, /* rows of x that share one pass over the weight: as many as registers hold */
    FEW_PAIR = 2,                        /* outputs whose sums hide the latency of one and share the loads of x */
    FEW_WIDTHS = TILE_LANES == 16 ? 4 : 3, /* kernels for 1, 2, 4 and 8 rows */
    FEW_UNIT = 64,                         /* columns: whole units, groups and cache lines */
};

/* R rows of x, packed, and rows of a weight from some column on. */
struct few_block {
    const void *x;
    const float *x_scales; /* few_groups.c: [R, x_groups] */
    int64_t x_groups;
    const char *w;
    const uint16_t *scales;   /* of a grouped format */
    int64_t w_row, scale_row; /* bytes between rows of w; scales between them */
    int64_t outputs, depth;   /* rows and columns to multiply */
    int64_t bytes;            /* of `depth` columns; a pair of rows has twice as many, which are read together */
    int64_t ahead, gap;       /* what to prefetch: begins `ahead` bytes behind a pair, has a gap after `bytes` */
};

/* Outputs whose sums for R rows fill vectors. */
#define FEW_STEP(R) (FEW_PAIR * (R) < TILE_LANES ? TILE_LANES / (R) : FEW_PAIR)

/* sum[o * R + r] += x[r] . w[o]. The order of sums does not depend on R. `sum` has room for whole steps of outputs;
 * what is behind the last output is undefined. */
typedef void few_dot(float *sum, const struct few_block *b);

struct few_form {
    size_t element_bytes;  /* of packed rows */
    int64_t unit;          /* elements of one row that are side by side; FEW_UNIT is a multiple of it */
    int64_t outputs, cols; /* what those of the weight are multiples of; 0: any */
    /* Packs row r of x as one of R rows that are packed together: unit u is at out + u * R units. `out` is zeroed.
     * `scales` [x_groups]: for few_groups.c. */
    void (*pack)(void *out, float *scales, int R, view x, int64_t r);
    few_dot *dot[DTYPE_COUNT][FEW_WIDTHS]; /* for 1 << i rows */
    float factor[DTYPE_COUNT];             /* what the sums are to be multiplied by */
};

extern const struct few_form CPU_ENTRY(few_f32), CPU_ENTRY(few_groups);
const struct few_form *CPU_ENTRY(few_bf16)(void), *CPU_ENTRY(few_amx)(void); /* NULL at levels of other processors */

/* Rows o and o + 1 of a block; the last row twice if there is no other. */
struct few_pair {
    const char *w[FEW_PAIR], *next;
    const uint16_t *scales[FEW_PAIR];
};

static inline __attribute__((always_inline)) struct few_pair few_pair_of(const struct few_block *b, int64_t o) {
    int64_t second = o + 1 < b->outputs ? o + 1 : o;
    struct few_pair p = {.w = {b->w + o * b->w_row, b->w + second * b->w_row}, .next = b->w + o * b->w_row + b->ahead};
    if (b->scales) p.scales[0] = b->scales + o * b->scale_row, p.scales[1] = b->scales + second * b->scale_row;
    return p;
}

/* Prefetches what is ahead of the bytes [at, at + count) of both rows. */
static inline __attribute__((always_inline)) void few_prefetch(const struct few_block *b, const char *next, int64_t at,
                                                               int64_t count) {
    enum { CACHE_LINE = 64 };
    at *= FEW_PAIR; /* one row after the other, as the processor expects */
    next += at + (at < b->bytes ? 0 : b->gap);
    for (int64_t i = 0; i < FEW_PAIR * count; i += CACHE_LINE) __builtin_prefetch(next + i);
}

/* sum[i] += the lanes of wide[i], added. While the processor does this for one step, it multiplies the next one. */
static inline __attribute__((always_inline)) void few_add_lanes(float *sum, tile_vector *wide, int count) {
    for (int i = 0; i < count; i += TILE_LANES) tile_store(sum + i, tile_load(sum + i) + tile_sums(wide + i));
}

/* A form of single types: dot_R_NAME() for R rows and weights of a type, from the form's dot_pair(), and the list of
 * them. dot_pair() sets the lanes of the sums of a pair, [FEW_PAIR * R]. */
#define FEW_DOT(R, name, type, target)                                                                                 \
    static target void dot_##R##_##name(float *sum, const struct few_block *b) {                                       \
        for (int64_t o = 0; o < b->outputs; o += FEW_STEP(R)) {                                                        \
            tile_vector wide[FEW_STEP(R) * R] = {{0}};                                                                 \
            for (int i = 0; i < FEW_STEP(R) && o + i < b->outputs; i += FEW_PAIR) {                                    \
                struct few_pair p = few_pair_of(b, o + i);                                                             \
                dot_pair(R, type, wide + i * R, b, &p);                                                                \
            }                                                                                                          \
            few_add_lanes(sum + o * R, wide, FEW_STEP(R) * R);                                                         \
        }                                                                                                              \
    }
#if TILE_LANES == 16
#define FEW_DOTS_OF(name)                                                                                              \
    { dot_1_##name, dot_2_##name, dot_4_##name, dot_8_##name }
#else
#define FEW_DOTS_OF(name)                                                                                              \
    { dot_1_##name, dot_2_##name, dot_4_##name }
#endif

#endif
