/* Attention forward on tensor cores: FlashAttention-2 (Dao 2023, algorithm 1) in bf16 with f32 sums; attention.cu
 * does it in f32. A warp has 16 of a block's 64 rows and keeps their queries, scores, softmax and result in
 * registers. While the block works on a tile of keys and values, the next tile is copied.
 *
 * Pages in kv_int8 come first, in tiles of their own. They are copied as they are, and become integers in bf16 in
 * shared memory, which is exact; scores are multiplied by the scales of the keys, and weights by those of the values.
 */
#include "device/cuda/attention_matrix.h"
#include "device/cuda/launch.h"

enum { KEYS = 64, ROWS = ATTENTION_MATRIX_WARPS * 16, STAGES = 2 };

template <int DIM> struct stage { char k[KEYS * DIM * 2], v[KEYS * DIM * 2]; };

/* A tile of pages in kv_int8, as it is copied; and what is made of two of them in turn. */
template <int DIM> struct int8_rows {
    char k[KEYS * DIM], v[KEYS * DIM];
    float k_scale[KEYS], v_scale[KEYS];
};

template <int DIM> struct int8_stages {
    struct int8_rows<DIM> rows[STAGES];
    struct stage<DIM> wide;
};

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

/* The same for keys [key, key + KEYS) of pages in kv_int8; zeros from `last` on. */
template <int DIM>
__device__ void copy_int8(struct int8_rows<DIM> *to, const struct attention_call &call,
                          const struct attention_head &head, int key, int last) {
    constexpr int CHUNKS = DIM / 16, EACH = ATTENTION_MATRIX_THREADS / CHUNKS;
    int chunk = (int)threadIdx.x % CHUNKS;
    bool inside = chunk * 16 < call.a.head_dim;
#pragma unroll
    for (int j = 0; j < KEYS / EACH; j++) {
        int row = j * EACH + (int)threadIdx.x / CHUNKS, u = key + row;
        bool exists = u < last, there = exists && inside;
        int64_t place = exists ? attention_past_row(call, head, u) * call.a.kv_heads + head.kv_head : 0;
        int64_t from = there ? place * call.a.head_dim + chunk * 16 : 0;
        matrix_copy16(to->k + row * DIM + chunk * 16, (const char *)call.a.past.k.data + from, there);
        matrix_copy16(to->v + row * DIM + chunk * 16, (const char *)call.a.past.v.data + from, there);
        if (chunk > 1) continue;
        matrix_copy4(chunk ? &to->v_scale[row] : &to->k_scale[row],
                     (const float *)(chunk ? call.a.past.v.scales : call.a.past.k.scales) + place, exists);
    }
}

