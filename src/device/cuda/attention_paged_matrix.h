/* Attention of a few queries over a long list of keys (decoding) on tensor cores: the kernel, for tiles of keys in any
 * form. attention_paged_matrix.cu has tiles in bf16, attention_paged_int8.cu tiles in kv_int8.
 *
 * A block handles a split of the list of one sequence and KV head, for all rows of that head (at most 16: the
 * queries of a group of heads share what is read). Each warp processes a tile of keys at a time, with its own softmax,
 * while the next ones are copied to its part of shared memory; at the end the warps are joined. If the list is
 * split, the block that ends last joins the splits, in their order. With many sequences a warp has a whole list;
 * with few, many warps and blocks share one.
 *
 * A tile is a struct TILE in shared memory:
 *   DIM, KEYS       constants: elements of a row (64 or 128), and rows (a multiple of GROUP)
 *   SCALED          whether keys have scales, k_scale and v_scale [KEYS]; the products are then those of integers
 *   APART           whether new rows are in a tile of their own, a new_tile of NEW_BYTES; this one then only has rows
 *                   of pages
 *   copy()          starts copying a group of keys to rows i .. : those in pages if `old` (zeros for missing ones), and
 *                   the new ones if `fresh`
 *   key_rows()      the left factor of scores: keys 16 n .. in the rows, step k of the elements in the columns
 *   value_rows()    the left factor of results: step m of the elements in the rows, keys 16 n .. in the columns
 *   query_column()  the element of a query that a lane has in half 0 or 1 of the columns of step k
 *   out_column()    the element of a value that a lane has in half 0 or 1 of the rows of step m
 *   store_row()     stores a row of `out`: pair 2 m + i has the elements out_column() of lanes 8 (lane % 4) and
 *                   8 (lane % 4) + 4
 * A sum may be taken in any order, and so may the rows of a result: a tile chooses which elements a step has. */
#ifndef DEVICE_CUDA_ATTENTION_PAGED_MATRIX_H
#define DEVICE_CUDA_ATTENTION_PAGED_MATRIX_H

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

/* Registers of a warp. The keys of a tile are the rows of scores, and the elements of values the rows of `out`; the
 * columns of both are the queries, QUERIES tiles of eight. A lane has queries 2 (lane % 4) and the next one of each
 * tile. */
template <int DIM, int QUERIES> struct warp_state {
    uint32_t q[QUERIES][DIM / 16][2];
    float out[QUERIES][DIM / 16][4];
    struct attention_range sees[QUERIES][2];
    float largest[QUERIES][2], sum[QUERIES][2]; /* largest: of scores times scale times log2(e), at most MARGIN too
                                                 * small */
};

template <class TILE, int QUERIES>
__device__ void load_queries(struct warp_state<TILE::DIM, QUERIES> *w, const struct attention_call &call,
                             const struct attention_head &head, view from, int count) {
    int lane = threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int t = 0; t < QUERIES; t++) {
        int row = lane / 4 + 8 * t;
        const uint16_t *q = (const uint16_t *)from.data;
        if (row < count) q += attention_query(call, head, row);
#pragma unroll
        for (int k = 0; k < TILE::DIM / 8; k++) {
            int c = TILE::query_column(k / 2, k % 2);
            w->q[t][k / 2][k % 2] = row < count && c < call.a.head_dim ? *(const uint32_t *)(q + c) : 0;
        }
    }
}

/* ---------------------------------------------------------------- groups of keys */

enum { GROUP = 16 /* keys that are copied together */ };

/* The location of this lane's key of a group: its row of the pages, or, as NEW - row, of the new rows; NONE after
 * `end`. */
enum { NONE = -1, NEW = -2 };

__device__ static int find_key(const struct attention_call &call, const struct attention_head &head, int first,
                               int end) {
    int u = first + (int)threadIdx.x % GROUP;
    if (u >= end) return NONE;
    return u < head.s.past ? (int)attention_past_row(call, head, u) : NEW - (head.s.kv_row + u - head.s.past);
}

