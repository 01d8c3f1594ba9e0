/* Attention forward by the warpgroup instructions of compute capability 9.0, for heads of 64 and 128 and tiles of many
 * queries; attention_matrix.cu, whose method this is, does it for other calls and GPUs. */
#include "device/cuda/attention_warpgroup.h"
#include "device/cuda/launch.h"

enum { GROUPS = 2, THREADS = GROUPS * WARPGROUP };

template <int DIM> struct forward_shared {
    warpgroup_rows<DIM> q[GROUPS];
    struct attention_key_stage<DIM> stages[ATTENTION_STAGES];
};

/* Registers of a lane, which has two rows of its warpgroup's tile. */
template <int DIM> struct rows_state {
    float out[DIM / 64][32];
    struct attention_range sees[2];
    float largest[2], sum[2]; /* of scores times scale times log2(e) */
};

/* Sets scores of keys that a row does not see to -inf. `key` is the lane's first one. */
template <int DIM> __device__ void mask(float (&score)[32], const struct rows_state<DIM> &w, int key) {
#pragma unroll
    for (int n = 0; n < ATTENTION_TILE / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int u = key + 8 * n + i % 2;
            if (u < w.sees[i / 2].begin || u >= w.sees[i / 2].end) score[4 * n + i] = -INFINITY;
        }
}

/* Turns scores into weights relative to the rows' running maxima, and rescales the result. */
template <int DIM> __device__ void soften(float (&score)[32], struct rows_state<DIM> *w, float scale) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float largest = -INFINITY, sum = 0;
#pragma unroll
        for (int n = 0; n < ATTENTION_TILE / 8; n++)
            largest = fmaxf(largest, fmaxf(score[4 * n + 2 * r], score[4 * n + 2 * r + 1]));
        largest = fmaxf(w->largest[r], cuda_join_lanes(largest, 4, cuda_larger()) * scale);
        float shift = largest == -INFINITY ? 0 : largest, factor = attention_exp2(w->largest[r] - shift);
#pragma unroll
        for (int n = 0; n < ATTENTION_TILE / 8; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float weight = attention_exp2(score[4 * n + 2 * r + i] * scale - shift);
                score[4 * n + 2 * r + i] = weight;
                sum += weight;
            }
        w->largest[r] = largest;
        w->sum[r] = w->sum[r] * factor + sum;
#pragma unroll
        for (int p = 0; p < DIM / 64; p++)
#pragma unroll
            for (int n = 0; n < 8; n++) w->out[p][4 * n + 2 * r] *= factor, w->out[p][4 * n + 2 * r + 1] *= factor;
    }
}

template <int DIM>
__device__ void store(const struct rows_state<DIM> &w, const struct attention_call &call,
                      const struct attention_head &head, int first, int count) {
    int lane = threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float sum = cuda_join_lanes(w.sum[r], 4, cuda_plus()), factor = sum == 0 ? 0 : 1 / sum;
        int row = first + 8 * r;
        if (row >= count) continue;
        int64_t at = attention_query(call, head, row);
        uint16_t *to = (uint16_t *)call.a.out.data + at + 2 * (lane % 4);
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) {
            const float *pair = &w.out[n / 8][n % 8 * 4 + 2 * r];
            *(uint32_t *)(to + 8 * n) = matrix_pair(pair[0] * factor, pair[1] * factor);
        }
        if (call.a.lse.data && lane % 4 == 0)
            ((float *)call.a.lse.data)[at / DIM] = w.largest[r] / ATTENTION_LOG2_E + logf(sum);
    }
}

