/* The inner kernel of products and attention: a tile of C in registers,
 *   c[m][n] (+)= sum over k of a[m * a_row + k * a_step] * b[k * b_step + n],   m < TILE_ROWS, n < TILE_COLS,
 * for f32 in memory padded to whole tiles. Vectors are those of GNU C, of the level's width. A tile has as many rows
 * as registers hold besides one row of b. Each load of b then serves TILE_ROWS products and each broadcast of a
 * serves two, which keeps both FMA units of a core supplied from the first-level cache. */
#ifndef DEVICE_CPU_TILE_H
#define DEVICE_CPU_TILE_H

#include "device/cpu/cpu.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define TILE_LANES 16
#define TILE_ROWS 12
#elif defined(__AVX__)
#define TILE_LANES 8
#define TILE_ROWS 6
#else
#define TILE_LANES 4
#define TILE_ROWS 6
#endif
#define TILE_COLS (2 * TILE_LANES)

typedef float tile_vector __attribute__((vector_size(4 * TILE_LANES)));
typedef float tile_vector_anywhere __attribute__((vector_size(4 * TILE_LANES), aligned(4), may_alias));

typedef float tile_quad __attribute__((vector_size(16)));
typedef int32_t tile_quad_bits __attribute__((vector_size(16)));
typedef float tile_quad_anywhere __attribute__((vector_size(16), aligned(4), may_alias));

static inline tile_vector tile_load(const float *from) {
    return *(const tile_vector_anywhere *)from;
}

static inline void tile_store(float *to, tile_vector x) {
    *(tile_vector_anywhere *)to = x;
}

typedef uint16_t tile_halves __attribute__((vector_size(2 * TILE_LANES)));
typedef uint32_t tile_bits __attribute__((vector_size(4 * TILE_LANES)));
typedef int8_t tile_bytes __attribute__((vector_size(TILE_LANES)));

static inline __attribute__((always_inline)) tile_vector tile_load_bytes(const int8_t *from) {
#if defined(__AVX512F__)
    return (tile_vector)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)from)));
#elif defined(__AVX2__)
    return (tile_vector)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)from)));
#else
    tile_bytes bytes;
    memcpy(&bytes, from, sizeof bytes);
    return __builtin_convertvector(bytes, tile_vector);
#endif
}

/* dtype_element_bytes() of types that are loaded here, as a constant. */
static inline __attribute__((always_inline)) int64_t tile_element_bytes(dtype type) {
    return type == DTYPE_F32 ? 4 : type == DTYPE_KV_INT8 ? 1 : 2;
}

/* TILE_LANES elements of `type` from element i of a row on, as f32: cpu_widened(), lane by lane.
 * (gcc 12 makes four instructions of the conversion that one instruction does.) */
static inline __attribute__((always_inline)) tile_vector tile_load_as(const void *row, dtype type, int64_t i) {
    if (type == DTYPE_F32) return tile_load((const float *)row + i);
    if (type == DTYPE_KV_INT8) return tile_load_bytes((const int8_t *)row + i);
    const uint16_t *from = (const uint16_t *)row + i;
#if defined(__AVX512F__)
    if (type == DTYPE_F16) return (tile_vector)_mm512_cvtph_ps(_mm256_loadu_si256((const void *)from));
    tile_bits bits = (tile_bits)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)from));
#elif defined(__AVX2__)
    if (type == DTYPE_F16) return (tile_vector)_mm256_cvtph_ps(_mm_loadu_si128((const void *)from));
    tile_bits bits = (tile_bits)_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)from));
#else
    tile_halves halves;
    memcpy(&halves, from, sizeof halves);
    tile_bits bits = __builtin_convertvector(halves, tile_bits);
#endif
    if (type == DTYPE_BF16) return (tile_vector)(bits << 16);
    tile_bits body = (bits & 0x7fff) << 13;
    tile_bits special = (tile_bits)(body >= 0x0f800000) & 0x7f800000;
    return (tile_vector)((tile_bits)((tile_vector)body * 0x1p112f) | special | (bits & 0x8000) << 16);
}

