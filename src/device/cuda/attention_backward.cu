/* Attention backward: FlashAttention-2 (Dao 2023, algorithm 2), in f32 arithmetic, for lists of new rows only.
 *
 * One kernel has a block per tile of keys, which passes over the queries that see it and owns dk and dv of its keys.
 * Another has a block per tile of queries, which passes over the keys it sees and owns dq of its queries. Both
 * recompute the weights from the saved logsumexp,
 *     P = exp(S - lse),   dS = P * (dout V^T - delta),   dV = P^T dout,   dK = dS^T Q,   dQ = dS K,
 * delta = sum of dout * out over head_dim. Two of seven products are thus computed twice, and no sum depends on the
 * order in which blocks run. */
#include "device/cuda/attention.h"
#include "device/cuda/attention_matrix.h"

enum { WARPS = 8 };

/* delta[row, head]; one warp each. Rows of no sequence do no harm. */
__global__ static void make_delta(struct attention_call call, float *delta, int64_t count) {
    int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / CUDA_WARP, dim = call.a.head_dim, end = (i + 1) * dim;
    float sum = 0;
    if (i >= count) return;
    for (int64_t at = i * dim + threadIdx.x % CUDA_WARP * 4; at < end; at += CUDA_WARP * 4) {
        struct cuda_four out = cuda_get4(call.a.out.data, call.a.out.type, at, end);
        struct cuda_four dout = cuda_get4(call.a.dout.data, call.a.dout.type, at, end);
        for (int j = 0; j < 4; j++) sum += out.at[j] * dout.at[j];
    }
    sum = cuda_join_lanes(sum, CUDA_WARP, cuda_plus());
    if (threadIdx.x % CUDA_WARP == 0) delta[i] = sum;
}

/* Shared memory of a block: four tiles of rows, two of weights, and the numbers of the tile's queries. */
template <int TILE, int DIM> struct backward_tiles {
    static constexpr int PER = TILE / ATTENTION_SIDE, COLS = DIM / ATTENTION_SIDE, WEIGHTS = TILE + 4;
    static constexpr int ROWS = TILE * attention_row_floats<DIM>;
    static constexpr size_t BYTES = (4 * ROWS + 2 * TILE * WEIGHTS + 2 * TILE) * sizeof(float);
    float *q, *dout, *k, *v; /* q times scale */
    float *p, *ds;           /* [query, key] */
    float *lse, *delta;

    __device__ explicit backward_tiles(float *shared) {
        q = shared;
        dout = q + ROWS;
        k = dout + ROWS;
        v = k + ROWS;
        p = v + ROWS;
        ds = p + TILE * WEIGHTS;
        lse = ds + TILE * WEIGHTS;
        delta = lse + TILE;
    }

    __device__ void load_queries(const struct attention_call &call, const struct attention_head &head,
                                 const float *deltas, int first, int count) {
        attention_load_queries<TILE, DIM>(q, call, head, call.a.q, call.a.scale, first, count);
        attention_load_queries<TILE, DIM>(dout, call, head, call.a.dout, 1.0f, first, count);
        for (int r = threadIdx.x; r < TILE; r += ATTENTION_THREADS) {
            if (first + r >= count) continue;
            int64_t at = attention_query(call, head, first + r) / call.a.head_dim;
            lse[r] = ((const float *)call.a.lse.data)[at];
            delta[r] = deltas[at];
        }
    }

    __device__ void load_keys(const struct attention_call &call, const struct attention_head &head, int key, int end) {
        attention_load_keys<TILE, DIM>(k, call, head, call.a.past.k, call.a.k, key, end);
        attention_load_keys<TILE, DIM>(v, call, head, call.a.past.v, call.a.v, key, end);
    }

    /* P and dS of the loaded queries and keys; zeros where a query does not see a key. */
    __device__ void weigh(const struct attention_call &call, const attention_sequence &s, int first, int count, int key,
                          int end) {
        int x = threadIdx.x % ATTENTION_SIDE, y = threadIdx.x / ATTENTION_SIDE;
        float score[PER][PER], dp[PER][PER];
        attention_dots<PER, DIM>(score, q, k, x, y);
        attention_dots<PER, DIM>(dp, dout, v, x, y);
#pragma unroll
        for (int i = 0; i < PER; i++) {
            int row = y + ATTENTION_SIDE * i;
            struct attention_range sees = attention_row_visible(call, s, first + row, count);
#pragma unroll
            for (int j = 0; j < PER; j++) {
                int column = x + ATTENTION_SIDE * j, u = key + column;
                bool seen = u >= sees.begin && u < sees.end && u < end;
                float weight = seen ? expf(score[i][j] - lse[row]) : 0;
                p[row * WEIGHTS + column] = weight;
                ds[row * WEIGHTS + column] = seen ? weight * (dp[i][j] - delta[row]) : 0;
            }
        }
    }
};

