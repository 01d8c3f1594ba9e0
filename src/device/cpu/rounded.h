/* Rows of an input rounded to 15 bits, for integer products with weights or keys in int8. Each value changes by at most
 * 2^-15 of the largest one, much less than bf16 does. */
#ifndef DEVICE_CPU_ROUNDED_H
#define DEVICE_CPU_ROUNDED_H

#include "device/cpu/cpu.h"

#include <math.h>

enum { ROUNDED_LARGEST = 16383 };

/* out[0..n) = x / scale, rounded to nearest even. Returns the scale, which is NaN if a value is not finite. */
static inline __attribute__((always_inline)) float rounded_row(int32_t *restrict out, const float *restrict x,
                                                               int64_t n) {
    const float round = 0x1.8p23f; /* adding it leaves the nearest integer in the mantissa */
    int32_t largest_bits = 0;      /* of |x|, which are ordered as integers, too */
    for (int64_t i = 0; i < n; i++) {
        int32_t bits = (int32_t)(float_bits(x[i]) & 0x7fffffff);
        largest_bits = bits > largest_bits ? bits : largest_bits;
    }
    float largest = float_of_bits((uint32_t)largest_bits);
    bool usable = largest > 1e-30f && largest_bits < 0x7f800000; /* the inverse of tiny ones would be too large */
    float inverse = usable ? ROUNDED_LARGEST / largest : 0, scale = largest_bits < 0x7f800000 ? 0 : NAN;
    for (int64_t i = 0; i < n; i++) out[i] = (int32_t)(float_bits(x[i] * inverse + round) - float_bits(round));
    return usable ? largest / ROUNDED_LARGEST : scale;
}

#endif
