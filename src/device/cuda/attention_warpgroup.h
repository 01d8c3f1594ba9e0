/* Attention by the warpgroup instructions: shared by forward and backward. The warpgroups of a block have a tile of 64
 * rows (queries or keys) each. They share the tiles of keys, or queries, that pass by: two tiles are copied while one
 * is used.
 *
 * What a thread copies moves on by a constant distance from tile to tile in the usual cases, so that it needs no
 * divisions. */
#ifndef DEVICE_CUDA_ATTENTION_WARPGROUP_H
#define DEVICE_CUDA_ATTENTION_WARPGROUP_H

#include "device/cuda/attention_matrix.h"
#include "device/cuda/warpgroup.h"

enum {
    ATTENTION_TILE = WARPGROUP_ROWS,
    ATTENTION_STAGES = 3,
    ATTENTION_COPIERS = 2 * WARPGROUP /* the first threads of a block, which copy */
};

/* ---------------------------------------------------------------- stages */

/* Until the oldest stage that is being copied has arrived, which all threads then may use; nobody uses the one before.
 */
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

/* ---------------------------------------------------------------- copying queries */

/* A copying thread's chunk of some rows of a tile of queries. */
template <int DIM> struct attention_query_reader {
    static constexpr int CHUNKS = DIM / MATRIX_CHUNK, EACH = ATTENTION_COPIERS / CHUNKS, ROWS = ATTENTION_TILE / EACH;
    int64_t at[ROWS], step; /* elements of q; from tile to tile, 0 if a tile is no whole number of queries */
    int row, chunk;         /* the first of its rows */

    __device__ void seek(const struct attention_call &call, const struct attention_head &head, int first) {
#pragma unroll
        for (int j = 0; j < ROWS; j++)
            at[j] = attention_query(call, head, first + row + j * EACH) + chunk * MATRIX_CHUNK;
    }

    __device__ void begin(const struct attention_call &call, const struct attention_head &head, int first) {
        row = (int)threadIdx.x / CHUNKS;
        chunk = (int)threadIdx.x % CHUNKS;
        step = ATTENTION_TILE % call.group == 0 ? (int64_t)(ATTENTION_TILE / call.group) * call.a.heads * DIM : 0;
        seek(call, head, first);
    }

    /* On to the next tile, from row `first` on. */
    __device__ void next(const struct attention_call &call, const struct attention_head &head, int first) {
        if (step == 0) return seek(call, head, first);
#pragma unroll
        for (int j = 0; j < ROWS; j++) at[j] += step;
    }

    /* Starts copying the tile from row `first` on, which is where the reader is; zeros from row `count` on. */
    __device__ void copy(warpgroup_rows<DIM> *to, const void *from, int first, int count) const {
#pragma unroll
        for (int j = 0; j < ROWS; j++) {
            bool there = first + row + j * EACH < count;
            matrix_copy16(to->at(row + j * EACH, chunk), (const uint16_t *)from + (there ? at[j] : 0), there);
        }
    }
};

/* ---------------------------------------------------------------- copying keys */

/* A tile of keys and their values. */
template <int DIM> struct attention_key_stage { warpgroup_rows<DIM> k, v; };

