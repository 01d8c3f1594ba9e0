/* Attention of a few queries over a long list of keys (decoding) on tensor cores, in bf16.
 *
 * A block handles a split of the list of one sequence and KV head, for all rows of that head (at most 16: the
 * queries of a group of heads share what is read). Each warp processes KEYS keys at a time, with its own softmax,
 * while the next ones are copied to its part of shared memory; at the end the warps are joined. If the list is
 * split, the block that ends last joins the splits, in their order. With many sequences a warp has a whole list;
 * with few, many warps and blocks share one. */
#include "device/cuda/attention_matrix.h"
#include "device/cuda/attention_paged.h"
#include "device/cuda/launch.h"

enum {
    MAX_WARPS = 8,   /* maximum per block, which leaves room for blocks of the kernels before and after it */
    BUSY_WARPS = 16, /* per multiprocessor */
    FEW_LISTS = 64,
    STAGES = 2,
    MIN_KEYS = 64, /* per warp */
    MAX_KEYS = 128
};

template <int DIM, int KEYS> struct stage { char k[KEYS * DIM * 2], v[KEYS * DIM * 2]; };

/* Registers of a warp: a lane has rows lane / 4 and lane / 4 + 8. */
template <int DIM> struct warp_state {
    uint32_t q[DIM / 16][4];
    float out[DIM / 8][4];
    struct attention_range sees[2];
    float largest[2], sum[2]; /* of scores times scale times log2(e) */
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

/* The location of this lane's key in a tile: its row of the pages, or, as NEW - row, of the new rows; NONE after
 * `end`. */
enum { NONE = -1, NEW = -2 };

template <int DIM, int KEYS>
__device__ int find_key(const struct attention_call &call, const struct attention_head &head, int key, int end) {
    int u = key + (int)threadIdx.x % KEYS;
    if (u >= end) return NONE;
    return u < head.s.past ? (int)attention_past_row(call, head, u) : NEW - (head.s.kv_row + u - head.s.past);
}

/* Starts copying this warp's keys of a tile: those in pages if `old` (zeros for missing ones), and the new ones if
 * `fresh`; `place`: find_key() of them. The loop is not unrolled, because code that runs once per step is limited by
 * instruction fetches. */
template <int DIM, int KEYS>
__device__ void copy(struct stage<DIM, KEYS> *to, const struct attention_call &call, const struct attention_head &head,
                     int place, bool old, bool fresh) {
    constexpr int CHUNKS = DIM / MATRIX_CHUNK, EACH = CUDA_WARP / CHUNKS;
    int chunk = (int)threadIdx.x % CHUNKS, stride = call.a.kv_heads * call.a.head_dim * 2;
    bool inside = chunk * MATRIX_CHUNK < call.a.head_dim;
    int at = (head.kv_head * call.a.head_dim + chunk * MATRIX_CHUNK) * 2;
#pragma unroll 2
    for (int row = (int)threadIdx.x % CUDA_WARP / CHUNKS; row < KEYS; row += EACH) {
        int its = __shfl_sync(CUDA_ALL_LANES, place, row);
        bool paged = its >= NONE, there = its != NONE && inside;
        if (!(paged ? old : fresh)) continue;
        int64_t offset = (int64_t)(paged ? its : NEW - its) * stride + at;
        const char *k = (const char *)(paged ? call.a.past.k.data : call.a.k.data) + offset;
        const char *v = (const char *)(paged ? call.a.past.v.data : call.a.v.data) + offset;
        const void *any = call.a.q.data; /* any valid address */
        matrix_copy16(matrix_at<DIM>(to->k, row, chunk), there ? k : any, there);
        matrix_copy16(matrix_at<DIM>(to->v, row, chunk), there ? v : any, there);
    }
}

/* The keys of one stage before `end`. halves: 1 if rows from 8 on are unused. */
template <int DIM, int KEYS>
__device__ void meet(struct warp_state<DIM> *w, struct stage<DIM, KEYS> *keys, float scale, int key, int end,
                     int halves) {
    constexpr int TILES = KEYS / 8;
    int lane = threadIdx.x % CUDA_WARP;
    float score[TILES][4] = {};
#pragma unroll
    for (int k = 0; k < DIM / 16; k++)
#pragma unroll
        for (int n = 0; n < TILES / 2; n++) {
            uint32_t right[4];
            matrix_right<DIM>(right, keys->k, 16 * n, k);
            matrix_multiply(score[2 * n], w->q[k], right[0], right[1]);
            matrix_multiply(score[2 * n + 1], w->q[k], right[2], right[3]);
        }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float largest = -INFINITY;
        if (r >= halves) break;
        bool all = __all_sync(CUDA_ALL_LANES, key >= w->sees[r].begin && key + KEYS <= min(w->sees[r].end, end));
#pragma unroll
        for (int n = 0; n < TILES; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int u = key + n * 8 + 2 * (lane % 4) + i;
                float *own = &score[n][2 * r + i];
                *own *= scale;
                if (!all && (u < w->sees[r].begin || u >= min(w->sees[r].end, end))) *own = -INFINITY;
                largest = fmaxf(largest, *own);
            }
        largest = fmaxf(w->largest[r], cuda_join_lanes(largest, 4, cuda_larger()));
        float shift = largest == -INFINITY ? 0 : largest, factor = attention_exp2(w->largest[r] - shift), sum = 0;
#pragma unroll
        for (int n = 0; n < TILES; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float *own = &score[n][2 * r + i];
                *own = attention_exp2(*own - shift);
                sum += *own;
            }
        w->largest[r] = largest;
        w->sum[r] = w->sum[r] * factor + sum;
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) w->out[n][2 * r] *= factor, w->out[n][2 * r + 1] *= factor;
    }
