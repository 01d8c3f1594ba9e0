/* Attention on tensor cores, in bf16: shared by forward and backward. Tiles as in attention.h, in shared memory as
 * in matrix.h. */
#ifndef DEVICE_CUDA_ATTENTION_MATRIX_H
#define DEVICE_CUDA_ATTENTION_MATRIX_H

#include "device/cuda/attention.h"
#include "device/cuda/kv_int8.h"
#include "device/cuda/matrix.h"

enum { ATTENTION_MATRIX_WARPS = 4, ATTENTION_MATRIX_THREADS = ATTENTION_MATRIX_WARPS * CUDA_WARP };

static inline bool attention_in_chunks(view v) {
    return v.data == NULL || (v.type == DTYPE_BF16 && (uintptr_t)v.data % 16 == 0);
}

/* Whether the tensor core kernels support the call: bf16, and pages perhaps in kv_int8, in whole chunks; no separate
 * query for sinks. */
static inline bool attention_for_matrix(const struct op_attention *a) {
    return a->head_dim % MATRIX_CHUNK == 0 && a->head_dim <= 128 && !a->q_sink.data && attention_in_chunks(a->q) &&
           attention_in_chunks(a->k) && attention_in_chunks(a->v) && attention_in_chunks(a->out) &&
           (kv_int8_in_chunks(a) || (attention_in_chunks(a->past.k) && attention_in_chunks(a->past.v)));
}

static inline bool attention_has_int8(const struct op_attention *a) {
    return a->past.k.data && a->past.k.type == DTYPE_KV_INT8;
}

#define ATTENTION_LOG2_E 1.44269504f

/* 2^x; results too small for normal floats become 0. */
__device__ static inline float attention_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

int attention_matrix(device *d, const struct attention_call *call, int few);
int attention_matrix_backward(device *d, const struct attention_call *call);

/* The same by warpgroup instructions, where the GPU has them and the call fits (attention_warpgroup.cu). */
bool attention_for_warpgroup(device *d, const struct attention_call *call);
int attention_warpgroup(device *d, const struct attention_call *call, int few);

/* What the kernels of the backward pass read besides the call's own tensors. */
struct attention_rounded {
    const __nv_bfloat16 *dout; /* [rows, heads * head_dim] */
    float *delta, *lse;        /* [rows, heads]; lse times log2(e) */
};

/* The same by warpgroup instructions, where the GPU has them and the heads fit (attention_warpgroup_backward.cu). */
bool attention_for_warpgroup_backward(device *d, const struct op_attention *a);
int attention_warpgroup_backward(device *d, const struct attention_call *call, struct attention_rounded from);

/* Starts copying rows [first, first + ROWS) of the head's queries in `from`; zeros from row `count` on. */
template <int DIM, int ROWS>
__device__ void attention_copy_queries(char *tile, const struct attention_call &call, const struct attention_head &head,
                                       const void *from, int first, int count) {
    constexpr int CHUNKS = DIM / MATRIX_CHUNK;
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += ATTENTION_MATRIX_THREADS) {
        int row = i / CHUNKS, chunk = i % CHUNKS;
        bool there = first + row < count && chunk * MATRIX_CHUNK < call.a.head_dim;
        const uint16_t *at = (const uint16_t *)from;
        if (there) at += attention_query(call, head, first + row) + chunk * MATRIX_CHUNK;
        matrix_copy16(matrix_at<DIM>(tile, row, chunk), at, there);
    }
}

/* Starts copying keys (or values) [key, end), padded to KEYS with zeros. */
template <int DIM, int KEYS>
__device__ void attention_copy_keys(char *tile, const struct attention_call &call, const struct attention_head &head,
                                    view past, view fresh, int key, int end) {
    constexpr int CHUNKS = DIM / MATRIX_CHUNK;
    for (int i = threadIdx.x; i < KEYS * CHUNKS; i += ATTENTION_MATRIX_THREADS) {
        int row = i / CHUNKS, chunk = i % CHUNKS;
        bool there = key + row < end && chunk * MATRIX_CHUNK < call.a.head_dim;
        const void *at = call.a.q.data; /* any valid address if nothing is read */
        dtype type;
        if (there) {
            at = attention_key(call, head, past, fresh, key + row, &type);
            at = (const uint16_t *)at + chunk * MATRIX_CHUNK;
        }
        matrix_copy16(matrix_at<DIM>(tile, row, chunk), at, there);
    }
}

