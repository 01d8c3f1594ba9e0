/* Attention by the warpgroup instructions: shared by forward and backward. A block has two warpgroups with a tile of 64
 * rows (queries or keys) each. They share the tiles of keys, or queries, that pass by: two tiles are copied while one is
 * used. */
#ifndef DEVICE_CUDA_ATTENTION_WARPGROUP_H
#define DEVICE_CUDA_ATTENTION_WARPGROUP_H

#include "device/cuda/attention_matrix.h"
#include "device/cuda/warpgroup.h"

enum {
    ATTENTION_TILE = WARPGROUP_ROWS,
    ATTENTION_GROUPS = 2,
    ATTENTION_GROUP_THREADS = ATTENTION_GROUPS * WARPGROUP,
    ATTENTION_STAGES = 3
};

/* Starts copying rows [first, first + 64 TILES) of the head's queries in `from`; zeros from row `count` on. */
template <int DIM, int TILES>
__device__ void attention_copy_tiles_of_queries(warpgroup_rows<DIM> *to, const struct attention_call &call,
                                                const struct attention_head &head, const void *from, int first,
                                                int count) {
    constexpr int CHUNKS = DIM / MATRIX_CHUNK, EACH = ATTENTION_GROUP_THREADS / CHUNKS;
    int chunk = threadIdx.x % CHUNKS;
#pragma unroll
    for (int j = 0; j < TILES * ATTENTION_TILE / EACH; j++) {
        int row = j * EACH + (int)threadIdx.x / CHUNKS;
        bool there = first + row < count;
        const uint16_t *at = (const uint16_t *)from;
        if (there) at += attention_query(call, head, first + row) + chunk * MATRIX_CHUNK;
        matrix_copy16(to[row / ATTENTION_TILE].at(row % ATTENTION_TILE, chunk), at, there);
    }
}

/* Starts copying keys (or values) [key, key + 64 TILES) of the list; zeros from `end` on. */
template <int DIM, int TILES>
__device__ void attention_copy_tiles_of_keys(warpgroup_rows<DIM> *to, const struct attention_call &call,
                                             const struct attention_head &head, view past, view fresh, int key,
                                             int end) {
    constexpr int CHUNKS = DIM / MATRIX_CHUNK, EACH = ATTENTION_GROUP_THREADS / CHUNKS;
    int chunk = threadIdx.x % CHUNKS;
#pragma unroll
    for (int j = 0; j < TILES * ATTENTION_TILE / EACH; j++) {
        int row = j * EACH + (int)threadIdx.x / CHUNKS;
        bool there = key + row < end;
        dtype type;
        const void *at = call.a.q.data; /* any valid address if nothing is read */
        if (there) at = (const uint16_t *)attention_key(call, head, past, fresh, key + row, &type) + chunk * MATRIX_CHUNK;
        matrix_copy16(to[row / ATTENTION_TILE].at(row % ATTENTION_TILE, chunk), at, there);
    }
}

/* A stage of copies: a tile of keys. */
template <int DIM> struct attention_key_stage {
    warpgroup_rows<DIM> k, v;

    __device__ void copy(const struct attention_call &call, const struct attention_head &head, int key, int end) {
        attention_copy_tiles_of_keys<DIM, 1>(&k, call, head, call.a.past.k, call.a.k, key, end);
        attention_copy_tiles_of_keys<DIM, 1>(&v, call, head, call.a.past.v, call.a.v, key, end);
    }
};

/* Until the oldest stage that is being copied has arrived, which all threads then may use; nobody uses the one before. */
__device__ static inline void attention_wait_for_stage(void) {
    matrix_wait<ATTENTION_STAGES - 2>();
    warpgroup_publish();
    __syncthreads();
}

__device__ static inline int attention_next_stage(int at) {
    return at + 1 < ATTENTION_STAGES ? at + 1 : 0;
}

__device__ static inline int attention_last_stage(int at) {
    return at > 0 ? at - 1 : ATTENTION_STAGES - 1;
}

template <class SHARED> __device__ SHARED *attention_aligned(char *shared) {
    uint32_t address = (uint32_t)__cvta_generic_to_shared(shared);
    return (SHARED *)(shared + (WARPGROUP_ALIGN - address % WARPGROUP_ALIGN) % WARPGROUP_ALIGN);
}

/* The first row of this lane's two in its warpgroup's tile; the other is 8 further. */
__device__ static inline int attention_lane_row(void) {
    return (int)threadIdx.x % WARPGROUP / CUDA_WARP * 16 + (int)threadIdx.x % CUDA_WARP / 4;
}

#endif
