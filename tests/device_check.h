/* Shared parts of the tests of device ops: tensors between red zones that are filled with NaN, conversions to double,
 * and a function that runs a check at every CPU feature level, with one and several threads, and on a GPU if there is
 * one.
 *
 * The references are plain loops in double over the rounded inputs. A tolerance is the rounding of the output plus the
 * epsilon of f32 times the length of the reduction. */
#ifndef TESTS_DEVICE_CHECK_H
#define TESTS_DEVICE_CHECK_H

/* Include the project's headers before this one: cmocka's macro fail() would hide theirs. */
#include "base/rng.h"
#include "device/cpu/cpu.h"
#include "device/device.h"
#include "device_mirror.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* RUN(d, op, ((struct op_...){...})) */
#define RUN(d, op, arguments)                                                                                          \
    do {                                                                                                               \
        assert_non_null((d)->ops.op);                                                                                  \
        assert_int_equal((d)->ops.op((d), &arguments), LCKV_OK);                                                       \
    } while (0)
#define F32_EPSILON 0x1p-24 /* half a unit in the last place, relative: the error of one rounding */
#define ABSENT ((view){0})

/* ---------------------------------------------------------------- tensors */

enum { MAX_TENSORS = 64, RED_ZONE = 256, POISON = 0xff }; /* 0xff..ff is a NaN in f32, bf16, f16 and f64 */

/* Tensors of the current check. check_everywhere() releases them and checks their red zones. */
static struct {
    unsigned char *memory[MAX_TENSORS];
    size_t bytes[MAX_TENSORS];
    int count;
    uint64_t random;
} check_state;

static inline void *tensor_memory(size_t bytes) {
    size_t whole = (bytes + 2 * RED_ZONE + 255) / 256 * 256;
    unsigned char *memory = aligned_alloc(256, whole);
    assert_non_null(memory);
    assert_true(check_state.count < MAX_TENSORS);
    memset(memory, POISON, whole);
    check_state.memory[check_state.count] = memory;
    check_state.bytes[check_state.count++] = bytes;
    return memory + RED_ZONE;
}

static inline bool is_grouped(dtype type) {
    return (DTYPE_BIT(type) & DTYPE_GROUPED) != 0;
}

static inline view tensor(int64_t rows, int64_t cols, dtype type) {
    view v = {NULL, rows, cols, type};
    v.data = tensor_memory(view_bytes(v));
    if (is_grouped(type)) v.scales = tensor_memory(view_scale_bytes(v));
    return v;
}

/* int8 with a scale for each `group` columns. */
static inline view tensor_of_heads(int64_t rows, int64_t cols, int64_t group) {
    view v = tensor(rows, cols, DTYPE_KV_INT8);
    v.scales = tensor(rows, cols / group, DTYPE_F32).data;
    v.group = (int32_t)group;
    return v;
}

static inline void release_tensors(void) {
    for (int i = 0; i < check_state.count; i++) {
        unsigned char *memory = check_state.memory[i];
        for (size_t j = 0; j < RED_ZONE; j++) {
            if (memory[j] != POISON || memory[RED_ZONE + check_state.bytes[i] + j] != POISON) {
                fail_msg("tensor %d was written to %s it", i, memory[j] != POISON ? "before" : "behind");
            }
        }
        free(memory);
    }
    check_state.count = 0;
}

/* ---------------------------------------------------------------- elements as double */

/* Decodes a number with `mantissa` explicit bits and an exponent bias. */
static inline double decode_half(uint16_t bits, int mantissa, int bias) {
    int exponent = (bits & 0x7fff) >> mantissa, top = (1 << (15 - mantissa)) - 1;
    double fraction = bits & ((1 << mantissa) - 1), sign = bits & 0x8000 ? -1.0 : 1.0;
    if (exponent == top) return fraction != 0 ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, 1 - bias - mantissa);
    return sign * ldexp(fraction + (1 << mantissa), exponent - bias - mantissa);
}

/* Rounds to the nearest such number, ties to even: scales x so that the grid around it is that of the integers. */
static inline uint16_t encode_half(double x, int mantissa, int bias) {
    uint16_t sign = signbit(x) ? 0x8000 : 0, top = (uint16_t)(0x7fff >> mantissa << mantissa);
    if (isnan(x)) return (uint16_t)(sign | top | 1 << (mantissa - 1));
    int exponent;
    frexp(x, &exponent); /* |x| in [2^(exponent - 1), 2^exponent) */
    if (x == 0 || exponent - 1 < 1 - bias) exponent = 2 - bias;
    if (isinf(x) || exponent - 1 > bias) return sign | top;
    double integer = nearbyint(ldexp(fabs(x), mantissa - (exponent - 1))); /* at most 2^(mantissa + 1) */
    int biased = exponent - 1 + bias - 1; /* the leading bit of a normal number adds the missing 1 */
    return (uint16_t)(sign | ((biased << mantissa) + (int)integer));
}

