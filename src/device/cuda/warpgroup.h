/* The matrix units and the copy engine of compute capability 9.0 (PTX ISA, "asynchronous warpgroup level matrix
 * instructions" and "tensor copies"). Both factors of a product are in shared memory, and the products run while the
 * warps do other work. A warpgroup is four warps, the first of which has a number divisible by four; all four take
 * part in every product.
 *
 * The copy engine copies tiles of a row-major matrix of bf16, which a map describes, to shared memory. One thread
 * starts a copy; a barrier in shared memory counts its bytes. Blocks of a cluster can read one another's shared memory.
 *
 * A factor is tiles of 64 columns as in matrix.h with DIM 64, a layout that the instructions call 128 byte swizzle; a
 * tile begins at a multiple of WARPGROUP_ALIGN. Code for other architectures is empty: the host checks
 * cuda_state.encode_map before it starts such a kernel. */
#ifndef DEVICE_CUDA_WARPGROUP_H
#define DEVICE_CUDA_WARPGROUP_H

#include "device/cuda/matrix.h"

#include <cuda.h>

enum { WARPGROUP = 4 * CUDA_WARP, WARPGROUP_ROWS = 64, WARPGROUP_DEPTH = 64, WARPGROUP_ALIGN = 1024 };

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define WARPGROUP_CODE 1
#endif

/* A tile as the instructions name it: address and distance of eight rows in units of 16 bytes, and the swizzle. */
__device__ static inline uint64_t warpgroup_tile(const void *tile) {
    uint64_t address = (uint32_t)__cvta_generic_to_shared(tile);
    return address >> 4 | (uint64_t)1 << 16 | (uint64_t)(8 * WARPGROUP_DEPTH * 2 >> 4) << 32 | (uint64_t)1 << 62;
}