/* The first n < TILE_LANES elements of these, then zeros. */
static inline __attribute__((always_inline)) tile_vector tile_load_some(const void *row, dtype type, int64_t i,
                                                                        int64_t n) {
#if defined(__AVX512F__)
    __mmask16 some = (__mmask16)((1u << n) - 1);
    if (type == DTYPE_F32) return (tile_vector)_mm512_maskz_loadu_ps(some, (const float *)row + i);
    if (type == DTYPE_KV_INT8) {
        __m128i bytes = _mm_maskz_loadu_epi8(some, (const int8_t *)row + i);
        return (tile_vector)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
    }
    __m256i halves = _mm256_maskz_loadu_epi16(some, (const uint16_t *)row + i);
    if (type == DTYPE_F16) return (tile_vector)_mm512_cvtph_ps(halves);
    return (tile_vector)((tile_bits)_mm512_cvtepu16_epi32(halves) << 16);
#else
    float lane[TILE_LANES] = {0};
    for (int64_t j = 0; j < n; j++) lane[j] = cpu_widened(row, type, i + j);
    return tile_load(lane);
#endif
}

/* 2 * TILE_LANES elements from element i on. Those of bf16 are split in the cheapest way: elements with an even index,
 * and those with an odd one. tile_zip() restores the order. (bf16 is the upper half of an f32, and elements are
 * little-endian.) */
static inline __attribute__((always_inline)) void tile_load_two(const void *row, dtype type, int64_t i,
                                                                tile_vector to[2]) {
    if (type == DTYPE_BF16) {
        tile_bits bits;
        memcpy(&bits, (const uint16_t *)row + i, sizeof bits);
        to[0] = (tile_vector)(bits << 16), to[1] = (tile_vector)(bits & 0xffff0000);
    } else {
        to[0] = tile_load_as(row, type, i), to[1] = tile_load_as(row, type, i + TILE_LANES);
    }
}

/* Vectors in the order of tile_load_two() for `type` in the order of elements. */
static inline __attribute__((always_inline)) void tile_zip(dtype type, tile_vector x[2]) {
    if (type != DTYPE_BF16) return;
    tile_vector a = x[0], b = x[1];
#if TILE_LANES == 16
    x[0] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    x[1] = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif TILE_LANES == 8
    x[0] = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    x[1] = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
    x[0] = __builtin_shufflevector(a, b, 0, 4, 1, 5), x[1] = __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
}

static inline tile_quad tile_larger(tile_quad a, tile_quad b) {
    tile_quad_bits larger = a > b;
    return (tile_quad)(((tile_quad_bits)a & larger) | ((tile_quad_bits)b & ~larger));
}

/* The largest of x[0..n); n is a whole number of vectors. A NaN may be missed. */
static inline float tile_largest(const float *x, int64_t n) {
    tile_vector so_far = tile_load(x);
    for (int64_t i = TILE_LANES; i < n; i += TILE_LANES) {
        tile_vector here = tile_load(x + i);
        tile_bits larger = (tile_bits)(here > so_far);
        so_far = (tile_vector)(((tile_bits)here & larger) | ((tile_bits)so_far & ~larger));
    }
    tile_quad part[TILE_LANES / 4];
    memcpy(part, &so_far, sizeof so_far);
#pragma GCC unroll 2
    for (int half = TILE_LANES / 8; half > 0; half /= 2)
#pragma GCC unroll 2
        for (int i = 0; i < half; i++) part[i] = tile_larger(part[i], part[i + half]);
    float a = part[0][0] > part[0][1] ? part[0][0] : part[0][1], b = part[0][2] > part[0][3] ? part[0][2] : part[0][3];
    return a > b ? a : b;
}

/* Adds the upper half of the lanes to the lower half, until one is left. */
static inline float tile_sum(tile_vector x) {
    tile_quad part[TILE_LANES / 4];
    memcpy(part, &x, sizeof x);
#pragma GCC unroll 2
    for (int half = TILE_LANES / 8; half > 0; half /= 2)
#pragma GCC unroll 2
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    return (part[0][0] + part[0][2]) + (part[0][1] + part[0][3]);
}

