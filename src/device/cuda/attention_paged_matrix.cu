/* Attention of a few queries on a long list of keys (decoding) by the matrix units, in bf16.
 *
 * A block takes a piece of the list of one sequence and KV head, for all rows of that head (at most 16: the queries of
 * a group of heads share what is read). Each warp goes over sixteen keys at a time by itself, with a softmax of its
 * own, while the next sixteen are copied to its part of shared memory; at the end the warps are joined. */
#include "device/cuda/attention_matrix.h"
#include "device/cuda/attention_paged.h"

enum { KEYS = 16, WARPS = ATTENTION_MATRIX_WARPS, STAGES = 2 };

#define LOG2_E 1.44269504f

template <int DIM> struct stage { char k[KEYS * DIM * 2], v[KEYS * DIM * 2]; };

/* A warp's registers: a lane has rows lane / 4 and lane / 4 + 8. */
template <int DIM> struct warp_state {
    uint32_t q[DIM / 16][4];
    float out[DIM / 8][4];
    struct attention_range sees[2];
    float most[2], sum[2]; /* of scores times scale times log2(e) */
};

template <int DIM>
__device__ void load_queries(struct warp_state<DIM> *w, const struct attention_call &call,
                             const struct attention_head &head, view from, int count) {
    int lane = threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = lane / 4 + 8 * r;
        const uint16_t *q = (const uint16_t *)from.data;
        if (row < count) q += attention_query(call, head, row);
#pragma unroll
        for (int k = 0; k < DIM / 8; k++) {
            int c = 8 * k + 2 * (lane % 4);
            w->q[k / 2][r + k % 2 * 2] = row < count && c < call.a.head_dim ? *(const uint32_t *)(q + c) : 0;
        }
    }
}

/* Begins to copy this warp's keys [key, key + KEYS), zeros from `end` on. */
template <int DIM>
__device__ void copy(struct stage<DIM> *to, const struct attention_call &call, const struct attention_head &head,
                     int key, int end) {
    constexpr int CHUNKS = DIM / MATRIX_CHUNK;
#pragma unroll
    for (int i = threadIdx.x % CUDA_WARP; i < KEYS * CHUNKS; i += CUDA_WARP) {
        int row = i / CHUNKS, chunk = i % CHUNKS;
        bool there = key + row < end && chunk * MATRIX_CHUNK < call.a.head_dim;
        const void *k = call.a.q.data, *v = k; /* any address will do where nothing is read */
        dtype type;
        if (there) {
            k = attention_key(call, head, call.a.past.k, call.a.k, key + row, &type);
            v = attention_key(call, head, call.a.past.v, call.a.v, key + row, &type);
            k = (const uint16_t *)k + chunk * MATRIX_CHUNK;
            v = (const uint16_t *)v + chunk * MATRIX_CHUNK;
        }
        matrix_copy16(matrix_at<DIM>(to->k, row, chunk), k, there);
        matrix_copy16(matrix_at<DIM>(to->v, row, chunk), v, there);
    }
}

/* One stage's keys, of which those before `end` are there. */
template <int DIM>
__device__ void meet(struct warp_state<DIM> *w, struct stage<DIM> *keys, float scale, int key, int end) {
    int lane = threadIdx.x % CUDA_WARP;
    float score[2][4] = {};
    uint32_t weights[4];
#pragma unroll
    for (int k = 0; k < DIM / 16; k++) {
        uint32_t right[4];
        matrix_right<DIM>(right, keys->k, 0, k);
        matrix_multiply(score[0], w->q[k], right[0], right[1]);
        matrix_multiply(score[1], w->q[k], right[2], right[3]);
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float most = -INFINITY;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int u = key + i / 2 * 8 + 2 * (lane % 4) + i % 2;
            bool seen = u >= w->sees[r].begin && u < w->sees[r].end && u < end;
            float *own = &score[i / 2][2 * r + i % 2];
            *own = seen ? *own * scale : -INFINITY;
            most = fmaxf(most, *own);
        }
        most = fmaxf(w->most[r], cuda_join_lanes(most, 4, cuda_larger()));
        float shift = most == -INFINITY ? 0 : most, factor = exp2f(w->most[r] - shift), sum = 0;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float *own = &score[i / 2][2 * r + i % 2];
            *own = exp2f(*own - shift);
            sum += *own;
        }
        w->most[r] = most;
        w->sum[r] = w->sum[r] * factor + sum;
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) w->out[n][2 * r] *= factor, w->out[n][2 * r + 1] *= factor;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) weights[i] = matrix_pair(score[i / 2][i % 2 * 2], score[i / 2][i % 2 * 2 + 1]);
#pragma unroll
    for (int n = 0; n < DIM / 16; n++) {
        uint32_t right[4];
        matrix_right_rows<DIM>(right, keys->v, 0, n);
        matrix_multiply(w->out[2 * n], weights, right[0], right[1]);
        matrix_multiply(w->out[2 * n + 1], weights, right[2], right[3]);
    }
}