/* The same for keys. Without a past they are side by side. PAST: there may be one. */
template <int DIM, bool PAST> struct attention_key_reader {
    static constexpr int CHUNKS = DIM / MATRIX_CHUNK, EACH = ATTENTION_COPIERS / CHUNKS, ROWS = ATTENTION_TILE / EACH;
    int64_t at, step, apart; /* elements of the first row; from tile to tile, and from row to row */
    int row, chunk;
    bool listed;

    __device__ void begin(const struct attention_call &call, const struct attention_head &head, int key) {
        int64_t width = (int64_t)call.a.kv_heads * DIM;
        row = (int)threadIdx.x / CHUNKS;
        chunk = (int)threadIdx.x % CHUNKS;
        listed = PAST && head.s.past > 0;
        at = (head.s.kv_row + key + row) * width + head.kv_head * DIM + chunk * MATRIX_CHUNK;
        step = ATTENTION_TILE * width;
        apart = EACH * width;
    }

    __device__ void next(void) {
        at += step;
    }

    /* Starts copying keys [key, key + 64), where the reader is; zeros from `end` on. */
    __device__ void copy(struct attention_key_stage<DIM> *to, const struct attention_call &call,
                         const struct attention_head &head, int key, int end) const {
        if (PAST && listed) return copy_listed(to, call, head, key, end);
#pragma unroll
        for (int j = 0; j < ROWS; j++) {
            bool there = key + row + j * EACH < end;
            int64_t from = there ? at + j * apart : 0;
            matrix_copy16(to->k.at(row + j * EACH, chunk), (const uint16_t *)call.a.k.data + from, there);
            matrix_copy16(to->v.at(row + j * EACH, chunk), (const uint16_t *)call.a.v.data + from, there);
        }
    }

    __device__ void copy_listed(struct attention_key_stage<DIM> *to, const struct attention_call &call,
                                const struct attention_head &head, int key, int end) const {
#pragma unroll
        for (int j = 0; j < ROWS; j++) {
            int u = key + row + j * EACH;
            bool there = u < end;
            dtype type;
            const uint16_t *k = (const uint16_t *)call.a.q.data, *v = k; /* any valid address if nothing is read */
            if (there) {
                k = (const uint16_t *)attention_key(call, head, call.a.past.k, call.a.k, u, &type);
                v = (const uint16_t *)attention_key(call, head, call.a.past.v, call.a.v, u, &type);
            }
            matrix_copy16(to->k.at(row + j * EACH, chunk), k + chunk * MATRIX_CHUNK, there);
            matrix_copy16(to->v.at(row + j * EACH, chunk), v + chunk * MATRIX_CHUNK, there);
        }
    }

    /* Starts copying the keys from `key` on into all stages but the last. */
    __device__ void copy_first(struct attention_key_stage<DIM> *stages, const struct attention_call &call,
                               const struct attention_head &head, int key, int end) {
#pragma unroll
        for (int i = 0; i < ATTENTION_STAGES - 1; i++, next()) {
            copy(&stages[i], call, head, key + i * ATTENTION_TILE, end);
            matrix_commit();
        }
    }

    /* While the keys from `key` on are used in stage `used`: starts copying into the stage that was used before. */
    __device__ void copy_ahead(struct attention_key_stage<DIM> *stages, int used, const struct attention_call &call,
                               const struct attention_head &head, int key, int end) {
        int ahead = key + (ATTENTION_STAGES - 1) * ATTENTION_TILE;
        if (ahead < end) copy(&stages[attention_last_stage(used)], call, head, ahead, end);
        next();
        matrix_commit();
    }
};

/* ---------------------------------------------------------------- a block */

template <class SHARED> __device__ SHARED *attention_aligned(char *shared) {
    uint32_t address = (uint32_t)__cvta_generic_to_shared(shared);
    return (SHARED *)(shared + (WARPGROUP_ALIGN - address % WARPGROUP_ALIGN) % WARPGROUP_ALIGN);
}

__device__ static inline bool attention_copies(void) {
    return threadIdx.x < ATTENTION_COPIERS;
}

/* ---------------------------------------------------------------- rows of a lane */

/* The first row of this lane's two in its warpgroup's tile; the other is 8 further. */
__device__ static inline int attention_lane_row(void) {
    return (int)threadIdx.x % WARPGROUP / CUDA_WARP * 16 + (int)threadIdx.x % CUDA_WARP / 4;
}

/* The keys that all rows of the tile from `first` on see; none if the tile has rows from `count` on. */
__device__ static inline struct attention_range
attention_seen_by_all(const struct attention_call &call, const attention_sequence &s, int first, int count) {
    int last = first + ATTENTION_TILE - 1;
    if (last >= count) return {INT32_MAX, INT32_MIN};
    return {attention_row_visible(call, s, last, count).begin, attention_row_visible(call, s, first, count).end};
}

/* The rows that see all keys of [key, key_end). */
__device__ static inline struct attention_range attention_rows_seeing_all(const struct attention_call &call,
                                                                          const attention_sequence &s, int key,
                                                                          int key_end, int count) {
    int offset = s.past + s.q_offset; /* index of query i minus i */
    if (key_end > s.past + s.kv_rows) return {INT32_MAX, INT32_MIN};
    int begin = max(key_end - (call.a.strict ? 0 : 1) - offset, 0), end = s.q_rows;
    if (call.window > 0) end = min(end, max(key + call.window - offset, 0));
    return {min(begin, s.q_rows) * call.group, min(end * call.group, count)};
}

#endif
