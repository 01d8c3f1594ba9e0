/* Attention of a few queries over a long list of keys (decoding) on tensor cores, in bf16; see
 * attention_paged_matrix.h. */
#include "device/cuda/attention_paged_matrix.h"

/* A tile in bf16, as in matrix.h. */
template <int DIM_, int KEYS_> struct bf16_tile {
    static constexpr int DIM = DIM_, KEYS = KEYS_;
    static constexpr bool SCALED = false, APART = false;
    static constexpr size_t NEW_BYTES = 0;
    char k[KEYS * DIM * 2], v[KEYS * DIM * 2];

    __device__ static int query_column(int step, int upper) {
        return 16 * step + 8 * upper + 2 * ((int)threadIdx.x % 4);
    }

    __device__ static int out_column(int m, int upper) {
        return 16 * m + 8 * upper + (int)threadIdx.x % CUDA_WARP / 4;
    }

    __device__ static void store_row(uint16_t *to, const uint32_t (&pairs)[DIM / 8], int dim) {
#pragma unroll
        for (int n = 0; n < DIM / 8; n++)
            if (8 * n < dim) *(uint32_t *)(to + 8 * n + 2 * (threadIdx.x % 4)) = pairs[n];
    }

    __device__ void key_rows(uint32_t (&left)[4], int n, int step) {
        matrix_left<DIM>(left, k, 16 * n, step);
    }

    __device__ void value_rows(uint32_t (&left)[4], int n, int m) {
        uint32_t right[4];
        matrix_right_rows<DIM>(right, v, 16 * n, m);
        left[0] = right[0], left[1] = right[2], left[2] = right[1], left[3] = right[3]; /* the transpose */
    }

    __device__ void copy(int i, const struct attention_call &call, const struct attention_head &head,
                         const struct group &from, bool old, bool fresh) {
        copy_group<DIM>(matrix_at<DIM>(k, i, 0), matrix_at<DIM>(v, i, 0), call, head, from, old, fresh);
    }
};

bool attention_paged_in_chunks(const struct op_attention *a) {
    struct op_attention without = *a;
    without.q_sink.data = NULL;
    return attention_in_chunks(a->q_sink) && attention_for_matrix(&without);
}

/* Warps per list: enough to keep the GPU busy, with at least MIN_KEYS keys each; and blocks, if a warp would have
 * more than MAX_KEYS keys and there are few lists. */
static int share_out(device *d, const struct attention_call *call, struct attention_cut *cut) {
    int64_t lists = (int64_t)cut->sequences * call->a.kv_heads, keys = attention_max_keys(call), warps = 1;
    int64_t wanted = BUSY_WARPS * (int64_t)cuda_state_of(d)->multiprocessors / lists, max_keys = MAX_KEYS;
    int64_t worth = (keys + MIN_KEYS - 1) / MIN_KEYS, needed = (keys + 4 * MAX_KEYS - 1) / (4 * MAX_KEYS);
    int64_t all = wanted < worth ? wanted : worth;
    if (all < needed) all = needed, max_keys *= 4;
    while (2 * warps <= all && warps < MAX_WARPS) warps *= 2;
    int64_t pieces = keys / (warps * max_keys);
    if (pieces > all / warps) pieces = all / warps;
    cut->pieces = lists > CUDA_COUNTERS || pieces < 1 ? 1 : (int)pieces;
    return (int)warps;
}

/* Large tiles take less time per key; small ones leave room for more warps. */
int attention_paged_matrix(device *d, const struct attention_call *call, struct attention_cut *cut) {
    bool few = (int64_t)cut->sequences * call->a.kv_heads < FEW_LISTS;
    int warps = share_out(d, call, cut);
    cut->row_blocks = 1;
    TRY(attention_take_results(d, call, cut));
    if (attention_has_int8(&call->a)) return attention_paged_int8(d, call, cut, warps);
    if (call->a.head_dim > 64) return run_tiles<struct bf16_tile<128, 16>>(d, call, cut, warps);
    return few ? run_tiles<struct bf16_tile<64, 32>>(d, call, cut, warps)
               : run_tiles<struct bf16_tile<64, 16>>(d, call, cut, warps);
}