/* Whether a group is in one page. */
__device__ static bool in_page(const struct attention_call &call, const struct attention_head &head, int first,
                               int end) {
    int page_rows = 1 << call.page_shift, at = (first + head.s.skip - head.s.sinks) & (page_rows - 1);
    return first >= head.s.sinks && first + GROUP <= min(end, head.s.past) && at + GROUP <= page_rows;
}

/* A group: consecutive rows of one page or of the new rows, of which the first key's is `place`, or each lane's key at
 * its own place. */
struct group {
    int place;
    bool whole;

    __device__ group(const struct attention_call &call, const struct attention_head &head, int first, int end) {
        bool fresh = first >= head.s.past && first + GROUP <= end;
        whole = fresh || in_page(call, head, first, end);
        if (fresh)
            place = NEW - (head.s.kv_row + first - head.s.past);
        else
            place = whole ? (int)attention_past_row(call, head, first) : find_key(call, head, first, end);
    }
};

/* Starts copying a group of keys to rows of a tile in bf16: those in pages if `old` (zeros for missing ones), and the
 * new ones if `fresh`. */
template <int DIM>
__device__ void copy_group(char *to_k, char *to_v, const struct attention_call &call, const struct attention_head &head,
                           const struct group &from, bool old, bool fresh) {
    constexpr int CHUNKS = DIM / MATRIX_CHUNK, EACH = CUDA_WARP / CHUNKS;
    int lane = (int)threadIdx.x % CUDA_WARP, chunk = lane % CHUNKS, row = lane / CHUNKS;
    int stride = call.a.kv_heads * call.a.head_dim * 2;
    int at = (head.kv_head * call.a.head_dim + chunk * MATRIX_CHUNK) * 2;
    bool inside = chunk * MATRIX_CHUNK < call.a.head_dim;
    if (from.whole) {
        bool paged = from.place >= 0;
        if (!(paged ? old : fresh)) return;
        int64_t offset = (int64_t)((paged ? from.place : NEW - from.place) + row) * stride + at;
        const char *k = (const char *)(paged ? call.a.past.k.data : call.a.k.data) + offset;
        const char *v = (const char *)(paged ? call.a.past.v.data : call.a.v.data) + offset;
        if (!inside) k = v = (const char *)call.a.q.data, stride = 0; /* any valid address */
#pragma unroll
        for (int i = 0; i < GROUP; i += EACH, k += EACH * stride, v += EACH * stride) {
            matrix_copy16(matrix_at<DIM>(to_k, i + row, chunk), k, inside);
            matrix_copy16(matrix_at<DIM>(to_v, i + row, chunk), v, inside);
        }
        return;
    }
#pragma unroll 1
    for (; row < GROUP; row += EACH) {
        int its = __shfl_sync(CUDA_ALL_LANES, from.place, row);
        bool paged = its >= NONE, there = its != NONE && inside;
        if (!(paged ? old : fresh)) continue;
        int64_t offset = (int64_t)(paged ? its : NEW - its) * stride + at;
        const char *k = (const char *)(paged ? call.a.past.k.data : call.a.k.data) + offset;
        const char *v = (const char *)(paged ? call.a.past.v.data : call.a.v.data) + offset;
        const void *any = call.a.q.data;
        matrix_copy16(matrix_at<DIM>(to_k, row, chunk), there ? k : any, there);
        matrix_copy16(matrix_at<DIM>(to_v, row, chunk), there ? v : any, there);
    }
}

/* ---------------------------------------------------------------- keys of a tile */

/* Rescales a warp's sums if the scores of a tile, in log2, exceed `largest` by more than MARGIN. Without this the
 * maximum would have to be found for each tile, and the sums rescaled. */
enum { MARGIN = 8 };

