/* Attention backward on tensor cores, in bf16 with f32 sums; attention_backward.cu does it in f32.
 *
 * dout is rounded to bf16 beforehand if it is f32, in the pass that computes delta. A warp has 16 keys, or 16 queries,
 * of its block and keeps their gradients in registers; weights and their gradients stay in registers between products.
 * While a warp works on a tile, the next one is copied. */
#include "device/cuda/attention_matrix.h"

enum { TILE = ATTENTION_MATRIX_WARPS * 16, PREPARING = 256 /* threads */ };

/* delta, the logsumexp in powers of two, and dout in bf16 where `rounded` is wanted. `lanes` lanes have a row of a
 * head, a chunk each. Rows of no sequence do no harm. */
__global__ static void prepare(struct attention_call call, __nv_bfloat16 *rounded, struct attention_rounded to,
                               int lanes, int64_t count) {
    int64_t i = ((int64_t)blockIdx.x * PREPARING + threadIdx.x) / lanes, dim = call.a.head_dim, end = (i + 1) * dim;
    int64_t at = i * dim + threadIdx.x % lanes * MATRIX_CHUNK;
    float sum = 0;
    if (i < count && at < end) {
        struct cuda_eight out = cuda_get8(call.a.out.data, DTYPE_BF16, at, end);
        struct cuda_eight dout = cuda_get8(call.a.dout.data, call.a.dout.type, at, end);
        for (int j = 0; j < MATRIX_CHUNK; j++) sum += out.at[j] * dout.at[j];
        if (rounded) cuda_set8(rounded, DTYPE_BF16, at, end, dout);
    }
    sum = cuda_join_lanes(sum, lanes, cuda_plus());
    if (i >= count || threadIdx.x % lanes != 0) return;
    to.delta[i] = sum;
    to.lse[i] = ((const float *)call.a.lse.data)[i] * ATTENTION_LOG2_E;
}

/* ---------------------------------------------------------------- 16 rows of a left tile by a right tile's rows */

typedef float fragments[TILE / 8][4]; /* [16, TILE]: for each eight columns, the fragment of matrix_multiply() */

/* out = left rows [row, row + 16) times the right tile's rows, transposed. */
template <int DIM> __device__ void multiply(fragments out, char *left, int row, char *right) {
#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) out[n][i] = 0;
#pragma unroll
    for (int k = 0; k < DIM / 16; k++) {
        uint32_t a[4];
        matrix_left<DIM>(a, left, row, k);
#pragma unroll
        for (int n = 0; n < TILE / 16; n++) {
            uint32_t b[4];
            matrix_right<DIM>(b, right, 16 * n, k);
            matrix_multiply(out[2 * n], a, b[0], b[1]);
            matrix_multiply(out[2 * n + 1], a, b[2], b[3]);
        }
    }
}

/* sum [16, DIM] += weights [16, TILE] times the tile's rows. */
template <int DIM> __device__ void add_rows(float sum[DIM / 8][4], const fragments weights, char *rows) {
#pragma unroll
    for (int k = 0; k < TILE / 16; k++) {
        uint32_t a[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float *pair = &weights[2 * k + i / 2][i % 2 * 2];
            a[i] = matrix_pair(pair[0], pair[1]);
        }
#pragma unroll
        for (int n = 0; n < DIM / 16; n++) {
            uint32_t b[4];
            matrix_right_rows<DIM>(b, rows, 16 * k, n);
            matrix_multiply(sum[2 * n], a, b[0], b[1]);
            matrix_multiply(sum[2 * n + 1], a, b[2], b[3]);
        }
    }
}

/* A warp's 16 gradient rows += factor * sum; element(row) is the start of a row; rows from `count` on do not exist. */
template <int DIM, typename Element>
__device__ void store(view gradient, const float sum[DIM / 8][4], float factor, int row, int count, int dim,
                      Element element) {
    int lane = threadIdx.x % CUDA_WARP;
    if (!gradient.data) return;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int own = row + 8 * r + lane / 4;
        if (own >= count) continue;
        int64_t at = element(own) + 2 * (lane % 4);
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) {
            if (8 * n >= dim) break;
            attention_add_pair(gradient, at + 8 * n, factor * sum[n][2 * r], factor * sum[n][2 * r + 1]);
        }
    }
}

