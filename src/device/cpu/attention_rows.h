/* The inner loops of attention_few.c: a few rows of queries, and keys and values that are read in place. The bits of a
 * row do not depend on the number of rows. Keys and values in kv_int8 are read without their scales: the caller
 * multiplies the scores and the weights by them (multiply_columns()). */
#ifndef DEVICE_CPU_ATTENTION_ROWS_H
#define DEVICE_CPU_ATTENTION_ROWS_H

#include "device/cpu/tile.h"

enum {
    KEYS = 64,      /* maximum keys of a tile, and floats between rows of scores: a multiple of TILE_LANES */
    SCORE_ROWS = 4, /* maximum rows that are multiplied by a key together */
    VALUE_ROWS = 8  /* maximum rows that values are added to together */
};

/* ---------------------------------------------------------------- scores */

/* scores[g][r][j] = scale * q[g][r] . k[at[j]][g], for KV heads g and a few rows r of q. Keys are whole vectors. */
struct scored {
    float *scores;     /* [heads, rows, KEYS], from the first of a few rows on */
    const void *q;     /* [heads, rows, dim], the same; dim is padded with zeros to whole TILE_COLS */
    const char *k;     /* rows with all heads */
    const int64_t *at; /* [keys], in bytes */
    const char *ahead; /* what to prefetch: these rows of another tensor; NULL: nothing */
    int64_t keys, heads, rows, dim;
    float scale;
};

typedef void score_function(const struct scored *a);

/* Keys whose sums with R rows are in registers at the same time. */
#define SCORE_BLOCK(R) (TILE_LANES == 16 ? ((R) <= 2 ? 8 : 4) : (R) > 2 ? 2 : (R) == 2 || TILE_LANES == 4 ? 4 : 8)
enum { SCORE_SUMS = 16, SCORE_BLOCKS = TILE_LANES / 2 }; /* maximum sums of a block, and blocks of TILE_LANES keys */

/* Folds the sums [B, R] of block s into part[r][s]. Block s has keys s, s + TILE_LANES / B, ... */
static inline __attribute__((always_inline)) void fold_block(int R, int B, tile_vector part[SCORE_ROWS][SCORE_BLOCKS],
                                                             int s, const tile_vector *sum) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        tile_vector x[8];
#pragma GCC unroll 8
        for (int o = 0; o < B; o++) x[o] = sum[o * R + r];
        int half = TILE_LANES;
        if (B >= 8) tile_fold_pairs(x, 4, half /= 2);
        if (B >= 4) tile_fold_pairs(x, 2, half /= 2);
        tile_fold_pairs(x, 1, half / 2);
        part[r][s] = x[0];
    }
}

/* Folds all blocks into one vector of scores per row. */
static inline __attribute__((always_inline)) void fold_blocks(int R, int blocks, float *scores, float scale,
                                                              tile_vector part[SCORE_ROWS][SCORE_BLOCKS]) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        if (blocks >= 8) tile_fold_all(part[r], 4);
        if (blocks >= 4) tile_fold_all(part[r], 2);
        if (blocks >= 2) tile_fold_all(part[r], 1);
        tile_store(scores + r * KEYS, part[r][0] * scale);
    }
}

/* Prefetches for block s of B keys. */
static inline __attribute__((always_inline)) void score_prefetch(int B, const char *ahead, const int64_t *at, int s,
                                                                 int64_t bytes) {
    for (int64_t i = 0; i < bytes && ahead; i += 64)
#pragma GCC unroll 8
        for (int o = 0; o < B; o++) __builtin_prefetch(ahead + at[s + o * (TILE_LANES / B)] + i);
}

