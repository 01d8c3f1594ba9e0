/* Attention forward: FlashAttention-2 (Dao 2023, algorithm 1), in f32 arithmetic, for every type and head_dim.
 *
 * A block handles a tile of queries of one sequence and KV head. It passes once over the keys that the tile sees,
 * one tile at a time, with a running maximum and sum per row, and stores at most TILE by TILE scores. The tiles of
 * the last queries, which see most keys, come first. attention_paged.cu handles sequences with few queries and a
 * past. */
#include "device/cuda/attention.h"
#include "device/cuda/attention_matrix.h"

template <int TILE, int DIM> struct forward_tiles {
    static constexpr int PER = TILE / ATTENTION_SIDE, COLS = DIM / ATTENTION_SIDE, WEIGHTS = TILE + 4;
    static constexpr size_t BYTES =
        (2 * TILE * attention_row_floats<DIM> + TILE * WEIGHTS) * sizeof(float); /* queries, keys or values, weights */
};

/* State of a thread's PER rows. */
template <int PER> struct row_state {
    struct attention_range sees[PER];
    float largest[PER], sum[PER];
};

/* Turns scores into weights relative to the rows' running maxima, and rescales out. */
template <int PER, int COLS>
__device__ void soften(float scores[PER][PER], struct row_state<PER> *rows, float out[PER][COLS], int key, int end) {
#pragma unroll
    for (int i = 0; i < PER; i++) {
        float largest = rows->largest[i], sum = 0;
#pragma unroll
        for (int j = 0; j < PER; j++) {
            int u = key + threadIdx.x % ATTENTION_SIDE + ATTENTION_SIDE * j;
            bool seen = u >= rows->sees[i].begin && u < rows->sees[i].end && u < end;
            scores[i][j] = seen ? scores[i][j] : -INFINITY;
            largest = fmaxf(largest, scores[i][j]);
        }
        largest = cuda_join_lanes(largest, ATTENTION_SIDE, cuda_larger());
        float factor = rows->largest[i] == -INFINITY ? 0 : expf(rows->largest[i] - largest);
#pragma unroll
        for (int j = 0; j < PER; j++) {
            scores[i][j] = scores[i][j] == -INFINITY ? 0 : expf(scores[i][j] - largest);
            sum += scores[i][j];
        }
        rows->sum[i] = rows->sum[i] * factor + cuda_join_lanes(sum, ATTENTION_SIDE, cuda_plus());
        rows->largest[i] = largest;
#pragma unroll
        for (int j = 0; j < COLS; j++) out[i][j] *= factor;
    }
}

/* A thread's rows of the result. */
template <int PER, int COLS>
__device__ void store(const struct attention_call &call, const struct attention_head &head,
                      const struct row_state<PER> &rows, float out[PER][COLS], int first, int count) {
    int x = threadIdx.x % ATTENTION_SIDE, y = threadIdx.x / ATTENTION_SIDE;
#pragma unroll
    for (int i = 0; i < PER; i++) {
        int row = first + y + ATTENTION_SIDE * i;
        if (row >= count) continue;
        int64_t at = attention_query(call, head, row);
        float factor = rows.sum[i] == 0 ? 0 : 1 / rows.sum[i];
#pragma unroll
        for (int j = 0; j < COLS; j++) {
            int c = x + ATTENTION_SIDE * j;
            if (c < call.a.head_dim) cuda_set(call.a.out.data, call.a.out.type, at + c, out[i][j] * factor);
        }
        if (call.a.lse.data && x == 0) {
            ((float *)call.a.lse.data)[at / call.a.head_dim] = rows.largest[i] + logf(rows.sum[i]);
        }
    }
}

