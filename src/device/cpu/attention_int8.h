/* Scores of keys in int8 by AVX512_VNNI, for attention_few.c: integer products of queries rounded to 15 bits.
 *
 * VNNI adds four products of an unsigned and a signed byte to a lane of 32 bits. A query is q = scale * (128 * high +
 * low), with both in a signed byte. A key is k = u - 128, with u in an unsigned byte, so that
 *     q . k = scale * (128 * high . u + low . u - 128 * sum of (128 * high + low)).
 * The integers are exact: intermediate sums wrap around, and the result is less than 2^31 for ATTENTION_MAX_DIM.
 *
 * Four keys are transposed in units of four bytes within quarters of vectors, once for all rows. A lane then has a sum
 * of one key over a quarter of the columns, and two levels of additions are left of the four that whole rows need. */
#ifndef DEVICE_CPU_ATTENTION_INT8_H
#define DEVICE_CPU_ATTENTION_INT8_H

#include "device/cpu/attention.h"
#include "device/cpu/attention_rows.h"
#include "device/cpu/rounded.h"

#if defined(__AVX512F__)

enum {
    INT8_COLS = 64, /* columns that are multiplied together: a vector of keys */
    QUAD = 4        /* keys that are transposed together, and bytes and lanes of their units */
};

#define VNNI_CODE __attribute__((target("avx512vnni")))

/* A row of queries. For every INT8_COLS columns, vector 2 * m of planes has `high` of the columns 16 * quarter + 4 * m
 * to 16 * quarter + 4 * m + 3 in each lane of a quarter, and vector 2 * m + 1 has `low`. Columns after the last are
 * zeros. */
struct int8_query {
    float scale;
    int32_t start; /* the last term of the formula above */
    _Alignas(64) int8_t planes[];
};

static inline int64_t int8_query_bytes(int64_t dim) {
    return (int64_t)sizeof(struct int8_query) + 2 * QUAD * tile_round(dim, INT8_COLS);
}

/* One plane of INT8_COLS columns; `to` is the first of its vectors. */
static inline void int8_plane_store(int8_t *to, __m512i plane) {
    _mm512_store_si512(to, _mm512_shuffle_epi32(plane, 0x00));
    _mm512_store_si512(to + 2 * INT8_COLS, _mm512_shuffle_epi32(plane, 0x55));
    _mm512_store_si512(to + 4 * INT8_COLS, _mm512_shuffle_epi32(plane, 0xaa));
    _mm512_store_si512(to + 6 * INT8_COLS, _mm512_shuffle_epi32(plane, 0xff));
}

static inline __attribute__((always_inline)) void int8_query_round(struct int8_query *to, const float *x,
                                                                   int64_t cols) {
    int32_t rounded[ATTENTION_MAX_DIM];
    uint32_t sum = 0; /* may wrap around if a value is not finite */
    to->scale = rounded_row(rounded, x, cols);
    for (int64_t i = 0; i < cols; i += INT8_COLS) {
        int8_t high[INT8_COLS], low[INT8_COLS];
        for (int c = 0; c < INT8_COLS; c++) {
            high[c] = (int8_t)(rounded[i + c] >> 7);
            low[c] = (int8_t)(rounded[i + c] & 127);
            sum += (uint32_t)rounded[i + c];
        }
        int8_plane_store(to->planes + 2 * QUAD * i, _mm512_loadu_si512(high));
        int8_plane_store(to->planes + 2 * QUAD * i + INT8_COLS, _mm512_loadu_si512(low));
    }
    to->start = (int32_t)(-128u * sum);
}

static inline void int8_query_store(void *memory, const void *from, dtype type, int64_t dim) {
    float x[ATTENTION_MAX_DIM];
    int64_t cols = tile_round(dim, INT8_COLS);
    tile_widen(x, from, type, dim, 1);
    for (int64_t c = dim; c < cols; c++) x[c] = 0;
    if (cols == INT8_COLS)
        int8_query_round(memory, x, INT8_COLS);
    else
        int8_query_round(memory, x, cols);
}

/* Column 4 * quarter + m of x[j] becomes lane j of the quarter of x[m], in units of four bytes. */
static inline VNNI_CODE __attribute__((always_inline)) void transpose_quad(__m512i x[QUAD]) {
    __m512i a = _mm512_unpacklo_epi32(x[0], x[1]), b = _mm512_unpackhi_epi32(x[0], x[1]);
    __m512i c = _mm512_unpacklo_epi32(x[2], x[3]), d = _mm512_unpackhi_epi32(x[2], x[3]);
    x[0] = _mm512_unpacklo_epi64(a, c), x[1] = _mm512_unpackhi_epi64(a, c);
    x[2] = _mm512_unpacklo_epi64(b, d), x[3] = _mm512_unpackhi_epi64(b, d);
}