/* Before the first product, and where sums were changed by other instructions. */
__device__ static inline void warpgroup_begin(void) {
#ifdef WARPGROUP_CODE
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

/* The products since the last commit become a group; waits until at most LEFT groups are under way. */
__device__ static inline void warpgroup_commit(void) {
#ifdef WARPGROUP_CODE
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

template <int LEFT> __device__ void warpgroup_wait(void) {
#ifdef WARPGROUP_CODE
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
#endif
}

/* c [64, 64] += a [64, 16] b [16, 64], b as rows of columns. Warp w of the group and its lane l have of c the rows
 * 16 w + l / 4 and 8 rows below, columns 8 j + 2 (l % 4) and the next one: c[4 j], c[4 j + 1] and, of the lower row,
 * c[4 j + 2], c[4 j + 3]. */
#define WARPGROUP_FOUR(c, i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define WARPGROUP_SIXTEEN(c, i)                                                                                        \
    WARPGROUP_FOUR(c, i), WARPGROUP_FOUR(c, i + 4), WARPGROUP_FOUR(c, i + 8), WARPGROUP_FOUR(c, i + 12)

#define WARPGROUP_PRODUCT                                                                                              \
    "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "                                                            \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "                 \
    "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "

__device__ static inline void warpgroup_multiply(float (&c)[32], uint64_t a, uint64_t b) {
#ifdef WARPGROUP_CODE
    asm volatile(WARPGROUP_PRODUCT "%32, %33, 1, 1, 1, 0, 0;"
                 : WARPGROUP_SIXTEEN(c, 0), WARPGROUP_SIXTEEN(c, 16)
                 : "l"(a), "l"(b));
#endif
}

/* c = a b */
#define WARPGROUP_FOUR_NEW(c, i) "=f"(c[i]), "=f"(c[i + 1]), "=f"(c[i + 2]), "=f"(c[i + 3])
#define WARPGROUP_SIXTEEN_NEW(c, i)                                                                                    \
    WARPGROUP_FOUR_NEW(c, i), WARPGROUP_FOUR_NEW(c, i + 4), WARPGROUP_FOUR_NEW(c, i + 8), WARPGROUP_FOUR_NEW(c, i + 12)

__device__ static inline void warpgroup_multiply_first(float (&c)[32], uint64_t a, uint64_t b) {
#ifdef WARPGROUP_CODE
    asm volatile(WARPGROUP_PRODUCT "%32, %33, 0, 1, 1, 0, 0;"
                 : WARPGROUP_SIXTEEN_NEW(c, 0), WARPGROUP_SIXTEEN_NEW(c, 16)
                 : "l"(a), "l"(b));
#endif
}

/* c += a b, a in registers as the left factor of matrix_multiply(), rows 16 w on in warp w; b as rows: depth 16 is 16
 * rows of a tile. */
__device__ static inline void warpgroup_multiply_rows(float (&c)[32], const uint32_t (&a)[4], uint64_t b) {
#ifdef WARPGROUP_CODE
    asm volatile(WARPGROUP_PRODUCT "{%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
                 : WARPGROUP_SIXTEEN(c, 0), WARPGROUP_SIXTEEN(c, 16)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#endif
}

/* The same with b as rows of columns. */
__device__ static inline void warpgroup_multiply_left(float (&c)[32], const uint32_t (&a)[4], uint64_t b) {
#ifdef WARPGROUP_CODE
    asm volatile(WARPGROUP_PRODUCT "{%32, %33, %34, %35}, %36, 1, 1, 1, 0;"
                 : WARPGROUP_SIXTEEN(c, 0), WARPGROUP_SIXTEEN(c, 16)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#endif
}

/* After a wait: no instruction that uses c moves before it. */
__device__ static inline void warpgroup_hold(float (&c)[32]) {
    asm volatile("" : WARPGROUP_SIXTEEN(c, 0), WARPGROUP_SIXTEEN(c, 16) : : "memory");
}

template <int COUNT> __device__ void warpgroup_hold(float (&c)[COUNT][32]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) warpgroup_hold(c[i]);
}

/* The same along a whole tile's depth. */
__device__ static inline void warpgroup_multiply_tiles(float (&c)[32], const void *left, const void *right) {
    uint64_t a = warpgroup_tile(left), b = warpgroup_tile(right);
#pragma unroll
    for (int k = 0; k < WARPGROUP_DEPTH / 16; k++) warpgroup_multiply(c, a + k * (32 >> 4), b + k * (32 >> 4));
}

/* ---------------------------------------------------------------- tiles of 64 rows of 64 or 128 columns */

/* Tiles of 64 columns side by side. */
template <int DIM> struct alignas(WARPGROUP_ALIGN) warpgroup_rows {
    char panel[DIM / WARPGROUP_DEPTH][WARPGROUP_ROWS * WARPGROUP_DEPTH * 2];

    __device__ char *at(int row, int chunk) {
        constexpr int CHUNKS = WARPGROUP_DEPTH / MATRIX_CHUNK;
        return matrix_at<WARPGROUP_DEPTH>(panel[chunk / CHUNKS], row, chunk % CHUNKS);
    }
};

/* c [64, 64] = left right^T: products of rows with rows. */
template <int DIM>
__device__ void warpgroup_rows_by_rows(float (&c)[32], const warpgroup_rows<DIM> &left,
                                       const warpgroup_rows<DIM> &right) {
#pragma unroll
    for (int p = 0; p < DIM / WARPGROUP_DEPTH; p++) {
        uint64_t a = warpgroup_tile(left.panel[p]), b = warpgroup_tile(right.panel[p]);
        if (p == 0)
            warpgroup_multiply_first(c, a, b);
        else
            warpgroup_multiply(c, a, b);
#pragma unroll
        for (int k = 1; k < WARPGROUP_DEPTH / 16; k++) warpgroup_multiply(c, a + k * (32 >> 4), b + k * (32 >> 4));
    }
}

/* c [64, DIM] += weights [64, 64] rows, the weights as warpgroup_pack() leaves them. */
template <int DIM>
__device__ void warpgroup_add_rows(float (&c)[DIM / WARPGROUP_DEPTH][32], const uint32_t (&weights)[4][4],
                                   const warpgroup_rows<DIM> &rows) {
#pragma unroll
    for (int p = 0; p < DIM / WARPGROUP_DEPTH; p++) {
        uint64_t b = warpgroup_tile(rows.panel[p]);
#pragma unroll
        for (int k = 0; k < WARPGROUP_ROWS / 16; k++)
            warpgroup_multiply_rows(c[p], weights[k], b + k * (16 * WARPGROUP_DEPTH * 2 >> 4));
    }
}

/* Sums [64, 64] as left factors in bf16. */
__device__ static inline void warpgroup_pack(uint32_t (&to)[4][4], const float (&from)[32]) {
#pragma unroll
    for (int k = 0; k < 4; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) to[k][i] = matrix_pair(from[8 * k + 2 * i], from[8 * k + 2 * i + 1]);
}

/* What this thread has written to shared memory, or copied there, can be read by the products that follow. */
__device__ static inline void warpgroup_publish(void) {
#ifdef WARPGROUP_CODE
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/* Until all threads of the first warpgroup of the block are here. */
__device__ static inline void warpgroup_meet(void) {
    asm volatile("bar.sync 1, %0;" ::"n"((int)WARPGROUP) : "memory");
}

/* ---------------------------------------------------------------- copies */

/* Tiles of WARPGROUP_ROWS by WARPGROUP_DEPTH of a matrix; what is outside of the matrix is zero. */
struct warpgroup_map {
    CUtensorMap map;
};

/* False if the driver does not accept the matrix. */
bool warpgroup_map_of(device *d, view matrix, struct warpgroup_map *out);

/* The same of the integers of a weight in int8 or int4, whose rows are whole chunks of 16 bytes. A row of a tile has
 * WARPGROUP_DEPTH / 16 or half as many chunks; warpgroup_groups_chunk() gives their order. */
bool warpgroup_map_of_groups(device *d, view weight, struct warpgroup_map *out);

/* The place in row `row` of a tile with its chunk `chunk`. */
template <dtype TYPE> __device__ int warpgroup_groups_chunk(int row, int chunk) {
    return TYPE == DTYPE_INT8 ? chunk ^ (row >> 1 & 3) : chunk ^ (row >> 2 & 1);
}

/* The map is used soon. */
__device__ static inline void warpgroup_map_soon(const struct warpgroup_map *map) {
#ifdef WARPGROUP_CODE
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map->map) : "memory");
#endif
}

/* A barrier in shared memory. Its phase ends when `count` threads have arrived and the expected bytes are there. */
__device__ static inline void warpgroup_barrier(uint64_t *barrier, int count) {
#ifdef WARPGROUP_CODE
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"((uint32_t)__cvta_generic_to_shared(barrier)),
                 "r"(count)
                 : "memory");
#endif
}

/* After the last warpgroup_barrier(): the copy engine knows them. A barrier of the block follows. */
__device__ static inline void warpgroup_barriers_ready(void) {
#ifdef WARPGROUP_CODE
    asm volatile("fence.mbarrier_init.release.cluster;\n\tfence.proxy.async.shared::cta;" ::: "memory");
#endif
}

__device__ static inline void warpgroup_arrive(uint64_t *barrier) {
#ifdef WARPGROUP_CODE
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"((uint32_t)__cvta_generic_to_shared(barrier))
                 : "memory");
#endif
}