template <int TILE, int DIM>
__global__ static void __launch_bounds__(ATTENTION_THREADS)
    attend(struct attention_call call, int sequences, int tiles, int few) {
    using shape = forward_tiles<TILE, DIM>;
    extern __shared__ float shared[];
    float *queries = shared, *keys = queries + TILE * attention_row_floats<DIM>;
    float *weights = keys + TILE * attention_row_floats<DIM>;
    int task = blockIdx.x, x = threadIdx.x % ATTENTION_SIDE, y = threadIdx.x / ATTENTION_SIDE;
    int kv_head = task % call.a.kv_heads, sequence = task / call.a.kv_heads % sequences;
    struct attention_head head = attention_head_of(call, sequence, kv_head);
    int count = head.s.q_rows * call.group, first = (tiles - 1 - task / call.a.kv_heads / sequences) * TILE;
    if (first >= count || count <= few) return;

    struct row_state<shape::PER> rows;
    float out[shape::PER][shape::COLS] = {};
    for (int i = 0; i < shape::PER; i++) {
        rows.sees[i] = attention_row_visible(call, head.s, first + y + ATTENTION_SIDE * i, count);
        rows.largest[i] = -INFINITY;
        rows.sum[i] = 0;
    }
    int key = attention_row_visible(call, head.s, first, count).begin;
    int last = attention_row_visible(call, head.s, min(first + TILE, count) - 1, count).end;
    bool loaded = false;
    for (int end; key < last; key = end) {
        bool sinks = attention_meets_sinks(call, head, key);
        end = attention_tile_end(call, head, key, last, TILE);
        __syncthreads();
        if (!loaded) {
            view q = sinks ? call.a.q_sink : call.a.q;
            attention_load_queries<TILE, DIM>(queries, call, head, q, call.a.scale, first, count);
        }
        loaded = sinks == attention_meets_sinks(call, head, end);
        attention_load_keys<TILE, DIM>(keys, call, head, call.a.past.k, call.a.k, key, end);
        __syncthreads();
        float scores[shape::PER][shape::PER];
        attention_dots<shape::PER, DIM>(scores, queries, keys, x, y);
        soften<shape::PER, shape::COLS>(scores, &rows, out, key, end);
        for (int i = 0; i < shape::PER; i++)
            for (int j = 0; j < shape::PER; j++)
                weights[(y + ATTENTION_SIDE * i) * shape::WEIGHTS + x + ATTENTION_SIDE * j] = scores[i][j];
        __syncthreads();
        attention_load_keys<TILE, DIM>(keys, call, head, call.a.past.v, call.a.v, key, end);
        __syncthreads();
        attention_add_rows<TILE, shape::PER, DIM>(out, weights, shape::WEIGHTS, 1, keys, x, y);
    }
    store<shape::PER, shape::COLS>(call, head, rows, out, first, count);
}

template <int TILE, int DIM> static int run(device *d, const struct attention_call *call, int few) {
    size_t bytes = forward_tiles<TILE, DIM>::BYTES;
    int64_t tiles = ((int64_t)call->a.max_q_rows * call->group + TILE - 1) / TILE;
    int64_t tasks = tiles * call->a.sequences.rows * call->a.kv_heads;
    if (tasks == 0) return LCKV_OK;
    TRY(cuda_allow_shared(d, attend<TILE, DIM>, bytes));
    attend<TILE, DIM><<<(unsigned)tasks, ATTENTION_THREADS, bytes, cuda_stream(d)>>>(*call, (int)call->a.sequences.rows,
                                                                                     (int)tiles, few);
    return LCKV_OK;
}

int cuda_attention(device *d, const struct op_attention *a) {
    TRY(attention_check(a));
    if (a->heads == 0 || a->sequences.rows == 0) return LCKV_OK;
    struct attention_call call = attention_call_of(a);
    /* The first part of a prompt. There are faster entries without pages in int8. */
    if (attention_has_int8(a) && a->max_past == 0) call.a.past.k.data = call.a.past.v.data = NULL;
    int few = a->past.k.data || a->max_q_rows * call.group <= ATTENTION_FEW ? ATTENTION_FEW : 0;
    if (few > 0) TRY(cuda_attention_few(d, &call));
    if (a->max_q_rows * call.group <= few) return LCKV_OK;
    if (attention_for_matrix(&call.a)) return attention_matrix(d, &call, few);
    if (a->head_dim <= 32) return run<64, 32>(d, &call, few);
    if (a->head_dim <= 64) return run<64, 64>(d, &call, few);
    if (a->head_dim <= 128) return run<64, 128>(d, &call, few);
    return run<32, 256>(d, &call, few);
}