/* gradient rows += sums * factor, for `count` rows of the thread from element(row) on. */
template <int PER, int COLS, typename Element>
__device__ void add_to(view gradient, const float sums[PER][COLS], float factor, int count, int dim, Element element) {
    int x = threadIdx.x % ATTENTION_SIDE, y = threadIdx.x / ATTENTION_SIDE;
    if (!gradient.data) return;
#pragma unroll
    for (int i = 0; i < PER; i++) {
        int row = y + ATTENTION_SIDE * i;
        if (row >= count) continue;
        int64_t first = element(row);
#pragma unroll
        for (int j = 0; j < COLS; j++) {
            int64_t at = first + x + ATTENTION_SIDE * j;
            if (at >= first + dim) continue;
            float before = gradient.fresh ? 0 : cuda_get(gradient.data, gradient.type, at);
            cuda_set(gradient.data, gradient.type, at, before + factor * sums[i][j]);
        }
    }
}

template <int TILE, int DIM>
__global__ static void __launch_bounds__(ATTENTION_THREADS)
    key_gradients(struct attention_call call, int sequences, const float *deltas) {
    using shape = backward_tiles<TILE, DIM>;
    extern __shared__ float shared[];
    shape tiles(shared);
    int task = blockIdx.x, x = threadIdx.x % ATTENTION_SIDE, y = threadIdx.x / ATTENTION_SIDE;
    struct attention_head head = attention_head_of(call, task / call.a.kv_heads % sequences, task % call.a.kv_heads);
    int key = task / call.a.kv_heads / sequences * TILE, end = min(key + TILE, head.s.kv_rows);
    int count = head.s.q_rows * call.group;
    if (key >= end) return;

    float dk[shape::PER][shape::COLS] = {}, dv[shape::PER][shape::COLS] = {};
    tiles.load_keys(call, head, key, end);
    for (int first = 0; first < count; first += TILE) {
        struct attention_range top = attention_row_visible(call, head.s, first, count);
        struct attention_range bottom = attention_row_visible(call, head.s, min(first + TILE, count) - 1, count);
        if (bottom.end <= key || top.begin >= end) continue;
        __syncthreads();
        tiles.load_queries(call, head, deltas, first, count);
        __syncthreads();
        tiles.weigh(call, head.s, first, count, key, end);
        __syncthreads();
        attention_add_rows<TILE, shape::PER, DIM>(dv, tiles.p, 1, shape::WEIGHTS, tiles.dout, x, y);
        attention_add_rows<TILE, shape::PER, DIM>(dk, tiles.ds, 1, shape::WEIGHTS, tiles.q, x, y);
    }
    auto element = [&](int row) {
        return ((int64_t)(head.s.kv_row + key + row) * call.a.kv_heads + head.kv_head) * call.a.head_dim;
    };
    add_to<shape::PER, shape::COLS>(call.a.dk, dk, 1.0f, end - key, call.a.head_dim, element);
    add_to<shape::PER, shape::COLS>(call.a.dv, dv, 1.0f, end - key, call.a.head_dim, element);
}

