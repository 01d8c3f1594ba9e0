/* The 16-bit floating-point formats: bfloat16 and IEEE half precision, stored in uint16_t. */
#ifndef BASE_HALF_H
#define BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float float_of_bf16(uint16_t h) {
    return float_of_bits((uint32_t)h << 16);
}

/* Rounds to nearest even; a NaN stays a NaN. */
static inline uint16_t bf16_of_float(float x) {
    uint32_t bits = float_bits(x);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    uint32_t nan = (bits >> 16) | 0x40;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

/* The product with 2^112 adjusts the exponent and normalizes subnormals of f16. Infinities and NaNs, whose exponent
 * is then 31 + 112 - 15, get all ones. */
static inline float float_of_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, body = (uint32_t)(h & 0x7fff) << 13;
    uint32_t bits = float_bits(float_of_bits(body) * 0x1p112f);
    bits |= body >= 0x0f800000 ? 0x7f800000 : 0;
    return float_of_bits(bits | sign);
}

/* Rounds to nearest even. Below 2^-14 the sum with 0.5 moves the bits of the f16 subnormal to the end of the
 * mantissa and rounds them; above, the mantissa is rounded in place as in bf16_of_float. */
static inline uint16_t f16_of_float(float x) {
    uint32_t bits = float_bits(x), sign = (bits >> 16) & 0x8000, body = bits & 0x7fffffff;
    uint32_t subnormal = float_bits(float_of_bits(body < 0x38800000 ? body : 0) + 0.5f) - 0x3f000000;
    uint32_t normal = (body - 0x38000000 + 0xfff + ((body >> 13) & 1)) >> 13;
    uint32_t h = body < 0x38800000 ? subnormal : normal;
    h = body >= 0x477ff000 ? 0x7c00 : h; /* 65520 and up round to infinity */
    h = body > 0x7f800000 ? 0x7e00 : h;  /* NaN */
    return (uint16_t)(h | sign);
}

#endif
