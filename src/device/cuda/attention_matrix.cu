/* Attention forward by the matrix units: FlashAttention-2 (Dao 2023, algorithm 1) in bf16 with f32 sums, as
 * attention.cu does it in f32. A warp has 32 rows of a block's 128 and keeps their scores, softmax and result in
 * registers; while it works on a tile of keys the next tile is copied. */
#include "device/cuda/attention_matrix.h"

enum { KEYS = 64, HALVES = 2 /* of 16 rows a warp */, ROWS = ATTENTION_MATRIX_WARPS * HALVES * 16 };

#define LOG2_E 1.44269504f

/* A warp's registers. Of each half a lane has rows lane / 4 and lane / 4 + 8. */
template <int DIM> struct warp_state {
    float score[HALVES][KEYS / 8][4];
    float out[HALVES][DIM / 8][4];
    float most[HALVES][2], sum[HALVES][2]; /* of scores times scale times log2(e) */
};

template <int DIM> __device__ void multiply_keys(struct warp_state<DIM> *w, char *queries, char *keys, int row) {
#pragma unroll
    for (int h = 0; h < HALVES; h++)
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) w->score[h][n][i] = 0;
#pragma unroll
    for (int k = 0; k < DIM / 16; k++) {
        uint32_t left[HALVES][4];
#pragma unroll
        for (int h = 0; h < HALVES; h++) matrix_left<DIM>(left[h], queries, row + 16 * h, k);
#pragma unroll
        for (int n = 0; n < KEYS / 16; n++) {
            uint32_t right[4];
            matrix_right<DIM>(right, keys, 16 * n, k);
#pragma unroll
            for (int h = 0; h < HALVES; h++) {
                matrix_multiply(w->score[h][2 * n], left[h], right[0], right[1]);
                matrix_multiply(w->score[h][2 * n + 1], left[h], right[2], right[3]);
            }
        }
    }
}

/* Scores of keys that a row does not see become -inf. */
template <int DIM>
__device__ void mask(struct warp_state<DIM> *w, const struct attention_call &call, const attention_sequence &s, int row,
                     int count, int key) {
    int lane = threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int h = 0; h < HALVES; h++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            struct attention_range sees = attention_row_visible(call, s, row + 16 * h + 8 * r + lane / 4, count);
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    int u = key + 8 * n + 2 * (lane % 4) + i;
                    if (u < sees.begin || u >= sees.end) w->score[h][n][2 * r + i] = -INFINITY;
                }
        }
}

/* Scores become weights on the rows' running maxima, and the result is brought onto these. */
template <int DIM> __device__ void soften(struct warp_state<DIM> *w, float scale) {
#pragma unroll
    for (int h = 0; h < HALVES; h++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float most = -INFINITY, sum = 0;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
                most = fmaxf(most, fmaxf(w->score[h][n][2 * r], w->score[h][n][2 * r + 1]));
            most = fmaxf(w->most[h][r], cuda_join_lanes(most, 4, cuda_larger()) * scale);
            float shift = most == -INFINITY ? 0 : most, factor = exp2f(w->most[h][r] - shift);
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float weight = exp2f(w->score[h][n][2 * r + i] * scale - shift);
                    w->score[h][n][2 * r + i] = weight;
                    sum += weight;
                }
            w->most[h][r] = most;
            w->sum[h][r] = w->sum[h][r] * factor + sum;
#pragma unroll
            for (int n = 0; n < DIM / 8; n++) w->out[h][n][2 * r] *= factor, w->out[h][n][2 * r + 1] *= factor;
        }
}

template <int DIM> __device__ void add_values(struct warp_state<DIM> *w, char *values) {
#pragma unroll
    for (int k = 0; k < KEYS / 16; k++) {
        uint32_t left[HALVES][4];
#pragma unroll
        for (int h = 0; h < HALVES; h++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float *pair = &w->score[h][2 * k + i / 2][i % 2 * 2];
                left[h][i] = matrix_pair(pair[0], pair[1]);
            }
#pragma unroll
        for (int n = 0; n < DIM / 16; n++) {
            uint32_t right[4];
            matrix_right_rows<DIM>(right, values, 16 * k, n);
#pragma unroll
            for (int h = 0; h < HALVES; h++) {
                matrix_multiply(w->out[h][2 * n], left[h], right[0], right[1]);
                matrix_multiply(w->out[h][2 * n + 1], left[h], right[2], right[3]);
            }
        }
    }
}

