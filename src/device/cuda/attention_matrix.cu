/* Attention forward on tensor cores: FlashAttention-2 (Dao 2023, algorithm 1) in bf16 with f32 sums; attention.cu
 * does it in f32. A warp has 16 of a block's 64 rows and keeps their queries, scores, softmax and result in
 * registers. While the block works on a tile of keys and values, the next tile is copied. */
#include "device/cuda/attention_matrix.h"
#include "device/cuda/launch.h"

enum { KEYS = 64, ROWS = ATTENTION_MATRIX_WARPS * 16, STAGES = 2 };

template <int DIM> struct stage { char k[KEYS * DIM * 2], v[KEYS * DIM * 2]; };

/* Registers of a warp: a lane has rows lane / 4 and lane / 4 + 8. */
template <int DIM> struct warp_state {
    uint32_t q[DIM / 16][4];
    float score[KEYS / 8][4];
    float out[DIM / 8][4];
    struct attention_range sees[2];
    float largest[2], sum[2]; /* of scores times scale times log2(e) */
};

/* Starts copying keys and values [key, key + KEYS); zeros from `last` on. */
template <int DIM>
__device__ void copy(struct stage<DIM> *to, const struct attention_call &call, const struct attention_head &head,
                     int key, int last) {
    constexpr int CHUNKS = DIM / MATRIX_CHUNK, EACH = ATTENTION_MATRIX_THREADS / CHUNKS;
    int chunk = (int)threadIdx.x % CHUNKS, at = (head.kv_head * call.a.head_dim + chunk * MATRIX_CHUNK) * 2;
    int64_t stride = (int64_t)call.a.kv_heads * call.a.head_dim * 2;
    bool inside = chunk * MATRIX_CHUNK < call.a.head_dim;
#pragma unroll
    for (int j = 0; j < KEYS / EACH; j++) {
        int row = j * EACH + (int)threadIdx.x / CHUNKS, u = key + row;
        bool there = u < last && inside, old = u < head.s.past;
        const void *k = call.a.q.data, *v = k; /* any valid address if nothing is read */
        if (there) {
            int64_t its = old ? attention_past_row(call, head, u) : head.s.kv_row + u - head.s.past;
            k = (const char *)(old ? call.a.past.k.data : call.a.k.data) + its * stride + at;
            v = (const char *)(old ? call.a.past.v.data : call.a.v.data) + its * stride + at;
        }
        matrix_copy16(matrix_at<DIM>(to->k, row, chunk), k, there);
        matrix_copy16(matrix_at<DIM>(to->v, row, chunk), v, there);
    }
}

template <int DIM> __device__ void multiply_keys(struct warp_state<DIM> *w, char *keys) {
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) w->score[n][i] = 0;
#pragma unroll
    for (int k = 0; k < DIM / 16; k++)
#pragma unroll
        for (int n = 0; n < KEYS / 16; n++) {
            uint32_t right[4];
            matrix_right<DIM>(right, keys, 16 * n, k);
            matrix_multiply(w->score[2 * n], w->q[k], right[0], right[1]);
            matrix_multiply(w->score[2 * n + 1], w->q[k], right[2], right[3]);
        }
}

/* Sets scores of keys that a row does not see to -inf. */
template <int DIM> __device__ void mask(struct warp_state<DIM> *w, int key) {
    int lane = threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int u = key + 8 * n + 2 * (lane % 4) + i;
                if (u < w->sees[r].begin || u >= w->sees[r].end) w->score[n][2 * r + i] = -INFINITY;
            }
}

/* Turns scores into weights relative to the rows' running maxima, and rescales the result. */
template <int DIM> __device__ void soften(struct warp_state<DIM> *w, float scale) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float largest = -INFINITY, sum = 0;
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) largest = fmaxf(largest, fmaxf(w->score[n][2 * r], w->score[n][2 * r + 1]));
        largest = fmaxf(w->largest[r], cuda_join_lanes(largest, 4, cuda_larger()) * scale);
        float shift = largest == -INFINITY ? 0 : largest, factor = attention_exp2(w->largest[r] - shift);
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float weight = attention_exp2(w->score[n][2 * r + i] * scale - shift);
                w->score[n][2 * r + i] = weight;
                sum += weight;
            }
        w->largest[r] = largest;
        w->sum[r] = w->sum[r] * factor + sum;
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) w->out[n][2 * r] *= factor, w->out[n][2 * r + 1] *= factor;
    }
}