/* Lanes of a and b in turns of `half` lanes, those with this bit of their index clear, plus those with it set. */
static inline __attribute__((always_inline)) tile_vector tile_fold(tile_vector a, tile_vector b, int half) {
#if TILE_LANES == 16
    if (half == 8)
        return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
               __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    if (half == 4)
        return __builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27) +
               __builtin_shufflevector(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    if (half == 2)
        return __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
               __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    return __builtin_shufflevector(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +
           __builtin_shufflevector(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
#elif TILE_LANES == 8
    if (half == 4)
        return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +
               __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
    if (half == 2)
        return __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13) +
               __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
    return __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14) +
           __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
#else
    if (half == 2) return __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
    return __builtin_shufflevector(a, b, 0, 4, 2, 6) + __builtin_shufflevector(a, b, 1, 5, 3, 7);
#endif
}

/* The first n of x: tile_fold() of it and the vector n behind it. */
static inline __attribute__((always_inline)) void tile_fold_pairs(tile_vector *x, int n, int half) {
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) x[i] = tile_fold(x[i], x[i + n], half);
}

static inline __attribute__((always_inline)) void tile_fold_all(tile_vector *x, int half) {
    tile_fold_pairs(x, half, half);
}

/* Lane i is tile_sum(x[i]). Destroys x [TILE_LANES]. (gcc 12 keeps x in registers only without a loop over halves.) */
static inline __attribute__((always_inline)) tile_vector tile_sums(tile_vector *x) {
    if (TILE_LANES == 16) tile_fold_all(x, 8);
    if (TILE_LANES >= 8) tile_fold_all(x, 4);
    tile_fold_all(x, 2);
    tile_fold_all(x, 1);
    return x[0];
}

static inline int64_t tile_round(int64_t n, int64_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

/* Whether some of x[0..n) is larger than `limit`; n is a whole number of vectors. A NaN is not. */
static inline bool tile_exceeds(const float *x, int64_t n, float limit) {
#if defined(__AVX512F__)
    __mmask16 above = 0;
    for (int64_t i = 0; i < n; i += TILE_LANES)
        above |= _mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), _mm512_set1_ps(limit), _CMP_GT_OQ);
    return above != 0;
#else
    return tile_largest(x, n) > limit;
#endif
}

/* x[0..n) = exp(x - maximum), within the error of cpu_exp(), for x up to maximum; n is a whole number of vectors.
 * Returns sums whose sum is that of all. */
static inline tile_vector tile_exp(float *x, int64_t n, float maximum) {
#if defined(__AVX512F__)
    /* As cpu_exp(). One instruction multiplies by 2^n, and nothing is too large. The order of the operands of max
     * matters for a NaN. */
    const __m512 round = _mm512_set1_ps(0x1.8p23f);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < n; i += TILE_LANES) {
        __m512 at = _mm512_max_ps(_mm512_set1_ps(-105.0f), _mm512_loadu_ps(x + i) - _mm512_set1_ps(maximum));
        __m512 whole = _mm512_fmadd_ps(at, _mm512_set1_ps(0x1.715476p+0f), round) - round;
        __m512 r = _mm512_fnmadd_ps(whole, _mm512_set1_ps(0x1.62e4p-1f), at);
        r = _mm512_fnmadd_ps(whole, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
        __m512 square = r * r;
        __m512 upper = _mm512_fmadd_ps(_mm512_set1_ps(0x1.6a2352p-10f), r, _mm512_set1_ps(0x1.123a6cp-7f));
        __m512 lower = _mm512_fmadd_ps(_mm512_set1_ps(0x1.55549p-3f), r, _mm512_set1_ps(0x1.fffffcp-2f));
        upper = _mm512_fmadd_ps(upper, r, _mm512_set1_ps(0x1.5558f4p-5f));
        __m512 p = _mm512_fmadd_ps(upper, square, lower);
        p = _mm512_fmadd_ps(p, square, r) + _mm512_set1_ps(1.0f);
        p = _mm512_scalef_ps(p, whole);
        _mm512_storeu_ps(x + i, p);
        sum += p;
    }
    return (tile_vector)sum;
#else
    for (int64_t i = 0; i < n; i++) x[i] = cpu_exp(x[i] - maximum);
    tile_vector sum = tile_load(x);
    for (int64_t i = TILE_LANES; i < n; i += TILE_LANES) sum += tile_load(x + i);
    return sum;
#endif
}