#pragma unroll
    for (int u = 0; u < TILES / 2; u++) {
        uint32_t weights[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float *pair = &score[2 * u + i / 2][i % 2 * 2];
            weights[i] = matrix_pair(pair[0], pair[1]);
        }
#pragma unroll
        for (int n = 0; n < DIM / 16; n++) {
            uint32_t right[4];
            matrix_right_rows<DIM>(right, keys->v, 16 * u, n);
            matrix_multiply(w->out[2 * n], weights, right[0], right[1]);
            matrix_multiply(w->out[2 * n + 1], weights, right[2], right[3]);
        }
    }
}

/* A warp's loop over keys [key, end), `step` apart; the next STAGES tiles are being copied. */
template <int DIM, int KEYS> struct warp_keys {
    struct stage<DIM, KEYS> *stages;
    int key, end, step;

    __device__ warp_keys(struct stage<DIM, KEYS> *stages_, int begin, int end_) : stages(stages_), end(end_) {
        step = (int)blockDim.x / CUDA_WARP * KEYS;
        key = begin + (int)threadIdx.x / CUDA_WARP * KEYS;
    }

    __device__ void take(const struct attention_call &call, const struct attention_head &head, int stage, int first,
                         bool old, bool fresh) {
        if (first >= end) return;
        copy<DIM, KEYS>(&stages[stage], call, head, find_key<DIM, KEYS>(call, head, first, end), old, fresh);
    }

    /* The part of the first tiles that is in pages. It was written before this step. */
    __device__ void begin_old(const struct attention_call &call, const struct attention_head &head) {
#pragma unroll 1
        for (int i = 0; i < STAGES; i++) take(call, head, i, key + i * step, true, false);
    }

    /* The new rows. */
    __device__ void begin_new(const struct attention_call &call, const struct attention_head &head) {
#pragma unroll 1
        for (int i = 0; i < STAGES; i++) {
            if (end > head.s.past) take(call, head, i, key + i * step, false, true);
            matrix_commit();
        }
    }

    __device__ void run(struct warp_state<DIM> *w, const struct attention_call &call, const struct attention_head &head,
                        int halves) {
#pragma unroll 1
        for (int at = 0; key < end; key += step, at ^= 1) {
            matrix_wait<STAGES - 1>();
            __syncwarp();
            meet<DIM, KEYS>(w, &stages[at], call.a.scale * ATTENTION_LOG2_E, key, end, halves);
            __syncwarp();
            take(call, head, at, key + STAGES * step, true, true);
            matrix_commit();
        }
        matrix_wait<0>();
        __syncwarp();
    }
};

/* What a warp leaves in shared memory, over its stages. */
template <int DIM> struct warp_result { float values[ATTENTION_FEW][DIM], largest[ATTENTION_FEW], sum[ATTENTION_FEW]; };

template <int DIM> __device__ void leave(struct warp_result<DIM> *to, const struct warp_state<DIM> &w) {
    int lane = threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = lane / 4 + 8 * r;
        float sum = cuda_join_lanes(w.sum[r], 4, cuda_plus());
        if (lane % 4 == 0) to->largest[row] = w.largest[r], to->sum[row] = sum;
#pragma unroll
        for (int n = 0; n < DIM / 8; n++)
            *(float2 *)&to->values[row][8 * n + 2 * (lane % 4)] = make_float2(w.out[n][2 * r], w.out[n][2 * r + 1]);
    }
}

/* Joins several softmaxes of one row: add() takes them in order, with values[0] and values[1] of columns c and c +
 * 1. */
struct joined {
    float largest, sum, values[2];