template <int DIM, int QUERIES, int TILES>
__device__ void raise_largest(struct warp_state<DIM, QUERIES> *w, const float (&score)[TILES][QUERIES][4]) {
    float largest[QUERIES][2];
    bool raise = false;
#pragma unroll
    for (int t = 0; t < QUERIES; t++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            largest[t][i] = -INFINITY;
#pragma unroll
            for (int n = 0; n < TILES; n++)
                largest[t][i] = fmaxf(largest[t][i], fmaxf(score[n][t][i], score[n][t][i + 2]));
            raise |= largest[t][i] > w->largest[t][i] + MARGIN;
        }
    if (!__any_sync(CUDA_ALL_LANES, raise)) return;
#pragma unroll
    for (int t = 0; t < QUERIES; t++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float all = fmaxf(largest[t][i], w->largest[t][i]);
            for (int lanes = 4; lanes < CUDA_WARP; lanes *= 2)
                all = fmaxf(all, __shfl_xor_sync(CUDA_ALL_LANES, all, lanes));
            float factor = all == -INFINITY ? 1 : attention_exp2(w->largest[t][i] - all);
            w->largest[t][i] = all;
            w->sum[t][i] *= factor;
#pragma unroll
            for (int m = 0; m < DIM / 16; m++) w->out[t][m][i] *= factor, w->out[t][m][i + 2] *= factor;
        }
}

/* The keys of one tile before `end`. */
template <class TILE, int QUERIES>
__device__ void meet(struct warp_state<TILE::DIM, QUERIES> *w, TILE *keys, float scale, int key, int end) {
    constexpr int DIM = TILE::DIM, KEYS = TILE::KEYS, TILES = KEYS / 16;
    int lane = threadIdx.x % CUDA_WARP;
    float score[TILES][QUERIES][4] = {}, odd[TILES][QUERIES][4] = {}; /* two sums, which do not wait for each other */
#pragma unroll
    for (int k = 0; k < DIM / 16; k++)
#pragma unroll
        for (int n = 0; n < TILES; n++) {
            uint32_t left[4];
            keys->key_rows(left, n, k);
#pragma unroll
            for (int t = 0; t < QUERIES; t++)
                matrix_multiply(k % 2 ? odd[n][t] : score[n][t], left, w->q[t][k][0], w->q[t][k][1]);
        }
    bool all = true;
#pragma unroll
    for (int t = 0; t < QUERIES; t++)
        for (int i = 0; i < 2; i++) all &= key >= w->sees[t][i].begin && key + KEYS <= min(w->sees[t][i].end, end);
    all = __all_sync(CUDA_ALL_LANES, all);
#pragma unroll
    for (int n = 0; n < TILES; n++)
#pragma unroll
        for (int t = 0; t < QUERIES; t++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int row = 16 * n + lane / 4 + i / 2 * 8, u = key + row;
                struct attention_range sees = w->sees[t][i % 2];
                score[n][t][i] = (score[n][t][i] + odd[n][t][i]) * scale;
                if constexpr (TILE::SCALED) score[n][t][i] *= keys->k_scale[row];
                if (!all && (u < sees.begin || u >= min(sees.end, end))) score[n][t][i] = -INFINITY;
            }
    raise_largest<DIM, QUERIES, TILES>(w, score);
#pragma unroll
    for (int n = 0; n < TILES; n++) {
        uint32_t weights[QUERIES][2];
#pragma unroll
        for (int t = 0; t < QUERIES; t++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float shift = w->largest[t][i % 2] == -INFINITY ? 0 : w->largest[t][i % 2];
                score[n][t][i] = attention_exp2(score[n][t][i] - shift);
                w->sum[t][i % 2] += score[n][t][i];
                if constexpr (TILE::SCALED) score[n][t][i] *= keys->v_scale[16 * n + lane / 4 + i / 2 * 8];
            }
            weights[t][0] = matrix_transpose(matrix_pair(score[n][t][0], score[n][t][1]));
            weights[t][1] = matrix_transpose(matrix_pair(score[n][t][2], score[n][t][3]));
        }
#pragma unroll
        for (int m = 0; m < DIM / 16; m++) {
            uint32_t left[4];
            keys->value_rows(left, n, m);
#pragma unroll
            for (int t = 0; t < QUERIES; t++) matrix_multiply(w->out[t][m], left, weights[t][0], weights[t][1]);
        }
    }
}