/* Arrives, and adds `bytes` to those that the phase waits for. */
__device__ static inline void warpgroup_expect(uint64_t *barrier, size_t bytes) {
#ifdef WARPGROUP_CODE
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"((uint32_t)__cvta_generic_to_shared(barrier)),
        "r"((uint32_t)bytes)
        : "memory");
#endif
}

/* Until the phase with this parity has ended. Phases are numbered from 0. */
__device__ static inline void warpgroup_wait_for(uint64_t *barrier, int parity) {
#ifdef WARPGROUP_CODE
    asm volatile("{\n\t.reg .pred done;\n\tAGAIN:\n\t"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n\t"
                 "@done bra DONE;\n\tbra AGAIN;\n\tDONE:\n\t}" ::"r"((uint32_t)__cvta_generic_to_shared(barrier)),
                 "r"(parity)
                 : "memory");
#endif
}

/* Starts copying the tile that begins in this row and column. */
__device__ static inline void warpgroup_copy(void *to, const struct warpgroup_map *from, int column, int row,
                                             uint64_t *barrier) {
#ifdef WARPGROUP_CODE
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
                 "[%4];" ::"r"((uint32_t)__cvta_generic_to_shared(to)),
                 "l"(&from->map), "r"(column), "r"(row), "r"((uint32_t)__cvta_generic_to_shared(barrier))
                 : "memory");
#endif
}

/* Copies that follow read what other kernels have stored. */
__device__ static inline void warpgroup_order_copies(void) {
#ifdef WARPGROUP_CODE
    asm volatile("fence.proxy.async.global;" ::: "memory");
#endif
}

/* ---------------------------------------------------------------- clusters */

/* Until all blocks of the cluster have come here; what they have written to shared memory can be read. */
__device__ static inline void cluster_wait(void) {
#ifdef WARPGROUP_CODE
    asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory");
#endif
}

/* Four floats at the place of `own` in the shared memory of block number `block` of the cluster. */
__device__ static inline float4 cluster_get4(const float *own, int block) {
    float4 x = {};
#ifdef WARPGROUP_CODE
    asm volatile("{\n\t.reg .u32 at;\n\tmapa.shared::cluster.u32 at, %4, %5;\n\t"
                 "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [at];\n\t}"
                 : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
                 : "r"((uint32_t)__cvta_generic_to_shared(own)), "r"(block)
                 : "memory");
#endif
    return x;
}

#endif
