/* Conversion to and from kv_int8, and appending to its pages; see kv_int8.h. */
#include "device/cuda/kv_int8.h"
#include "device/cuda/launch.h"
#include "device/cuda/rotate.h"

enum { WARPS = 4, THREADS = WARPS * CUDA_WARP };

/* ---------------------------------------------------------------- a head */

/* Head `head` of row `to` of dst = that of row `from` of src. A warp does it. */
__device__ static void quantize_head(view dst, int64_t to, view src, int64_t from, int head) {
    int lane = threadIdx.x % CUDA_WARP, largest = 0;
    int64_t first = (int64_t)head * dst.group, end = first + dst.group;
    const void *x = cuda_row(src, from);
    int8_t *q = (int8_t *)dst.data + to * dst.cols;
    for (int64_t c = first + lane; c < end; c += CUDA_WARP)
        largest = max(largest, kv_int8_magnitude(cuda_get(x, src.type, c)));
    struct kv_int8_scale s(cuda_join_lanes(largest, CUDA_WARP, cuda_larger()));
    for (int64_t c = first + lane; c < end; c += CUDA_WARP) q[c] = s.integer(cuda_get(x, src.type, c));
    if (lane == 0) s.store(dst, to, head);
}

/* The head of this warp, and its row; -1: none. */
__device__ static int head_of_warp(int heads, int64_t rows, int64_t *row) {
    int64_t at = (int64_t)blockIdx.x * WARPS + threadIdx.x / CUDA_WARP;
    *row = at / heads;
    return *row < rows ? (int)(at % heads) : -1;
}

/* ---------------------------------------------------------------- cast, scatter_rows */

__global__ static void __launch_bounds__(THREADS) quantize(view dst, view src) {
    int64_t row;
    int head = head_of_warp((int)(dst.cols / dst.group), dst.rows, &row);
    if (head >= 0) quantize_head(dst, row, src, row, head);
}

__global__ static void __launch_bounds__(THREADS) append(view dst, view src, const int64_t *index) {
    int64_t row;
    int head = head_of_warp((int)(dst.cols / dst.group), src.rows, &row);
    if (head < 0) return;
    int64_t to = index[row];
    if (to >= 0 && to < dst.rows) quantize_head(dst, to, src, row, head);
}

__global__ static void __launch_bounds__(THREADS) dequantize(view dst, view src, int64_t n) {
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= n) return;
    cuda_set(dst.data, dst.type, at, ((const float *)src.scales)[at / src.group] * ((const int8_t *)src.data)[at]);
}

static unsigned blocks_of_heads(view v, int64_t rows) {
    return cuda_blocks(rows * (v.cols / v.group), WARPS);
}

static int copy(device *d, view dst, view src) {
    cudaStream_t stream = cuda_stream(d);
    CUDA_TRY(d, cudaMemcpyAsync(dst.data, src.data, view_bytes(dst), cudaMemcpyDeviceToDevice, stream));
    CUDA_TRY(d, cudaMemcpyAsync(dst.scales, src.scales, view_scale_bytes(dst), cudaMemcpyDeviceToDevice, stream));
    return LCKV_OK;
}

int cuda_kv_int8_cast(device *d, const struct op_cast *a) {
    int64_t n = cuda_elements(a->dst);
    if (n == 0) return LCKV_OK;
    if (a->src.type == a->dst.type) return copy(d, a->dst, a->src);
    if (a->dst.type == DTYPE_KV_INT8)
        quantize<<<blocks_of_heads(a->dst, a->dst.rows), THREADS, 0, cuda_stream(d)>>>(a->dst, a->src);
    else
        dequantize<<<cuda_blocks(n, THREADS), THREADS, 0, cuda_stream(d)>>>(a->dst, a->src, n);
    return LCKV_OK;
}

