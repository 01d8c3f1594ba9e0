/* Attention backward by the warpgroup instructions of compute capability 9.0, in bf16 with f32 sums, for heads of 64 and
 * 128; attention_matrix_backward.cu, whose two kernels these are, does it for other heads and GPUs.
 *
 * A block has two warpgroups with 64 keys, or 64 queries, each. They share the tiles of queries, or keys, that pass by:
 * two tiles are copied while one is used. Scores and their gradients are in registers, where they become the left factors
 * of the sums. */
#include "device/cuda/attention_warpgroup.h"

/* ---------------------------------------------------------------- dk, dv */

template <int DIM> struct query_stage {
    warpgroup_rows<DIM> q, dout;
    float lse[ATTENTION_TILE], delta[ATTENTION_TILE];

    __device__ void copy(const struct attention_call &call, const struct attention_head &head,
                         const struct attention_rounded &from, int first, int count) {
        attention_copy_tiles_of_queries<DIM, 1>(&q, call, head, call.a.q.data, first, count);
        attention_copy_tiles_of_queries<DIM, 1>(&dout, call, head, from.dout, first, count);
        if (threadIdx.x >= ATTENTION_TILE) return;
        int row = first + threadIdx.x;
        int64_t at = row < count ? attention_query(call, head, row) / DIM : 0;
        matrix_copy4(&lse[threadIdx.x], (const float *)call.a.lse.data + at, row < count);
        matrix_copy4(&delta[threadIdx.x], from.delta + at, row < count);
    }
};

template <int DIM> struct key_shared {
    warpgroup_rows<DIM> k[ATTENTION_GROUPS], v[ATTENTION_GROUPS];
    struct query_stage<DIM> stages[ATTENTION_STAGES];
};

/* s [64 keys, 64 queries] becomes weights; zeros where a query does not see a key. ALL: every query sees every key. `key`
 * is the lane's first one, the other is 8 further. */
template <int DIM, bool ALL>
__device__ void weigh_keys(float (&s)[32], const struct query_stage<DIM> &stage, const struct attention_call &call,
                           const attention_sequence &sequence, int first, int count, int key) {
    int lane = threadIdx.x % CUDA_WARP;
    float scale = call.a.scale * ATTENTION_LOG2_E;
#pragma unroll
    for (int n = 0; n < ATTENTION_TILE / 8; n++) {
        float2 lse = *(const float2 *)&stage.lse[8 * n + 2 * (lane % 4)];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float shift = (i ? lse.y : lse.x) * ATTENTION_LOG2_E;
            struct attention_range sees = {INT32_MIN, INT32_MAX};
            if (!ALL) sees = attention_row_visible(call, sequence, first + 8 * n + 2 * (lane % 4) + i, count);
#pragma unroll
            for (int r = 0; r < 2; r++) {
                int u = key + 8 * r, at = 4 * n + 2 * r + i;
                float weight = attention_exp2(s[at] * scale - shift);
                s[at] = ALL || (u >= sees.begin && u < sees.end) ? weight : 0;
            }
        }
    }
}

/* dp [64 keys, 64 queries] becomes dS. A weight of zero stands for a key that is not seen. */
template <int DIM>
__device__ void find_key_gradients(float (&dp)[32], const float (&weights)[32], const struct query_stage<DIM> &stage) {
    int lane = threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int n = 0; n < ATTENTION_TILE / 8; n++) {
        float2 delta = *(const float2 *)&stage.delta[8 * n + 2 * (lane % 4)];
#pragma unroll
        for (int i = 0; i < 4; i++) dp[4 * n + i] = weights[4 * n + i] * (dp[4 * n + i] - (i % 2 ? delta.y : delta.x));
    }
}

