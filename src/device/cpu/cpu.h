/* What the CPU's entries share: the processor levels, the device's private state, element conversions, the split of
 * work over threads, and an exponential that compilers can vectorize.
 *
 * Every file in this folder that is not named in LEVEL_FREE of ../CMakeLists.txt is compiled once a processor level,
 * with CPU_LEVEL (base, avx2, avx512) as the suffix of the entries: write
 *     int CPU_ENTRY(cpu_add)(device *d, const struct op_add *a) { ... }
 * and make all else static, so that no level's code is ever reached on a lesser processor. level.c gathers the entries.
 *
 * Work is split by cpu_parts() and cpu_share(), functions of shape and thread count alone, never by who comes first:
 * so the same call gives the same bits.
 */
#ifndef DEVICE_CPU_CPU_H
#define DEVICE_CPU_CPU_H

#include "device/device.h"

#include <stdint.h>
#include <string.h>

/* ---------------------------------------------------------------- levels */

#ifndef CPU_LEVEL
#define CPU_LEVEL base
#endif
#define CPU_JOIN_(name, level) name##_##level
#define CPU_JOIN(name, level) CPU_JOIN_(name, level)
#define CPU_ENTRY(name) CPU_JOIN(name, CPU_LEVEL)

#define ENTRY(name, arguments) int CPU_ENTRY(cpu_##name)(device * d, const struct op_##arguments *a);
DEVICE_OPS(ENTRY)
#undef ENTRY

enum cpu_level { CPU_BASE, CPU_AVX2, CPU_AVX512, CPU_LEVELS }; /* x86-64, x86-64-v3, x86-64-v4 */

/* The highest level that this build has and this processor runs. */
enum cpu_level cpu_level_here(void);

/* Opens a device whose entries are all plain C of one level: for tests, which compare the levels and oneDNN. Fails with
 * LCKV_ERROR_UNSUPPORTED where build or processor lacks the level. */
int cpu_open_level(device *d, int threads, enum cpu_level level);

/* ---------------------------------------------------------------- private state */

/* Buffers that an entry may use while it runs; they grow as needed and stay. An entry that calls another entry
 * (cross-entropy calls linear) holds its own in CPU_SCRATCH_OUTER. */
enum cpu_scratch { CPU_SCRATCH_OPERAND, CPU_SCRATCH_OUTER, CPU_SCRATCHES };

struct cpu_state {
    enum cpu_level level;
    size_t held, limit; /* bytes that alloc() has given out, and may give out; limit 0: any */
    struct {
        void *memory;
        size_t bytes;
    } scratch[CPU_SCRATCHES];
    struct onednn *products; /* onednn.c; NULL without oneDNN */
};

/* At least `bytes`, aligned to 256; content undefined, the former content lost. The device keeps it. */
int cpu_scratch(device *d, enum cpu_scratch which, size_t bytes, void **out);

void cpu_memory_fill(struct device_memory *memory); /* memory.c */
void cpu_memory_free(device *d);                    /* releases scratch */

/* ---------------------------------------------------------------- threads */

struct cpu_range {
    int64_t begin, end;
};

/* Part `part` of [0, n) in `parts` parts that differ by one at most. */
static inline struct cpu_range cpu_share(int64_t n, int parts, int part) {
    int64_t each = n / parts, more = n % parts;
    int64_t begin = part * each + (part < more ? part : more);
    return (struct cpu_range){begin, begin + each + (part < more ? 1 : 0)};
}

/* How many parts some work is worth, at most one a thread. `elements` counts simple steps (a load, a few sums, a
 * store): waking a thread costs as much as some ten thousand of them. int parts = cpu_parts(d, rows * cols); #pragma
 * omp parallel for num_threads(parts) schedule(static, 1) for (int part = 0; part < parts; part++) { struct cpu_range
 * mine = cpu_share(rows, parts, part); ... } */
static inline int cpu_parts(const device *d, int64_t elements) {
    int64_t worth = elements / 16384;
    return worth < 1 ? 1 : worth < d->threads ? (int)worth : d->threads;
}

