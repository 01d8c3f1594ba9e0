/* Shared by the attention files: visible keys of a query, addresses of keys, tiles of rows in shared memory.
 *
 * One KV head of a sequence serves `group` query heads. Its queries are rows of tiles: query i and head h of the
 * group are row i * group + h, so that a tile of keys is read once for all of them, and rows are in the order of i. */
#ifndef DEVICE_CUDA_ATTENTION_H
#define DEVICE_CUDA_ATTENTION_H

#include "device/cuda/cuda.h"

enum {
    ATTENTION_FEW = 16,     /* with at most this many rows per KV head, attention_paged.cu handles a sequence */
    ATTENTION_MAX_DIM = 256 /* maximum head_dim */
};

/* A call as kernels see it. */
struct attention_call {
    struct op_attention a;
    int group, window; /* window: 0 for none */
    int page_shift;    /* log2 of page_rows */
    int64_t max_pages; /* columns of the page table */
};

static inline struct attention_call attention_call_of(const struct op_attention *a) {
    struct attention_call call = {};
    call.a = *a;
    call.group = a->heads / a->kv_heads;
    call.window = a->window < INT32_MAX ? (int)a->window : 0;
    while (a->past.k.data && 1 << call.page_shift < a->past.page_rows) call.page_shift++;
    call.max_pages = a->past.table.cols;
    return call;
}

static inline int attention_check(const struct op_attention *a) {
    REQUIRE(a->head_dim >= 1 && a->head_dim <= ATTENTION_MAX_DIM, LCKV_ERROR_UNSUPPORTED,
            "expected a head_dim from 1 to %d, found %d", ATTENTION_MAX_DIM, a->head_dim);
    return LCKV_OK;
}

/* One KV head of one sequence. */
struct attention_head {
    attention_sequence s;
    const int32_t *pages; /* the sequence's row of the page table */
    int kv_head;
};

__device__ static inline struct attention_head attention_head_of(const struct attention_call &call, int64_t sequence,
                                                                 int kv_head) {
    struct attention_head head;
    head.s = ((const attention_sequence *)call.a.sequences.data)[sequence];
    head.pages = (const int32_t *)call.a.past.table.data + sequence * call.max_pages;
    head.kv_head = kv_head;
    return head;
}

struct attention_range {
    int begin, end;
};

/* The keys that query i sees, in the sequence's list. Both ends grow with i. */
__device__ static inline struct attention_range attention_visible(const struct attention_call &call,
                                                                  const attention_sequence &s, int i) {
    int at = s.past + s.q_offset + i, keys = s.past + s.kv_rows;
    int end = min(call.a.strict ? at : at + 1, keys);
    int begin = call.window > 0 && at >= call.window ? at - call.window + 1 : 0;
    return {begin, max(begin, end)};
}

/* The same for a row of the tiles; padding rows, from `rows` on, see nothing. */
__device__ static inline struct attention_range attention_row_visible(const struct attention_call &call,
                                                                      const attention_sequence &s, int row, int rows) {
    if (row >= rows) return {INT32_MAX, INT32_MAX};
    return attention_visible(call, s, row / call.group);
}

/* Element 0 of this head's query (or of a tensor of the same layout) of a tile's row. */
__device__ static inline int64_t attention_query(const struct attention_call &call, const struct attention_head &head,
                                                 int row) {
    int64_t at = head.s.q_row + row / call.group, h = head.kv_head * call.group + row % call.group;
    return (at * call.a.heads + h) * call.a.head_dim;
}

/* The row of past.k and past.v with past row u. */
__device__ static inline int64_t attention_past_row(const struct attention_call &call,
                                                    const struct attention_head &head, int u) {
    int page_rows = 1 << call.page_shift, first = 0;
    if (u >= head.s.sinks) {
        u += head.s.skip - head.s.sinks;
        first = (head.s.sinks + page_rows - 1) >> call.page_shift;
    }
    return ((int64_t)head.pages[first + (u >> call.page_shift)] << call.page_shift) + (u & (page_rows - 1));
}

/* The address and the type of this head's key (or value) u of the list. */
__device__ static inline const void *attention_key(const struct attention_call &call, const struct attention_head &head,
                                                   view past, view fresh, int u, dtype *type) {
    bool old = u < head.s.past;
    int64_t row = old ? attention_past_row(call, head, u) : head.s.kv_row + u - head.s.past;
    *type = old ? past.type : fresh.type;
    const void *data = old ? past.data : fresh.data;
    int64_t at = (row * call.a.kv_heads + head.kv_head) * call.a.head_dim;
    return (const char *)data + at * (int64_t)cuda_bytes(*type);
}

/* The same, also of pages in kv_int8. *scale: factor of its values; 1 for the other types. */
__device__ static inline const void *attention_scaled_key(const struct attention_call &call,
                                                          const struct attention_head &head, view past, view fresh,
                                                          int u, dtype *type, float *scale) {
    *scale = 1;
    if (past.type != DTYPE_KV_INT8 || u >= head.s.past) return attention_key(call, head, past, fresh, u, type);
    int64_t at = attention_past_row(call, head, u) * call.a.kv_heads + head.kv_head;
    *type = past.type;
    *scale = ((const float *)past.scales)[at];
    return (const int8_t *)past.data + at * call.a.head_dim;
}

__device__ static inline bool attention_meets_sinks(const struct attention_call &call,
                                                    const struct attention_head &head, int key) {
    return call.a.q_sink.data && key < head.s.sinks;
}

/* The end of the keys that are processed together from `key` on: after at most `max_keys` keys, at `end`, and where
 * keys for another query begin. */
