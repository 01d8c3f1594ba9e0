/* Attention backward by the warpgroup instructions of compute capability 9.0, in bf16 with f32 sums, for heads of 64
 * and 128; attention_matrix_backward.cu, whose two kernels these are, does it for other heads and GPUs.
 *
 * Scores and their gradients are in registers, where they become the left factors of the sums. While a warpgroup turns
 * scores into weights, the product of their gradients goes on. */
#include "device/cuda/attention_warpgroup.h"

/* ---------------------------------------------------------------- dk, dv */

/* A tile of queries. */
template <int DIM> struct query_stage {
    warpgroup_rows<DIM> q, dout;
    float lse[ATTENTION_TILE], delta[ATTENTION_TILE];
    int begin[ATTENTION_TILE], end[ATTENTION_TILE]; /* of the keys that a row sees */
};

/* A copying thread's part of the stages. The first threads have a row's numbers, too. */
template <int DIM> struct stage_reader {
    struct attention_query_reader<DIM> rows;
    int64_t number; /* of lse and delta */
    int query;

    __device__ void seek(const struct attention_call &call, const struct attention_head &head, int first) {
        int row = first + (int)threadIdx.x;
        number = attention_query(call, head, row) / DIM;
        query = row / call.group;
    }

    __device__ void begin(const struct attention_call &call, const struct attention_head &head, int first) {
        rows.begin(call, head, first);
        seek(call, head, first);
    }

    /* Starts copying the tile from row `first` on, and moves on to the next one. */
    __device__ void copy(struct query_stage<DIM> *to, const struct attention_call &call,
                         const struct attention_head &head, const struct attention_rounded &from, int first,
                         int count) {
        if (!attention_copies()) return;
        rows.copy(&to->q, call.a.q.data, first, count);
        rows.copy(&to->dout, from.dout, first, count);
        if (threadIdx.x < ATTENTION_TILE) {
            bool there = first + (int)threadIdx.x < count;
            struct attention_range sees = {INT32_MAX, INT32_MAX};
            if (there) sees = attention_visible(call, head.s, query);
            matrix_copy4(&to->lse[threadIdx.x], from.lse + (there ? number : 0), there);
            matrix_copy4(&to->delta[threadIdx.x], from.delta + (there ? number : 0), there);
            to->begin[threadIdx.x] = sees.begin;
            to->end[threadIdx.x] = sees.end;
        }
        first += ATTENTION_TILE;
        rows.next(call, head, first);
        if (rows.step == 0) return seek(call, head, first);
        query += ATTENTION_TILE / call.group;
        number += rows.step / DIM;
    }

    /* Starts copying the rows from `first` on into all stages but the last. */
    __device__ void copy_first(struct query_stage<DIM> *stages, const struct attention_call &call,
                               const struct attention_head &head, const struct attention_rounded &from, int first,
                               int count) {
#pragma unroll
        for (int i = 0; i < ATTENTION_STAGES - 1; i++) {
            copy(&stages[i], call, head, from, first + i * ATTENTION_TILE, count);
            matrix_commit();
        }
    }

    /* While the rows from `first` on are used in stage `used`: starts copying into the stage that was used before,
     * unless that would be rows from `end` on. */
    __device__ void copy_ahead(struct query_stage<DIM> *stages, int used, const struct attention_call &call,
                               const struct attention_head &head, const struct attention_rounded &from, int first,
                               int end, int count) {
        int ahead = first + (ATTENTION_STAGES - 1) * ATTENTION_TILE;
        if (ahead < end) copy(&stages[attention_last_stage(used)], call, head, from, ahead, count);
        matrix_commit();
    }
};

template <int DIM, int GROUPS> struct key_shared {
    struct attention_key_stage<DIM> keys[GROUPS];
    struct query_stage<DIM> stages[ATTENTION_STAGES];
};