template <int DIM>
__global__ static void __launch_bounds__(THREADS, DIM <= 64 ? 2 : 1)
    attend(struct attention_call call, int sequences, int tiles, int few) {
    extern __shared__ char shared[];
    struct forward_shared<DIM> *own = attention_aligned<struct forward_shared<DIM>>(shared);
    int task = blockIdx.x, group = threadIdx.x / WARPGROUP;
    cuda_let_next();
    cuda_begin();
    struct attention_head head = attention_head_of(call, task / call.a.kv_heads % sequences, task % call.a.kv_heads);
    int count = head.s.q_rows * call.group;
    int first = (tiles - 1 - task / call.a.kv_heads / sequences) * (GROUPS * ATTENTION_TILE);
    if (first >= count || count <= few) return;

    struct rows_state<DIM> w = {};
    int mine = first + group * ATTENTION_TILE, row = mine + attention_lane_row();
    for (int r = 0; r < 2; r++) {
        w.sees[r] = attention_row_visible(call, head.s, min(row + 8 * r, count - 1), count);
        w.largest[r] = -INFINITY;
    }
    int key = attention_row_visible(call, head.s, first, count).begin;
    int last = attention_row_visible(call, head.s, min(first + GROUPS * ATTENTION_TILE, count) - 1, count).end;
    struct attention_range all = attention_seen_by_all(call, head.s, mine, count);
    struct attention_query_reader<DIM> rows;
    struct attention_key_reader<DIM, true> keys;
    rows.begin(call, head, first);
    keys.begin(call, head, key);
#pragma unroll
    for (int i = 0; i < GROUPS; i++) {
        rows.copy(&own->q[i], call.a.q.data, first + i * ATTENTION_TILE, count);
        rows.next(call, head, first + (i + 1) * ATTENTION_TILE);
    }
    keys.copy_first(own->stages, call, head, key, last);
    for (int at = 0; key < last; key += ATTENTION_TILE, at = attention_next_stage(at)) {
        float score[32];
        uint32_t weights[4][4];
        attention_wait_for_stage();
        warpgroup_begin();
        warpgroup_rows_by_rows<DIM>(score, own->q[group], own->stages[at].k);
        warpgroup_commit();
        keys.copy_ahead(own->stages, at, call, head, key, last);
        warpgroup_wait<0>();
        warpgroup_hold(score);
        if (key < all.begin || key + ATTENTION_TILE > all.end) mask<DIM>(score, w, key + 2 * ((int)threadIdx.x % 4));
        soften<DIM>(score, &w, call.a.scale * ATTENTION_LOG2_E);
        warpgroup_pack(weights, score);
        warpgroup_begin();
        warpgroup_add_rows<DIM>(w.out, weights, own->stages[at].v);
        warpgroup_commit();
        warpgroup_wait<0>();
        warpgroup_hold(w.out);
    }
    matrix_wait<0>();
    store<DIM>(w, call, head, row, count);
}

template <int DIM> static int run(device *d, const struct attention_call *call, int few) {
    constexpr int EACH = GROUPS * ATTENTION_TILE;
    size_t bytes = WARPGROUP_ALIGN + sizeof(struct forward_shared<DIM>);
    int64_t tiles = ((int64_t)call->a.max_q_rows * call->group + EACH - 1) / EACH;
    int64_t tasks = tiles * call->a.sequences.rows * call->a.kv_heads;
    TRY(cuda_allow_shared(d, attend<DIM>, bytes));
    if (tasks > 0)
        cuda_start(d, attend<DIM>, dim3((unsigned)tasks), THREADS, bytes, *call, (int)call->a.sequences.rows,
                   (int)tiles, few);
    return LCKV_OK;
}

/* Blocks of few rows would leave a warpgroup idle. */
bool attention_for_warpgroup(device *d, const struct attention_call *call) {
    bool fits = call->a.head_dim == 64 || call->a.head_dim == 128;
    return cuda_state_of(d)->encode_map && fits && (int64_t)call->a.max_q_rows * call->group >= GROUPS * ATTENTION_TILE;
}

int attention_warpgroup(device *d, const struct attention_call *call, int few) {
    return call->a.head_dim == 64 ? run<64>(d, call, few) : run<128>(d, call, few);
}