/* R rows with the keys [j, j + TILE_LANES) of head g. */
static inline __attribute__((always_inline)) void score_vector(int R, dtype type, const struct scored *a, int64_t dim,
                                                               int64_t j, int64_t g) {
    const int B = SCORE_BLOCK(R), blocks = TILE_LANES / B;
    int64_t row = tile_round(dim, TILE_COLS), slice = g * dim * tile_element_bytes(type);
    const float *q = (const float *)a->q + g * a->rows * row;
    const char *k = a->k + slice, *ahead = a->ahead ? a->ahead + slice : NULL;
    const int64_t *at = a->at + j;
    tile_vector part[SCORE_ROWS][SCORE_BLOCKS];
#pragma GCC unroll 4
    for (int s = 0; s < blocks; s++) {
        tile_vector sum[SCORE_SUMS] = {0};
        int64_t i = 0;
        score_prefetch(B, ahead, at, s, dim * tile_element_bytes(type));
        for (; i + TILE_LANES <= dim; i += TILE_LANES)
#pragma GCC unroll 8
            for (int o = 0; o < B; o++) {
                tile_vector key = tile_load_as(k + at[s + o * blocks], type, i);
#pragma GCC unroll 4
                for (int r = 0; r < R; r++) sum[o * R + r] += tile_load(q + r * row + i) * key;
            }
            /* Also this loop is unrolled: an index that is not constant would move the sums to memory. */
#pragma GCC unroll 8
        for (int o = 0; o < B && i < dim; o++) {
            tile_vector key = tile_load_some(k + at[s + o * blocks], type, i, dim - i);
#pragma GCC unroll 4
            for (int r = 0; r < R; r++) sum[o * R + r] += tile_load(q + r * row + i) * key;
        }
        fold_block(R, B, part, s, sum);
    }
    fold_blocks(R, blocks, a->scores + g * a->rows * KEYS + j, a->scale, part);
}

/* All keys and heads, in the order of memory. */
static inline __attribute__((always_inline)) void score_rows(int R, dtype type, const struct scored *a, int64_t dim) {
    for (int64_t j = 0; j < a->keys; j += TILE_LANES)
        for (int64_t g = 0; g < a->heads; g++) score_vector(R, type, a, dim, j, g);
}

/* The most frequent head_dim is a constant, so that its loops are unrolled and q stays in registers. */
#define SCORE(R, name, type)                                                                                           \
    static void score_##R##_##name(const struct scored *a) {                                                           \
        if (a->dim == 64)                                                                                              \
            score_rows(R, type, a, 64);                                                                                \
        else                                                                                                           \
            score_rows(R, type, a, a->dim);                                                                            \
    }
#define SCORES(name, type) SCORE(1, name, type) SCORE(2, name, type) SCORE(3, name, type) SCORE(4, name, type)
#define SCORES_OF(name)                                                                                                \
    { score_1_##name, score_2_##name, score_3_##name, score_4_##name }

SCORES(f32, DTYPE_F32)
SCORES(bf16, DTYPE_BF16)
SCORES(int8, DTYPE_KV_INT8)

/* By type of the keys and number of rows, for q in f32. */
static score_function *const score_kinds[DTYPE_COUNT][SCORE_ROWS] = {
    [DTYPE_F32] = SCORES_OF(f32), [DTYPE_BF16] = SCORES_OF(bf16), [DTYPE_KV_INT8] = SCORES_OF(int8)};

#if defined(__AVX512F__)

/* The same for q and keys in bf16 by AVX512_BF16: two products per lane, which are not rounded before they are
 * added. */
#define BF16_CODE __attribute__((target("avx512bf16")))

static inline BF16_CODE __attribute__((always_inline)) void add_bf16(int R, __m512 *sum, const uint16_t *q, int64_t row,
                                                                     __m512i key) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
        sum[r] = _mm512_dpbf16_ps(sum[r], (__m512bh)_mm512_loadu_si512(q + r * row), (__m512bh)key);
}