/* s [64 keys, 64 queries] becomes weights; zeros where a query does not see a key. ALL: every query sees every key.
 * `key` is the lane's first one, the other is 8 further. */
template <int DIM, bool ALL>
__device__ void weigh_keys(float (&s)[32], const struct query_stage<DIM> &stage, float scale, int key) {
    int lane = threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int n = 0; n < ATTENTION_TILE / 8; n++) {
        int column = 8 * n + 2 * (lane % 4);
        float2 lse = *(const float2 *)&stage.lse[column];
        int2 begin = {}, end = {};
        if (!ALL) begin = *(const int2 *)&stage.begin[column], end = *(const int2 *)&stage.end[column];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int u = key + i / 2 * 8;
            float weight = attention_exp2(s[4 * n + i] * scale - (i % 2 ? lse.y : lse.x));
            bool seen = ALL || (u >= (i % 2 ? begin.y : begin.x) && u < (i % 2 ? end.y : end.x));
            s[4 * n + i] = seen ? weight : 0;
        }
    }
}

/* dp [64 keys, 64 queries] becomes dS. */
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

template <int DIM, int GROUPS>
__global__ static void __launch_bounds__(GROUPS *WARPGROUP, 1)
    key_gradients(struct attention_call call, int sequences, struct attention_rounded from) {
    extern __shared__ char shared[];
    struct key_shared<DIM, GROUPS> *own = attention_aligned<struct key_shared<DIM, GROUPS>>(shared);
    int task = blockIdx.x, group = threadIdx.x / WARPGROUP;
    struct attention_head head = attention_head_of(call, task / call.a.kv_heads % sequences, task % call.a.kv_heads);
    int key = task / call.a.kv_heads / sequences * (GROUPS * ATTENTION_TILE);
    int end = min(key + GROUPS * ATTENTION_TILE, head.s.kv_rows), count = head.s.q_rows * call.group;
    if (key >= end) return;

    float dk[DIM / 64][32] = {}, dv[DIM / 64][32] = {}, scale = call.a.scale * ATTENTION_LOG2_E;
    struct attention_range rows = attention_rows_seeing(call, head.s, key, end, count);
    int first = rows.begin / ATTENTION_TILE * ATTENTION_TILE, mine = key + group * ATTENTION_TILE;
    struct attention_range all = attention_rows_seeing_all(call, head.s, mine, mine + ATTENTION_TILE, count);
    struct stage_reader<DIM> reader;
    struct attention_key_reader<DIM, false> keys;
    reader.begin(call, head, first);
    keys.begin(call, head, key);
#pragma unroll
    for (int i = 0; i < GROUPS; i++, keys.next())
        if (attention_copies()) keys.copy(&own->keys[i], call, head, key + i * ATTENTION_TILE, end);
    reader.copy_first(own->stages, call, head, from, first, count);
    for (int at = 0; first < rows.end; first += ATTENTION_TILE, at = attention_next_stage(at)) {
        struct query_stage<DIM> &stage = own->stages[at];
        float s[32], dp[32];
        uint32_t weights[4][4], gradients[4][4];
        attention_wait_for_stage();
        reader.copy_ahead(own->stages, at, call, head, from, first, rows.end, count);
        warpgroup_begin();
        warpgroup_rows_by_rows<DIM>(s, own->keys[group].k, stage.q);
        warpgroup_commit();
        warpgroup_rows_by_rows<DIM>(dp, own->keys[group].v, stage.dout);
        warpgroup_commit();
        warpgroup_wait<1>();
        warpgroup_hold(s);
        if (first >= all.begin && first + ATTENTION_TILE <= all.end)
            weigh_keys<DIM, true>(s, stage, scale, mine + attention_lane_row());
        else
            weigh_keys<DIM, false>(s, stage, scale, mine + attention_lane_row());
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
        warpgroup_hold(dv);
        warpgroup_hold(dk);
    }
    matrix_wait<0>();
    auto element = [&](int u) { return ((int64_t)(head.s.kv_row + u) * call.a.kv_heads + head.kv_head) * DIM; };
    attention_add_gradients<DIM>(call.a.dk, dk, call.a.scale, mine, end, element);
    attention_add_gradients<DIM>(call.a.dv, dv, 1.0f, mine, end, element);
}

