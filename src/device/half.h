/* Elements of f32, bf16 and f16 in host memory, as f32 and back. */
#ifndef DEVICE_HALF_H
#define DEVICE_HALF_H

#include "base/half.h"
#include "device/dtype.h"

#include <string.h>

/* Element i of a row of `type` (f32, bf16, f16, kv_int8 without its scale). */
static inline float cpu_widened(const void *row, dtype type, int64_t i) {
    if (type == DTYPE_F32) return ((const float *)row)[i];
    if (type == DTYPE_KV_INT8) return ((const int8_t *)row)[i];
    uint16_t half = ((const uint16_t *)row)[i];
    return type == DTYPE_BF16 ? float_of_bf16(half) : float_of_f16(half);
}

/* out[0..n) = elements of `type` (f32, bf16, f16) as f32. */
static inline void cpu_widen(float *restrict out, const void *restrict from, dtype type, int64_t n) {
    const uint16_t *half = from;
    if (type == DTYPE_F32) {
        memcpy(out, from, (size_t)n * sizeof(float));
    } else if (type == DTYPE_BF16) {
        for (int64_t i = 0; i < n; i++) out[i] = float_of_bf16(half[i]);
    } else {
        for (int64_t i = 0; i < n; i++) out[i] = float_of_f16(half[i]);
    }
}

/* Elements of `type` = in[0..n), rounded to nearest even. */
static inline void cpu_narrow(void *restrict to, dtype type, const float *restrict in, int64_t n) {
    uint16_t *half = to;
    if (type == DTYPE_F32) {
        memcpy(to, in, (size_t)n * sizeof(float));
    } else if (type == DTYPE_BF16) {
        for (int64_t i = 0; i < n; i++) half[i] = bf16_of_float(in[i]);
    } else {
        for (int64_t i = 0; i < n; i++) half[i] = f16_of_float(in[i]);
    }
}

#endif