/* A warp's loop over keys [key, end), `step` apart; the next STAGES tiles are being copied. */
template <class TILE> struct warp_keys {
    TILE *stages;
    int key, end, step;

    __device__ warp_keys(TILE *stages_, int begin, int end_) : stages(stages_), end(end_) {
        step = (int)blockDim.x / CUDA_WARP * TILE::KEYS;
        key = begin + (int)threadIdx.x / CUDA_WARP * TILE::KEYS;
    }

    __device__ void take(const struct attention_call &call, const struct attention_head &head, int at, int first,
                         bool old, bool fresh) {
        if (first >= end) return;
#pragma unroll 1
        for (int i = 0; i < TILE::KEYS; i += GROUP)
            stages[at].copy(i, call, head, group(call, head, first + i, end), old, fresh);
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

    /* The same if the tiles have no new rows: those come with the last of these tiles. */
    template <class REST>
    __device__ void begin_apart(REST *rest, const struct attention_call &call, const struct attention_head &head) {
#pragma unroll 1
        for (int i = 0; i + 1 < STAGES; i++) matrix_commit();
        rest->begin(call, head);
        matrix_commit();
    }

    template <int QUERIES>
    __device__ void run(struct warp_state<TILE::DIM, QUERIES> *w, const struct attention_call &call,
                        const struct attention_head &head) {
        constexpr int KEYS = TILE::KEYS;
#pragma unroll 1
        for (int at = 0; key < end; key += step, at ^= 1) {
            int then = key + STAGES * step;
            struct group low(call, head, then, end), high(call, head, then + KEYS - GROUP, end); /* found early */
            matrix_wait<STAGES - 1>();
            __syncwarp();
            meet<TILE, QUERIES>(w, &stages[at], call.a.scale * ATTENTION_LOG2_E, key, end);
            __syncwarp();
            if (then < end) stages[at].copy(0, call, head, low, true, true);
            if (then < end && KEYS > GROUP) stages[at].copy(GROUP, call, head, high, true, true);
            matrix_commit();
        }
        matrix_wait<0>();
        __syncwarp();
    }
};

/* New rows [key, end) in a tile of their own. The warp that follows the one with the last tile of pages takes them all;
 * the others have none. */
template <class TILE> struct warp_new_keys {
    TILE *tile;
    int key, end;

    __device__ warp_new_keys(TILE *tile_, int begin, int end_, int old_tiles) : tile(tile_), end(end_) {
        bool mine = (int)threadIdx.x / CUDA_WARP == old_tiles % ((int)blockDim.x / CUDA_WARP);
        key = mine ? begin : end;
    }

    __device__ void begin(const struct attention_call &call, const struct attention_head &head) {
        if (key < end) tile->copy(0, call, head, group(call, head, key, end), true, true);
    }

    /* The first tile has arrived. */
    template <int QUERIES>
    __device__ void run(struct warp_state<TILE::DIM, QUERIES> *w, const struct attention_call &call,
                        const struct attention_head &head) {
#pragma unroll 1
        while (key < end) {
            meet<TILE, QUERIES>(w, tile, call.a.scale * ATTENTION_LOG2_E, key, end);
            __syncwarp();
            key += TILE::KEYS;
            begin(call, head);
            matrix_commit();
            matrix_wait<0>();
            __syncwarp();
        }
    }
};

/* What a warp leaves in shared memory, over its stages. Rows begin in different banks. */
template <int DIM> struct warp_result {
    float values[ATTENTION_FEW][DIM + 4], largest[ATTENTION_FEW], sum[ATTENTION_FEW];
};

template <class TILE, int QUERIES>
__device__ void leave(struct warp_result<TILE::DIM> *to, const struct warp_state<TILE::DIM, QUERIES> &w) {
    int lane = threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int t = 0; t < QUERIES; t++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int row = 8 * t + 2 * (lane % 4) + i;
            float sum = w.sum[t][i];
            for (int lanes = 4; lanes < CUDA_WARP; lanes *= 2) sum += __shfl_xor_sync(CUDA_ALL_LANES, sum, lanes);
            if (lane < 4) to->largest[row] = w.largest[t][i], to->sum[row] = sum;
#pragma unroll
            for (int m = 0; m < TILE::DIM / 16; m++) {
                to->values[row][TILE::out_column(m, 0)] = w.out[t][m][i];
                to->values[row][TILE::out_column(m, 1)] = w.out[t][m][i + 2];
            }
        }
}

