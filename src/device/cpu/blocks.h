/* Tensors of any floating-point type, processed in blocks: the loop of an op only sees f32. Other types are widened
 * into a buffer on the stack first, and rounded out of one afterwards.
 *
 *     float a_buffer[CPU_BLOCK], y_buffer[CPU_BLOCK];
 *     const float *a = cpu_block_in(view_a, at, n, a_buffer);      n <= CPU_BLOCK elements from element `at` on
 *     float *y = cpu_block_out(view_y, at, y_buffer);
 *     for (...) y[i] = ... a[i] ...;
 *     cpu_block_store(view_y, at, n, y); */
#ifndef DEVICE_CPU_BLOCKS_H
#define DEVICE_CPU_BLOCKS_H

#include "device/cpu/cpu.h"

enum { CPU_BLOCK = 512 }; /* a few blocks fit into the first-level cache */

static inline int64_t cpu_block_length(int64_t at, int64_t end) {
    return end - at < CPU_BLOCK ? end - at : CPU_BLOCK;
}

static inline int64_t cpu_elements(view v) {
    return v.rows * v.cols;
}

static inline void *cpu_element(view v, int64_t at) {
    return (char *)v.data + (size_t)at * dtype_element_bytes(v.type);
}

static inline const float *cpu_block_in(view v, int64_t at, int64_t n, float *buffer) {
    if (v.type == DTYPE_F32) return cpu_element(v, at);
    cpu_widen(buffer, cpu_element(v, at), v.type, n);
    return buffer;
}

static inline float *cpu_block_out(view v, int64_t at, float *buffer) {
    return v.type == DTYPE_F32 ? cpu_element(v, at) : buffer;
}

static inline void cpu_block_store(view v, int64_t at, int64_t n, const float *block) {
    if (v.type != DTYPE_F32) cpu_narrow(cpu_element(v, at), v.type, block, n);
}

/* Converts `n` elements of `from` from element `from_at` on to those of `to`, rounded to nearest even. */
static inline void cpu_convert(view to, int64_t to_at, view from, int64_t from_at, int64_t n) {
    if (to.type == from.type) {
        memcpy(cpu_element(to, to_at), cpu_element(from, from_at), (size_t)n * dtype_element_bytes(to.type));
        return;
    }
    for (int64_t done = 0; done < n; done += CPU_BLOCK) {
        float buffer[CPU_BLOCK];
        int64_t length = cpu_block_length(done, n);
        const float *block = cpu_block_in(from, from_at + done, length, buffer);
        cpu_narrow(cpu_element(to, to_at + done), to.type, block, length);
    }
}

#endif