/* ---------------------------------------------------------------- dk, dv */

/* A stage of copies: a tile of queries. */
template <int DIM> struct query_stage {
    char q[TILE * DIM * 2], dout[TILE * DIM * 2];
    float lse[TILE], delta[TILE];

    __device__ void copy(const struct attention_call &call, const struct attention_head &head,
                         const struct attention_rounded &from, int first, int count) {
        attention_copy_queries<DIM, TILE>(q, call, head, call.a.q.data, first, count);
        attention_copy_queries<DIM, TILE>(dout, call, head, from.dout, first, count);
        for (int r = threadIdx.x; r < TILE; r += ATTENTION_MATRIX_THREADS) {
            bool there = first + r < count;
            int64_t at = there ? attention_query(call, head, first + r) / call.a.head_dim : 0;
            matrix_copy4(&lse[r], (const float *)call.a.lse.data + at, there);
            matrix_copy4(&delta[r], from.delta + at, there);
        }
    }
};

/* s and dp, both [16 keys, TILE queries], become weights and dS; zeros where a query does not see a key. */
template <int DIM>
__device__ void weigh_keys(fragments s, fragments dp, const struct query_stage<DIM> &stage,
                           const struct attention_call &call, const attention_sequence &sequence, int first, int count,
                           int key, bool all) {
    int lane = threadIdx.x % CUDA_WARP;
    float scale = call.a.scale * ATTENTION_LOG2_E;
#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int column = 8 * n + 2 * (lane % 4) + i;
            float lse = stage.lse[column] * ATTENTION_LOG2_E, delta = stage.delta[column];
            struct attention_range sees = {INT32_MIN, INT32_MAX};
            if (!all) sees = attention_row_visible(call, sequence, first + column, count);
#pragma unroll
            for (int r = 0; r < 2; r++) {
                int u = key + 8 * r + lane / 4;
                bool seen = u >= sees.begin && u < sees.end;
                float weight = seen ? exp2f(s[n][2 * r + i] * scale - lse) : 0;
                s[n][2 * r + i] = weight;
                dp[n][2 * r + i] = seen ? weight * (dp[n][2 * r + i] - delta) : 0;
            }
        }
}

template <int DIM>
__global__ static void __launch_bounds__(ATTENTION_MATRIX_THREADS)
    key_gradients(struct attention_call call, int sequences, struct attention_rounded from) {
    extern __shared__ float shared[];
    char *k = (char *)shared, *v = k + TILE * DIM * 2;
    struct query_stage<DIM> *stages = (struct query_stage<DIM> *)(v + TILE * DIM * 2);
    int task = blockIdx.x, row = threadIdx.x / CUDA_WARP * 16;
    struct attention_head head = attention_head_of(call, task / call.a.kv_heads % sequences, task % call.a.kv_heads);
    int key = task / call.a.kv_heads / sequences * TILE, end = min(key + TILE, head.s.kv_rows);
    int count = head.s.q_rows * call.group;
    if (key >= end) return;

    float dk[DIM / 8][4] = {}, dv[DIM / 8][4] = {};
    struct attention_range rows = attention_rows_seeing(call, head.s, key, end, count);
    int first = rows.begin / TILE * TILE;
    attention_copy_keys<DIM, TILE>(k, call, head, call.a.past.k, call.a.k, key, end);
    attention_copy_keys<DIM, TILE>(v, call, head, call.a.past.v, call.a.v, key, end);
    stages[0].copy(call, head, from, first, count);
    matrix_commit();
    for (int at = 0; first < rows.end; first += TILE, at ^= 1) {
        stages[at ^ 1].copy(call, head, from, first + TILE, first + TILE < rows.end ? count : 0);
        matrix_commit();
        matrix_wait<1>();
        __syncthreads();
        fragments s, dp;
        multiply<DIM>(s, k, row, stages[at].q);
        multiply<DIM>(dp, v, row, stages[at].dout);
        bool all = attention_sees_all(call, head.s, first, TILE, count, key, TILE);
        weigh_keys<DIM>(s, dp, stages[at], call, head.s, first, count, key + row, all);
        add_rows<DIM>(dv, s, stages[at].dout);
        add_rows<DIM>(dk, dp, stages[at].q);
        __syncthreads();
    }
    matrix_wait<0>();
    auto element = [&](int own) {
        return ((int64_t)(head.s.kv_row + key + own) * call.a.kv_heads + head.kv_head) * call.a.head_dim;
    };
    store<DIM>(call.a.dk, dk, call.a.scale, row, end - key, call.a.head_dim, element);
    store<DIM>(call.a.dv, dv, 1.0f, row, end - key, call.a.head_dim, element);
}

