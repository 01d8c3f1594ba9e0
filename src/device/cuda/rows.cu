/* Ops that find rows through an index: embed, gather_rows, scatter_rows. A block handles a row, or a part of a long
 * one.
 *
 * Padding rows of a batch may have any index. An index out of range reads zeros and writes nothing. */
#include "device/cuda/groups.h"
#include "device/cuda/kv_int8.h"
#include "device/cuda/launch.h"

enum { THREADS = 128, EACH = 4, COLS = THREADS * EACH };

/* The first of this thread's columns, and the row. */
__device__ static int64_t first_column(void) {
    return (int64_t)blockIdx.y * COLS + threadIdx.x * EACH;
}

static dim3 row_blocks(view v) {
    return dim3((unsigned)v.rows, cuda_blocks(v.cols, COLS));
}

/* dst[r] = src[index[r]] */
__global__ static void copy_rows(view dst, view src, const int32_t *index) {
    int64_t r = blockIdx.x, c = first_column(), from = index[r];
    struct cuda_four x = {};
    if (c >= dst.cols) return;
    if (from >= 0 && from < src.rows) x = cuda_get4(cuda_row(src, from), src.type, c, src.cols);
    cuda_set4(cuda_row(dst, r), dst.type, c, dst.cols, x);
}

/* The same for ids of which some were chosen by another op. */
__global__ static void embed_rows(struct op_embed a) {
    int64_t r = blockIdx.x, c = first_column();
    cuda_let_next();
    cuda_begin();
    int32_t from = a.previous.data ? ((const int32_t *)a.from.data)[r] : -1;
    int32_t id = from < 0 ? ((const int32_t *)a.ids.data)[r] : ((const int32_t *)a.previous.data)[from];
    struct cuda_four x = {};
    if (c >= a.out.cols) return;
    if (id >= 0 && id < a.table.rows) x = groups_get4(a.table, id, c);
    cuda_set4(cuda_row(a.out, r), a.out.type, c, a.out.cols, x);
}

enum { ROWS_EACH = 8, SEARCHED = THREADS * ROWS_EACH, AT_ONCE = 8 };

/* The rows of [base, base + SEARCHED) with this index, in their order: the list and its length, in shared memory. */
__device__ static int find_rows(int *list, const int32_t *index, int32_t to, int64_t base, int64_t rows) {
    __shared__ int warps[THREADS / CUDA_WARP];
    int warp = threadIdx.x / CUDA_WARP, lane = threadIdx.x % CUDA_WARP, own = 0;
    unsigned found = 0;
    for (int i = 0; i < ROWS_EACH; i++) {
        int64_t r = base + threadIdx.x * ROWS_EACH + i;
        if (r < rows && index[r] == to) found |= 1u << i, own++;
    }
    int running = own;
    for (int i = 1; i < CUDA_WARP; i *= 2) {
        int lower = __shfl_up_sync(CUDA_ALL_LANES, running, i);
        if (lane >= i) running += lower;
    }
    __syncthreads(); /* the list may still be read */
    if (lane == CUDA_WARP - 1) warps[warp] = running;
    __syncthreads();
    int at = running - own, count = 0;
    for (int w = 0; w < THREADS / CUDA_WARP; w++) {
        if (w < warp) at += warps[w];
        count += warps[w];
    }
    for (; found != 0; found &= found - 1) list[at++] = threadIdx.x * ROWS_EACH + __ffs((int)found) - 1;
    __syncthreads();
    return count;
}

/* Sum of this thread's columns: += the `count` rows base + list[...] of src, in this order. */
__device__ static void add_listed(struct cuda_four *sum, view src, int64_t base, const int *list, int count) {
    int64_t c = first_column();
    for (int at = 0; at < count && c < src.cols; at += AT_ONCE) {
        struct cuda_four x[AT_ONCE] = {};
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            if (at + j < count) x[j] = cuda_get4(cuda_row(src, base + list[at + j]), src.type, c, src.cols);
        }
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            if (at + j >= count) break;
            for (int i = 0; i < EACH; i++) sum->at[i] += x[j].at[i];
        }
    }
}