/* Where the scale of element i of a grouped format is, and its byte. */
static inline int64_t scale_of(view v, int64_t i) {
    return i / v.cols * ((v.cols + DTYPE_GROUP - 1) / DTYPE_GROUP) + i % v.cols / DTYPE_GROUP;
}

static inline int8_t *byte_of(view v, int64_t i) {
    int64_t col = i % v.cols;
    return (int8_t *)v.data + i / v.cols * (int64_t)dtype_row_bytes(v.type, v.cols) +
           (v.type == DTYPE_INT4 ? col / 2 : col);
}

static inline int grouped_integer(view v, int64_t i) {
    int byte = *byte_of(v, i);
    if (v.type == DTYPE_INT8) return byte;
    int nibble = i % v.cols % 2 ? byte >> 4 & 15 : byte & 15;
    return nibble < 8 ? nibble : nibble - 16;
}

static inline double element(view v, int64_t i) {
    const uint16_t *half = v.data;
    switch (v.type) {
    case DTYPE_INT8:
    case DTYPE_INT4:
        return decode_half(((const uint16_t *)v.scales)[scale_of(v, i)], 10, 15) * grouped_integer(v, i);
    case DTYPE_F32:
        return (double)((const float *)v.data)[i];
    case DTYPE_BF16:
        return decode_half(half[i], 7, 127);
    case DTYPE_F16:
        return decode_half(half[i], 10, 15);
    case DTYPE_F64:
        return ((const double *)v.data)[i];
    case DTYPE_I32:
        return ((const int32_t *)v.data)[i];
    case DTYPE_KV_INT8:
        return (double)((const float *)v.scales)[i / v.group] * ((const int8_t *)v.data)[i];
    default:
        fail_msg("no element of type %s", dtype_name(v.type));
        return 0;
    }
}

static inline void set_element(view v, int64_t i, double x) {
    uint16_t *half = v.data;
    switch (v.type) {
    case DTYPE_F32:
        ((float *)v.data)[i] = (float)x;
        break;
    case DTYPE_BF16:
        half[i] = encode_half(x, 7, 127);
        break;
    case DTYPE_F16:
        half[i] = encode_half(x, 10, 15);
        break;
    case DTYPE_F64:
        ((double *)v.data)[i] = x;
        break;
    case DTYPE_I32:
        ((int32_t *)v.data)[i] = (int32_t)x;
        break;
    default:
        fail_msg("no element of type %s", dtype_name(v.type));
    }
}

static inline void set_grouped_integer(view v, int64_t i, int x) {
    int8_t *byte = byte_of(v, i);
    if (v.type == DTYPE_INT8)
        *byte = (int8_t)x;
    else if (i % v.cols % 2)
        *byte = (int8_t)((*byte & 15) | x * 16);
    else
        *byte = (int8_t)((*byte & -16) | (x & 15));
}

/* The relative error of rounding to `type`. */
static inline double rounding(dtype type) {
    return type == DTYPE_BF16 ? 0x1p-8 : type == DTYPE_F16 ? 0x1p-11 : F32_EPSILON;
}

static inline int64_t elements(view v) {
    return v.rows * v.cols;
}

/* ---------------------------------------------------------------- content */

