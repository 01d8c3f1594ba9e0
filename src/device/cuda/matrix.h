/* Tensor cores, through the PTX instructions of compute capability 8.0 (PTX ISA, "warp level matrix instructions"):
 * products of bf16 tiles with f32 sums, loads of their fragments from shared memory, and asynchronous copies into
 * it. Whole warps call all functions.
 *
 * A tile in shared memory has rows of DIM bf16 in chunks of eight. The position of a chunk in its row is permuted by
 * the row's lowest bits, so that the chunks of one column in eight rows are in different banks. */
#ifndef DEVICE_CUDA_MATRIX_H
#define DEVICE_CUDA_MATRIX_H

#include "device/cuda/cuda.h"

enum { MATRIX_CHUNK = 8 };

/* c [16, 8] += a [16, 16] b [16, 8]. Lane l has rows l / 4 (c[0], c[1]) and l / 4 + 8 (c[2], c[3]) of c, in columns
 * 2 (l % 4) and the next one. */
__device__ static inline void matrix_multiply(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* The same with k = 32 and integers of 8 bits, four of which a register has: c [16, 8] += a [16, 32] b [32, 8]. */
__device__ static inline void matrix_multiply_integers(int c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Four tiles of eight rows of a chunk each: lane l gives the address of row l % 8 of tile l / 8. Of each tile, a
 * lane receives elements 2 (l % 4) and the next one of row l / 4; transposed, rows 2 (l % 4) and the next one of
 * column l / 4. */
__device__ static inline void matrix_load(uint32_t out[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

__device__ static inline void matrix_load_transposed(uint32_t out[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

/* The transpose of a tile of eight rows of a chunk. Lane l has elements 2 (l % 4) and the next one of row l / 4. */
__device__ static inline uint32_t matrix_transpose(uint32_t pair) {
    uint32_t out;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(pair));
    return out;
}

/* Starts copying 16 or 4 bytes into shared memory; zeros if !there. The data is visible after matrix_wait() to the
 * thread that started the copy, and after a barrier to the others. */
__device__ static inline void matrix_copy16(void *to, const void *from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(to)),
                 "l"(from), "r"(there ? 16 : 0)
                 : "memory");
}

__device__ static inline void matrix_copy4(void *to, const void *from, bool there) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(to)),
                 "l"(from), "r"(there ? 4 : 0)
                 : "memory");
}

/* Ends a group of copies; waits until at most LEFT groups are in flight. */
__device__ static inline void matrix_commit(void) {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int LEFT> __device__ void matrix_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

__device__ static inline uint32_t matrix_pair(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *(uint32_t *)&pair;
}

/* ---------------------------------------------------------------- tiles */

template <int DIM> __device__ char *matrix_at(char *tile, int row, int chunk) {
    return tile + (row * (DIM / MATRIX_CHUNK) + (chunk ^ (row & 7))) * 16;
}

/* The left factor's fragment: rows [row, row + 16), columns [16 k, 16 k + 16). */
template <int DIM> __device__ void matrix_left(uint32_t out[4], char *tile, int row, int k) {
    int lane = threadIdx.x % CUDA_WARP;
    matrix_load(out, matrix_at<DIM>(tile, row + lane % 16, 2 * k + lane / 16));
}

/* The right factor's fragments (out[0], out[1]) and (out[2], out[3]) for two times eight columns, which are rows
 * [row, row + 16) of the tile; the sum is over its columns [16 k, 16 k + 16). */
template <int DIM> __device__ void matrix_right(uint32_t out[4], char *tile, int row, int k) {
    int lane = threadIdx.x % CUDA_WARP;
    matrix_load(out, matrix_at<DIM>(tile, row + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
}

/* The same if the sum is over rows [row, row + 16) of the tile and the result's columns are its columns [16 n, 16 n
 * + 16). */
template <int DIM> __device__ void matrix_right_rows(uint32_t out[4], char *tile, int row, int n) {
    int lane = threadIdx.x % CUDA_WARP;
    matrix_load_transposed(out, matrix_at<DIM>(tile, row + lane % 16, 2 * n + lane / 16));
}

#endif
