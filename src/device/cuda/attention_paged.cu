/* Attention of a few queries over a long list of keys (decoding). Keys and values are read once, from their pages
 * directly into registers.
 *
 * This file supports every type and head_dim; attention_paged_matrix.cu handles what tensor cores support. A block
 * handles a split of the list of one sequence and KV head, for up to ROWS rows; there are enough splits to keep the
 * GPU busy. In a warp, some lanes share a key, SLICE elements each, and several keys are processed side by side;
 * each such group of lanes has its own softmax. Groups are joined at the end of the split, and splits, in their
 * order, by a second kernel (FlashAttention's partial softmaxes, split along the keys). */
#include "device/cuda/attention_paged.h"

enum {
    SLICE = 16,
    WARPS = 4,
    MAX_ROWS = 4,
    MIN_PIECE = 128 /* minimum keys per block, so that joining pays off */
};

/* Elements [c, c + SLICE) of a row; zeros from `dim` on. */
__device__ static void load_slice(float out[SLICE], const void *row, dtype type, int c, int dim) {
    uintptr_t at = (uintptr_t)row + (uintptr_t)c * cuda_bytes(type);
    if (type == DTYPE_BF16 && at % 16 == 0 && c + SLICE <= dim) {
        const uint4 *from = (const uint4 *)at;
        uint4 wide[2] = {from[0], from[1]};
        const __nv_bfloat162 *pairs = (const __nv_bfloat162 *)wide;
#pragma unroll
        for (int i = 0; i < SLICE / 2; i++) {
            float2 pair = __bfloat1622float2(pairs[i]);
            out[2 * i] = pair.x, out[2 * i + 1] = pair.y;
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < SLICE; i += 4) {
        struct cuda_four four = cuda_get4(row, type, c + i, dim);
#pragma unroll
        for (int j = 0; j < 4; j++) out[i + j] = four.at[j];
    }
}

/* The same for a key or a value, which may be in kv_int8. */
__device__ static void load_key_slice(float out[SLICE], const void *row, dtype type, int c, int dim, float scale) {
    if (type != DTYPE_KV_INT8) return load_slice(out, row, type, c, dim);
    const int8_t *from = (const int8_t *)row + c;
    alignas(16) int8_t bytes[SLICE] = {};
    if ((uintptr_t)from % SLICE == 0 && c + SLICE <= dim)
        *(uint4 *)bytes = *(const uint4 *)from;
    else
        for (int i = 0; i < SLICE && c + i < dim; i++) bytes[i] = from[i];
#pragma unroll
    for (int i = 0; i < SLICE; i++) out[i] = scale * bytes[i];
}

/* A lane's slices of the queries and of the result, and its group's softmax, for each row. */
template <int ROWS> struct slices {
    float q[ROWS][SLICE], out[ROWS][SLICE];
    struct attention_range sees[ROWS];
    float largest[ROWS], sum[ROWS];
};

template <int ROWS>
__device__ void load_queries(struct slices<ROWS> *own, const struct attention_call &call,
                             const struct attention_head &head, view from, int first, int count, int c) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        int row = min(first + r, count - 1); /* padded with the last row, which then sees nothing */
        const char *data = (const char *)from.data + attention_query(call, head, row) * (int64_t)cuda_bytes(from.type);
        load_slice(own->q[r], data, from.type, c, call.a.head_dim);
#pragma unroll
        for (int i = 0; i < SLICE; i++) own->q[r][i] *= call.a.scale;
    }
}

/* Processes key u, or none if !there, for all rows. LANES lanes share it. A score of -inf has no weight, also where it
 * is the first one of the lanes. */
template <int LANES, int ROWS>
__device__ void meet(struct slices<ROWS> *own, const float k[SLICE], const float v[SLICE], int u, bool there) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        float score = 0;
#pragma unroll
        for (int i = 0; i < SLICE; i++) score += own->q[r][i] * k[i];
        score = cuda_join_lanes(score, LANES, cuda_plus());
        if (!there || score == -INFINITY || u < own->sees[r].begin || u >= own->sees[r].end) continue;
        float largest = fmaxf(own->largest[r], score), factor = expf(own->largest[r] - largest),
              weight = expf(score - largest);
        own->largest[r] = largest;
        own->sum[r] = own->sum[r] * factor + weight;
#pragma unroll
        for (int i = 0; i < SLICE; i++) own->out[r][i] = own->out[r][i] * factor + weight * v[i];
    }
}

