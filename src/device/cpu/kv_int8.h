/* Rows of keys or values in 8 bits, with a scale for each head: the format kv_int8 of dtype.h. */
#ifndef DEVICE_CPU_KV_INT8_H
#define DEVICE_CPU_KV_INT8_H

#include "device/cpu/blocks.h"

#include <float.h>
#include <math.h>

enum { KV_INT8_MAX_GROUP = 1024 };

static inline int kv_int8_check(view v) {
    REQUIRE(v.type != DTYPE_KV_INT8 || (v.group > 0 && v.group <= KV_INT8_MAX_GROUP), LCKV_ERROR_UNSUPPORTED,
            "expected a head_dim of 1 to %d for int8 keys and values, found %d", KV_INT8_MAX_GROUP, (int)v.group);
    return LCKV_OK;
}

/* to[0..n) = x / scale, rounded to nearest even. Returns the scale. */
static inline float kv_int8_quantize(int8_t *restrict to, const float *restrict x, int64_t n) {
    const float round = 0x1.8p23f; /* adding it leaves the nearest integer in the mantissa */
    const int32_t infinity = 0x7f800000;
    int32_t largest = 0; /* bits of the largest magnitude; those of a NaN are larger than those of any number */
    for (int64_t i = 0; i < n; i++) {
        int32_t bits = (int32_t)(float_bits(x[i]) & 0x7fffffff);
        largest = bits > largest ? bits : largest;
    }
    float magnitude = float_of_bits((uint32_t)largest), scale = magnitude / 127.0f;
    if (largest >= infinity || scale < FLT_MIN) {
        memset(to, 0, (size_t)n);
        return largest >= infinity ? NAN : 0.0f;
    }
    float inverse = 127.0f / magnitude;
    for (int64_t i = 0; i < n; i++) to[i] = (int8_t)(float_bits(x[i] * inverse + round) - float_bits(round));
    return scale;
}

/* Row `to` of dst (kv_int8) = row `from` of src. */
static inline void kv_int8_store_row(view dst, int64_t to, view src, int64_t from) {
    float buffer[KV_INT8_MAX_GROUP];
    float *scales = (float *)dst.scales + to * (dst.cols / dst.group);
    for (int64_t c = 0; c < dst.cols; c += dst.group) {
        const float *x = cpu_at(src, from, c);
        if (src.type != DTYPE_F32) cpu_widen(buffer, x, src.type, dst.group), x = buffer;
        *scales++ = kv_int8_quantize(cpu_at(dst, to, c), x, dst.group);
    }
}

/* Row `to` of dst = row `from` of src (kv_int8). */
static inline void kv_int8_load_row(view dst, int64_t to, view src, int64_t from) {
    float buffer[KV_INT8_MAX_GROUP];
    const float *scales = (const float *)src.scales + from * (src.cols / src.group);
    for (int64_t c = 0; c < src.cols; c += src.group, scales++) {
        const int8_t *x = cpu_at(src, from, c);
        float *y = dst.type == DTYPE_F32 ? cpu_at(dst, to, c) : buffer;
        for (int64_t i = 0; i < src.group; i++) y[i] = *scales * (float)x[i];
        if (dst.type != DTYPE_F32) cpu_narrow(cpu_at(dst, to, c), dst.type, y, src.group);
    }
}

static inline void kv_int8_copy_row(view dst, int64_t to, view src, int64_t from) {
    size_t scales = view_row_scale_bytes(src);
    memcpy(cpu_row(dst, to), cpu_row(src, from), (size_t)src.cols);
    memcpy((char *)dst.scales + (size_t)to * scales, (char *)src.scales + (size_t)from * scales, scales);
}

/* Row `to` of dst = row `from` of src, where one of them or both are kv_int8, with the same groups. */
static inline void kv_int8_convert_row(view dst, int64_t to, view src, int64_t from) {
    if (dst.type != DTYPE_KV_INT8)
        kv_int8_load_row(dst, to, src, from);
    else if (src.type != DTYPE_KV_INT8)
        kv_int8_store_row(dst, to, src, from);
    else
        kv_int8_copy_row(dst, to, src, from);
}

#endif