/* Keys [begin, end), shared out among the warps. */
template <int DIM>
__device__ void run_keys(struct warp_state<DIM> *w, struct stage<DIM> stages[STAGES], const struct attention_call &call,
                         const struct attention_head &head, int begin, int end) {
    int key = begin + threadIdx.x / CUDA_WARP * KEYS;
    __syncwarp();
    copy<DIM>(&stages[0], call, head, key, end);
    matrix_commit();
    for (int at = 0; key < end; key += WARPS * KEYS, at ^= 1) {
        copy<DIM>(&stages[at ^ 1], call, head, key + WARPS * KEYS, end);
        matrix_commit();
        matrix_wait<1>();
        __syncwarp();
        meet<DIM>(w, &stages[at], call.a.scale * LOG2_E, key, end);
        __syncwarp();
    }
    matrix_wait<0>();
}

/* What a warp leaves in shared memory, over its stages. */
template <int DIM> struct warp_result { float values[ATTENTION_FEW][DIM], most[ATTENTION_FEW], sum[ATTENTION_FEW]; };

template <int DIM> __device__ void leave(struct warp_result<DIM> *to, const struct warp_state<DIM> &w) {
    int lane = threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = lane / 4 + 8 * r;
        float sum = cuda_join_lanes(w.sum[r], 4, cuda_plus());
        if (lane % 4 == 0) to->most[row] = w.most[r], to->sum[row] = sum;
#pragma unroll
        for (int n = 0; n < DIM / 8; n++)
            for (int i = 0; i < 2; i++) to->values[row][8 * n + 2 * (lane % 4) + i] = w.out[n][2 * r + i];
    }
}

/* The warps' softmaxes become one, element by element. */
template <int DIM>
__device__ void join(const struct warp_result<DIM> *warps, const struct attention_call &call,
                     const struct attention_cut &cut, const struct attention_head &head, int64_t sequence, int piece,
                     int count) {
    for (int i = threadIdx.x; i < count * DIM; i += ATTENTION_MATRIX_THREADS) {
        int row = i / DIM, c = i % DIM;
        float most = -INFINITY, sum = 0, value = 0;
        if (c >= call.a.head_dim) continue;
        for (int w = 0; w < WARPS; w++) most = fmaxf(most, warps[w].most[row]);
        for (int w = 0; w < WARPS; w++) {
            float factor = warps[w].most[row] == -INFINITY ? 0 : exp2f(warps[w].most[row] - most);
            sum += factor * warps[w].sum[row];
            value += factor * warps[w].values[row][c];
        }
        int64_t result = attention_result(call, cut, sequence, piece, head.kv_head, row);
        attention_store_piece(call, cut, head, result, row, c, value, make_float2(most / LOG2_E, sum));
    }
}

/* Stages and results take the same memory in turn. */
template <int DIM> constexpr size_t paged_bytes() {
    size_t stages = WARPS * STAGES * sizeof(struct stage<DIM>), results = WARPS * sizeof(struct warp_result<DIM>);
    return stages > results ? stages : results;
}

template <int DIM>
__global__ static void __launch_bounds__(ATTENTION_MATRIX_THREADS)
    attend_piece_matrix(struct attention_call call, struct attention_cut cut) {
    extern __shared__ float shared[];
    int task = blockIdx.x, kv_head = task % call.a.kv_heads, lane = threadIdx.x % CUDA_WARP;
    int sequence = (task /= call.a.kv_heads) % cut.sequences, piece = task / cut.sequences;
    int warp = threadIdx.x / CUDA_WARP;
    struct attention_head head = attention_head_of(call, sequence, kv_head);
    int count = head.s.q_rows * call.group;
    if (count == 0 || count > ATTENTION_FEW) return;

    struct stage<DIM> *stages = (struct stage<DIM> *)shared + warp * STAGES;
    struct attention_range keys = attention_piece(call, head.s, cut.pieces, piece);
    struct warp_state<DIM> w = {};
    for (int r = 0; r < 2; r++) {
        w.sees[r] = attention_row_visible(call, head.s, lane / 4 + 8 * r, count);
        w.most[r] = -INFINITY;
    }
    if (attention_meets_sinks(call, head, keys.begin)) {
        int sinks_end = min(keys.end, head.s.sinks);
        load_queries<DIM>(&w, call, head, call.a.q_sink, count);
        run_keys<DIM>(&w, stages, call, head, keys.begin, sinks_end);
        keys.begin = sinks_end;
    }
    load_queries<DIM>(&w, call, head, call.a.q, count);
    run_keys<DIM>(&w, stages, call, head, keys.begin, keys.end);
    __syncthreads();
    struct warp_result<DIM> *results = (struct warp_result<DIM> *)shared;
    leave<DIM>(&results[warp], w);
    __syncthreads();
    join<DIM>(results, call, cut, head, sequence, piece, count);
}

bool attention_paged_in_chunks(const struct op_attention *a) {
    struct op_attention without = *a;
    without.q_sink.data = NULL;
    return attention_in_chunks(a->q_sink) && attention_for_matrix(&without);
}

template <int DIM> static int run(device *d, const struct attention_call *call, const struct attention_cut *cut) {
    unsigned blocks = (unsigned)(cut->sequences * call->a.kv_heads * cut->pieces);
    TRY(cuda_allow_shared(d, attend_piece_matrix<DIM>, paged_bytes<DIM>()));
    attend_piece_matrix<DIM><<<blocks, ATTENTION_MATRIX_THREADS, paged_bytes<DIM>(), cuda_stream(d)>>>(*call, *cut);
    return LCKV_OK;
}

int attention_paged_matrix(device *d, const struct attention_call *call, const struct attention_cut *cut) {
    return call->a.head_dim <= 64 ? run<64>(d, call, cut) : run<128>(d, call, cut);
}