template <int TILE, int DIM>
__global__ static void __launch_bounds__(ATTENTION_THREADS)
    query_gradients(struct attention_call call, int sequences, int query_tiles, const float *deltas) {
    using shape = backward_tiles<TILE, DIM>;
    extern __shared__ float shared[];
    shape tiles(shared);
    int task = blockIdx.x, x = threadIdx.x % ATTENTION_SIDE, y = threadIdx.x / ATTENTION_SIDE;
    struct attention_head head = attention_head_of(call, task / call.a.kv_heads % sequences, task % call.a.kv_heads);
    int count = head.s.q_rows * call.group, first = (query_tiles - 1 - task / call.a.kv_heads / sequences) * TILE;
    if (first >= count) return;

    float dq[shape::PER][shape::COLS] = {};
    int key = attention_row_visible(call, head.s, first, count).begin;
    int last = attention_row_visible(call, head.s, min(first + TILE, count) - 1, count).end;
    tiles.load_queries(call, head, deltas, first, count);
    for (int end; key < last; key = end) {
        end = min(key + TILE, last);
        __syncthreads();
        tiles.load_keys(call, head, key, end);
        __syncthreads();
        tiles.weigh(call, head.s, first, count, key, end);
        __syncthreads();
        attention_add_rows<TILE, shape::PER, DIM>(dq, tiles.ds, shape::WEIGHTS, 1, tiles.k, x, y);
    }
    auto element = [&](int row) { return attention_query(call, head, first + row); };
    add_to<shape::PER, shape::COLS>(call.a.dq, dq, call.a.scale, count - first, call.a.head_dim, element);
}

template <int TILE, int DIM> static int run(device *d, const struct attention_call *call, const float *deltas) {
    size_t bytes = backward_tiles<TILE, DIM>::BYTES;
    int64_t heads = call->a.sequences.rows * call->a.kv_heads, key_tiles = (call->a.max_kv_rows + TILE - 1) / TILE;
    int64_t query_tiles = ((int64_t)call->a.max_q_rows * call->group + TILE - 1) / TILE;
    int sequences = (int)call->a.sequences.rows;
    TRY(cuda_allow_shared(d, key_gradients<TILE, DIM>, bytes));
    TRY(cuda_allow_shared(d, query_gradients<TILE, DIM>, bytes));
    if ((call->a.dk.data || call->a.dv.data) && key_tiles > 0) {
        key_gradients<TILE, DIM>
            <<<(unsigned)(heads * key_tiles), ATTENTION_THREADS, bytes, cuda_stream(d)>>>(*call, sequences, deltas);
    }
    if (call->a.dq.data) {
        query_gradients<TILE, DIM><<<(unsigned)(heads * query_tiles), ATTENTION_THREADS, bytes, cuda_stream(d)>>>(
            *call, sequences, (int)query_tiles, deltas);
    }
    return LCKV_OK;
}

int cuda_attention_backward(device *d, const struct op_attention *a) {
    TRY(attention_check(a));
    TRY(cuda_clear_fresh(d, a->dq)); /* rows of no sequence stay zero */
    TRY(cuda_clear_fresh(d, a->dk));
    TRY(cuda_clear_fresh(d, a->dv));
    if (a->k.data == NULL || a->heads == 0 || a->sequences.rows == 0 || a->max_q_rows == 0) return LCKV_OK;
    struct attention_call call = attention_call_of(a);
    if (attention_for_matrix(a)) return attention_matrix_backward(d, &call);
    int64_t count = a->dout.rows * a->heads;
    float *deltas;
    TRY(cuda_workspace(d, CUDA_WORK_PARTIAL, (size_t)count * sizeof *deltas, (void **)&deltas));
    make_delta<<<cuda_blocks(count, WARPS), WARPS * CUDA_WARP, 0, cuda_stream(d)>>>(call, deltas, count);
    if (a->head_dim <= 32) return run<32, 32>(d, &call, deltas);
    if (a->head_dim <= 64) return run<32, 64>(d, &call, deltas);
    if (a->head_dim <= 128) return run<32, 128>(d, &call, deltas);
    return run<16, 256>(d, &call, deltas);
}
