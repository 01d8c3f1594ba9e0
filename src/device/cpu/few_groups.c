/* Products of few rows with weights in int8 and int4, as integers. See few.h.
 *
 * x is rounded to 15 bits in the groups of the weight, with an f32 scale each. A lane adds four products of 16 bits in
 * 32 bits without overflow, so that an integer sum is exact and the same at every feature level:
 *     x[r] . w[o] = sum over groups of scale of x * scale of w * integer sum.
 * Rounding x changes each of its values by at most 2^-15 of the largest one of its group, much less than bf16 does.
 * Therefore nothing more than SSE2's pmaddwd is needed; products of bytes (VNNI) are not faster, since reading the
 * weight takes as long. */
#include "device/cpu/few.h"
#include "device/cpu/groups.h"
#include "device/cpu/rounded.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum {
    UNIT = 4 * TILE_LANES, /* columns of a step: four per lane */
    BLOCK = 64,            /* groups whose scales are multiplied at a time */
    SCALES_AHEAD = 512,    /* scales that are prefetched before they are used */
    LANES_OF_GROUP = DTYPE_GROUP / 4
};

typedef int16_t words __attribute__((vector_size(4 * TILE_LANES), may_alias));
typedef int16_t words_anywhere __attribute__((vector_size(4 * TILE_LANES), aligned(1), may_alias));
typedef int32_t sums __attribute__((vector_size(4 * TILE_LANES)));

/* ---------------------------------------------------------------- rows of x */

/* A unit of x is a vector of its even columns and a vector of its odd ones, because a step reads two columns of the
 * weight as one word. */
static void pack(void *out, float *scales, int R, view x, int64_t r) {
    enum { CHUNK = TILE_LANES < 8 ? UNIT : DTYPE_GROUP }; /* columns of a group that are in one unit */
    for (int64_t k = 0; k < x.cols; k += DTYPE_GROUP) {
        float group[DTYPE_GROUP] = {0};
        int32_t rounded[DTYPE_GROUP];
        if (x.cols - k >= DTYPE_GROUP)
            cpu_widen(group, cpu_at(x, r, k), x.type, DTYPE_GROUP); /* of constant length */
        else
            cpu_widen(group, cpu_at(x, r, k), x.type, x.cols - k);
        scales[k / DTYPE_GROUP] = rounded_row(rounded, group, DTYPE_GROUP);
        for (int64_t i = 0; i < DTYPE_GROUP; i += CHUNK) {
            int16_t *restrict even = (int16_t *)out + (k + i) / UNIT * R * UNIT + (k + i) % UNIT / 2;
            for (int j = 0; j < CHUNK / 2; j++) {
                even[j] = (int16_t)rounded[i + 2 * j];
                even[UNIT / 2 + j] = (int16_t)rounded[i + 2 * j + 1];
            }
        }
    }
}

/* ---------------------------------------------------------------- a step */

static inline __attribute__((always_inline)) sums multiply_words(words a, words b) {
#if defined(__AVX512BW__)
    return (sums)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (sums)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    return (sums)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    sums out;
    for (int i = 0; i < TILE_LANES; i++) out[i] = (int32_t)a[2 * i] * b[2 * i] + (int32_t)a[2 * i + 1] * b[2 * i + 1];
    return out;
#endif
}

/* A word for each of the next 2 * TILE_LANES bytes. */
static inline __attribute__((always_inline)) words widen_bytes(const char *from) {
#if defined(__AVX512BW__)
    return (words)_mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)from));
#elif defined(__AVX2__)
    return (words)_mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)from));
#elif defined(__SSE2__)
    return (words)_mm_unpacklo_epi8(_mm_loadl_epi64((const void *)from), _mm_setzero_si128());
#else
    words out;
    for (int i = 0; i < 2 * TILE_LANES; i++) out[i] = ((const uint8_t *)from)[i];
    return out;
#endif
}

/* The even and the odd columns of a unit, in the upper bits of a word: 2^8 times int8, 2^12 times int4. */
static inline __attribute__((always_inline)) void split_unit(dtype type, const char *from, words *even, words *odd) {
    if (type == DTYPE_INT8) {
        words both = *(const words_anywhere *)from;
        *even = both << 8;
        *odd = both & (int16_t)-0x100;
    } else {
        words both = widen_bytes(from);
        *even = both << 12;
        *odd = both << 8 & (int16_t)-0x1000;
    }
}

/* The scales of the lanes of unit u. */
static inline __attribute__((always_inline)) tile_vector scales_of_unit(const float *scales, int64_t u) {
#if TILE_LANES == 16
    __m512 first = _mm512_set1_ps(scales[2 * u]);
    return (tile_vector)_mm512_mask_broadcastss_ps(first, 0xff00, _mm_load_ss(scales + 2 * u + 1));
#else
    float scale = scales[u * TILE_LANES / LANES_OF_GROUP];
    return scale - (tile_vector){0};
#endif
}

