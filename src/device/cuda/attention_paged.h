/* Division of the list of keys into splits ("pieces" in names) for attention of few queries: shared by its two kernels.
 */
#ifndef DEVICE_CUDA_ATTENTION_PAGED_H
#define DEVICE_CUDA_ATTENTION_PAGED_H

#include "device/cuda/attention.h"

/* The whole call. Results: [sequences, pieces, kv_heads, rows, 2 + head_dim]: maximum, sum and weighted values of
 * each row and split. With a single split, rows go directly to `out`. */
struct attention_cut {
    int sequences, pieces, rows /* maximum per KV head */, row_blocks;
    float *results;
    unsigned *counters; /* CUDA_COUNTERS of the device; zeros between kernels */
};

__host__ __device__ static inline int64_t attention_result(const struct attention_call &call,
                                                           const struct attention_cut &cut, int64_t sequence, int piece,
                                                           int kv_head, int row) {
    int64_t at = ((sequence * cut.pieces + piece) * call.a.kv_heads + kv_head) * cut.rows + row;
    return at * (2 + call.a.head_dim);
}

/* The keys of one split, of all that any query of the sequence sees. */
__device__ static inline struct attention_range attention_piece(const struct attention_call &call,
                                                                const attention_sequence &s, int pieces, int piece) {
    int begin = attention_visible(call, s, 0).begin, end = attention_visible(call, s, s.q_rows - 1).end;
    int each = ((end - begin + pieces - 1) / pieces + 15) / 16 * 16, first = begin + piece * each;
    return {min(first, end), min(first + each, end)};
}

/* An element of a finished row; softmax: its maximum and sum. */
__device__ static inline void attention_store_piece(const struct attention_call &call, const struct attention_cut &cut,
                                                    const struct attention_head &head, int64_t result, int row, int c,
                                                    float value, float2 softmax) {
    if (cut.pieces > 1) {
        cut.results[result + 2 + c] = value;
        if (c == 0) cut.results[result] = softmax.x, cut.results[result + 1] = softmax.y;
        return;
    }
    int64_t at = attention_query(call, head, row);
    cuda_set(call.a.out.data, call.a.out.type, at + c, softmax.y == 0 ? 0 : value / softmax.y);
    if (c == 0 && call.a.lse.data) {
        ((float *)call.a.lse.data)[at / call.a.head_dim] = softmax.x + logf(softmax.y);
    }
}

/* Maximum number of keys that a query of the call sees. */
static inline int64_t attention_max_keys(const struct attention_call *call) {
    int64_t keys = (int64_t)call->a.max_past + call->a.max_kv_rows, seen = (int64_t)call->window + call->a.max_q_rows;
    return call->window > 0 && keys > seen ? seen : keys;
}

/* Memory for the results of several splits. */
static inline int attention_take_results(device *d, const struct attention_call *call, struct attention_cut *cut) {
    if (cut->pieces == 1) return LCKV_OK;
    size_t floats = (size_t)attention_result(*call, *cut, cut->sequences, 0, 0, 0);
    cut->counters = cuda_state_of(d)->counters;
    return cuda_workspace(d, CUDA_WORK_PARTIAL, floats * sizeof(float), (void **)&cut->results);
}

/* attention_paged_matrix.cu: the whole call if attention_paged_in_chunks(); it chooses the splits. */
bool attention_paged_in_chunks(const struct op_attention *a);
int attention_paged_matrix(device *d, const struct attention_call *call, struct attention_cut *cut);
/* attention_paged_int8.cu: the same with pages in kv_int8, by blocks of `warps` warps. */
int attention_paged_int8(device *d, const struct attention_call *call, const struct attention_cut *cut, int warps);

#endif