/* ---------------------------------------------------------------- dq */

/* A stage of copies: a tile of keys. */
template <int DIM> struct key_stage {
    char k[TILE * DIM * 2], v[TILE * DIM * 2];

    __device__ void copy(const struct attention_call &call, const struct attention_head &head, int key, int end) {
        attention_copy_keys<DIM, TILE>(k, call, head, call.a.past.k, call.a.k, key, end);
        attention_copy_keys<DIM, TILE>(v, call, head, call.a.past.v, call.a.v, key, end);
    }
};

/* s and dp, both [16 queries, TILE keys], become dS in dp. lse[r], delta[r]: of the lane's two rows. */
__device__ static void weigh_queries(const fragments s, fragments dp, const float lse[2], const float delta[2],
                                     const struct attention_call &call, const attention_sequence &sequence, int row,
                                     int count, int key, bool all) {
    int lane = threadIdx.x % CUDA_WARP;
    float scale = call.a.scale * ATTENTION_LOG2_E;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        struct attention_range sees = {INT32_MIN, INT32_MAX};
        if (!all) sees = attention_row_visible(call, sequence, row + 8 * r + lane / 4, count);
#pragma unroll
        for (int n = 0; n < TILE / 8; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int u = key + 8 * n + 2 * (lane % 4) + i;
                bool seen = u >= sees.begin && u < sees.end;
                float weight = exp2f(s[n][2 * r + i] * scale - lse[r]);
                dp[n][2 * r + i] = seen ? weight * (dp[n][2 * r + i] - delta[r]) : 0;
            }
    }
}

template <int DIM>
__global__ static void __launch_bounds__(ATTENTION_MATRIX_THREADS)
    query_gradients(struct attention_call call, int sequences, int query_tiles, struct attention_rounded from) {
    extern __shared__ float shared[];
    char *q = (char *)shared, *dout = q + TILE * DIM * 2;
    struct key_stage<DIM> *stages = (struct key_stage<DIM> *)(dout + TILE * DIM * 2);
    int task = blockIdx.x, row = threadIdx.x / CUDA_WARP * 16, lane = threadIdx.x % CUDA_WARP;
    struct attention_head head = attention_head_of(call, task / call.a.kv_heads % sequences, task % call.a.kv_heads);
    int count = head.s.q_rows * call.group, first = (query_tiles - 1 - task / call.a.kv_heads / sequences) * TILE;
    if (first >= count) return;

    float dq[DIM / 8][4] = {}, lse[2] = {}, delta[2] = {};
    int key = attention_row_visible(call, head.s, first, count).begin;
    int last = attention_row_visible(call, head.s, min(first + TILE, count) - 1, count).end;
    attention_copy_queries<DIM, TILE>(q, call, head, call.a.q.data, first, count);
    attention_copy_queries<DIM, TILE>(dout, call, head, from.dout, first, count);
    stages[0].copy(call, head, key, last);
    matrix_commit();
    for (int r = 0; r < 2; r++) {
        int own = first + row + 8 * r + lane / 4;
        if (own >= count) continue;
        int64_t at = attention_query(call, head, own) / call.a.head_dim;
        lse[r] = ((const float *)call.a.lse.data)[at] * ATTENTION_LOG2_E;
        delta[r] = from.delta[at];
    }
    for (int at = 0; key < last; key += TILE, at ^= 1) {
        stages[at ^ 1].copy(call, head, key + TILE, last);
        matrix_commit();
        matrix_wait<1>();
        __syncthreads();
        fragments s, dp;
        multiply<DIM>(s, q, row, stages[at].k);
        multiply<DIM>(dp, dout, row, stages[at].v);
        bool all = attention_sees_all(call, head.s, first, TILE, count, key, TILE);
        weigh_queries(s, dp, lse, delta, call, head.s, first + row, count, key, all);
        add_rows<DIM>(dq, dp, stages[at].k);
        __syncthreads();
    }
    matrix_wait<0>();
    auto element = [&](int own) { return attention_query(call, head, first + own); };
    store<DIM>(call.a.dq, dq, call.a.scale, row, count - first, call.a.head_dim, element);
}