    __device__ void add(float of, float its_sum, float2 its_values) {
        float all = fmaxf(largest, of);
        float before = largest == -INFINITY ? 0 : attention_exp2(largest - all),
              now = of == -INFINITY ? 0 : attention_exp2(of - all);
        sum = sum * before + its_sum * now;
        values[0] = values[0] * before + its_values.x * now;
        values[1] = values[1] * before + its_values.y * now;
        largest = all;
    }
};

/* Joins the warps' softmaxes and stores them in `out` or, for a split, in its results. */
template <int DIM>
__device__ void join_warps(const struct warp_result<DIM> *warps, const struct attention_call &call,
                           const struct attention_cut &cut, const struct attention_head &head, int64_t sequence,
                           int piece, int count) {
    int used = (int)blockDim.x / CUDA_WARP;
    for (int i = threadIdx.x; i < count * (DIM / 2); i += (int)blockDim.x) {
        int row = i / (DIM / 2), c = i % (DIM / 2) * 2;
        struct joined all = {-INFINITY, 0, {0, 0}};
        if (c >= call.a.head_dim) continue;
        for (int w = 0; w < used; w++)
            all.add(warps[w].largest[row], warps[w].sum[row], *(const float2 *)&warps[w].values[row][c]);
        int64_t result = attention_result(call, cut, sequence, piece, head.kv_head, row);
        float2 softmax = make_float2(all.largest / ATTENTION_LOG2_E, all.sum);
        for (int j = 0; j < 2; j++) attention_store_piece(call, cut, head, result, row, c + j, all.values[j], softmax);
    }
}

/* Whether this block is the last one of its list. The results of the other splits are then visible. */
__device__ static bool is_last(unsigned *counter, int pieces) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicInc(counter, (unsigned)pieces - 1) == (unsigned)pieces - 1; /* back to 0 */
    __syncthreads();
    __threadfence();
    return last;
}

/* Joins the splits' softmaxes. */
__device__ static void join_pieces(const struct attention_call &call, const struct attention_cut &cut,
                                   const struct attention_head &head, int64_t sequence, int count) {
    for (int i = threadIdx.x; i < count * (call.a.head_dim / 2); i += (int)blockDim.x) {
        int row = i / (call.a.head_dim / 2), c = i % (call.a.head_dim / 2) * 2;
        struct joined all = {-INFINITY, 0, {0, 0}};
        for (int piece = 0; piece < cut.pieces; piece++) {
            const float *from = cut.results + attention_result(call, cut, sequence, piece, head.kv_head, row);
            float2 softmax = __ldcg((const float2 *)from), values = __ldcg((const float2 *)(from + 2 + c));
            all.add(softmax.x * ATTENTION_LOG2_E, softmax.y, values);
        }
        struct attention_cut whole = cut;
        whole.pieces = 1;
        float2 softmax = make_float2(all.largest / ATTENTION_LOG2_E, all.sum);
        for (int j = 0; j < 2; j++) attention_store_piece(call, whole, head, 0, row, c + j, all.values[j], softmax);
    }
}

/* Stages and results use the same memory in turn. */
template <int DIM, int KEYS> constexpr size_t paged_bytes(int warps) {
    size_t stages = STAGES * sizeof(struct stage<DIM, KEYS>), results = sizeof(struct warp_result<DIM>);
    return (size_t)warps * (stages > results ? stages : results);
}