/* Keys [begin, end), divided between the block's groups of lanes. */
template <int DIM, int ROWS>
__device__ void run_keys(struct slices<ROWS> *own, const struct attention_call &call, const struct attention_head &head,
                         int begin, int end, int c) {
    constexpr int LANES = DIM / SLICE, KEYS = CUDA_WARP / LANES;
    int group = threadIdx.x % CUDA_WARP / LANES;
    for (int base = begin + threadIdx.x / CUDA_WARP * KEYS; base < end; base += WARPS * KEYS) {
        float k[SLICE] = {}, v[SLICE] = {};
        int u = base + group;
        if (u < end) {
            dtype k_type, v_type;
            float k_scale, v_scale;
            const void *k_row = attention_scaled_key(call, head, call.a.past.k, call.a.k, u, &k_type, &k_scale);
            const void *v_row = attention_scaled_key(call, head, call.a.past.v, call.a.v, u, &v_type, &v_scale);
            load_key_slice(k, k_row, k_type, c, call.a.head_dim, k_scale);
            load_key_slice(v, v_row, v_type, c, call.a.head_dim, v_scale);
        }
        meet<LANES, ROWS>(own, k, v, u, u < end);
    }
}

/* Joins the groups' softmaxes of a row: returns the maximum and the sum of all, and rescales this lane's slice of
 * the result, summed over the warp's groups. `maxima` and `sums`: [WARPS], shared. */
template <int LANES>
__device__ float2 join_groups(float largest, float sum, float out[SLICE], float *maxima, float *sums) {
    int warp = threadIdx.x / CUDA_WARP;
    float all = largest;
    for (int i = LANES; i < CUDA_WARP; i *= 2) all = fmaxf(all, __shfl_xor_sync(CUDA_ALL_LANES, all, i));
    if (threadIdx.x % CUDA_WARP == 0) maxima[warp] = all;
    __syncthreads();
    for (int w = 0; w < WARPS; w++) all = fmaxf(all, maxima[w]);
    float factor = largest == -INFINITY ? 0 : expf(largest - all);
    sum *= factor;
    for (int i = LANES; i < CUDA_WARP; i *= 2) sum += __shfl_xor_sync(CUDA_ALL_LANES, sum, i);
    if (threadIdx.x % CUDA_WARP == 0) sums[warp] = sum;
#pragma unroll
    for (int e = 0; e < SLICE; e++) {
        out[e] *= factor;
        for (int i = LANES; i < CUDA_WARP; i *= 2) out[e] += __shfl_xor_sync(CUDA_ALL_LANES, out[e], i);
    }
    __syncthreads();
    sum = 0;
    for (int w = 0; w < WARPS; w++) sum += sums[w];
    return make_float2(all, sum);
}

template <int DIM, int ROWS>
__global__ static void __launch_bounds__(WARPS *CUDA_WARP)
    attend_piece(struct attention_call call, struct attention_cut cut) {
    constexpr int LANES = DIM / SLICE;
    __shared__ float maxima[ROWS][WARPS], sums[ROWS][WARPS], values[WARPS][DIM];
    int task = blockIdx.x, kv_head = task % call.a.kv_heads, lane = threadIdx.x % CUDA_WARP;
    int sequence = (task /= call.a.kv_heads) % cut.sequences, first = (task /= cut.sequences) % cut.row_blocks * ROWS;
    int piece = task / cut.row_blocks, c = lane % LANES * SLICE;
    struct attention_head head = attention_head_of(call, sequence, kv_head);
    int count = head.s.q_rows * call.group;
    if (first >= count || count > ATTENTION_FEW) return;

    struct slices<ROWS> own;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        own.sees[r] = attention_row_visible(call, head.s, first + r, count);
        own.largest[r] = -INFINITY, own.sum[r] = 0;
#pragma unroll
        for (int i = 0; i < SLICE; i++) own.out[r][i] = 0;
    }
    struct attention_range keys = attention_piece(call, head.s, cut.pieces, piece);
    int begin = keys.begin, end = keys.end;
    if (attention_meets_sinks(call, head, begin)) {
        int sinks_end = min(end, head.s.sinks);
        load_queries<ROWS>(&own, call, head, call.a.q_sink, first, count, c);
        run_keys<DIM, ROWS>(&own, call, head, begin, sinks_end, c);
        begin = sinks_end;
    }
    load_queries<ROWS>(&own, call, head, call.a.q, first, count, c);
    run_keys<DIM, ROWS>(&own, call, head, begin, end, c);

#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        float2 softmax = join_groups<LANES>(own.largest[r], own.sum[r], own.out[r], maxima[r], sums[r]);
        if (lane < LANES)
            for (int i = 0; i < SLICE; i++) values[threadIdx.x / CUDA_WARP][c + i] = own.out[r][i];
        __syncthreads();
        int64_t result = attention_result(call, cut, sequence, piece, kv_head, first + r);
        for (int i = threadIdx.x; i < call.a.head_dim && first + r < count; i += WARPS * CUDA_WARP) {
            float value = 0;
            for (int w = 0; w < WARPS; w++) value += values[w][i];
            attention_store_piece(call, cut, head, result, first + r, i, value, softmax);
        }
        __syncthreads();
    }
}

