/* Weights in grouped formats (device/dtype.h), int8 and int4, in GPU memory: elements as f32, and integers as bf16
 * for tensor cores, which are exact. */
#ifndef DEVICE_CUDA_GROUPS_H
#define DEVICE_CUDA_GROUPS_H

#include "device/cuda/cuda.h"

__host__ __device__ static inline bool cuda_is_grouped(dtype type) {
    return (DTYPE_BIT(type) & DTYPE_GROUPED) != 0;
}

/* Bytes of a row's integers, and its number of groups. */
__host__ __device__ static inline int64_t groups_row_bytes(view v) {
    return v.type == DTYPE_INT8 ? v.cols : (v.cols + 1) / 2;
}

__host__ __device__ static inline int64_t groups_per_row(view v) {
    return (v.cols + DTYPE_GROUP - 1) / DTYPE_GROUP;
}

__device__ static inline float groups_scale(view v, int64_t row, int64_t group) {
    return __half2float(((const __half *)v.scales)[row * groups_per_row(v) + group]);
}

/* Whether the kernels on tensor cores can copy rows of `v`: integers in whole chunks of 16 bytes, scales in pairs. */
static inline bool groups_in_chunks(view v) {
    return cuda_is_grouped(v.type) && v.cols > 0 && v.cols % (2 * DTYPE_GROUP) == 0 && (uintptr_t)v.data % 16 == 0 &&
           (uintptr_t)v.scales % 4 == 0;
}

/* ---------------------------------------------------------------- elements as f32 */

__device__ static inline int groups_integer(const uint8_t *row, dtype type, int64_t i) {
    if (type == DTYPE_INT8) return (int8_t)row[i];
    return (int)((row[i / 2] >> i % 2 * 4 & 15) ^ 8) - 8;
}

/* Elements [at, at + 4) of a row of a weight in any format, zeros behind its last column. `at` is a multiple of 4. */
__device__ static inline struct cuda_four groups_get4(view v, int64_t row, int64_t at) {
    struct cuda_four x = {};
    if (!cuda_is_grouped(v.type)) return cuda_get4(cuda_row(v, row), v.type, at, v.cols);
    if (at >= v.cols) return x;
    const uint8_t *from = (const uint8_t *)v.data + row * groups_row_bytes(v);
    float scale = groups_scale(v, row, at / DTYPE_GROUP);
    for (int i = 0; i < 4 && at + i < v.cols; i++) x.at[i] = scale * (float)groups_integer(from, v.type, at + i);
    return x;
}

/* Eight integers as f32: int8 from both words, int4 from the first one. An integer, made positive, is put into the
 * mantissa of 2^23. */
template <dtype TYPE> __device__ struct cuda_eight groups_floats(uint2 words) {
    struct cuda_eight x;
    constexpr float shift = TYPE == DTYPE_INT8 ? 0x1p23f + 128 : 0x1p23f + 8;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        uint32_t bits;
        if (TYPE == DTYPE_INT8)
            bits = __byte_perm((i < 4 ? words.x : words.y) ^ 0x80808080u, 0x4b000000u, 0x7650u + (unsigned)(i % 4));
        else
            bits = ((words.x >> 4 * i & 15) ^ 8) | 0x4b000000u;
        x.at[i] = __uint_as_float(bits) - shift;
    }
    return x;
}

/* ---------------------------------------------------------------- integers as bf16 */

/* A pair of integers from 0 to 127 is put into the mantissas of 128. */
__device__ static inline uint32_t groups_subtract(uint32_t a, uint32_t b) {
    __nv_bfloat162 difference = __hsub2(*(__nv_bfloat162 *)&a, *(__nv_bfloat162 *)&b);
    return *(uint32_t *)&difference;
}

/* Two adjacent integers, which begin at `from`. With the sign bit s, a byte is its lower seven bits minus 128 s. At the
 * place of the sign bit is the lowest bit of the exponent: 128 becomes 256. */
template <dtype TYPE> __device__ uint32_t groups_pair(const char *from) {
    if (TYPE == DTYPE_INT8) {
        uint32_t pair = __byte_perm(*(const uint16_t *)from, 0x43u, 0x4140u);
        return groups_subtract(pair & 0xff7fff7fu, pair & 0xff80ff80u);
    }
    return groups_subtract((*(const uint8_t *)from * 0x1001u & 0x000f000fu) ^ 0x43084308u, 0x43084308u);
}

/* ---------------------------------------------------------------- weights as floats */

/* Replaces weights in grouped formats by f32 or bf16 ones, which are valid until the next call but one (groups.cu).
 * Views of other formats stay as they are. */
int cuda_widen(device *d, int count, view *weights, dtype type);

int cuda_widening_open(device *d);
void cuda_widening_close(device *d);

#endif