/* Stores the 16 rows first .. of a warp that has seen all their keys: w.out divided by the sums, and the log-sum-exp
 * where the call wants it. Rows from `count` on are left out. WARP has out, largest and sum as the matrix units leave
 * them. */
template <int DIM, class WARP>
__device__ void attention_store_rows(const WARP &w, const struct attention_call &call,
                                     const struct attention_head &head, int first, int count) {
    int lane = threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float sum = cuda_join_lanes(w.sum[r], 4, cuda_plus()), factor = sum == 0 ? 0 : 1 / sum;
        int row = first + 8 * r + lane / 4;
        if (row >= count) continue;
        int64_t at = attention_query(call, head, row);
        uint16_t *to = (uint16_t *)call.a.out.data + at + 2 * (lane % 4);
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) {
            if (8 * n >= call.a.head_dim) break;
            *(uint32_t *)(to + 8 * n) = matrix_pair(w.out[n][2 * r] * factor, w.out[n][2 * r + 1] * factor);
        }
        if (call.a.lse.data && lane % 4 == 0) {
            ((float *)call.a.lse.data)[at / call.a.head_dim] = w.largest[r] / ATTENTION_LOG2_E + logf(sum);
        }
    }
}

/* Whether every row of the tile [first, first + rows) sees every key of [key, key + keys). */
__device__ static inline bool attention_sees_all(const struct attention_call &call, const attention_sequence &s,
                                                 int first, int rows, int count, int key, int keys) {
    if (first + rows > count) return false;
    return attention_row_visible(call, s, first, count).end >= key + keys &&
           attention_row_visible(call, s, first + rows - 1, count).begin <= key;
}

/* ---------------------------------------------------------------- backward */

/* The rows [begin, end) of the head's queries that may see a key of [key, key_end). */
__device__ static inline struct attention_range
attention_rows_seeing(const struct attention_call &call, const attention_sequence &s, int key, int key_end, int count) {
    int offset = s.past + s.q_offset; /* index of query i minus i */
    int begin = max(key + (call.a.strict ? 1 : 0) - offset, 0);
    int end = s.q_rows;
    if (call.window > 0) end = min(end, max(key_end + call.window - 1 - offset, 0));
    return {min(begin * call.group, count), min(end * call.group, count)};
}

/* Elements at and at + 1 of the gradient += x and y. */
__device__ static inline void attention_add_pair(view gradient, int64_t at, float x, float y) {
    if (gradient.type == DTYPE_F32) {
        float2 *to = (float2 *)((float *)gradient.data + at);
        float2 before = gradient.fresh ? make_float2(0, 0) : *to;
        *to = make_float2(before.x + x, before.y + y);
    } else {
        uint32_t *to = (uint32_t *)((__nv_bfloat16 *)gradient.data + at);
        uint32_t bits = gradient.fresh ? 0 : *to;
        float2 before = __bfloat1622float2(*(__nv_bfloat162 *)&bits);
        *to = matrix_pair(before.x + x, before.y + y);
    }
}

/* Rows [first, first + 64) of the gradient += factor * sum, which a warpgroup has in registers; element(row) is the
 * start of a row; rows from `end` on do not exist. */
template <int DIM, typename Element>
__device__ void attention_add_gradients(view gradient, const float (&sum)[DIM / 64][32], float factor, int first,
                                        int end, Element element) {
    int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP % 4;
    if (!gradient.data) return;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int own = first + 16 * warp + 8 * r + lane / 4;
        if (own >= end) continue;
        int64_t at = element(own) + 2 * (lane % 4);
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) {
            const float *pair = &sum[n / 8][n % 8 * 4 + 2 * r];
            attention_add_pair(gradient, at + 8 * n, factor * pair[0], factor * pair[1]);
        }
    }
}

#endif