/* ---------------------------------------------------------------- dq */

enum { QUERY_GROUPS = 2 };

template <int DIM> struct query_shared {
    warpgroup_rows<DIM> q[QUERY_GROUPS], dout[QUERY_GROUPS];
    struct attention_key_stage<DIM> stages[ATTENTION_STAGES];
};

/* Numbers of a lane's two rows. */
struct row_numbers {
    float lse[2], delta[2];
    struct attention_range sees[2];
};

/* `row` is the first of the two. */
template <int DIM>
__device__ struct row_numbers read_numbers(const struct attention_call &call, const struct attention_head &head,
                                           const struct attention_rounded &from, int row, int count) {
    struct row_numbers numbers;
    for (int r = 0; r < 2; r++) {
        numbers.lse[r] = numbers.delta[r] = 0;
        numbers.sees[r] = attention_row_visible(call, head.s, row + 8 * r, count);
        if (row + 8 * r >= count) continue;
        int64_t at = attention_query(call, head, row + 8 * r) / DIM;
        numbers.lse[r] = from.lse[at];
        numbers.delta[r] = from.delta[at];
    }
    return numbers;
}

/* s [64 queries, 64 keys] becomes weights; zeros where a query does not see a key. `key` is the lane's first one. */
template <bool ALL>
__device__ void weigh_queries(float (&s)[32], const struct row_numbers &numbers, float scale, int key) {
#pragma unroll
    for (int n = 0; n < ATTENTION_TILE / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int u = key + 8 * n + i % 2;
            float weight = attention_exp2(s[4 * n + i] * scale - numbers.lse[i / 2]);
            s[4 * n + i] = ALL || (u >= numbers.sees[i / 2].begin && u < numbers.sees[i / 2].end) ? weight : 0;
        }
}

template <int DIM>
__global__ static void __launch_bounds__(QUERY_GROUPS *WARPGROUP, DIM <= 64 ? 2 : 1)
    query_gradients(struct attention_call call, int sequences, int query_tiles, struct attention_rounded from) {
    extern __shared__ char shared[];
    struct query_shared<DIM> *own = attention_aligned<struct query_shared<DIM>>(shared);
    int task = blockIdx.x, group = threadIdx.x / WARPGROUP;
    struct attention_head head = attention_head_of(call, task / call.a.kv_heads % sequences, task % call.a.kv_heads);
    int count = head.s.q_rows * call.group;
    int first = (query_tiles - 1 - task / call.a.kv_heads / sequences) * (QUERY_GROUPS * ATTENTION_TILE);
    if (first >= count) return;

    float dq[DIM / 64][32] = {}, scale = call.a.scale * ATTENTION_LOG2_E;
    int key = attention_row_visible(call, head.s, first, count).begin;
    int last = attention_row_visible(call, head.s, min(first + QUERY_GROUPS * ATTENTION_TILE, count) - 1, count).end;
    int mine = first + group * ATTENTION_TILE, row = mine + attention_lane_row();
    struct attention_range all = attention_seen_by_all(call, head.s, mine, count);
    struct attention_query_reader<DIM> rows;
    struct attention_key_reader<DIM, false> keys;
    rows.begin(call, head, first);
    keys.begin(call, head, key);
#pragma unroll
    for (int i = 0; i < QUERY_GROUPS; i++) {
        rows.copy(&own->q[i], call.a.q.data, first + i * ATTENTION_TILE, count);
        rows.copy(&own->dout[i], from.dout, first + i * ATTENTION_TILE, count);
        rows.next(call, head, first + (i + 1) * ATTENTION_TILE);
    }
    keys.copy_first(own->stages, call, head, key, last);
    struct row_numbers numbers = read_numbers<DIM>(call, head, from, row, count);
    for (int at = 0; key < last; key += ATTENTION_TILE, at = attention_next_stage(at)) {
        struct attention_key_stage<DIM> &stage = own->stages[at];
        float s[32], dp[32];
        uint32_t gradients[4][4];
        attention_wait_for_stage();
        int u = key + 2 * ((int)threadIdx.x % 4);
        keys.copy_ahead(own->stages, at, call, head, key, last);
        warpgroup_begin();
        warpgroup_rows_by_rows<DIM>(s, own->q[group], stage.k);
        warpgroup_commit();
        warpgroup_rows_by_rows<DIM>(dp, own->dout[group], stage.v);
        warpgroup_commit();
        warpgroup_wait<1>();
        warpgroup_hold(s);
        if (key >= all.begin && key + ATTENTION_TILE <= all.end)
            weigh_queries<true>(s, numbers, scale, u);
        else
            weigh_queries<false>(s, numbers, scale, u);
        warpgroup_wait<0>();
        warpgroup_hold(dp);
#pragma unroll
        for (int i = 0; i < 32; i++) dp[i] = s[i] * (dp[i] - numbers.delta[i / 2 % 2]);
        warpgroup_pack(gradients, dp);
        warpgroup_begin();
        warpgroup_add_rows<DIM>(dq, gradients, stage.k);
        warpgroup_commit();
        warpgroup_wait<0>();
        warpgroup_hold(dq);
    }
    matrix_wait<0>();
    auto element = [&](int i) { return attention_query(call, head, i); };
    attention_add_gradients<DIM>(call.a.dq, dq, call.a.scale, mine, count, element);
}