static inline BF16_CODE __attribute__((always_inline)) void score_vector_of_bf16(int R, const struct scored *a,
                                                                                 int64_t dim, int64_t j, int64_t g) {
    const int B = SCORE_BLOCK(R), blocks = TILE_LANES / B;
    int64_t row = tile_round(dim, TILE_COLS), slice = g * dim * 2;
    const uint16_t *q = (const uint16_t *)a->q + g * a->rows * row;
    const char *k = a->k + slice, *ahead = a->ahead ? a->ahead + slice : NULL;
    const int64_t *at = a->at + j;
    tile_vector part[SCORE_ROWS][SCORE_BLOCKS];
#pragma GCC unroll 4
    for (int s = 0; s < blocks; s++) {
        __m512 wide[SCORE_SUMS] = {{0}};
        tile_vector sum[SCORE_SUMS];
        int64_t i = 0;
        score_prefetch(B, ahead, at, s, dim * 2);
        for (; i + TILE_COLS <= dim; i += TILE_COLS)
#pragma GCC unroll 8
            for (int o = 0; o < B; o++)
                add_bf16(R, wide + o * R, q + i, row, _mm512_loadu_si512(k + at[s + o * blocks] + i * 2));
        __mmask32 some = (__mmask32)(((uint64_t)1 << (dim - i)) - 1);
#pragma GCC unroll 8
        for (int o = 0; o < B && i < dim; o++)
            add_bf16(R, wide + o * R, q + i, row, _mm512_maskz_loadu_epi16(some, k + at[s + o * blocks] + i * 2));
#pragma GCC unroll 16
        for (int o = 0; o < B * R; o++) sum[o] = (tile_vector)wide[o];
        fold_block(R, B, part, s, sum);
    }
    fold_blocks(R, blocks, a->scores + g * a->rows * KEYS + j, a->scale, part);
}

static inline BF16_CODE __attribute__((always_inline)) void score_rows_of_bf16(int R, const struct scored *a,
                                                                               int64_t dim) {
    for (int64_t j = 0; j < a->keys; j += TILE_LANES)
        for (int64_t g = 0; g < a->heads; g++) score_vector_of_bf16(R, a, dim, j, g);
}

#define SCORE_OF_BF16(R)                                                                                               \
    static BF16_CODE void score_##R##_bf16_bf16(const struct scored *a) {                                              \
        if (a->dim == 64)                                                                                              \
            score_rows_of_bf16(R, a, 64);                                                                              \
        else                                                                                                           \
            score_rows_of_bf16(R, a, a->dim);                                                                          \
    }
SCORE_OF_BF16(1)
SCORE_OF_BF16(2)
SCORE_OF_BF16(3)
SCORE_OF_BF16(4)
static score_function *const score_bf16_kinds[SCORE_ROWS] = SCORES_OF(bf16_bf16);

#else
static score_function *const score_bf16_kinds[SCORE_ROWS];
#endif

/* ---------------------------------------------------------------- scales */

/* x[r * KEYS + j] *= factor[j], for `keys` columns and those behind them, up to a whole vector. */
static inline void multiply_columns(float *x, int64_t rows, const float *factor, int64_t keys) {
    for (int64_t j = 0; j < keys; j += TILE_LANES) {
        tile_vector column = tile_load(factor + j);
        for (int64_t r = 0; r < rows; r++) tile_store(x + r * KEYS + j, tile_load(x + r * KEYS + j) * column);
    }
}

/* ---------------------------------------------------------------- values */

/* Rows that are prefetched bit by bit, in memory order, while others are used. */
struct ahead {
    const char *base;
    const int64_t *at; /* [rows], in bytes */
    int64_t rows, row_bytes;
    int64_t row, byte; /* the next to prefetch */
};

static inline __attribute__((always_inline)) void prefetch_next(struct ahead *a, int64_t bytes) {
    if (a->row >= a->rows) return;
    const char *at = a->base + a->at[a->row] + a->byte;
#pragma GCC unroll 4
    for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(at + b);
    a->byte += bytes;
    if (a->byte < a->row_bytes) return;
    a->byte = 0;
    a->row++;
}

/* For each key, columns [i, i + n) are used, and as many bytes are prefetched: none for columns that begin inside of a
 * cache line. */
static inline __attribute__((always_inline)) int64_t ahead_bytes(dtype type, int64_t i, int64_t n) {
    int64_t bytes = n * tile_element_bytes(type);
    return i * tile_element_bytes(type) % 64 != 0 ? 0 : bytes > 64 ? bytes : 64;
}

/* R rows of results, `record` floats apart, and of weights, KEYS floats apart. */
struct weighted {
    float *out; /* padded to whole TILE_COLS */
    const float *weights;
    const char *v;     /* a part of the row at byte 0 */
    const int64_t *at; /* [keys], in bytes */
    struct ahead *ahead;
    int64_t record, keys, dim;
};