template <int DIM>
__device__ void store(const struct warp_state<DIM> &w, const struct attention_call &call,
                      const struct attention_head &head, int row, int count) {
    int lane = threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int h = 0; h < HALVES; h++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float sum = cuda_join_lanes(w.sum[h][r], 4, cuda_plus()), factor = sum == 0 ? 0 : 1 / sum;
            int own = row + 16 * h + 8 * r + lane / 4;
            if (own >= count) continue;
            int64_t at = attention_query(call, head, own);
            uint16_t *to = (uint16_t *)call.a.out.data + at + 2 * (lane % 4);
#pragma unroll
            for (int n = 0; n < DIM / 8; n++) {
                if (8 * n >= call.a.head_dim) break;
                *(uint32_t *)(to + 8 * n) = matrix_pair(w.out[h][n][2 * r] * factor, w.out[h][n][2 * r + 1] * factor);
            }
            if (call.a.lse.data && lane % 4 == 0) {
                ((float *)call.a.lse.data)[at / call.a.head_dim] = w.most[h][r] / LOG2_E + logf(sum);
            }
        }
}

template <int DIM>
__global__ static void __launch_bounds__(ATTENTION_MATRIX_THREADS)
    attend(struct attention_call call, int sequences, int tiles, int few) {
    extern __shared__ float shared[];
    char *queries = (char *)shared, *keys = queries + ROWS * DIM * 2, *values = keys + KEYS * DIM * 2;
    int task = blockIdx.x, kv_head = task % call.a.kv_heads, sequence = task / call.a.kv_heads % sequences;
    struct attention_head head = attention_head_of(call, sequence, kv_head);
    int count = head.s.q_rows * call.group, first = (tiles - 1 - task / call.a.kv_heads / sequences) * ROWS;
    if (first >= count || count <= few) return;

    struct warp_state<DIM> w = {};
    for (int h = 0; h < HALVES; h++) w.most[h][0] = w.most[h][1] = -INFINITY;
    int row = threadIdx.x / CUDA_WARP * HALVES * 16;
    int key = attention_row_visible(call, head.s, first, count).begin;
    int last = attention_row_visible(call, head.s, min(first + ROWS, count) - 1, count).end;
    attention_copy_queries<DIM, ROWS>(queries, call, head, call.a.q.data, first, count);
    attention_copy_keys<DIM, KEYS>(keys, call, head, call.a.past.k, call.a.k, key, last);
    matrix_commit();
    for (; key < last; key += KEYS) {
        attention_copy_keys<DIM, KEYS>(values, call, head, call.a.past.v, call.a.v, key, last);
        matrix_commit();
        matrix_wait<1>();
        __syncthreads();
        multiply_keys<DIM>(&w, queries, keys, row);
        __syncthreads();
        attention_copy_keys<DIM, KEYS>(keys, call, head, call.a.past.k, call.a.k, key + KEYS, last);
        matrix_commit();
        if (!attention_sees_all(call, head.s, first, ROWS, count, key, KEYS)) {
            mask<DIM>(&w, call, head.s, first + row, count, key);
        }
        soften<DIM>(&w, call.a.scale * LOG2_E);
        matrix_wait<1>();
        __syncthreads();
        add_values<DIM>(&w, values);
        __syncthreads();
    }
    matrix_wait<0>();
    store<DIM>(w, call, head, first + row, count);
}

template <int DIM> static int run(device *d, const struct attention_call *call, int few) {
    size_t bytes = (size_t)(ROWS + 2 * KEYS) * DIM * 2;
    int64_t tiles = ((int64_t)call->a.max_q_rows * call->group + ROWS - 1) / ROWS;
    int64_t tasks = tiles * call->a.sequences.rows * call->a.kv_heads;
    if (tasks == 0) return LCKV_OK;
    TRY(cuda_allow_shared(d, attend<DIM>, bytes));
    attend<DIM><<<(unsigned)tasks, ATTENTION_MATRIX_THREADS, bytes, cuda_stream(d)>>>(
        *call, (int)call->a.sequences.rows, (int)tiles, few);
    return LCKV_OK;
}

int attention_matrix(device *d, const struct attention_call *call, int few) {
    return call->a.head_dim <= 64 ? run<64>(d, call, few) : run<128>(d, call, few);
}