/* One row of one KV head: the values of all splits relative to the maximum of all, divided by the sum of all. One
 * warp each. */
__global__ static void join_pieces(struct attention_call call, struct attention_cut cut) {
    int task = blockIdx.x, row = task % cut.rows, kv_head = (task /= cut.rows) % call.a.kv_heads;
    int sequence = task / call.a.kv_heads;
    struct attention_head head = attention_head_of(call, sequence, kv_head);
    int count = head.s.q_rows * call.group;
    if (row >= count || count > ATTENTION_FEW) return;
    float largest = -INFINITY, sum = 0;
    for (int piece = 0; piece < cut.pieces; piece++) {
        largest = fmaxf(largest, cut.results[attention_result(call, cut, sequence, piece, kv_head, row)]);
    }
    for (int piece = 0; piece < cut.pieces; piece++) {
        const float *result = cut.results + attention_result(call, cut, sequence, piece, kv_head, row);
        sum += result[1] == 0 ? 0 : result[1] * expf(result[0] - largest);
    }
    int64_t at = attention_query(call, head, row);
    for (int c = threadIdx.x; c < call.a.head_dim; c += CUDA_WARP) {
        float value = 0;
        for (int piece = 0; piece < cut.pieces; piece++) {
            const float *result = cut.results + attention_result(call, cut, sequence, piece, kv_head, row);
            value += result[1] == 0 ? 0 : result[2 + c] * expf(result[0] - largest);
        }
        cuda_set(call.a.out.data, call.a.out.type, at + c, sum == 0 ? 0 : value / sum);
    }
    if (call.a.lse.data && threadIdx.x == 0) ((float *)call.a.lse.data)[at / call.a.head_dim] = largest + logf(sum);
}

/* ---------------------------------------------------------------- cutting */

static int pieces_for(device *d, const struct attention_call *call, const struct attention_cut *cut) {
    int64_t blocks = (int64_t)cut->sequences * call->a.kv_heads * cut->row_blocks;
    int64_t worth = attention_max_keys(call) / MIN_PIECE;
    int64_t wanted = (4 * cuda_state_of(d)->multiprocessors + blocks - 1) / blocks;
    int64_t pieces = wanted < worth ? wanted : worth;
    return pieces < 1 ? 1 : (int)pieces;
}

template <int DIM>
static void run(device *d, const struct attention_call *call, const struct attention_cut &cut, int rows_each) {
    unsigned blocks = (unsigned)(cut.sequences * call->a.kv_heads * cut.row_blocks * cut.pieces);
    if (rows_each == 1) {
        attend_piece<DIM, 1><<<blocks, WARPS * CUDA_WARP, 0, cuda_stream(d)>>>(*call, cut);
    } else if (rows_each == 2) {
        attend_piece<DIM, 2><<<blocks, WARPS * CUDA_WARP, 0, cuda_stream(d)>>>(*call, cut);
    } else {
        attend_piece<DIM, MAX_ROWS><<<blocks, WARPS * CUDA_WARP, 0, cuda_stream(d)>>>(*call, cut);
    }
}

static void run_dim(device *d, const struct attention_call *call, const struct attention_cut &cut, int rows_each) {
    if (call->a.head_dim <= 32) return run<32>(d, call, cut, rows_each);
    if (call->a.head_dim <= 64) return run<64>(d, call, cut, rows_each);
    if (call->a.head_dim <= 128) return run<128>(d, call, cut, rows_each);
    return run<256>(d, call, cut, rows_each);
}

int cuda_attention_few(device *d, const struct attention_call *call) {
    struct attention_cut cut = {};
    int64_t rows = (int64_t)call->a.max_q_rows * call->group;
    cut.sequences = (int)call->a.sequences.rows;
    cut.rows = rows < ATTENTION_FEW ? (int)rows : ATTENTION_FEW;
    if (cut.sequences == 0 || cut.rows == 0 || call->a.kv_heads == 0) return LCKV_OK;
    if (attention_paged_in_chunks(&call->a)) return attention_paged_matrix(d, call, &cut);
    int rows_each = cut.rows < MAX_ROWS ? cut.rows : MAX_ROWS;
    if (rows_each == 3) rows_each = MAX_ROWS;
    cut.row_blocks = (cut.rows + rows_each - 1) / rows_each;
    cut.pieces = pieces_for(d, call, &cut);
    TRY(attention_take_results(d, call, &cut));
    run_dim(d, call, cut, rows_each);
    if (cut.pieces == 1) return LCKV_OK;
    unsigned joins = (unsigned)(cut.sequences * call->a.kv_heads * cut.rows);
    join_pieces<<<joins, CUDA_WARP, 0, cuda_stream(d)>>>(*call, cut);
    return LCKV_OK;
}