/* Columns [i, i + 2 * C * TILE_LANES) of the results. */
static inline __attribute__((always_inline)) void add_columns(int R, int C, dtype type, const struct weighted *a,
                                                              int64_t i) {
    tile_vector sum[16][2] = {0};
    struct ahead ahead = *a->ahead;
    int64_t bytes = ahead_bytes(type, i, C * TILE_COLS);
    const char *v = a->v + i * tile_element_bytes(type);
    for (int64_t j = 0; j < a->keys; j++) {
        if (bytes > 0) prefetch_next(&ahead, bytes);
#pragma GCC unroll 2
        for (int c = 0; c < C; c++) {
            tile_vector part[2];
            tile_load_two(v + a->at[j], type, c * TILE_COLS, part);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                sum[r * C + c][0] += a->weights[r * KEYS + j] * part[0];
                sum[r * C + c][1] += a->weights[r * KEYS + j] * part[1];
            }
        }
    }
    *a->ahead = ahead;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int c = 0; c < C; c++) {
            float *to = a->out + r * a->record + i + c * TILE_COLS;
            tile_zip(type, sum[r * C + c]);
            tile_store(to, tile_load(to) + sum[r * C + c][0]);
            tile_store(to + TILE_LANES, tile_load(to + TILE_LANES) + sum[r * C + c][1]);
        }
}

/* At most TILE_LANES columns from i on. */
static inline __attribute__((always_inline)) void add_column_vector(int R, dtype type, const struct weighted *a,
                                                                    int64_t i) {
    tile_vector sum[8] = {0};
    struct ahead ahead = *a->ahead;
    int64_t bytes = ahead_bytes(type, i, TILE_LANES);
    for (int64_t j = 0; j < a->keys; j++) {
        const char *v = a->v + a->at[j];
        if (bytes > 0) prefetch_next(&ahead, bytes);
        tile_vector part = i + TILE_LANES <= a->dim ? tile_load_as(v, type, i) : tile_load_some(v, type, i, a->dim - i);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) sum[r] += a->weights[r * KEYS + j] * part;
    }
    *a->ahead = ahead;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        float *to = a->out + r * a->record + i;
        tile_store(to, tile_load(to) + sum[r]);
    }
}

/* out[r] += sum over j of weights[r][j] v[at[j]] */
static inline __attribute__((always_inline)) void add_rows(int R, dtype type, const struct weighted *a) {
    const int registers = TILE_LANES == 16 ? 16 : 8;
    int64_t i = 0;
    for (; 4 * R <= registers && i + 2 * TILE_COLS <= a->dim; i += 2 * TILE_COLS) add_columns(R, 2, type, a, i);
    for (; 2 * R <= registers && i + TILE_COLS <= a->dim; i += TILE_COLS) add_columns(R, 1, type, a, i);
    for (; i < a->dim; i += TILE_LANES) add_column_vector(R, type, a, i);
}

typedef void value_function(const struct weighted *a);

#define VALUE(R, name, type)                                                                                           \
    static void value_##R##_##name(const struct weighted *a) {                                                         \
        add_rows(R, type, a);                                                                                          \
    }
#define VALUES(name, type)                                                                                             \
    VALUE(1, name, type)                                                                                               \
    VALUE(2, name, type)                                                                                               \
    VALUE(3, name, type)                                                                                               \
    VALUE(4, name, type) VALUE(5, name, type) VALUE(6, name, type) VALUE(7, name, type) VALUE(8, name, type)
#define VALUES_OF(name)                                                                                                \
    {                                                                                                                  \
        value_1_##name, value_2_##name, value_3_##name, value_4_##name, value_5_##name, value_6_##name,                \
            value_7_##name, value_8_##name                                                                             \
    }
VALUES(f32, DTYPE_F32)
VALUES(bf16, DTYPE_BF16)
VALUES(int8, DTYPE_KV_INT8)

/* By type of the values and number of rows. */
static value_function *const value_kinds[DTYPE_COUNT][VALUE_ROWS] = {
    [DTYPE_F32] = VALUES_OF(f32), [DTYPE_BF16] = VALUES_OF(bf16), [DTYPE_KV_INT8] = VALUES_OF(int8)};

#endif