/* dst[to] += the rows of src from `first` on with this index, in their order. */
__device__ static void add_found(view dst, view src, const int32_t *index, int32_t to, int64_t first, int *list) {
    int64_t c = first_column();
    struct cuda_four sum = {};
    if (c < dst.cols) sum = cuda_get4(cuda_row(dst, to), dst.type, c, dst.cols);
    for (int64_t base = first; base < src.rows; base += SEARCHED) {
        int count = find_rows(list, index, to, base, src.rows);
        add_listed(&sum, src, base, list, count);
    }
    if (c < dst.cols) cuda_set4(cuda_row(dst, to), dst.type, c, dst.cols, sum);
}

/* dst[index[r]] += src[r]. An index may occur several times: the block of its first row adds the rows of all, in their
 * order. The other blocks find that they are not the first and return. */
__global__ static void add_few_rows(view dst, view src, const int32_t *index) {
    __shared__ int list[SEARCHED];
    int64_t first = blockIdx.x;
    int32_t to = index[first];
    if (to < 0 || to >= dst.rows) return;
    bool before = false;
    for (int64_t r = threadIdx.x; r < first; r += THREADS) before |= index[r] == to;
    if (__syncthreads_or(before)) return;
    add_found(dst, src, index, to, first, list);
}

/* The same for many rows, which are sorted by their index first. The order of rows with the same index, and that of the
 * groups, depends on which thread comes first; adding brings the rows of a group into their order. */
struct groups {
    int *count, *begin, *placed; /* [rows of dst]: rows with this index, the first of them in `list`, those in it */
    int *total, *list;           /* of rows in groups; [rows of src] */
};

__global__ static void count_rows(struct groups g, const int32_t *index, int64_t rows, int64_t n) {
    int64_t r = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (r < rows && index[r] >= 0 && index[r] < n) atomicAdd(&g.count[index[r]], 1);
}

__global__ static void place_groups(struct groups g, int64_t n) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n && g.count[i] > 0) g.begin[i] = atomicAdd(g.total, g.count[i]);
}

__global__ static void place_rows(struct groups g, const int32_t *index, int64_t rows, int64_t n) {
    int64_t r = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (r < rows && index[r] >= 0 && index[r] < n)
        g.list[g.begin[index[r]] + atomicAdd(&g.placed[index[r]], 1)] = (int)r;
}

__global__ static void add_groups(view dst, view src, const int32_t *index, struct groups g) {
    __shared__ int list[SEARCHED], sorted[SEARCHED];
    int to = (int)blockIdx.x, count = g.count[to];
    int64_t c = first_column();
    if (count == 0) return;
    if (count > SEARCHED) return add_found(dst, src, index, to, 0, list);
    for (int i = threadIdx.x; i < count; i += THREADS) list[i] = g.list[g.begin[to] + i];
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += THREADS) {
        int before = 0;
        for (int j = 0; j < count; j++) before += list[j] < list[i];
        sorted[before] = list[i];
    }
    __syncthreads();
    if (c >= dst.cols) return;
    struct cuda_four sum = cuda_get4(cuda_row(dst, to), dst.type, c, dst.cols);
    add_listed(&sum, src, 0, sorted, count);
    cuda_set4(cuda_row(dst, to), dst.type, c, dst.cols, sum);
}