template <int DIM>
__global__ static void __launch_bounds__(ATTENTION_GROUP_THREADS, 1)
    key_gradients(struct attention_call call, int sequences, struct attention_rounded from) {
    extern __shared__ char shared[];
    struct key_shared<DIM> *own = attention_aligned<struct key_shared<DIM>>(shared);
    int task = blockIdx.x, group = threadIdx.x / WARPGROUP;
    struct attention_head head = attention_head_of(call, task / call.a.kv_heads % sequences, task % call.a.kv_heads);
    int key = task / call.a.kv_heads / sequences * (ATTENTION_GROUPS * ATTENTION_TILE), end = min(key + ATTENTION_GROUPS * ATTENTION_TILE, head.s.kv_rows);
    int count = head.s.q_rows * call.group;
    if (key >= end) return;

    float dk[DIM / 64][32] = {}, dv[DIM / 64][32] = {};
    struct attention_range rows = attention_rows_seeing(call, head.s, key, end, count);
    int first = rows.begin / ATTENTION_TILE * ATTENTION_TILE, mine = key + group * ATTENTION_TILE;
    attention_copy_tiles_of_keys<DIM, ATTENTION_GROUPS>(own->k, call, head, call.a.past.k, call.a.k, key, end);
    attention_copy_tiles_of_keys<DIM, ATTENTION_GROUPS>(own->v, call, head, call.a.past.v, call.a.v, key, end);
#pragma unroll
    for (int i = 0; i < ATTENTION_STAGES - 1; i++) {
        own->stages[i].copy(call, head, from, first + i * ATTENTION_TILE, count);
        matrix_commit();
    }
    for (int at = 0; first < rows.end; first += ATTENTION_TILE, at = attention_next_stage(at)) {
        struct query_stage<DIM> &stage = own->stages[at];
        float s[32], dp[32];
        uint32_t weights[4][4], gradients[4][4];
        attention_wait_for_stage();
        int ahead = first + (ATTENTION_STAGES - 1) * ATTENTION_TILE;
        if (ahead < rows.end) own->stages[attention_last_stage(at)].copy(call, head, from, ahead, count);
        matrix_commit();
        warpgroup_begin();
        warpgroup_rows_by_rows<DIM>(s, own->k[group], stage.q);
        warpgroup_commit();
        warpgroup_rows_by_rows<DIM>(dp, own->v[group], stage.dout);
        warpgroup_commit();
        bool all = attention_sees_all(call, head.s, first, ATTENTION_TILE, count, mine, ATTENTION_TILE);
        warpgroup_wait<1>();
        warpgroup_hold(s);
        if (all)
            weigh_keys<DIM, true>(s, stage, call, head.s, first, count, mine + attention_lane_row());
        else
            weigh_keys<DIM, false>(s, stage, call, head.s, first, count, mine + attention_lane_row());
        warpgroup_pack(weights, s);
        warpgroup_begin();
        warpgroup_add_rows<DIM>(dv, weights, stage.dout);
        warpgroup_commit();
        warpgroup_wait<1>();
        warpgroup_hold(dp);
        find_key_gradients<DIM>(dp, s, stage);
        warpgroup_pack(gradients, dp);
        warpgroup_begin();
        warpgroup_add_rows<DIM>(dk, gradients, stage.q);
        warpgroup_commit();
        warpgroup_wait<0>();
#pragma unroll
        for (int p = 0; p < DIM / 64; p++) {
            warpgroup_hold(dv[p]);
            warpgroup_hold(dk[p]);
        }
    }
    matrix_wait<0>();
    auto element = [&](int u) { return ((int64_t)(head.s.kv_row + u) * call.a.kv_heads + head.kv_head) * DIM; };
    attention_add_gradients<DIM>(call.a.dk, dk, call.a.scale, mine, end, element);
    attention_add_gradients<DIM>(call.a.dv, dv, 1.0f, mine, end, element);
}

/* ---------------------------------------------------------------- dq */

template <int DIM> struct query_shared {
    warpgroup_rows<DIM> q[ATTENTION_GROUPS], dout[ATTENTION_GROUPS];
    struct attention_key_stage<DIM> stages[ATTENTION_STAGES];
};

/* s [64 queries, 64 keys] becomes weights; zeros where a query does not see a key. lse[r], sees[r]: of the lane's two
 * rows. `key` is the lane's first one. */
template <bool ALL>
__device__ void weigh_queries(float (&s)[32], const float lse[2], const struct attention_range sees[2], float scale,
                              int key) {
#pragma unroll
    for (int n = 0; n < ATTENTION_TILE / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int u = key + 8 * n + i % 2;
            float weight = attention_exp2(s[4 * n + i] * scale - lse[i / 2]);
            s[4 * n + i] = ALL || (u >= sees[i / 2].begin && u < sees[i / 2].end) ? weight : 0;
        }
}

