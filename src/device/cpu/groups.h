/* Weights in grouped formats (dtype.h), int8 and int4, as f32. Ops that have no kernel of their own for these formats
 * widen a piece of a weight with these functions and go on as with f32. */
#ifndef DEVICE_CPU_GROUPS_H
#define DEVICE_CPU_GROUPS_H

#include "device/cpu/cpu.h"

#ifdef __AVX512BW__
#include <immintrin.h>
#endif

static inline bool cpu_is_grouped(dtype type) {
    return (DTYPE_BIT(type) & DTYPE_GROUPED) != 0;
}

/* The scales of row r. */
static inline const uint16_t *cpu_scales(view v, int64_t r) {
    return (const uint16_t *)v.scales + r * ((v.cols + DTYPE_GROUP - 1) / DTYPE_GROUP);
}

typedef int8_t cpu_sixteen __attribute__((vector_size(16)));
typedef uint16_t cpu_eight __attribute__((vector_size(16))); /* processors shift words, not bytes */

/* out[0..DTYPE_GROUP) = the integers of a whole group. */
static inline __attribute__((always_inline)) void cpu_group_integers(int8_t *out, const int8_t *from, dtype type) {
    cpu_sixteen both, even, odd;
    if (type == DTYPE_INT8) {
        memcpy(out, from, DTYPE_GROUP);
        return;
    }
    memcpy(&both, from, sizeof both);
    even = ((both & 15) ^ 8) - 8;
    odd = (((cpu_sixteen)((cpu_eight)both >> 4) & 15) ^ 8) - 8;
    cpu_sixteen halves[] = {
        __builtin_shufflevector(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
        __builtin_shufflevector(even, odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)};
    memcpy(out, halves, sizeof halves);
}

/* The integer of one element. */
static inline int cpu_group_integer(const int8_t *row, dtype type, int64_t i) {
    if (type == DTYPE_INT8) return row[i];
    return i % 2 ? row[i / 2] >> 4 : (int8_t)((uint8_t)row[i / 2] << 4) >> 4;
}

static inline __attribute__((always_inline)) void cpu_widen_groups(float *restrict out, view v, dtype type, int64_t r,
                                                                   int64_t first, int64_t n) {
    const int8_t *row = cpu_row(v, r);
    const uint16_t *scales = cpu_scales(v, r);
    for (int64_t i = 0; i < n;) {
        int64_t at = first + i, left = DTYPE_GROUP - at % DTYPE_GROUP;
        float scale = float_of_f16(scales[at / DTYPE_GROUP]);
        if (left == DTYPE_GROUP && n - i >= DTYPE_GROUP) {
            int8_t integers[DTYPE_GROUP];
            cpu_group_integers(integers, row + (type == DTYPE_INT8 ? at : at / 2), type);
            for (int j = 0; j < DTYPE_GROUP; j++) out[i + j] = scale * (float)integers[j];
        } else {
            for (int64_t j = 0; j < left && j < n - i; j++)
                out[i + j] = scale * (float)cpu_group_integer(row, type, at + j);
        }
        i += left;
    }
}

/* out[0..n) = elements [first, first + n) of row r of a weight in any format. */
static inline void cpu_widen_part(float *restrict out, view v, int64_t r, int64_t first, int64_t n) {
    if (v.type == DTYPE_INT8)
        cpu_widen_groups(out, v, DTYPE_INT8, r, first, n);
    else if (v.type == DTYPE_INT4)
        cpu_widen_groups(out, v, DTYPE_INT4, r, first, n);
    else
        cpu_widen(out, cpu_at(v, r, first), v.type, n);
}

#ifdef __AVX512BW__
/* As bf16_of_float() rounds. */
static inline __attribute__((always_inline)) __m256i cpu_bf16_of_floats(__m512 values) {
    __m512i bits = _mm512_castps_si512(values), upper = _mm512_srli_epi32(bits, 16);
    __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
    bits = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd), 16);
    bits = _mm512_mask_or_epi32(bits, _mm512_cmp_ps_mask(values, values, _CMP_UNORD_Q), upper, _mm512_set1_epi32(0x40));
    return _mm512_cvtepi32_epi16(bits);
}

/* out[0..DTYPE_GROUP) = a whole group in int4 as bf16. It has at most 16 values: these are rounded, and looked up by
 * the integers. */
static inline __attribute__((always_inline)) void cpu_int4_group_bf16(uint16_t *out, const int8_t *from, float scale) {
    const __m512 integers = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1);
    __m512i table = _mm512_castsi256_si512(cpu_bf16_of_floats(_mm512_mul_ps(integers, _mm512_set1_ps(scale))));
    __m512i pairs = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)from)); /* the odd column above the even one */
    __m512i columns = _mm512_and_si512(_mm512_or_si512(pairs, _mm512_slli_epi32(pairs, 12)), _mm512_set1_epi16(15));
    _mm512_storeu_si512(out, _mm512_permutexvar_epi16(columns, table));
}

static inline __attribute__((always_inline)) void cpu_int8_group_bf16(uint16_t *out, const int8_t *from, float scale) {
    for (int i = 0; i < DTYPE_GROUP; i += 16) {
        __m512i integers = _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(from + i)));
        __m512 values = _mm512_mul_ps(_mm512_cvtepi32_ps(integers), _mm512_set1_ps(scale));
        _mm256_storeu_si256((void *)(out + i), cpu_bf16_of_floats(values));
    }
}
#endif

/* The whole groups of a row, if there is a faster way for the two types. Returns the number of their elements. */
static inline int64_t cpu_convert_whole_groups(view to, int64_t r, view from, int64_t row) {
    int64_t done = 0;
#ifdef __AVX512BW__
    if (to.type != DTYPE_BF16 || to.cols == 0) return 0;
    const uint16_t *scales = cpu_scales(from, row);
    const int8_t *bytes = cpu_row(from, row);
    uint16_t *out = cpu_row(to, r);
    for (; done + DTYPE_GROUP <= to.cols; done += DTYPE_GROUP) {
        float scale = float_of_f16(scales[done / DTYPE_GROUP]);
        if (from.type == DTYPE_INT8)
            cpu_int8_group_bf16(out + done, bytes + done, scale);
        else
            cpu_int4_group_bf16(out + done, bytes + done / 2, scale);
    }
#else
    (void)to, (void)r, (void)from, (void)row;
#endif
    return done;
}

/* Row r of `to` = a row of a weight in a grouped format, rounded to nearest even. */
static inline void cpu_convert_groups(view to, int64_t r, view from, int64_t row) {
    enum { PIECE = 16 * DTYPE_GROUP };
    float buffer[PIECE];
    for (int64_t k = cpu_convert_whole_groups(to, r, from, row); k < to.cols; k += PIECE) {
        int64_t n = to.cols - k < PIECE ? to.cols - k : PIECE;
        cpu_widen_part(buffer, from, row, k, n);
        cpu_narrow(cpu_at(to, r, k), to.type, buffer, n);
    }
}

#endif
