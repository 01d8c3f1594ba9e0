/* The inner kernels of linear_few.c: products of up to FEW_ROWS rows of x with two rows of a weight.
 *
 * A form is a way to pack rows of x and to multiply them. few_f32.c widens weights to f32. few_groups.c rounds x to 16
 * bits in groups and multiplies integers. few_bf16.c uses the processor's products of bf16. */
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

/* R rows of x, packed, and two rows of a weight from some column on. */
struct few_pair {
    const void *x;
    const float *x_scales; /* few_groups.c: [R, x_groups] */
    int64_t x_groups;
    const char *w[FEW_PAIR];
    const uint16_t *scales[FEW_PAIR]; /* of grouped formats */
    int64_t depth;                    /* columns */
    const char *next; /* what to prefetch: FEW_PAIR times `bytes`, with `gap` bytes between the first and the second */
    int64_t bytes, gap;
};

/* The lanes of sum[o * R + r], added, grow by x[r] . w[o]. The order of sums does not depend on R. */
typedef void few_dot(tile_vector *sum, const struct few_pair *p);

struct few_form {
    size_t element_bytes; /* of packed rows */
    int64_t unit;         /* elements of one row that are side by side; FEW_UNIT is a multiple of it */
    /* Packs row r of x as one of R rows that are packed together: unit u is at out + u * R units. `out` is zeroed.
     * `scales` [x_groups]: for few_groups.c. */
    void (*pack)(void *out, float *scales, int R, view x, int64_t r);
    few_dot *dot[DTYPE_COUNT][FEW_WIDTHS]; /* for 1 << i rows */
};

extern const struct few_form CPU_ENTRY(few_f32), CPU_ENTRY(few_groups);
const struct few_form *CPU_ENTRY(few_bf16)(void); /* NULL at levels of other processors */

/* Prefetches the bytes of both rows that are `ahead` of the bytes [at, at + count) of each. */
static inline __attribute__((always_inline)) void few_prefetch(const struct few_pair *p, int64_t at, int64_t count) {
    enum { CACHE_LINE = 64 };
    at *= FEW_PAIR; /* one row after the other, as the processor expects */
    const char *next = p->next + at + (at < p->bytes ? 0 : p->gap);
    for (int64_t i = 0; i < FEW_PAIR * count; i += CACHE_LINE) __builtin_prefetch(next + i);
}

#endif
