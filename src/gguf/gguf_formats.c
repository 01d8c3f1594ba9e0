/* Formats of the tensors in GGUF files, see gguf_formats.h. */
#include "gguf/gguf_formats.h"

#include "base/half.h"

#include <math.h>

enum { GROUP = 32, SUPER_GROUP = 256 };
#define F16_LARGEST 65504.0F

static uint16_t half_at(const unsigned char *at) {
    uint16_t h;
    memcpy(&h, at, sizeof h);
    return h;
}

static float scale_at(const unsigned char *at) {
    return float_of_f16(half_at(at));
}

/* ---------------------------------------------------------------- plain formats */

static void decode_f32(const void *block, float *out) {
    memcpy(out, block, sizeof *out);
}

static void encode_f32(const float *values, void *block) {
    memcpy(block, values, sizeof *values);
}

static void decode_f16(const void *block, float *out) {
    *out = scale_at(block);
}

static void encode_f16(const float *values, void *block) {
    memcpy(block, &(uint16_t){f16_of_float(*values)}, sizeof(uint16_t));
}

static void decode_bf16(const void *block, float *out) {
    *out = float_of_bf16(half_at(block));
}

static void encode_bf16(const float *values, void *block) {
    memcpy(block, &(uint16_t){bf16_of_float(*values)}, sizeof(uint16_t));
}

/* ---------------------------------------------------------------- groups of 32 with one scale */

/* f16 scale, int8 [32] */
static void decode_q8_0(const void *block, float *out) {
    const signed char *q = (const signed char *)block + 2;
    float d = scale_at(block);
    for (int i = 0; i < GROUP; i++) out[i] = d * (float)q[i];
}

static void encode_q8_0(const float *values, void *block) {
    signed char *q = (signed char *)block + 2;
    float largest = 0;
    for (int i = 0; i < GROUP; i++) largest = fmaxf(largest, fabsf(values[i]));
    float d = largest / 127;
    encode_f16(&d, block);
    float inverse = scale_at(block) != 0 ? 1 / d : 0; /* 1 / d may be infinite if the stored scale is 0 */
    for (int i = 0; i < GROUP; i++) q[i] = (signed char)roundf(values[i] * inverse);
}

/* f16 scale, 4 bits [32]: the first 16 values are in the low halves of the bytes, the others in the high halves */
static void decode_q4_0(const void *block, float *out) {
    const unsigned char *q = (const unsigned char *)block + 2;
    float d = scale_at(block);
    for (int i = 0; i < GROUP / 2; i++) {
        out[i] = d * (float)((q[i] & 15) - 8);
        out[i + GROUP / 2] = d * (float)((q[i] >> 4) - 8);
    }
}

/* From -8 to 7 as 0 to 15. A NaN gives 0. */
static unsigned char nibble(float scaled) {
    float shifted = scaled + 8.5f;
    return (unsigned char)(shifted >= 15 ? 15 : shifted >= 0 ? shifted : 0);
}

/* The value with the largest magnitude becomes -8, so that the whole range of 4 bits is used. */
static void encode_q4_0(const float *values, void *block) {
    unsigned char *q = (unsigned char *)block + 2;
    float largest = 0;
    for (int i = 0; i < GROUP; i++)
        if (fabsf(values[i]) > fabsf(largest)) largest = values[i];
    float d = largest / -8, inverse = d != 0 ? 1 / d : 0;
    encode_f16(&d, block);
    for (int i = 0; i < GROUP / 2; i++)
        q[i] = (unsigned char)(nibble(values[i] * inverse) | nibble(values[i + GROUP / 2] * inverse) << 4);
}

/* f16 scale, f16 minimum, 4 bits [32] */
static void decode_q4_1(const void *block, float *out) {
    const unsigned char *b = block, *q = b + 4;
    float d = scale_at(b), m = scale_at(b + 2);
    for (int i = 0; i < GROUP / 2; i++) {
        out[i] = d * (float)(q[i] & 15) + m;
        out[i + GROUP / 2] = d * (float)(q[i] >> 4) + m;
    }
}

/* Value i of 5 bits: 4 in q [16] as above, the highest in bit i of `high`. */
static float five_bits(const unsigned char *q, uint32_t high, int i) {
    int low = i < GROUP / 2 ? q[i] & 15 : q[i - GROUP / 2] >> 4;
    return (float)(low | (int)(high >> i & 1) << 4);
}

/* f16 scale, highest bits [32], 4 bits [32] */
static void decode_q5_0(const void *block, float *out) {
    const unsigned char *b = block;
    float d = scale_at(b);
    uint32_t high;
    memcpy(&high, b + 2, sizeof high);
    for (int i = 0; i < GROUP; i++) out[i] = d * (five_bits(b + 6, high, i) - 16);
}

/* f16 scale, f16 minimum, highest bits [32], 4 bits [32] */
static void decode_q5_1(const void *block, float *out) {
    const unsigned char *b = block;
    float d = scale_at(b), m = scale_at(b + 2);
    uint32_t high;
    memcpy(&high, b + 4, sizeof high);
    for (int i = 0; i < GROUP; i++) out[i] = d * five_bits(b + 8, high, i) + m;
}

/* ---------------------------------------------------------------- groups of 32 or 16 in super-groups of 256 */

/* The scale and the minimum, 6 bits each, of group g of 8: 12 bytes, in which the upper bits of the last four groups
 * fill the bytes of the first four. */
static void scale_and_minimum(const unsigned char *s, int g, float *scale, float *minimum) {
    if (g < 4) {
        *scale = (float)(s[g] & 63);
        *minimum = (float)(s[g + 4] & 63);
    } else {
        *scale = (float)((s[g + 4] & 15) | (s[g - 4] >> 6) << 4);
        *minimum = (float)(s[g + 4] >> 4 | (s[g] >> 6) << 4);
    }
}