static int add_rows(device *d, view dst, view src, const int32_t *index) {
    int64_t n = dst.rows, rows = src.rows;
    if (rows <= SEARCHED) {
        add_few_rows<<<row_blocks(src), THREADS, 0, cuda_stream(d)>>>(dst, src, index);
        return LCKV_OK;
    }
    int *room;
    TRY(cuda_workspace(d, CUDA_WORK_PARTIAL, (size_t)(3 * n + 1 + rows) * sizeof *room, (void **)&room));
    struct groups g = {room, room + n, room + 2 * n, room + 3 * n, room + 3 * n + 1};
    TRY(d->memory.zero(d, room, (size_t)(3 * n + 1) * sizeof *room));
    count_rows<<<cuda_blocks(rows, THREADS), THREADS, 0, cuda_stream(d)>>>(g, index, rows, n);
    place_groups<<<cuda_blocks(n, THREADS), THREADS, 0, cuda_stream(d)>>>(g, n);
    place_rows<<<cuda_blocks(rows, THREADS), THREADS, 0, cuda_stream(d)>>>(g, index, rows, n);
    add_groups<<<row_blocks(dst), THREADS, 0, cuda_stream(d)>>>(dst, src, index, g);
    return LCKV_OK;
}

/* dst[index[r]] = src[r] */
__global__ static void spread_rows(view dst, view src, const int64_t *index) {
    int64_t r = blockIdx.x, c = first_column(), to = index[r];
    if (c >= src.cols || to < 0 || to >= dst.rows) return;
    cuda_set4(cuda_row(dst, to), dst.type, c, dst.cols, cuda_get4(cuda_row(src, r), src.type, c, src.cols));
}

/* dst[r] += src[index[r]] */
__global__ static void collect_rows(view dst, view src, const int64_t *index) {
    int64_t r = blockIdx.x, c = first_column(), from = index[r];
    if (c >= dst.cols || from < 0 || from >= src.rows) return;
    struct cuda_four sum = cuda_get4(cuda_row(dst, r), dst.type, c, dst.cols);
    struct cuda_four x = cuda_get4(cuda_row(src, from), src.type, c, src.cols);
    for (int i = 0; i < EACH; i++) sum.at[i] += x.at[i];
    cuda_set4(cuda_row(dst, r), dst.type, c, dst.cols, sum);
}

int cuda_embed(device *d, const struct op_embed *a) {
    if (cuda_elements(a->out) > 0) cuda_start(d, embed_rows, row_blocks(a->out), THREADS, 0, *a);
    return LCKV_OK;
}

int cuda_embed_backward(device *d, const struct op_embed *a) {
    const int32_t *ids = (const int32_t *)a->ids.data;
    if (a->dtable.data && cuda_elements(a->dout) > 0) return add_rows(d, a->dtable, a->dout, ids);
    return LCKV_OK;
}

int cuda_gather_rows(device *d, const struct op_gather_rows *a) {
    const int32_t *index = (const int32_t *)a->index.data;
    if (cuda_elements(a->dst) > 0) {
        copy_rows<<<row_blocks(a->dst), THREADS, 0, cuda_stream(d)>>>(a->dst, a->src, index);
    }
    return LCKV_OK;
}

int cuda_gather_rows_backward(device *d, const struct op_gather_rows *a) {
    const int32_t *index = (const int32_t *)a->index.data;
    TRY(cuda_clear_fresh(d, a->dsrc));
    if (a->dsrc.data && cuda_elements(a->ddst) > 0) return add_rows(d, a->dsrc, a->ddst, index);
    return LCKV_OK;
}

int cuda_scatter_rows(device *d, const struct op_scatter_rows *a) {
    if (a->dst.type == DTYPE_KV_INT8) return cuda_kv_int8_append(d, a);
    const int64_t *index = (const int64_t *)a->index.data;
    if (cuda_elements(a->src) > 0) {
        spread_rows<<<row_blocks(a->src), THREADS, 0, cuda_stream(d)>>>(a->dst, a->src, index);
    }
    return LCKV_OK;
}

int cuda_scatter_rows_backward(device *d, const struct op_scatter_rows *a) {
    const int64_t *index = (const int64_t *)a->index.data;
    TRY(cuda_clear_fresh(d, a->dsrc));
    if (a->dsrc.data && cuda_elements(a->dsrc) > 0) {
        collect_rows<<<row_blocks(a->dsrc), THREADS, 0, cuda_stream(d)>>>(a->dsrc, a->ddst, index);
    }
    return LCKV_OK;
}
