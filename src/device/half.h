/* bf16 and f16 in host memory, as f32 and back. */
#ifndef DEVICE_HALF_H
#define DEVICE_HALF_H

#include "device/dtype.h"

#include <string.h>

static inline uint32_t cpu_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static inline float cpu_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static inline float cpu_from_bf16(uint16_t h) {
    return cpu_float((uint32_t)h << 16);
}

/* Rounds to nearest even; a NaN stays a NaN. */
static inline uint16_t cpu_to_bf16(float x) {
    uint32_t bits = cpu_bits(x);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    uint32_t nan = (bits >> 16) | 0x40;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

/* The product with 2^112 adjusts the exponent and normalizes subnormals of f16. Infinities and NaNs, whose exponent
 * is then 31 + 112 - 15, get all ones. */
static inline float cpu_from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, body = (uint32_t)(h & 0x7fff) << 13;
    uint32_t bits = cpu_bits(cpu_float(body) * 0x1p112f);
    bits |= body >= 0x0f800000 ? 0x7f800000 : 0;
    return cpu_float(bits | sign);
}

/* Rounds to nearest even. Below 2^-14 the sum with 0.5 moves the bits of the f16 subnormal to the end of the
 * mantissa and rounds them; above, the mantissa is rounded in place as in cpu_to_bf16. */
static inline uint16_t cpu_to_f16(float x) {
    uint32_t bits = cpu_bits(x), sign = (bits >> 16) & 0x8000, body = bits & 0x7fffffff;
    uint32_t subnormal = cpu_bits(cpu_float(body < 0x38800000 ? body : 0) + 0.5f) - 0x3f000000;
    uint32_t normal = (body - 0x38000000 + 0xfff + ((body >> 13) & 1)) >> 13;
    uint32_t h = body < 0x38800000 ? subnormal : normal;
    h = body >= 0x477ff000 ? 0x7c00 : h; /* 65520 and up round to infinity */
    h = body > 0x7f800000 ? 0x7e00 : h;  /* NaN */
    return (uint16_t)(h | sign);
}

/* Element i of a row of `type` (f32, bf16, f16). */
static inline float cpu_widened(const void *row, dtype type, int64_t i) {
    if (type == DTYPE_F32) return ((const float *)row)[i];
    uint16_t half = ((const uint16_t *)row)[i];
    return type == DTYPE_BF16 ? cpu_from_bf16(half) : cpu_from_f16(half);
}

/* out[0..n) = elements of `type` (f32, bf16, f16) as f32. */
static inline void cpu_widen(float *restrict out, const void *restrict from, dtype type, int64_t n) {
    const uint16_t *half = from;
    if (type == DTYPE_F32) {
        memcpy(out, from, (size_t)n * sizeof(float));
    } else if (type == DTYPE_BF16) {
        for (int64_t i = 0; i < n; i++) out[i] = cpu_from_bf16(half[i]);
    } else {
        for (int64_t i = 0; i < n; i++) out[i] = cpu_from_f16(half[i]);
    }
}

/* Elements of `type` = in[0..n), rounded to nearest even. */
static inline void cpu_narrow(void *restrict to, dtype type, const float *restrict in, int64_t n) {
    uint16_t *half = to;
    if (type == DTYPE_F32) {
        memcpy(to, in, (size_t)n * sizeof(float));
    } else if (type == DTYPE_BF16) {
        for (int64_t i = 0; i < n; i++) half[i] = cpu_to_bf16(in[i]);
    } else {
        for (int64_t i = 0; i < n; i++) half[i] = cpu_to_f16(in[i]);
    }
}

#endif
