/* The inner loops of attention_few.c: a few rows of queries, and keys and values that are read in place. There are
 * at most ROWS_MAX rows. The bits of a row do not depend on the number of rows. Keys and values in kv_int8 are read
 * without their scales: the caller multiplies the scores and the weights by them (multiply_columns()). */
#ifndef DEVICE_CPU_ATTENTION_ROWS_H
#define DEVICE_CPU_ATTENTION_ROWS_H

#include "device/cpu/tile.h"

enum {
    ROWS_MAX = 8,
    KEYS = 16 /* keys that are read before their weights are used: a multiple of TILE_LANES */
};

/* ---------------------------------------------------------------- scores */

/* scores[r * KEYS + o] = q[r] . k[o] for R rows of q, [R, dim], and as many keys as give a vector of sums. */
static inline __attribute__((always_inline)) void score_rows(int R, dtype type, float *scores, const float *q,
                                                             const char *const *k, size_t offset, int64_t dim) {
    const int keys = TILE_LANES / R;
    tile_vector sum[TILE_LANES] = {0};
    float lane[TILE_LANES];
    int64_t i = 0;
    for (; i + TILE_LANES <= dim; i += TILE_LANES)
#pragma GCC unroll 16
        for (int o = 0; o < keys; o++) {
            tile_vector part = tile_load_as(k[o] + offset, type, i);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) sum[r * keys + o] += tile_load(q + r * dim + i) * part;
        }
    tile_store(lane, tile_sums(sum));
    for (; i < dim; i++)
        for (int o = 0; o < keys; o++)
            for (int r = 0; r < R; r++) lane[r * keys + o] += q[r * dim + i] * cpu_widened(k[o] + offset, type, i);
    for (int r = 0; r < R; r++) memcpy(scores + r * KEYS, lane + r * keys, (size_t)keys * sizeof *lane);
}

typedef void score_function(float *scores, const float *q, const char *const *k, size_t offset, int64_t dim);

#define SCORE(R, name, type)                                                                                           \
    static void score_##R##_##name(float *scores, const float *q, const char *const *k, size_t offset, int64_t dim) {  \
        score_rows(R, type, scores, q, k, offset, dim);                                                                \
    }
#define SCORES(R) SCORE(R, f32, DTYPE_F32) SCORE(R, bf16, DTYPE_BF16) SCORE(R, int8, DTYPE_KV_INT8)
#define OF(kind, R)                                                                                                    \
    {                                                                                                                  \
        R, {                                                                                                           \
            [DTYPE_F32] = kind##_##R##_f32, [DTYPE_BF16] = kind##_##R##_bf16, [DTYPE_KV_INT8] = kind##_##R##_int8      \
        }                                                                                                              \
    }

SCORES(1)
SCORES(2)
SCORES(4)
#if TILE_LANES >= 8
SCORES(8)
#endif

/* By number of rows. More rows than the last one's are several calls. */
static const struct {
    int rows;
    score_function *of[DTYPE_COUNT];
} score_kinds[] = {OF(score, 1), OF(score, 2), OF(score, 4),
#if TILE_LANES >= 8
                   OF(score, 8)
#endif
};
enum { SCORE_KINDS = sizeof score_kinds / sizeof *score_kinds };

/* ---------------------------------------------------------------- scales */

/* x[r * KEYS + j] *= scales[j][at], for all KEYS columns. */
static inline void multiply_columns(float *x, int64_t rows, const float *const scales[KEYS], int64_t at) {
    float factor[KEYS];
    for (int j = 0; j < KEYS; j++) factor[j] = scales[j][at];
    for (int64_t r = 0; r < rows; r++)
        for (int j = 0; j < KEYS; j++) x[r * KEYS + j] *= factor[j];
}

/* ---------------------------------------------------------------- values */

/* R rows of results, `record` floats apart, and of weights, KEYS floats apart. */
struct weighted {
    float *out;
    const float *weights;
    const char *const *v; /* [keys] */
    size_t offset;        /* bytes from v[j] to its part */
    int64_t record, keys, dim;
};

/* Columns [i, i + C * TILE_LANES) of the results. */
static inline __attribute__((always_inline)) void add_columns(int R, int C, dtype type, const struct weighted *a,
                                                              int64_t i) {
    tile_vector sum[16];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int c = 0; c < C; c++) sum[r * C + c] = tile_load(a->out + r * a->record + i + c * TILE_LANES);
    for (int64_t j = 0; j < a->keys; j++)
#pragma GCC unroll 4
        for (int c = 0; c < C; c++) {
            tile_vector part = tile_load_as(a->v[j] + a->offset, type, i + c * TILE_LANES);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) sum[r * C + c] += a->weights[r * KEYS + j] * part;
        }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int c = 0; c < C; c++) tile_store(a->out + r * a->record + i + c * TILE_LANES, sum[r * C + c]);
}

/* out[r] += sum over j of weights[r][j] v[j] */
static inline __attribute__((always_inline)) void add_rows(int R, dtype type, const struct weighted *a) {
    const int registers = TILE_LANES == 16 ? 16 : 8, C = R <= registers / 4 ? 4 : R <= registers / 2 ? 2 : 1;
    int64_t i = 0;
    for (; i + C * TILE_LANES <= a->dim; i += C * TILE_LANES) add_columns(R, C, type, a, i);
    for (; i + TILE_LANES <= a->dim; i += TILE_LANES) add_columns(R, 1, type, a, i);
    for (; i < a->dim; i++)
        for (int64_t j = 0; j < a->keys; j++)
            for (int r = 0; r < R; r++)
                a->out[r * a->record + i] += a->weights[r * KEYS + j] * cpu_widened(a->v[j] + a->offset, type, i);
}

typedef void value_function(const struct weighted *a);

#define VALUE(R, name, type)                                                                                           \
    static void value_##R##_##name(const struct weighted *a) {                                                         \
        add_rows(R, type, a);                                                                                          \
    }
#define VALUES(R) VALUE(R, f32, DTYPE_F32) VALUE(R, bf16, DTYPE_BF16) VALUE(R, int8, DTYPE_KV_INT8)
VALUES(1)
VALUES(2)
VALUES(3)
VALUES(4)
VALUES(6)
VALUES(8)

static const struct {
    int rows;
    value_function *of[DTYPE_COUNT];
} value_kinds[] = {OF(value, 1), OF(value, 2), OF(value, 3), OF(value, 4), OF(value, 6), OF(value, 8)};

#endif