__device__ static inline int attention_tile_end(const struct attention_call &call, const struct attention_head &head,
                                                int key, int end, int max_keys) {
    if (attention_meets_sinks(call, head, key)) end = min(end, head.s.sinks);
    return min(key + max_keys, end);
}

/* ---------------------------------------------------------------- tiles in shared memory, f32 */

/* The threads of a tile form a square; thread (x, y) has rows y + SIDE * i and columns x + SIDE * j. */
enum { ATTENTION_SIDE = 16, ATTENTION_THREADS = ATTENTION_SIDE * ATTENTION_SIDE };

/* Floats between rows: four more than a row has, so that rows begin in different banks. */
template <int DIM> constexpr int attention_row_floats = DIM + 4;

/* Row `row` of a tile = `dim` elements of `from` times `factor`, padded with zeros; all zeros if `from` is NULL. One
 * warp writes it. */
template <int DIM>
__device__ void attention_load_row(float *tile, int row, const void *from, dtype type, int dim, float factor) {
    float *to = tile + row * attention_row_floats<DIM>;
    for (int c = threadIdx.x % CUDA_WARP * 4; c < DIM; c += CUDA_WARP * 4) {
        struct cuda_four x = {};
        if (from) x = cuda_get4(from, type, c, dim);
        *(float4 *)(to + c) = make_float4(x.at[0] * factor, x.at[1] * factor, x.at[2] * factor, x.at[3] * factor);
    }
}

/* The same for int8. */
template <int DIM>
__device__ void attention_load_bytes(float *tile, int row, const int8_t *from, int dim, float factor) {
    float *to = tile + row * attention_row_floats<DIM>;
    for (int c = threadIdx.x % CUDA_WARP; c < DIM; c += CUDA_WARP) to[c] = c < dim ? (float)from[c] * factor : 0;
}

/* Rows [first, first + TILE) of the head's queries in `from`; zeros from row `rows` on. */
template <int TILE, int DIM>
__device__ void attention_load_queries(float *tile, const struct attention_call &call,
                                       const struct attention_head &head, view from, float factor, int first,
                                       int rows) {
    for (int r = threadIdx.x / CUDA_WARP; r < TILE; r += ATTENTION_THREADS / CUDA_WARP) {
        const char *row = NULL;
        if (first + r < rows) {
            row = (const char *)from.data + attention_query(call, head, first + r) * (int64_t)cuda_bytes(from.type);
        }
        attention_load_row<DIM>(tile, r, row, from.type, call.a.head_dim, factor);
    }
}

/* Keys (or values) [key, end), padded to TILE with zeros. */
template <int TILE, int DIM>
__device__ void attention_load_keys(float *tile, const struct attention_call &call, const struct attention_head &head,
                                    view past, view fresh, int key, int end) {
    for (int r = threadIdx.x / CUDA_WARP; r < TILE; r += ATTENTION_THREADS / CUDA_WARP) {
        dtype type = DTYPE_F32;
        const void *row = NULL;
        float scale = 1;
        if (key + r < end) row = attention_scaled_key(call, head, past, fresh, key + r, &type, &scale);
        if (type == DTYPE_KV_INT8)
            attention_load_bytes<DIM>(tile, r, (const int8_t *)row, call.a.head_dim, scale);
        else
            attention_load_row<DIM>(tile, r, row, type, call.a.head_dim, 1.0f);
    }
}

/* out[i][j] = a's row y + SIDE i times b's row x + SIDE j. */
template <int PER, int DIM>
__device__ void attention_dots(float out[PER][PER], const float *a, const float *b, int x, int y) {
    constexpr int FLOATS = attention_row_floats<DIM>;
#pragma unroll
    for (int i = 0; i < PER; i++)
#pragma unroll
        for (int j = 0; j < PER; j++) out[i][j] = 0;
#pragma unroll 4
    for (int c = 0; c < DIM; c += 4) {
        float4 left[PER], right[PER];
#pragma unroll
        for (int i = 0; i < PER; i++) left[i] = *(const float4 *)(a + (y + ATTENTION_SIDE * i) * FLOATS + c);
#pragma unroll
        for (int j = 0; j < PER; j++) right[j] = *(const float4 *)(b + (x + ATTENTION_SIDE * j) * FLOATS + c);
#pragma unroll
        for (int i = 0; i < PER; i++)
#pragma unroll
            for (int j = 0; j < PER; j++)
                out[i][j] +=
                    left[i].x * right[j].x + left[i].y * right[j].y + left[i].z * right[j].z + left[i].w * right[j].w;
    }
}

/* out[i][j] += sum over u < TILE of weights(y + SIDE i, u) rows[u][x + SIDE j]; weights are at weights[row *
 * row_step + u * step]. */
template <int TILE, int PER, int DIM>
__device__ void attention_add_rows(float out[PER][DIM / ATTENTION_SIDE], const float *weights, int row_step, int step,
                                   const float *rows, int x, int y) {
#pragma unroll 4
    for (int u = 0; u < TILE; u++) {
        float weight[PER];
#pragma unroll
        for (int i = 0; i < PER; i++) weight[i] = weights[(y + ATTENTION_SIDE * i) * row_step + u * step];
#pragma unroll
        for (int j = 0; j < DIM / ATTENTION_SIDE; j++) {
            float value = rows[u * attention_row_floats<DIM> + x + ATTENTION_SIDE * j];
#pragma unroll
            for (int i = 0; i < PER; i++) out[i][j] += weight[i] * value;
        }
    }
}

/* Sequences with few queries: attention_paged.cu. */
int cuda_attention_few(device *d, const struct attention_call *call);

#endif
