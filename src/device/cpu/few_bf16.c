/* Products of few rows of bf16 with weights in bf16 by AVX512_BF16, two products per lane. See few.h. They are twice as
 * many as in f32, which matters from four rows on. */
#include "device/cpu/few.h"

#if defined(__AVX512F__)

enum { UNIT = 2 * TILE_LANES }; /* columns of a vector */

#define BF16_CODE __attribute__((target("avx512bf16")))

/* Vector v of row r of x is at x + (v * R + r) * UNIT. */
static void pack(void *out, float *scales, int R, view x, int64_t r) {
    uint16_t *to = out;
    (void)scales;
    for (int64_t k = 0; k < x.cols; k += UNIT, to += R * UNIT)
        memcpy(to, cpu_at(x, r, k), (size_t)(x.cols - k < UNIT ? x.cols - k : UNIT) * sizeof *to);
}

static inline BF16_CODE __attribute__((always_inline)) void add_vector(int R, __m512 *wide, const uint16_t *x,
                                                                       __m512i w0, __m512i w1) {
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        __m512i part = _mm512_loadu_si512(x + r * UNIT);
        wide[r] = _mm512_dpbf16_ps(wide[r], (__m512bh)part, (__m512bh)w0);
        wide[R + r] = _mm512_dpbf16_ps(wide[R + r], (__m512bh)part, (__m512bh)w1);
    }
}

static inline BF16_CODE __attribute__((always_inline)) void
dot_pair(int R, dtype type, tile_vector *sum, const struct few_block *b, const struct few_pair *p) {
    const uint16_t *x = b->x, *w0 = (const void *)p->w[0], *w1 = (const void *)p->w[1];
    int64_t k = 0, depth = b->depth;
    __m512 wide[FEW_PAIR * FEW_ROWS] = {{0}};
    (void)type;
    for (; k + UNIT <= depth; k += UNIT) {
        few_prefetch(b, p->next, k * (int64_t)sizeof *x, UNIT * sizeof *x);
        add_vector(R, wide, x + k * R, _mm512_loadu_si512(w0 + k), _mm512_loadu_si512(w1 + k));
    }
    if (k < depth) {
        __mmask32 rest = ((__mmask32)1 << (depth - k)) - 1;
        add_vector(R, wide, x + k * R, _mm512_maskz_loadu_epi16(rest, w0 + k), _mm512_maskz_loadu_epi16(rest, w1 + k));
    }
#pragma GCC unroll 16
    for (int i = 0; i < FEW_PAIR * R; i++) sum[i] = (tile_vector)wide[i];
}

FEW_DOT(1, bf16, DTYPE_BF16, BF16_CODE)
FEW_DOT(2, bf16, DTYPE_BF16, BF16_CODE)
FEW_DOT(4, bf16, DTYPE_BF16, BF16_CODE)
FEW_DOT(8, bf16, DTYPE_BF16, BF16_CODE)

const struct few_form *CPU_ENTRY(few_bf16)(void) {
    static const struct few_form form = {.element_bytes = sizeof(uint16_t),
                                         .unit = UNIT,
                                         .pack = pack,
                                         .dot = {[DTYPE_BF16] = FEW_DOTS_OF(bf16)},
                                         .factor = {[DTYPE_BF16] = 1}};
    return &form;
}

#else

const struct few_form *CPU_ENTRY(few_bf16)(void) {
    return NULL;
}

#endif