/* Columns of four keys, of which `some` exist; the others meet zeros of the queries. sum[r]: of row r. */
static inline VNNI_CODE __attribute__((always_inline)) void
add_int8(int R, __m512i *sum, const int8_t *planes, int64_t q_bytes, const char *k, const int64_t *at, __mmask64 some) {
    __m512i key[QUAD];
#pragma GCC unroll 4
    for (int j = 0; j < QUAD; j++) {
        key[j] = some == (__mmask64)-1 ? _mm512_loadu_si512(k + at[j]) : _mm512_maskz_loadu_epi8(some, k + at[j]);
        key[j] = _mm512_xor_si512(key[j], _mm512_set1_epi8(-128));
    }
    transpose_quad(key);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++, planes += q_bytes) {
        __m512i high = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (int m = 0; m < QUAD; m++)
            high = _mm512_dpbusd_epi32(high, key[m], _mm512_load_si512(planes + 2 * m * INT8_COLS));
        sum[r] = _mm512_add_epi32(sum[r], _mm512_slli_epi32(high, 7));
#pragma GCC unroll 4
        for (int m = 0; m < QUAD; m++)
            sum[r] = _mm512_dpbusd_epi32(sum[r], key[m], _mm512_load_si512(planes + (2 * m + 1) * INT8_COLS));
    }
}

/* Adds neighbouring quarters. */
static inline __m512i add_quarters(__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}

/* R rows with the keys [j, j + TILE_LANES) of head g. */
static inline VNNI_CODE __attribute__((always_inline)) void score_vector_of_int8(int R, const struct scored *a,
                                                                                 int64_t dim, int64_t j, int64_t g) {
    int64_t q_bytes = int8_query_bytes(dim);
    const char *q = (const char *)a->q + g * a->rows * q_bytes, *k = a->k + g * dim;
    const int8_t *planes = ((const struct int8_query *)q)->planes;
    __m512i sum[QUAD][SCORE_ROWS] = {{{0}}}; /* of keys 4 * n to 4 * n + 3 in each quarter of sum[n][r] */
    score_prefetch(TILE_LANES, a->ahead ? a->ahead + g * dim : NULL, a->at + j, 0, dim);
#pragma GCC unroll 4
    for (int n = 0; n < QUAD; n++) {
        const int64_t *at = a->at + j + QUAD * n;
        int64_t i = 0;
        for (; i + INT8_COLS <= dim; i += INT8_COLS)
            add_int8(R, sum[n], planes + 2 * QUAD * i, q_bytes, k + i, at, (__mmask64)-1);
        if (i < dim) add_int8(R, sum[n], planes + 2 * QUAD * i, q_bytes, k + i, at, ((__mmask64)1 << (dim - i)) - 1);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        const struct int8_query *query = (const void *)(q + r * q_bytes);
        __m512i all = add_quarters(add_quarters(sum[0][r], sum[1][r]), add_quarters(sum[2][r], sum[3][r]));
        all = _mm512_add_epi32(all, _mm512_set1_epi32(query->start));
        tile_store(a->scores + (g * a->rows + r) * KEYS + j,
                   (tile_vector)_mm512_cvtepi32_ps(all) * (query->scale * a->scale));
    }
}

static inline VNNI_CODE __attribute__((always_inline)) void score_rows_of_int8(int R, const struct scored *a,
                                                                               int64_t dim) {
    for (int64_t j = 0; j < a->keys; j += TILE_LANES)
        for (int64_t g = 0; g < a->heads; g++) score_vector_of_int8(R, a, dim, j, g);
}

#define SCORE_OF_INT8(R)                                                                                               \
    static VNNI_CODE void score_##R##_vnni(const struct scored *a) {                                                   \
        if (a->dim == 64)                                                                                              \
            score_rows_of_int8(R, a, 64);                                                                              \
        else if (a->dim == 128)                                                                                        \
            score_rows_of_int8(R, a, 128);                                                                             \
        else                                                                                                           \
            score_rows_of_int8(R, a, a->dim);                                                                          \
    }
SCORE_OF_INT8(1)
SCORE_OF_INT8(2)
SCORE_OF_INT8(3)
SCORE_OF_INT8(4)
static score_function *const score_int8_kinds[SCORE_ROWS] = SCORES_OF(vnni);

#else

static inline int64_t int8_query_bytes(int64_t dim) {
    (void)dim;
    return 0;
}

static inline void int8_query_store(void *memory, const void *from, dtype type, int64_t dim) {
    (void)memory, (void)from, (void)type, (void)dim;
}

static score_function *const score_int8_kinds[SCORE_ROWS];

#endif

#endif