template <int DIM>
__global__ static void __launch_bounds__(ATTENTION_GROUP_THREADS, DIM <= 64 ? 2 : 1)
    query_gradients(struct attention_call call, int sequences, int query_tiles, struct attention_rounded from) {
    extern __shared__ char shared[];
    struct query_shared<DIM> *own = attention_aligned<struct query_shared<DIM>>(shared);
    int task = blockIdx.x, group = threadIdx.x / WARPGROUP;
    struct attention_head head = attention_head_of(call, task / call.a.kv_heads % sequences, task % call.a.kv_heads);
    int count = head.s.q_rows * call.group;
    int first = (query_tiles - 1 - task / call.a.kv_heads / sequences) * (ATTENTION_GROUPS * ATTENTION_TILE);
    if (first >= count) return;

    float dq[DIM / 64][32] = {}, lse[2] = {}, delta[2] = {};
    struct attention_range sees[2];
    int key = attention_row_visible(call, head.s, first, count).begin;
    int last = attention_row_visible(call, head.s, min(first + ATTENTION_GROUPS * ATTENTION_TILE, count) - 1, count).end;
    int mine = first + group * ATTENTION_TILE, row = mine + attention_lane_row();
    attention_copy_tiles_of_queries<DIM, ATTENTION_GROUPS>(own->q, call, head, call.a.q.data, first, count);
    attention_copy_tiles_of_queries<DIM, ATTENTION_GROUPS>(own->dout, call, head, from.dout, first, count);
#pragma unroll
    for (int i = 0; i < ATTENTION_STAGES - 1; i++) {
        own->stages[i].copy(call, head, key + i * ATTENTION_TILE, last);
        matrix_commit();
    }
    for (int r = 0; r < 2; r++) {
        sees[r] = attention_row_visible(call, head.s, row + 8 * r, count);
        if (row + 8 * r >= count) continue;
        int64_t at = attention_query(call, head, row + 8 * r) / DIM;
        lse[r] = ((const float *)call.a.lse.data)[at] * ATTENTION_LOG2_E;
        delta[r] = from.delta[at];
    }
    for (int at = 0; key < last; key += ATTENTION_TILE, at = attention_next_stage(at)) {
        float s[32], dp[32];
        uint32_t gradients[4][4];
        attention_wait_for_stage();
        int ahead = key + (ATTENTION_STAGES - 1) * ATTENTION_TILE, u = key + 2 * ((int)threadIdx.x % 4);
        if (ahead < last) own->stages[attention_last_stage(at)].copy(call, head, ahead, last);
        matrix_commit();
        warpgroup_begin();
        warpgroup_rows_by_rows<DIM>(s, own->q[group], own->stages[at].k);
        warpgroup_commit();
        warpgroup_rows_by_rows<DIM>(dp, own->dout[group], own->stages[at].v);
        warpgroup_commit();
        bool all = attention_sees_all(call, head.s, mine, ATTENTION_TILE, count, key, ATTENTION_TILE);
        warpgroup_wait<1>();
        warpgroup_hold(s);
        if (all)
            weigh_queries<true>(s, lse, sees, call.a.scale * ATTENTION_LOG2_E, u);
        else
            weigh_queries<false>(s, lse, sees, call.a.scale * ATTENTION_LOG2_E, u);
        warpgroup_wait<0>();
        warpgroup_hold(dp);
#pragma unroll
        for (int i = 0; i < 32; i++) dp[i] = s[i] * (dp[i] - delta[i / 2 % 2]);
        warpgroup_pack(gradients, dp);
        warpgroup_begin();
        warpgroup_add_rows<DIM>(dq, gradients, own->stages[at].k);
        warpgroup_commit();
        warpgroup_wait<0>();
#pragma unroll
        for (int p = 0; p < DIM / 64; p++) warpgroup_hold(dq[p]);
    }
    matrix_wait<0>();
    auto element = [&](int i) { return attention_query(call, head, i); };
    attention_add_gradients<DIM>(call.a.dq, dq, call.a.scale, mine, count, element);
}

/* ---------------------------------------------------------------- the entry */

template <int DIM> static int run(device *d, const struct attention_call *call, struct attention_rounded from) {
    constexpr int EACH = ATTENTION_GROUPS * ATTENTION_TILE;
    size_t key_bytes = WARPGROUP_ALIGN + sizeof(struct key_shared<DIM>);
    size_t query_bytes = WARPGROUP_ALIGN + sizeof(struct query_shared<DIM>);
    int64_t heads = call->a.sequences.rows * call->a.kv_heads, key_tiles = (call->a.max_kv_rows + EACH - 1) / EACH;
    int64_t query_tiles = ((int64_t)call->a.max_q_rows * call->group + EACH - 1) / EACH;
    int sequences = (int)call->a.sequences.rows;
    TRY(cuda_allow_shared(d, key_gradients<DIM>, key_bytes));
    TRY(cuda_allow_shared(d, query_gradients<DIM>, query_bytes));
    if ((call->a.dk.data || call->a.dv.data) && key_tiles > 0) {
        key_gradients<DIM>
            <<<(unsigned)(heads * key_tiles), ATTENTION_GROUP_THREADS, key_bytes, cuda_stream(d)>>>(*call, sequences, from);
    }
    if (call->a.dq.data) {
        query_gradients<DIM><<<(unsigned)(heads * query_tiles), ATTENTION_GROUP_THREADS, query_bytes, cuda_stream(d)>>>(
            *call, sequences, (int)query_tiles, from);
    }
    return LCKV_OK;
}

bool attention_for_warpgroup_backward(device *d, const struct op_attention *a) {
    return cuda_state_of(d)->warpgroups && (a->head_dim == 64 || a->head_dim == 128);
}

int attention_warpgroup_backward(device *d, const struct attention_call *call, struct attention_rounded from) {
    return call->a.head_dim == 64 ? run<64>(d, call, from) : run<128>(d, call, from);
}