/* ---------------------------------------------------------------- the entry */

template <int DIM, int KEY_GROUPS>
static int run(device *d, const struct attention_call *call, struct attention_rounded from) {
    constexpr int KEYS = KEY_GROUPS * ATTENTION_TILE, QUERIES = QUERY_GROUPS * ATTENTION_TILE;
    size_t key_bytes = WARPGROUP_ALIGN + sizeof(struct key_shared<DIM, KEY_GROUPS>);
    size_t query_bytes = WARPGROUP_ALIGN + sizeof(struct query_shared<DIM>);
    int64_t heads = call->a.sequences.rows * call->a.kv_heads, key_tiles = (call->a.max_kv_rows + KEYS - 1) / KEYS;
    int64_t query_tiles = ((int64_t)call->a.max_q_rows * call->group + QUERIES - 1) / QUERIES;
    int sequences = (int)call->a.sequences.rows;
    auto key_kernel = key_gradients<DIM, KEY_GROUPS>;
    TRY(cuda_allow_shared(d, key_kernel, key_bytes));
    TRY(cuda_allow_shared(d, query_gradients<DIM>, query_bytes));
    if ((call->a.dk.data || call->a.dv.data) && key_tiles > 0) {
        key_kernel<<<(unsigned)(heads * key_tiles), KEY_GROUPS * WARPGROUP, key_bytes, cuda_stream(d)>>>(
            *call, sequences, from);
    }
    if (call->a.dq.data) {
        query_gradients<DIM>
            <<<(unsigned)(heads * query_tiles), QUERY_GROUPS * WARPGROUP, query_bytes, cuda_stream(d)>>>(
                *call, sequences, (int)query_tiles, from);
    }
    return LCKV_OK;
}

bool attention_for_warpgroup_backward(device *d, const struct op_attention *a) {
    return cuda_state_of(d)->encode_map && (a->head_dim == 64 || a->head_dim == 128);
}

/* As many warpgroups as the registers suffice for. */
int attention_warpgroup_backward(device *d, const struct attention_call *call, struct attention_rounded from) {
    return call->a.head_dim == 64 ? run<64, 3>(d, call, from) : run<128, 2>(d, call, from);
}