template <int DIM> __device__ void widen(char *to, const char *bytes) {
    for (int i = threadIdx.x; i < KEYS * DIM / 16; i += ATTENTION_MATRIX_THREADS) {
        int row = i / (DIM / 16), chunk = i % (DIM / 16) * 2;
        uint4 from = *(const uint4 *)(bytes + i * 16);
        *(uint4 *)matrix_at<DIM>(to, row, chunk) =
            make_uint4(kv_int8_pair(from.x, KV_INT8_LOW), kv_int8_pair(from.x, KV_INT8_HIGH),
                       kv_int8_pair(from.y, KV_INT8_LOW), kv_int8_pair(from.y, KV_INT8_HIGH));
        *(uint4 *)matrix_at<DIM>(to, row, chunk + 1) =
            make_uint4(kv_int8_pair(from.z, KV_INT8_LOW), kv_int8_pair(from.z, KV_INT8_HIGH),
                       kv_int8_pair(from.w, KV_INT8_LOW), kv_int8_pair(from.w, KV_INT8_HIGH));
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

/* Multiplies the scores, or the weights, of each key by its scale. */
template <int DIM> __device__ void scale_keys(struct warp_state<DIM> *w, const float *scales) {
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) {
        float2 scale = *(const float2 *)(scales + 8 * n + 2 * ((int)threadIdx.x % 4));
#pragma unroll
        for (int i = 0; i < 4; i++) w->score[n][i] *= i % 2 ? scale.y : scale.x;
    }
}

/* Sets scores of keys that a row does not see, and of keys from `end` on, to -inf. */
template <int DIM> __device__ void mask(struct warp_state<DIM> *w, int key, int end) {
    int lane = threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int u = key + 8 * n + 2 * (lane % 4) + i;
                if (u < w->sees[r].begin || u >= min(w->sees[r].end, end)) w->score[n][2 * r + i] = -INFINITY;
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

/* Masks keys where some row does not see all of them. */
template <int DIM> __device__ void mask_tile(struct warp_state<DIM> *w, int key, int end) {
    bool all =
        key >= max(w->sees[0].begin, w->sees[1].begin) && key + KEYS <= min(min(w->sees[0].end, w->sees[1].end), end);
    if (!__all_sync(CUDA_ALL_LANES, all)) mask<DIM>(w, key, end);
}

/* Keys [key, end), which are in pages in kv_int8. */
template <int DIM>
__device__ void attend_int8(struct warp_state<DIM> *w, struct int8_stages<DIM> *stages,
                            const struct attention_call &call, const struct attention_head &head, int key, int end) {
    if (key < end) copy_int8<DIM>(&stages->rows[0], call, head, key, end);
    matrix_commit();
    for (int at = 0; key < end; key += KEYS, at ^= 1) {
        struct int8_rows<DIM> *rows = &stages->rows[at];
        matrix_wait<0>();
        __syncthreads(); /* the tile has arrived, and no thread uses the previous one */
        if (key + KEYS < end) copy_int8<DIM>(&stages->rows[at ^ 1], call, head, key + KEYS, end);
        matrix_commit();
        widen<DIM>(stages->wide.k, rows->k);
        widen<DIM>(stages->wide.v, rows->v);
        __syncthreads();
        multiply_keys<DIM>(w, stages->wide.k);
        scale_keys<DIM>(w, rows->k_scale);
        mask_tile<DIM>(w, key, end);
        soften<DIM>(w, call.a.scale * ATTENTION_LOG2_E);
        scale_keys<DIM>(w, rows->v_scale);
        add_values<DIM>(w, stages->wide.v);
    }
    matrix_wait<0>();
    __syncthreads();
}

template <int DIM, bool INT8>
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
    if (!INT8) copy<DIM>(&stages[0], call, head, key, last);
    matrix_commit();
    matrix_wait<0>();
    __syncthreads();
#pragma unroll
    for (int k = 0; k < DIM / 16; k++) matrix_left<DIM>(w.q[k], queries, row, k);
    if (INT8) {
        attend_int8<DIM>(&w, (struct int8_stages<DIM> *)stages, call, head, key, min(last, head.s.past));
        key = max(key, min(last, head.s.past));
        if (key < last) copy<DIM>(&stages[0], call, head, key, last);
        matrix_commit();
    }
    for (int at = 0; key < last; key += KEYS, at ^= 1) {
        matrix_wait<0>();
        __syncthreads(); /* the tile has arrived, and no thread uses the previous one */
        if (key + KEYS < last) copy<DIM>(&stages[at ^ 1], call, head, key + KEYS, last);
        matrix_commit();
        multiply_keys<DIM>(&w, stages[at].k);
        mask_tile<DIM>(&w, key, last);
        soften<DIM>(&w, call.a.scale * ATTENTION_LOG2_E);
        add_values<DIM>(&w, stages[at].v);
    }
    attention_store_rows<DIM>(w, call, head, first + row, count);
}

template <int DIM, bool INT8> static int run(device *d, const struct attention_call *call, int few) {
    size_t tiles_bytes = INT8 ? sizeof(struct int8_stages<DIM>) : STAGES * sizeof(struct stage<DIM>);
    size_t bytes = (size_t)ROWS * DIM * 2 + tiles_bytes;
    int64_t tiles = ((int64_t)call->a.max_q_rows * call->group + ROWS - 1) / ROWS;
    int64_t tasks = tiles * call->a.sequences.rows * call->a.kv_heads;
    if (tasks == 0) return LCKV_OK;
    TRY(cuda_allow_shared(d, attend<DIM, INT8>, bytes));
    cuda_start(d, attend<DIM, INT8>, dim3((unsigned)tasks), ATTENTION_MATRIX_THREADS, bytes, *call,
               (int)call->a.sequences.rows, (int)tiles, few);
    return LCKV_OK;
}

int attention_matrix(device *d, const struct attention_call *call, int few) {
    bool narrow = call->a.head_dim <= 64;
    if (attention_has_int8(&call->a)) return narrow ? run<64, true>(d, call, few) : run<128, true>(d, call, few);
    if (attention_for_warpgroup(d, call)) return attention_warpgroup(d, call, few);
    return narrow ? run<64, false>(d, call, few) : run<128, false>(d, call, few);
}