int cuda_kv_int8_append(device *d, const struct op_scatter_rows *a) {
    const int64_t *index = (const int64_t *)a->index.data;
    if (cuda_elements(a->src) > 0)
        append<<<blocks_of_heads(a->dst, a->src.rows), THREADS, 0, cuda_stream(d)>>>(a->dst, a->src, index);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- rope_append */

enum { EACH = 4 /* pairs per thread */ };

struct heads_call {
    struct op_rope_append a;
    int heads, kv_heads;
    int lanes; /* per head: a power of two, at most a warp */
};

/* A thread's pairs of a head, from pair `first` on; zeros from pair `pairs` on. */
struct head_pairs {
    struct cuda_four low, high;
    int first, pairs;

    __device__ void load(view x, int64_t row, int head) {
        int64_t at = (int64_t)head * 2 * pairs + first, end = (int64_t)head * 2 * pairs + pairs;
        low = cuda_get4(cuda_row(x, row), x.type, at, end);
        high = cuda_get4(cuda_row(x, row), x.type, at + pairs, end + pairs);
    }

    __device__ void store(view y, int64_t row, int head) const {
        int64_t at = (int64_t)head * 2 * pairs + first, end = (int64_t)head * 2 * pairs + pairs;
        cuda_set4(cuda_row(y, row), y.type, at, end, low);
        cuda_set4(cuda_row(y, row), y.type, at + pairs, end + pairs, high);
    }

    __device__ void rotate(const float *angles) {
        struct cuda_four cosines = cuda_get4(angles, DTYPE_F32, first, pairs);
        struct cuda_four sines = cuda_get4(angles, DTYPE_F32, pairs + first, 2 * pairs);
        for (int i = 0; i < EACH; i++) cuda_rotate_pair(&low.at[i], &high.at[i], cosines.at[i], sines.at[i]);
    }

    /* Pages contain the values of a tensor of this type. */
    __device__ void round(dtype type) {
        for (int i = 0; i < EACH && type == DTYPE_BF16; i++) {
            low.at[i] = __bfloat162float(__float2bfloat16_rn(low.at[i]));
            high.at[i] = __bfloat162float(__float2bfloat16_rn(high.at[i]));
        }
    }

    __device__ void append(view pages, int64_t row, int head, const struct kv_int8_scale &s) const {
        int64_t at = (int64_t)head * 2 * pairs + first, end = (int64_t)head * 2 * pairs + pairs;
        if (row < 0 || row >= pages.rows) return;
        if (first == 0) s.store(pages, row, head);
        s.store4(pages, row, at, end, low);
        s.store4(pages, row, at + pairs, end + pairs, high);
    }
};

/* Heads of a row: queries, then keys, then values. All lanes of a warp stay together, because those of a head search
 * its largest value. */
__global__ static void __launch_bounds__(THREADS) rotate_append(struct heads_call p) {
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    int all = p.heads + 2 * p.kv_heads, head = (int)(at / p.lanes % all);
    int64_t row = at / p.lanes / all;
    bool exists = row < p.a.angles.rows, queries = head < p.heads, keys = !queries && head < p.heads + p.kv_heads;
    struct head_pairs x = {{}, {}, (int)(at % p.lanes) * EACH, p.a.head_dim / 2};
    view from = queries ? p.a.q : keys ? p.a.k : p.a.v, out = queries ? p.a.q_out : keys ? p.a.k_out : p.a.v;
    head -= queries ? 0 : keys ? p.heads : p.heads + p.kv_heads;
    exists &= x.first < x.pairs;
    cuda_let_next();
    cuda_begin();
    if (exists) x.load(from, row, head);
    if (exists && (queries || keys)) x.rotate((const float *)p.a.angles.data + row * p.a.angles.cols);
    x.round(out.type);
    int largest = max(kv_int8_largest(x.low), kv_int8_largest(x.high));
    struct kv_int8_scale s(cuda_join_lanes(largest, p.lanes, cuda_larger()));
    if (!exists) return;
    if (!queries) {
        x.append(keys ? p.a.pages_k : p.a.pages_v, ((const int64_t *)p.a.index.data)[row], head, s);
        if (p.a.room.data) s.round(&x.low), s.round(&x.high);
    }
    x.store(out, row, head);
}

int cuda_kv_int8_rope_append(device *d, const struct op_rope_append *a) {
    struct heads_call p = {*a, 0, 0, 1};
    if (a->q.data) p.heads = (int)(a->q.cols / a->head_dim);
    if (a->k.data) p.kv_heads = (int)(a->k.cols / a->head_dim);
    while (p.lanes * EACH < a->head_dim / 2) p.lanes *= 2;
    int64_t threads = a->angles.rows * (p.heads + 2 * p.kv_heads) * p.lanes;
    if (threads > 0) cuda_start(d, rotate_append, dim3(cuda_blocks(threads, THREADS)), THREADS, 0, p);
    return LCKV_OK;
}