/* ---------------------------------------------------------------- conversions */

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

/* Round to nearest even; a NaN stays one. */
static inline uint16_t cpu_to_bf16(float x) {
    uint32_t bits = cpu_bits(x);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    uint32_t nan = (bits >> 16) | 0x40;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

/* The exponent is moved by a product with 2^112, which also normalizes f16's subnormals; infinities and NaNs, whose
 * exponent then comes out as 31 + 112 - 15, get all ones. */
static inline float cpu_from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, body = (uint32_t)(h & 0x7fff) << 13;
    uint32_t bits = cpu_bits(cpu_float(body) * 0x1p112f);
    bits |= body >= 0x0f800000 ? 0x7f800000 : 0;
    return cpu_float(bits | sign);
}

/* Round to nearest even. Below 2^-14 the sum with 0.5 puts the f16 subnormal's bits at the end of the mantissa and
 * rounds them there; above, the mantissa is rounded in place as in cpu_to_bf16. */
static inline uint16_t cpu_to_f16(float x) {
    uint32_t bits = cpu_bits(x), sign = (bits >> 16) & 0x8000, body = bits & 0x7fffffff;
    uint32_t subnormal = cpu_bits(cpu_float(body < 0x38800000 ? body : 0) + 0.5f) - 0x3f000000;
    uint32_t normal = (body - 0x38000000 + 0xfff + ((body >> 13) & 1)) >> 13;
    uint32_t h = body < 0x38800000 ? subnormal : normal;
    h = body >= 0x477ff000 ? 0x7c00 : h; /* 65520 and up round to infinity */
    h = body > 0x7f800000 ? 0x7e00 : h;  /* NaN */
    return (uint16_t)(h | sign);
}

/* Row r of a view, and element (r, i). */
static inline void *cpu_row(view v, int64_t r) {
    return (char *)v.data + (size_t)r * dtype_row_bytes(v.type, v.cols);
}

static inline void *cpu_at(view v, int64_t r, int64_t i) {
    return (char *)v.data + (size_t)(r * v.cols + i) * dtype_element_bytes(v.type);
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

/* Row r of an f32, bf16 or f16 view as f32: the row itself, or `buffer` [cols] filled. */
static inline const float *cpu_row_f32(view v, int64_t r, float *buffer) {
    if (v.type == DTYPE_F32) return cpu_row(v, r);
    cpu_widen(buffer, cpu_row(v, r), v.type, v.cols);
    return buffer;
}

/* ---------------------------------------------------------------- exponential */

/* exp(x) within 1.1 units in the last place, without branches or calls, so that loops over
 * it vectorize. exp(x) = 2^n exp(r) with n = round(x / ln 2) and r = x - n ln 2, ln 2 in two parts of which n times the
 * first is exact (Cody and Waite 1980); exp(r) = 1 + r + r^2 p(r), p of degree 4 fitted for the least relative error on
 * |r| <= ln 2 / 2, which is 3e-9. 2^n is applied in two halves, so that results run smoothly into subnormals, 0 and
 * infinity. A NaN stays one. */
static inline float cpu_exp(float x) {
    const float round = 0x1.8p23f; /* adding it leaves the nearest integer in the mantissa */
    x = x < -105.0f ? -105.0f : x;
    x = x > 90.0f ? 90.0f : x;
    float shifted = x * 0x1.715476p+0f + round;
    int32_t n = (int32_t)(cpu_bits(shifted) - cpu_bits(round));
    float whole = shifted - round;
    float r = x - whole * 0x1.62e4p-1f;
    r = r - whole * 0x1.7f7d1cp-20f;
    float p = 0x1.6a2352p-10f;
    p = p * r + 0x1.123a6cp-7f;
    p = p * r + 0x1.5558f4p-5f;
    p = p * r + 0x1.55549p-3f;
    p = p * r + 0x1.fffffcp-2f;
    p = p * r * r + r;
    p = p + 1.0f;
    int32_t half = n >> 1;
    return p * cpu_float((uint32_t)(half + 127) << 23) * cpu_float((uint32_t)(n - half + 127) << 23);
}

#endif