static inline __attribute__((always_inline)) void add_unit(int R, dtype type, tile_vector *wide, const int16_t *x,
                                                           const char *w0, const char *w1, const float (*scales)[BLOCK],
                                                           int64_t u) {
    words even[FEW_PAIR], odd[FEW_PAIR];
    split_unit(type, w0, &even[0], &odd[0]);
    split_unit(type, w1, &even[1], &odd[1]);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        words x_even = *(const words_anywhere *)(x + r * UNIT),
              x_odd = *(const words_anywhere *)(x + r * UNIT + UNIT / 2);
#pragma GCC unroll 2
        for (int o = 0; o < FEW_PAIR; o++) {
            sums sum = multiply_words(even[o], x_even) + multiply_words(odd[o], x_odd);
            wide[o * R + r] += __builtin_convertvector(sum, tile_vector) * scales_of_unit(scales[o * R + r], u);
        }
    }
}

/* ---------------------------------------------------------------- two rows of the weight */

/* TILE_LANES scales as f32, of which `n` are left; the others are zeros. */
static inline __attribute__((always_inline)) tile_vector load_scales(const uint16_t *w, int64_t n) {
#if TILE_LANES == 16
    __mmask16 mask = n < 16 ? (__mmask16)((1u << n) - 1) : (__mmask16)-1;
    return (tile_vector)_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, w));
#else
    uint16_t rest[TILE_LANES] = {0};
    if (n < TILE_LANES) memcpy(rest, w, (size_t)n * sizeof *w);
    return tile_load_as(n < TILE_LANES ? rest : w, DTYPE_F16, 0);
#endif
}

/* out[0..n) = w * x; behind them finite values, up to a whole vector. */
static inline __attribute__((always_inline)) void multiply_scales(float *out, const uint16_t *w, const float *x,
                                                                  int64_t n) {
    for (int64_t i = 0; i < n; i += TILE_LANES) tile_store(out + i, load_scales(w + i, n - i) * tile_load(x + i));
}

/* Columns [k, k + cols) of both rows, at most BLOCK groups. */
static inline __attribute__((always_inline)) void dot_columns(int R, dtype type, tile_vector *wide,
                                                              const struct few_block *b, const struct few_pair *p,
                                                              int64_t k, int64_t cols) {
    const int64_t unit_bytes = type == DTYPE_INT8 ? UNIT : UNIT / 2, before = k / UNIT * unit_bytes;
    float scales[FEW_PAIR * FEW_ROWS][BLOCK] __attribute__((aligned(64))); /* stored and loaded within cache lines */
    const int16_t *x = (const int16_t *)b->x + k * R;
    const char *w0 = p->w[0] + before, *w1 = p->w[1] + before;
    int64_t first = k / DTYPE_GROUP, groups = (cols + DTYPE_GROUP - 1) / DTYPE_GROUP, units = cols / UNIT;
#pragma GCC unroll 16
    for (int i = 0; i < FEW_PAIR * R; i++)
        multiply_scales(scales[i], p->scales[i / R] + first, b->x_scales + i % R * b->x_groups + first, groups);
    for (int o = 0; o < FEW_PAIR; o++) __builtin_prefetch(p->scales[o] + first + SCALES_AHEAD);
    for (int64_t u = 0; u < units; u++) {
        few_prefetch(b, p->next, before + u * unit_bytes, unit_bytes);
        add_unit(R, type, wide, x + u * R * UNIT, w0 + u * unit_bytes, w1 + u * unit_bytes, scales, u);
    }
    if (units * UNIT == cols) return;
    char rest[FEW_PAIR][UNIT] = {{0}}; /* the last columns, fewer than a unit; those behind them are zeros in x */
    size_t bytes = dtype_row_bytes(type, cols - units * UNIT);
    memcpy(rest[0], w0 + units * unit_bytes, bytes);
    memcpy(rest[1], w1 + units * unit_bytes, bytes);
    add_unit(R, type, wide, x + units * R * UNIT, rest[0], rest[1], scales, units);
}

static inline __attribute__((always_inline)) void dot_pair(int R, dtype type, tile_vector *sum,
                                                           const struct few_block *b, const struct few_pair *p) {
    enum { BLOCK_COLS = BLOCK * DTYPE_GROUP };
    tile_vector wide[FEW_PAIR * FEW_ROWS] = {{0}};
    for (int64_t k = 0; k < b->depth; k += BLOCK_COLS)
        dot_columns(R, type, wide, b, p, k, b->depth - k < BLOCK_COLS ? b->depth - k : BLOCK_COLS);
#pragma GCC unroll 16
    for (int i = 0; i < FEW_PAIR * R; i++) sum[i] = wide[i];
}

#define DOTS(R) FEW_DOT(R, int8, DTYPE_INT8, ) FEW_DOT(R, int4, DTYPE_INT4, )
DOTS(1)
DOTS(2)
DOTS(4)
#if TILE_LANES == 16
DOTS(8)
#endif

const struct few_form CPU_ENTRY(few_groups) = {
    .element_bytes = sizeof(int16_t),
    .unit = UNIT,
    .pack = pack,
    .dot = {[DTYPE_INT8] = FEW_DOTS_OF(int8), [DTYPE_INT4] = FEW_DOTS_OF(int4)},
    .factor = {[DTYPE_INT8] = 0x1p-8f, [DTYPE_INT4] = 0x1p-12f},
};