/* ---------------------------------------------------------------- the entry */

template <int DIM> static int run(device *d, const struct attention_call *call, struct attention_rounded from) {
    size_t key_bytes = 2 * TILE * DIM * 2 + 2 * sizeof(struct query_stage<DIM>);
    size_t query_bytes = 2 * TILE * DIM * 2 + 2 * sizeof(struct key_stage<DIM>);
    int64_t heads = call->a.sequences.rows * call->a.kv_heads, key_tiles = (call->a.max_kv_rows + TILE - 1) / TILE;
    int64_t query_tiles = ((int64_t)call->a.max_q_rows * call->group + TILE - 1) / TILE;
    int sequences = (int)call->a.sequences.rows;
    TRY(cuda_allow_shared(d, key_gradients<DIM>, key_bytes));
    TRY(cuda_allow_shared(d, query_gradients<DIM>, query_bytes));
    if ((call->a.dk.data || call->a.dv.data) && key_tiles > 0) {
        key_gradients<DIM><<<(unsigned)(heads * key_tiles), ATTENTION_MATRIX_THREADS, key_bytes, cuda_stream(d)>>>(
            *call, sequences, from);
    }
    if (call->a.dq.data) {
        query_gradients<DIM>
            <<<(unsigned)(heads * query_tiles), ATTENTION_MATRIX_THREADS, query_bytes, cuda_stream(d)>>>(
                *call, sequences, (int)query_tiles, from);
    }
    return LCKV_OK;
}

int attention_matrix_backward(device *d, const struct attention_call *call) {
    int64_t count = call->a.dout.rows * call->a.heads;
    bool rounds = !attention_in_chunks(call->a.dout);
    size_t dout_bytes = rounds ? ((size_t)(count * call->a.head_dim) * sizeof(__nv_bfloat16) + 255) / 256 * 256 : 0;
    char *room;
    int lanes = 1;
    while (lanes * MATRIX_CHUNK < call->a.head_dim) lanes *= 2;
    TRY(cuda_workspace(d, CUDA_WORK_PARTIAL, dout_bytes + 2 * (size_t)count * sizeof(float), (void **)&room));
    __nv_bfloat16 *rounded = rounds ? (__nv_bfloat16 *)room : NULL;
    float *numbers = (float *)(room + dout_bytes);
    struct attention_rounded from = {rounds ? rounded : (const __nv_bfloat16 *)call->a.dout.data, numbers,
                                     numbers + count};
    prepare<<<cuda_blocks(count * lanes, PREPARING), PREPARING, 0, cuda_stream(d)>>>(*call, rounded, from, lanes,
                                                                                     count);
    if (attention_for_warpgroup_backward(d, &call->a)) return attention_warpgroup_backward(d, call, from);
    return call->a.head_dim <= 64 ? run<64>(d, call, from) : run<128>(d, call, from);
}