/* The same for a warp that has seen all keys: stores the rows of `out`. */
template <class TILE, int QUERIES>
__device__ void store_rows(const struct warp_state<TILE::DIM, QUERIES> &w, const struct attention_call &call,
                           const struct attention_head &head, int count) {
    int lane = threadIdx.x % CUDA_WARP;
#pragma unroll
    for (int t = 0; t < QUERIES; t++) {
        float factor[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int row = 8 * t + 2 * (lane % 4) + i;
            float sum = w.sum[t][i];
            for (int lanes = 4; lanes < CUDA_WARP; lanes *= 2) sum += __shfl_xor_sync(CUDA_ALL_LANES, sum, lanes);
            factor[i] = sum == 0 ? 0 : 1 / sum;
            if (call.a.lse.data && lane < 4 && row < count) {
                int64_t at = attention_query(call, head, row) / call.a.head_dim;
                ((float *)call.a.lse.data)[at] = w.largest[t][i] / ATTENTION_LOG2_E + logf(sum);
            }
        }
        uint32_t pairs[TILE::DIM / 8]; /* transposed: this lane's row is lane / 4 */
#pragma unroll
        for (int n = 0; n < TILE::DIM / 8; n++) {
            const float *pair = &w.out[t][n / 2][n % 2 * 2];
            pairs[n] = matrix_transpose(matrix_pair(pair[0] * factor[0], pair[1] * factor[1]));
        }
        int row = 8 * t + lane / 4;
        if (row < count)
            TILE::store_row((uint16_t *)call.a.out.data + attention_query(call, head, row), pairs, call.a.head_dim);
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

/* The warps' stages and a tile of new rows; then, in the same memory, their results. */
template <class TILE> constexpr size_t paged_bytes(int warps) {
    size_t tiles = (size_t)warps * STAGES * sizeof(TILE) + TILE::NEW_BYTES;
    size_t results = (size_t)warps * sizeof(struct warp_result<TILE::DIM>);
    return tiles > results ? tiles : results;
}

template <class TILE, int QUERIES, bool SINKS>
__global__ static void __launch_bounds__(MAX_WARPS *CUDA_WARP, TILE::DIM <= 64 ? 2 : 1)
    attend_piece_matrix(struct attention_call call, struct attention_cut cut) {
    constexpr int DIM = TILE::DIM;
    extern __shared__ float4 shared[];
    int task = blockIdx.x, kv_head = task % call.a.kv_heads, lane = threadIdx.x % CUDA_WARP;
    int sequence = (task /= call.a.kv_heads) % cut.sequences, piece = task / cut.sequences;
    int warp = threadIdx.x / CUDA_WARP;
    cuda_let_next();
    struct attention_head head = attention_head_of(call, sequence, kv_head); /* batches are copied, not computed */
    int count = head.s.q_rows * call.group;
    if (count == 0 || count > ATTENTION_FEW) {
        cuda_begin();
        return;
    }
    struct attention_range keys = attention_piece(call, head.s, cut.pieces, piece);
    TILE *stages = (TILE *)shared + warp * STAGES;
    struct warp_state<DIM, QUERIES> w = {};
#pragma unroll
    for (int t = 0; t < QUERIES; t++)
        for (int i = 0; i < 2; i++) { /* padded with the last row */
            w.sees[t][i] = attention_row_visible(call, head.s, min(8 * t + 2 * (lane % 4) + i, count - 1), count);
            w.largest[t][i] = -INFINITY;
        }
    int sinks_end = SINKS && keys.begin < head.s.sinks ? min(keys.end, head.s.sinks) : keys.begin;
    int old_end = TILE::APART ? max(sinks_end, min(keys.end, head.s.past)) : keys.end;
    struct warp_keys<TILE> others(stages, sinks_end, old_end);
    if (!SINKS) others.begin_old(call, head);
    cuda_begin();
    if (SINKS) {
        struct warp_keys<TILE> sinks(stages, keys.begin, sinks_end);
        load_queries<TILE, QUERIES>(&w, call, head, call.a.q_sink, count);
        sinks.begin_old(call, head);
        sinks.begin_new(call, head);
        sinks.run(&w, call, head);
        others.begin_old(call, head);
    }
    if constexpr (TILE::APART) {
        int old_tiles = (old_end - sinks_end + TILE::KEYS - 1) / TILE::KEYS;
        auto *rows = (typename TILE::new_tile *)((TILE *)shared + blockDim.x / CUDA_WARP * STAGES);
        struct warp_new_keys<typename TILE::new_tile> rest(rows, old_end, keys.end, old_tiles);
        others.begin_apart(&rest, call, head);
        load_queries<TILE, QUERIES>(&w, call, head, call.a.q, count);
        others.run(&w, call, head);
        rest.run(&w, call, head);
    } else {
        others.begin_new(call, head);
        load_queries<TILE, QUERIES>(&w, call, head, call.a.q, count);
        others.run(&w, call, head);
    }
    if (blockDim.x == CUDA_WARP && cut.pieces == 1) return store_rows<TILE, QUERIES>(w, call, head, count);
    __syncthreads();
    struct warp_result<DIM> *results = (struct warp_result<DIM> *)shared;
    leave<TILE, QUERIES>(&results[warp], w);
    __syncthreads();
    join_warps<DIM>(results, call, cut, head, sequence, piece, count);
    if (cut.pieces > 1 && is_last(cut.counters + sequence * call.a.kv_heads + kv_head, cut.pieces)) {
        join_pieces(call, cut, head, sequence, count);
    }
}

/* ---------------------------------------------------------------- launching */

/* With less shared memory per block, some multiprocessors would take more blocks than others, because those of the
 * kernel in front leave at different times. BLOCK_BYTES: what the system takes of each block. */
static size_t balanced(device *d, unsigned blocks, size_t bytes) {
    enum { BLOCK_BYTES = 1024, MAX_BALANCED = 16 };
    unsigned each = cuda_blocks(blocks, cuda_state_of(d)->multiprocessors);
    size_t whole = (size_t)cuda_state_of(d)->shared_bytes + BLOCK_BYTES, least = whole / (each + 1) - BLOCK_BYTES / 2;
    return each < 2 || each > MAX_BALANCED || bytes > least ? bytes : least;
}

template <class TILE, int QUERIES, bool SINKS>
static int run(device *d, const struct attention_call *call, const struct attention_cut *cut, int warps) {
    unsigned blocks = (unsigned)(cut->sequences * call->a.kv_heads * cut->pieces);
    size_t largest = paged_bytes<TILE>(MAX_WARPS), available = (size_t)cuda_state_of(d)->shared_bytes;
    while (warps > 1 && paged_bytes<TILE>(warps) > available) warps /= 2;
    size_t bytes = balanced(d, blocks, paged_bytes<TILE>(warps)), limit = largest < available ? largest : available;
    TRY(cuda_allow_shared(d, attend_piece_matrix<TILE, QUERIES, SINKS>, bytes > limit ? bytes : limit));
    cuda_start(d, attend_piece_matrix<TILE, QUERIES, SINKS>, dim3(blocks), (unsigned)(warps * CUDA_WARP), bytes, *call,
               *cut);
    return LCKV_OK;
}

template <class TILE, int QUERIES>
static int run_queries(device *d, const struct attention_call *call, const struct attention_cut *cut, int warps) {
    return call->a.q_sink.data ? run<TILE, QUERIES, true>(d, call, cut, warps)
                               : run<TILE, QUERIES, false>(d, call, cut, warps);
}

template <class TILE>
static int run_tiles(device *d, const struct attention_call *call, const struct attention_cut *cut, int warps) {
    return call->a.max_q_rows * call->group <= 8 ? run_queries<TILE, 1>(d, call, cut, warps)
                                                 : run_queries<TILE, 2>(d, call, cut, warps);
}

#endif