/* out[0..n) = factor * elements of `type`, as f32. (A loop that copies would become a call, which costs more than
 * the copy for rows as short as a head's.) */
static inline __attribute__((always_inline)) void tile_widen_as(float *out, const void *from, dtype type, int64_t n,
                                                                float factor) {
    int64_t i = 0;
    for (; i + TILE_LANES <= n; i += TILE_LANES) tile_store(out + i, tile_load_as(from, type, i) * factor);
    for (; i < n; i++) out[i] = cpu_widened(from, type, i) * factor;
}

static inline void tile_widen(float *out, const void *from, dtype type, int64_t n, float factor) {
    if (type == DTYPE_F32)
        tile_widen_as(out, from, DTYPE_F32, n, factor);
    else if (type == DTYPE_BF16)
        tile_widen_as(out, from, DTYPE_BF16, n, factor);
    else if (type == DTYPE_KV_INT8)
        tile_widen_as(out, from, DTYPE_KV_INT8, n, factor);
    else
        tile_widen_as(out, from, DTYPE_F16, n, factor);
}

/* out[k * out_row + r] = rows[r][k] for r < 4, k < depth. */
static inline void tile_transpose4(float *out, ptrdiff_t out_row, const float *const rows[4], int64_t depth) {
    int64_t k = 0;
    for (; k + 4 <= depth; k += 4) {
        tile_quad a = *(const tile_quad_anywhere *)(rows[0] + k), b = *(const tile_quad_anywhere *)(rows[1] + k);
        tile_quad c = *(const tile_quad_anywhere *)(rows[2] + k), d = *(const tile_quad_anywhere *)(rows[3] + k);
        tile_quad ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        tile_quad cd0 = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd1 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        float *to = out + k * out_row;
        *(tile_quad_anywhere *)to = __builtin_shufflevector(ab0, cd0, 0, 1, 4, 5);
        *(tile_quad_anywhere *)(to + out_row) = __builtin_shufflevector(ab0, cd0, 2, 3, 6, 7);
        *(tile_quad_anywhere *)(to + 2 * out_row) = __builtin_shufflevector(ab1, cd1, 0, 1, 4, 5);
        *(tile_quad_anywhere *)(to + 3 * out_row) = __builtin_shufflevector(ab1, cd1, 2, 3, 6, 7);
    }
    for (; k < depth; k++)
        for (int r = 0; r < 4; r++) out[k * out_row + r] = rows[r][k];
}

/* Adds to c if `add`, else overwrites it. */
static inline __attribute__((always_inline)) void tile_product(float *c, ptrdiff_t c_row, bool add, const float *a,
                                                               ptrdiff_t a_row, ptrdiff_t a_step, const float *b,
                                                               ptrdiff_t b_step, int64_t depth) {
    tile_vector sum[TILE_ROWS][2] = {0};
    for (int64_t k = 0; k < depth; k++) {
        tile_vector b0 = tile_load(b), b1 = tile_load(b + TILE_LANES);
#pragma GCC unroll 12
        for (int m = 0; m < TILE_ROWS; m++) {
            sum[m][0] += a[m * a_row] * b0;
            sum[m][1] += a[m * a_row] * b1;
        }
        a += a_step;
        b += b_step;
    }
#pragma GCC unroll 12
    for (int m = 0; m < TILE_ROWS; m++) {
        float *to = c + m * c_row;
        tile_store(to, add ? tile_load(to) + sum[m][0] : sum[m][0]);
        tile_store(to + TILE_LANES, add ? tile_load(to + TILE_LANES) + sum[m][1] : sum[m][1]);
    }
}

/* to += factor[0] * from[0] + ... + factor[3] * from[3]. `to` is read and written once for four rows. */
static inline void tile_add4(float *restrict to, const float factor[4], const float *const from[4], int64_t n) {
    const float *restrict a = from[0], *restrict b = from[1], *restrict c = from[2], *restrict d = from[3];
    for (int64_t i = 0; i < n; i++) to[i] += factor[0] * a[i] + factor[1] * b[i] + factor[2] * c[i] + factor[3] * d[i];
}

#endif