/* A number that looks random for each value of the counter (the steps of SplitMix64). */
static inline uint64_t random_bits(void) {
    uint64_t x = (check_state.random++ + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static inline double random_uniform(void) {
    return (double)(random_bits() >> 11) * 0x1p-53;
}

static inline int64_t random_below(int64_t n) {
    return (int64_t)(random_uniform() * (double)n);
}

/* One of 65,536 normal numbers: to compute one for each element would take longer than the ops and their checks. */
static inline double random_normal(void) {
    enum { NORMALS = 1 << 16 };
    static double normal[NORMALS];
    if (normal[0] == 0)
        for (uint64_t i = 0; i < NORMALS / 2; i++) rng_normal2(20241122, 1, i, normal + 2 * i);
    return normal[random_bits() % NORMALS];
}

/* Integers of the whole range of a grouped format, -128 and -8 included; a scale per group, of either sign. */
static inline void random_groups(view v, double deviation) {
    int below = v.type == DTYPE_INT8 ? 256 : 16;
    for (int64_t i = 0; i < elements(v); i++) {
        double scale = deviation * 3.5 / below * (0.5 + random_uniform()) * (random_below(8) ? 1 : -1);
        if (i % v.cols % DTYPE_GROUP == 0) ((uint16_t *)v.scales)[scale_of(v, i)] = encode_half(scale, 10, 15);
        set_grouped_integer(v, i, (int)random_below(below) - below / 2);
    }
}

static inline view random_tensor(int64_t rows, int64_t cols, dtype type, double deviation) {
    view v = tensor(rows, cols, type);
    if (is_grouped(type))
        random_groups(v, deviation);
    else
        for (int64_t i = 0; i < elements(v); i++) set_element(v, i, deviation * random_normal());
    return v;
}

static inline view copy_tensor(view from) {
    view v = tensor(from.rows, from.cols, from.type);
    memcpy(v.data, from.data, view_bytes(v));
    return v;
}

/* ---------------------------------------------------------------- comparisons */

/* A NaN on either side fails. So does an element that was not written. */
static inline void check_near(const char *what, view v, int64_t i, double want, double tolerance) {
    double got = element(v, i);
    if (fabs(got - want) <= tolerance) return;
    fail_msg("%s [%lld x %lld] %s, row %lld column %lld: expected %.9g within %.3g, found %.9g", what,
             (long long)v.rows, (long long)v.cols, dtype_name(v.type), (long long)(i / v.cols), (long long)(i % v.cols),
             want, tolerance, got);
}

static inline void check_same_bits(const char *what, view a, view b) {
    if (memcmp(a.data, b.data, view_bytes(a)) != 0) fail_msg("%s: not the same bits", what);
}

/* The relative error of rounding a product's operands to bf16 if the compute type is bf16. Plain entries do not round
 * them; oneDNN and GPUs do. */
static inline double operand_rounding(const device *d, dtype compute) {
    bool cpu = strcmp(d->name, "cpu") == 0;
    bool plain = cpu && ((const struct cpu_state *)d->own)->products == NULL;
    return compute == DTYPE_BF16 && !plain ? rounding(DTYPE_BF16) : 0;
}

/* The relative error of rounding attention weights and dout to bf16 for tensor cores. Only GPUs do this. */
static inline double weight_rounding_of(const device *d, dtype compute) {
    return strcmp(d->name, "cpu") != 0 ? operand_rounding(d, compute) : 0;
}

/* The values of v in double, as a tensor of the check. */
static inline const double *values_of(view v) {
    double *values = tensor(v.rows, v.cols, DTYPE_F64).data;
    for (int64_t i = 0; i < elements(v); i++) values[i] = element(v, i);
    return values;
}

/* The error of a product of few rows with a grouped weight: x is rounded to 2^-15 of the largest value of its group.
 * x and weights [cols]: a row each. */
static inline double group_rounding(const double *x, const double *weights, int64_t cols) {
    double error = 0;
    for (int64_t k = 0; k < cols; k += DTYPE_GROUP) {
        double largest = 0, size = 0;
        for (int64_t i = k; i < cols && i < k + DTYPE_GROUP; i++) {
            largest = fmax(largest, fabs(x[i]));
            size += fabs(weights[i]);
        }
        error += 0x1p-15 * largest * size;
    }
    return error;
}

/* ---------------------------------------------------------------- everywhere */

static inline int list_tensors(mirrored *out) {
    for (int i = 0; i < check_state.count; i++) {
        out[i].memory = (char *)check_state.memory[i];
        out[i].bytes = (check_state.bytes[i] + 2 * RED_ZONE + 255) / 256 * 256;
    }
    return check_state.count;
}

/* Opens the first GPU, or prints why there is none. */
static inline void check_on_gpu(void (*check)(device *d)) {
    device d;
    if (mirror_open(&d, list_tensors) < 0) {
        printf("skipped on a GPU: %s\n", lckv_last_error());
        return;
    }
    check_state.random = 0;
    check(&d);
    release_tensors();
    d.memory.close(&d);
}

/* Runs `check` at every feature level of this CPU, with one thread and with three, and on a GPU. */
static inline void check_everywhere(void (*check)(device *d)) {
    for (int level = CPU_BASE; level <= (int)cpu_level_here(); level++) {
        for (int threads = 1; threads <= 3; threads += 2) {
            device d;
            assert_int_equal(cpu_open_level(&d, threads, (enum cpu_level)level), LCKV_OK);
            check_state.random = 0;
            check(&d);
            release_tensors();
            d.memory.close(&d);
        }
    }
    check_on_gpu(check);
}

#endif