/* f16 scale of the scales, f16 scale of the minima, scales and minima [12 bytes], 4 bits [256]: each 32 bytes have one
 * group in the low halves and the next in the high halves */
static void decode_q4_k(const void *block, float *out) {
    const unsigned char *b = block;
    for (int g = 0; g < 8; g++) {
        const unsigned char *q = b + 16 + g / 2 * GROUP;
        float scale, minimum;
        scale_and_minimum(b + 4, g, &scale, &minimum);
        scale *= scale_at(b);
        minimum *= scale_at(b + 2);
        for (int i = 0; i < GROUP; i++) out[g * GROUP + i] = scale * (float)(g % 2 ? q[i] >> 4 : q[i] & 15) - minimum;
    }
}

/* The same with the highest of 5 bits in 32 further bytes, bit g for group g. */
static void decode_q5_k(const void *block, float *out) {
    const unsigned char *b = block, *high = b + 16;
    for (int g = 0; g < 8; g++) {
        const unsigned char *q = b + 48 + g / 2 * GROUP;
        float scale, minimum;
        scale_and_minimum(b + 4, g, &scale, &minimum);
        scale *= scale_at(b);
        minimum *= scale_at(b + 2);
        for (int i = 0; i < GROUP; i++) {
            int low = g % 2 ? q[i] >> 4 : q[i] & 15;
            out[g * GROUP + i] = scale * (float)(low | (high[i] >> g & 1) << 4) - minimum;
        }
    }
}

/* 4 lower bits [128 bytes], 2 upper bits [64 bytes], int8 scales [16] of groups of 16, f16 scale of the scales. Each
 * half of the block has 4 times 32 values: number k is in the low (k < 2) or high halves of 32 lower bytes, and in bits
 * 2 k of 32 upper bytes. */
static void decode_q6_k(const void *block, float *out) {
    const unsigned char *b = block;
    const signed char *scales = (const signed char *)b + 192;
    float d = scale_at(b + 208);
    for (int i = 0; i < SUPER_GROUP; i++) {
        int half = i / 128, k = i % 128 / GROUP, at = i % GROUP;
        int low = b[half * 64 + k % 2 * GROUP + at], high = b[128 + half * GROUP + at];
        int q = ((k < 2 ? low & 15 : low >> 4) | (high >> 2 * k & 3) << 4) - 32;
        out[i] = d * (float)scales[i / 16] * (float)q;
    }
}

/* ---------------------------------------------------------------- the table */

static const gguf_format formats[] = {
    [GGUF_F32] = {"f32", 1, 4, decode_f32, encode_f32},
    [GGUF_F16] = {"f16", 1, 2, decode_f16, encode_f16, F16_LARGEST},
    [GGUF_BF16] = {"bf16", 1, 2, decode_bf16, encode_bf16},
    [GGUF_Q8_0] = {"q8_0", GROUP, 34, decode_q8_0, encode_q8_0, 127 * F16_LARGEST},
    [GGUF_Q4_0] = {"q4_0", GROUP, 18, decode_q4_0, encode_q4_0, 8 * F16_LARGEST},
    [GGUF_Q4_1] = {"q4_1", GROUP, 20, decode_q4_1, NULL},
    [GGUF_Q5_0] = {"q5_0", GROUP, 22, decode_q5_0, NULL},
    [GGUF_Q5_1] = {"q5_1", GROUP, 24, decode_q5_1, NULL},
    [GGUF_Q4_K] = {"q4_K", SUPER_GROUP, 144, decode_q4_k, NULL},
    [GGUF_Q5_K] = {"q5_K", SUPER_GROUP, 176, decode_q5_k, NULL},
    [GGUF_Q6_K] = {"q6_K", SUPER_GROUP, 210, decode_q6_k, NULL},
};

/* For errors. */
static const char *const unsupported[] = {
    [9] = "q8_1",     [10] = "q2_K",  [11] = "q3_K",   [15] = "q8_K",  [16] = "iq2_xxs", [17] = "iq2_xs",
    [18] = "iq3_xxs", [19] = "iq1_s", [20] = "iq4_nl", [21] = "iq3_s", [22] = "iq2_s",   [23] = "iq4_xs",
    [24] = "i8",      [25] = "i16",   [26] = "i32",    [27] = "i64",   [28] = "f64",     [29] = "iq1_m",
    [34] = "tq1_0",   [35] = "tq2_0", [39] = "mxfp4",  [40] = "nvfp4",
};

const gguf_format *gguf_format_of(uint32_t number) {
    return number < sizeof formats / sizeof *formats && formats[number].name ? &formats[number] : NULL;
}

const char *gguf_format_name(uint32_t number) {
    return number < sizeof unsupported / sizeof *unsupported ? unsupported[number] : NULL;
}

void gguf_decode(const gguf_format *f, const void *blocks, int64_t count, float *out) {
    const char *block = blocks;
    for (int64_t i = 0; i < count; i += f->block, block += f->bytes) f->decode(block, out + i);
}

int gguf_encode(const gguf_format *f, const float *values, int64_t count, void *blocks) {
    char *block = blocks;
    for (int64_t i = 0; f->limit > 0 && i < count; i++)
        REQUIRE(fabsf(values[i]) <= f->limit, LCKV_ERROR_ARGUMENT,
                "expected finite values of at most %g for %s, found %g", (double)f->limit, f->name, (double)values[i]);
    for (int64_t i = 0; i < count; i += f->block, block += f->bytes) f->encode(values + i, block);
    return LCKV_OK;
}
