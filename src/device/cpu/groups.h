/* Weights in grouped formats (dtype.h), int8 and int4, as f32. Ops that have no kernel of their own for these formats
 * widen a piece of a weight with these functions and go on as with f32. */
#ifndef DEVICE_CPU_GROUPS_H
#define DEVICE_CPU_GROUPS_H

#include "device/cpu/cpu.h"

static inline bool cpu_is_grouped(dtype type) {
    return (DTYPE_BIT(type) & DTYPE_GROUPED) != 0;
}

/* The scales of row r. */
static inline const uint16_t *cpu_scales(view v, int64_t r) {
    return (const uint16_t *)v.scales + r * ((v.cols + DTYPE_GROUP - 1) / DTYPE_GROUP);
}

/* out[0..n) = scale * elements of a row of int8 or int4 from element `first` on, within one group. */
static inline __attribute__((always_inline)) void cpu_widen_group(float *restrict out, const void *row, dtype type,
                                                                  int64_t first, int64_t n, float scale) {
    const int8_t *bytes = row;
    if (type == DTYPE_INT8) {
        for (int64_t i = 0; i < n; i++) out[i] = scale * (float)bytes[first + i];
        return;
    }
    int64_t i = 0;
    if (first % 2 && n > 0) out[i++] = scale * (float)(bytes[first / 2] >> 4);
    bytes += (first + 1) / 2;
    for (; i + 2 <= n; i += 2, bytes++) {
        out[i] = scale * (float)((int8_t)(uint8_t)(*bytes << 4) >> 4);
        out[i + 1] = scale * (float)(*bytes >> 4);
    }
    if (i < n) out[i] = scale * (float)((int8_t)(uint8_t)(*bytes << 4) >> 4);
}

static inline __attribute__((always_inline)) void cpu_widen_groups(float *restrict out, view v, dtype type, int64_t r,
                                                                   int64_t first, int64_t n) {
    const void *row = cpu_row(v, r);
    const uint16_t *scales = cpu_scales(v, r);
    for (int64_t i = 0; i < n;) {
        int64_t at = first + i, left = DTYPE_GROUP - at % DTYPE_GROUP;
        float scale = cpu_from_f16(scales[at / DTYPE_GROUP]);
        if (left == DTYPE_GROUP && n - i >= DTYPE_GROUP) /* the usual case, of constant length */
            cpu_widen_group(out + i, row, type, at, DTYPE_GROUP, scale);
        else
            cpu_widen_group(out + i, row, type, at, left < n - i ? left : n - i, scale);
        i += left;
    }
}

/* out[0..n) = elements [first, first + n) of row r of a weight in any format. */
static inline void cpu_widen_part(float *restrict out, view v, int64_t r, int64_t first, int64_t n) {
    if (v.type == DTYPE_INT8)
        cpu_widen_groups(out, v, DTYPE_INT8, r, first, n);
    else if (v.type == DTYPE_INT4)
        cpu_widen_groups(out, v, DTYPE_INT4, r, first, n);
    else
        cpu_widen(out, cpu_at(v, r, first), v.type, n);
}

#endif