template <int DIM, int KEYS, bool SINKS>
__global__ static void __launch_bounds__(MAX_WARPS *CUDA_WARP, DIM <= 64 ? 2 : 1)
    attend_piece_matrix(struct attention_call call, struct attention_cut cut) {
    extern __shared__ float4 shared[];
    int task = blockIdx.x, kv_head = task % call.a.kv_heads, lane = threadIdx.x % CUDA_WARP;
    int sequence = (task /= call.a.kv_heads) % cut.sequences, piece = task / cut.sequences;
    int warp = threadIdx.x / CUDA_WARP;
    cuda_let_next();
    struct attention_head head = attention_head_of(call, sequence, kv_head); /* batches are copied, not computed */
    int count = head.s.q_rows * call.group, halves = count > 8 ? 2 : 1;
    if (count == 0 || count > ATTENTION_FEW) {
        cuda_begin();
        return;
    }
    struct attention_range keys = attention_piece(call, head.s, cut.pieces, piece);
    struct stage<DIM, KEYS> *stages = (struct stage<DIM, KEYS> *)shared + warp * STAGES;
    struct warp_state<DIM> w = {};
    for (int r = 0; r < 2; r++) { /* padded with the last row */
        w.sees[r] = attention_row_visible(call, head.s, min(lane / 4 + 8 * r, count - 1), count);
        w.largest[r] = -INFINITY;
    }
    int sinks_end = SINKS && keys.begin < head.s.sinks ? min(keys.end, head.s.sinks) : keys.begin;
    struct warp_keys<DIM, KEYS> others(stages, sinks_end, keys.end);
    if (!SINKS) others.begin_old(call, head);
    cuda_begin();
    if (SINKS) {
        struct warp_keys<DIM, KEYS> sinks(stages, keys.begin, sinks_end);
        load_queries<DIM>(&w, call, head, call.a.q_sink, count);
        sinks.begin_old(call, head);
        sinks.begin_new(call, head);
        sinks.run(&w, call, head, halves);
        others.begin_old(call, head);
    }
    others.begin_new(call, head);
    load_queries<DIM>(&w, call, head, call.a.q, count);
    others.run(&w, call, head, halves);
    if (blockDim.x == CUDA_WARP && cut.pieces == 1) return attention_store_rows<DIM>(w, call, head, 0, count);
    __syncthreads();
    struct warp_result<DIM> *results = (struct warp_result<DIM> *)shared;
    leave<DIM>(&results[warp], w);
    __syncthreads();
    join_warps<DIM>(results, call, cut, head, sequence, piece, count);
    if (cut.pieces > 1 && is_last(cut.counters + sequence * call.a.kv_heads + kv_head, cut.pieces)) {
        join_pieces(call, cut, head, sequence, count);
    }
}

bool attention_paged_in_chunks(const struct op_attention *a) {
    struct op_attention without = *a;
    without.q_sink.data = NULL;
    return attention_in_chunks(a->q_sink) && attention_for_matrix(&without);
}

/* Warps per list: enough to keep the GPU busy, with at least MIN_KEYS keys each; and blocks, if a warp would have
 * more than MAX_KEYS keys and there are few lists. */
static int share_out(device *d, const struct attention_call *call, struct attention_cut *cut) {
    int64_t lists = (int64_t)cut->sequences * call->a.kv_heads, keys = attention_max_keys(call), warps = 1;
    int64_t wanted = BUSY_WARPS * (int64_t)cuda_state_of(d)->multiprocessors / lists, max_keys = MAX_KEYS;
    int64_t worth = (keys + MIN_KEYS - 1) / MIN_KEYS, needed = (keys + 4 * MAX_KEYS - 1) / (4 * MAX_KEYS);
    int64_t all = wanted < worth ? wanted : worth;
    if (all < needed) all = needed, max_keys *= 4;
    while (2 * warps <= all && warps < MAX_WARPS) warps *= 2;
    int64_t pieces = keys / (warps * max_keys);
    if (pieces > all / warps) pieces = all / warps;
    cut->pieces = lists > CUDA_COUNTERS || pieces < 1 ? 1 : (int)pieces;
    return (int)warps;
}

template <int DIM, int KEYS, bool SINKS>
static int run(device *d, const struct attention_call *call, const struct attention_cut *cut, int warps) {
    unsigned blocks = (unsigned)(cut->sequences * call->a.kv_heads * cut->pieces);
    size_t largest = paged_bytes<DIM, KEYS>(MAX_WARPS), available = (size_t)cuda_state_of(d)->shared_bytes;
    while (warps > 1 && paged_bytes<DIM, KEYS>(warps) > available) warps /= 2;
    TRY(cuda_allow_shared(d, attend_piece_matrix<DIM, KEYS, SINKS>, largest < available ? largest : available));
    cuda_start(d, attend_piece_matrix<DIM, KEYS, SINKS>, dim3(blocks), (unsigned)(warps * CUDA_WARP),
               paged_bytes<DIM, KEYS>(warps), *call, *cut);
    return LCKV_OK;
}

template <int DIM, int KEYS>
static int run_keys(device *d, const struct attention_call *call, const struct attention_cut *cut, int warps) {
    return call->a.q_sink.data ? run<DIM, KEYS, true>(d, call, cut, warps) : run<DIM, KEYS, false>(d, call, cut, warps);
}

/* Large tiles take less time per key; small ones leave room for more warps. */
int attention_paged_matrix(device *d, const struct attention_call *call, struct attention_cut *cut) {
    bool few = (int64_t)cut->sequences * call->a.kv_heads < FEW_LISTS;
    int warps = share_out(d, call, cut);
    cut->row_blocks = 1;
    TRY(attention_take_results(d, call, cut));
    if (call->a.head_dim > 64) return run_keys<128, 16>(d, call, cut, warps);
    return few ? run_keys<64, 32>(d, call, cut, warps) : run_keys<64, 16>(d, call, cut, warps);
}
