/* Shared by the CPU's entries: CPU feature levels, private state, element conversions, division of work between
 * threads, and an exponential that compilers can vectorize.
 *
 * Every file in this folder that is not in LEVEL_FREE of ../CMakeLists.txt is compiled once per CPU feature level,
 * with CPU_LEVEL (base, avx2, avx512) as the suffix of the entries. Write
 *     int CPU_ENTRY(cpu_add)(device *d, const struct op_add *a) { ... }
 * and make everything else static, so that code of one level does not run on a lesser processor. level.c collects
 * the entries.
 *
 * cpu_parts() and cpu_share() divide work as functions of shape and number of threads only, so that the same call
 * gives the same bits. */
#ifndef DEVICE_CPU_CPU_H
#define DEVICE_CPU_CPU_H

#include "device/cpu/threads.h"
#include "device/device.h"
#include "device/half.h"

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

/* x86-64, x86-64-v3, x86-64-v4, that with AVX512_BF16 and AVX512_VNNI, and that with AMX in bf16. The last two have the
 * entries of CPU_AVX512 and more kernels. (Every processor that has AVX512_BF16 has AVX512_VNNI.) */
enum cpu_level { CPU_BASE, CPU_AVX2, CPU_AVX512, CPU_AVX512_BF16, CPU_AMX, CPU_LEVELS };

/* The highest level of this build that this processor supports. */
enum cpu_level cpu_level_here(void);

/* Opens a device with the plain C entries of one level, for tests that compare the levels and oneDNN. Fails with
 * LCKV_ERROR_UNSUPPORTED if the build or the processor lacks the level. */
int cpu_open_level(device *d, int threads, enum cpu_level level);

/* ---------------------------------------------------------------- private state */

/* Scratch buffers of entries. They grow as needed. An entry that calls another entry (cross-entropy calls linear)
 * uses CPU_SCRATCH_OUTER. CPU_SCRATCH_PANEL has widened rows of a weight (onednn.c). */
enum cpu_scratch { CPU_SCRATCH_OPERAND, CPU_SCRATCH_OUTER, CPU_SCRATCH_PANEL, CPU_SCRATCHES };

struct cpu_state {
    enum cpu_level level;
    size_t held, limit; /* bytes allocated by alloc(), and their limit; 0: none */
    struct {
        void *memory;
        size_t bytes;
    } scratch[CPU_SCRATCHES];
    struct onednn *products;  /* onednn.c; NULL without oneDNN */
    cpu_threads *few_threads; /* threads of steps of few rows; NULL until they are needed */
};

/* At least `bytes`, aligned to 256, owned by the device; contents are undefined. */
int cpu_scratch(device *d, enum cpu_scratch which, size_t bytes, void **out);

void cpu_memory_fill(struct device_memory *memory); /* memory.c */
void cpu_memory_free(device *d);                    /* releases scratch */

/* ---------------------------------------------------------------- threads */

struct cpu_range {
    int64_t begin, end;
};

/* Part `part` of [0, n) divided into `parts` parts whose sizes differ by at most one. */
static inline struct cpu_range cpu_share(int64_t n, int parts, int part) {
    int64_t each = n / parts, more = n % parts;
    int64_t begin = part * each + (part < more ? part : more);
    return (struct cpu_range){begin, begin + each + (part < more ? 1 : 0)};
}

/* Number of parts for an amount of work, at most one per thread. `elements` counts simple steps (a load, a few sums,
 * a store): waking a thread costs as much as some ten thousand of them.
 *     int parts = cpu_parts(d, rows * cols);
 *     #pragma omp parallel for num_threads(parts) schedule(static, 1)
 *     for (int part = 0; part < parts; part++) { struct cpu_range mine = cpu_share(rows, parts, part); ... } */
static inline int cpu_parts(const device *d, int64_t elements) {
    int64_t worth = elements / 16384;
    return worth < 1 ? 1 : worth < d->threads ? (int)worth : d->threads;
}

/* A step of at most this many rows (decoding) reads weights in place (linear_few.c) and runs on the threads of
 * threads.h. Other steps use OpenMP, as oneDNN does. */
enum { CPU_FEW_ROWS = 8 };

/* Runs a task for each part of a job of a step of `rows` rows, on the device's threads. */
void cpu_run(device *d, int64_t rows, int parts, cpu_task *task, void *job); /* table.c */

/* cpu_parts() for ops that take no longer for a few rows than OpenMP takes to wake a thread. */
static inline int cpu_row_parts(const device *d, int64_t rows, int64_t elements) {
    return rows <= CPU_FEW_ROWS ? 1 : cpu_parts(d, elements);
}

/* ---------------------------------------------------------------- rows */

/* Row r of a view, and element (r, i). */
static inline void *cpu_row(view v, int64_t r) {
    return (char *)v.data + (size_t)r * dtype_row_bytes(v.type, v.cols);
}

static inline void *cpu_at(view v, int64_t r, int64_t i) {
    return (char *)v.data + (size_t)(r * v.cols + i) * dtype_element_bytes(v.type);
}

/* Row r of an f32, bf16 or f16 view as f32: the row itself, or `buffer` [cols]. */
static inline const float *cpu_row_f32(view v, int64_t r, float *buffer) {
    if (v.type == DTYPE_F32) return cpu_row(v, r);
    cpu_widen(buffer, cpu_row(v, r), v.type, v.cols);
    return buffer;
}

/* ---------------------------------------------------------------- exponential */

/* exp(x) within 1.1 units in the last place, without branches or calls, so that loops over it vectorize. exp(x) =
 * 2^n exp(r) with n = round(x / ln 2) and r = x - n ln 2. ln 2 has two parts, and n times the first is exact (Cody
 * and Waite 1980). exp(r) = 1 + r + r^2 p(r), with p of degree 4 fitted for the least relative error on |r| <= ln 2
 * / 2, which is 3e-9. 2^n is applied in two halves, so that results pass smoothly into subnormals, 0 and infinity. A
 * NaN stays a NaN. */
static inline float cpu_exp(float x) {
    const float round = 0x1.8p23f; /* adding it leaves the nearest integer in the mantissa */
    x = x < -105.0f ? -105.0f : x;
    x = x > 90.0f ? 90.0f : x;
    float shifted = x * 0x1.715476p+0f + round;
    int32_t n = (int32_t)(float_bits(shifted) - float_bits(round));
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
    return p * float_of_bits((uint32_t)(half + 127) << 23) * float_of_bits((uint32_t)(n - half + 127) << 23);
}

static inline float cpu_sigmoid(float x) {
    return 1.0f / (1.0f + cpu_exp(-x));
}

#endif