template <int DIM> __device__ void add_values(struct warp_state<DIM> *w, char *values) {
#pragma unroll
    for (int k = 0; k < KEYS / 16; k++) {
        uint32_t left[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float *pair = &w->score[2 * k + i / 2][i % 2 * 2];
            left[i] = matrix_pair(pair[0], pair[1]);
        }
#pragma unroll
        for (int n = 0; n < DIM / 16; n++) {
            uint32_t right[4];
            matrix_right_rows<DIM>(right, values, 16 * k, n);
            matrix_multiply(w->out[2 * n], left, right[0], right[1]);
            matrix_multiply(w->out[2 * n + 1], left, right[2], right[3]);
        }
    }
}

template <int DIM>
__global__ static void __launch_bounds__(ATTENTION_MATRIX_THREADS, DIM <= 64 ? 4 : 2)
    attend(struct attention_call call, int sequences, int tiles, int few) {
    extern __shared__ float4 shared[];
    char *queries = (char *)shared;
    struct stage<DIM> *stages = (struct stage<DIM> *)(queries + ROWS * DIM * 2);
    int task = blockIdx.x, kv_head = task % call.a.kv_heads, sequence = task / call.a.kv_heads % sequences;
    int lane = threadIdx.x % CUDA_WARP, row = (int)threadIdx.x / CUDA_WARP * 16;
    cuda_let_next();
    cuda_begin();
    struct attention_head head = attention_head_of(call, sequence, kv_head);
    int count = head.s.q_rows * call.group, first = (tiles - 1 - task / call.a.kv_heads / sequences) * ROWS;
    if (first >= count || count <= few) return;

    struct warp_state<DIM> w = {};
    for (int r = 0; r < 2; r++) {
        w.sees[r] = attention_row_visible(call, head.s, min(first + row + 8 * r + lane / 4, count - 1), count);
        w.largest[r] = -INFINITY;
    }
    int key = attention_row_visible(call, head.s, first, count).begin;
    int last = attention_row_visible(call, head.s, min(first + ROWS, count) - 1, count).end;
    attention_copy_queries<DIM, ROWS>(queries, call, head, call.a.q.data, first, count);
    copy<DIM>(&stages[0], call, head, key, last);
    matrix_commit();
    matrix_wait<0>();
    __syncthreads();
#pragma unroll
    for (int k = 0; k < DIM / 16; k++) matrix_left<DIM>(w.q[k], queries, row, k);
    for (int at = 0; key < last; key += KEYS, at ^= 1) {
        matrix_wait<0>();
        __syncthreads(); /* the tile has arrived, and no thread uses the previous one */
        if (key + KEYS < last) copy<DIM>(&stages[at ^ 1], call, head, key + KEYS, last);
        matrix_commit();
        multiply_keys<DIM>(&w, stages[at].k);
        bool all = key >= max(w.sees[0].begin, w.sees[1].begin) && key + KEYS <= min(w.sees[0].end, w.sees[1].end);
        if (!__all_sync(CUDA_ALL_LANES, all)) mask<DIM>(&w, key);
        soften<DIM>(&w, call.a.scale * ATTENTION_LOG2_E);
        add_values<DIM>(&w, stages[at].v);
    }
    attention_store_rows<DIM>(w, call, head, first + row, count);
}

template <int DIM> static int run(device *d, const struct attention_call *call, int few) {
    size_t bytes = (size_t)ROWS * DIM * 2 + STAGES * sizeof(struct stage<DIM>);
    int64_t tiles = ((int64_t)call->a.max_q_rows * call->group + ROWS - 1) / ROWS;
    int64_t tasks = tiles * call->a.sequences.rows * call->a.kv_heads;
    if (tasks == 0) return LCKV_OK;
    TRY(cuda_allow_shared(d, attend<DIM>, bytes));
    cuda_start(d, attend<DIM>, dim3((unsigned)tasks), ATTENTION_MATRIX_THREADS, bytes, *call,
               (int)call->a.sequences.rows, (int)tiles, few);
    return LCKV_OK;
}

int attention_matrix(device *d, const struct attention_call *call, int few) {
    if (attention_for_warpgroup(d, call)) return attention_warpgroup(d, call, few);
    return call->a.head_dim <= 64 ? run<64>(d, call, few) : run<128>(d, call, few);
}
