/* RMSNorm (Zhang and Sennrich 2019) of whole rows or of each head: a row has cols / width groups with a norm each. A
 * block handles a wide group, a warp a narrow one. */
#include "device/cuda/columns.h"
#include "device/cuda/launch.h"

enum { EACH = 4, MAX_THREADS = 512 };

/* Threads per group: four elements each, up to MAX_THREADS, at least a warp. */
static unsigned run_threads(int64_t width) {
    if (width == 0) return CUDA_WARP;
    int64_t threads = (width + EACH * CUDA_WARP - 1) / (EACH * CUDA_WARP) * CUDA_WARP;
    return (unsigned)(threads < MAX_THREADS ? threads : (int64_t)MAX_THREADS);
}

__global__ static void forward(struct op_rms_norm a) {
    int64_t width = a.weight.cols, begin = blockIdx.x * width, end = begin + width, step = blockDim.x * EACH;
    float sum = 0;
    cuda_let_next();
    cuda_begin();
    for (int64_t at = begin + threadIdx.x * EACH; at < end; at += step) {
        struct cuda_four x = cuda_get4(a.x.data, a.x.type, at, end);
        for (int i = 0; i < EACH; i++) sum += x.at[i] * x.at[i];
    }
    float rstd = 1.0f / sqrtf(cuda_join_block(sum, cuda_plus()) / (float)(width > 0 ? width : 1) + a.eps);
    if (threadIdx.x == 0) ((float *)a.rstd.data)[blockIdx.x] = rstd;
    for (int64_t at = begin + threadIdx.x * EACH; at < end; at += step) {
        struct cuda_four x = cuda_get4(a.x.data, a.x.type, at, end);
        struct cuda_four weight = cuda_get4(a.weight.data, a.weight.type, at - begin, width);
        for (int i = 0; i < EACH; i++) x.at[i] = weight.at[i] * (x.at[i] * rstd);
        cuda_set4(a.y.data, a.y.type, at, end, x);
    }
}

/* The same for groups of up to blockDim.x * EACH * PER columns, which are read once. early: the weights are loaded
 * before the kernel in front has ended. */
template <int PER> __global__ static void forward_kept(struct op_rms_norm a, bool early) {
    int64_t width = a.weight.cols, begin = blockIdx.x * width, end = begin + width;
    struct cuda_four x[PER], weight[PER];
    float sum = 0;
    cuda_let_next();
#pragma unroll
    for (int i = 0; i < PER; i++) {
        int64_t at = ((int64_t)i * blockDim.x + threadIdx.x) * EACH;
        if (early && at < width) weight[i] = cuda_get4(a.weight.data, a.weight.type, at, width);
    }
    cuda_begin();
#pragma unroll
    for (int i = 0; i < PER; i++) {
        int64_t at = begin + ((int64_t)i * blockDim.x + threadIdx.x) * EACH;
        x[i] = {};
        if (at < end) x[i] = cuda_get4(a.x.data, a.x.type, at, end);
    }
#pragma unroll
    for (int i = 0; i < PER; i++)
        for (int j = 0; j < EACH; j++) sum += x[i].at[j] * x[i].at[j];
    float rstd = 1.0f / sqrtf(cuda_join_block(sum, cuda_plus()) / (float)(width > 0 ? width : 1) + a.eps);
    if (threadIdx.x == 0) ((float *)a.rstd.data)[blockIdx.x] = rstd;
#pragma unroll
    for (int i = 0; i < PER; i++) {
        int64_t at = begin + ((int64_t)i * blockDim.x + threadIdx.x) * EACH;
        if (at >= end) break;
        if (!early) weight[i] = cuda_get4(a.weight.data, a.weight.type, at - begin, width);
        for (int j = 0; j < EACH; j++) x[i].at[j] = weight[i].at[j] * (x[i].at[j] * rstd);
        cuda_set4(a.y.data, a.y.type, at, end, x[i]);
    }
}

enum { WARPS = 4 /* per block */ };

/* The same for groups of up to CUDA_WARP * EACH * PER columns, one per warp. */
template <int PER>
__global__ static void __launch_bounds__(WARPS *CUDA_WARP) forward_warps(struct op_rms_norm a, int64_t runs) {
    int64_t run = (int64_t)blockIdx.x * WARPS + threadIdx.x / CUDA_WARP, width = a.weight.cols;
    int64_t begin = run * width, end = begin + width, lane = threadIdx.x % CUDA_WARP;
    struct cuda_four x[PER];
    float sum = 0;
    cuda_let_next();
    cuda_begin();
    if (run >= runs) return;
#pragma unroll
    for (int i = 0; i < PER; i++) {
        int64_t at = begin + (i * CUDA_WARP + lane) * EACH;
        x[i] = {};
        if (at < end) x[i] = cuda_get4(a.x.data, a.x.type, at, end);
    }
#pragma unroll
    for (int i = 0; i < PER; i++)
        for (int j = 0; j < EACH; j++) sum += x[i].at[j] * x[i].at[j];
    sum = cuda_join_lanes(sum, CUDA_WARP, cuda_plus());
    float rstd = 1.0f / sqrtf(sum / (float)(width > 0 ? width : 1) + a.eps);
    if (lane == 0) ((float *)a.rstd.data)[run] = rstd;
#pragma unroll
    for (int i = 0; i < PER; i++) {
        int64_t at = begin + (i * CUDA_WARP + lane) * EACH;
        if (at >= end) break;
        struct cuda_four weight = cuda_get4(a.weight.data, a.weight.type, at - begin, width);
        for (int j = 0; j < EACH; j++) x[i].at[j] = weight.at[j] * (x[i].at[j] * rstd);
        cuda_set4(a.y.data, a.y.type, at, end, x[i]);
    }
}

enum { PER_THREAD = 4, MAX_KEPT = MAX_THREADS * EACH * PER_THREAD };

int cuda_rms_norm(device *d, const struct op_rms_norm *a) {
    int64_t runs = cuda_elements(a->rstd), width = a->weight.cols;
    bool early = cuda_state_of(d)->chain; /* otherwise it would only delay the rest */
    dim3 blocks((unsigned)runs), warp_blocks(cuda_blocks(runs, WARPS));
    if (runs == 0) return LCKV_OK;
    if (width > MAX_KEPT) {
        cuda_start(d, forward, blocks, MAX_THREADS, 0, *a);
    } else if (width <= CUDA_WARP * EACH) {
        cuda_start(d, forward_warps<1>, warp_blocks, WARPS * CUDA_WARP, 0, *a, runs);
    } else if (width <= CUDA_WARP * EACH * PER_THREAD) {
        cuda_start(d, forward_warps<PER_THREAD>, warp_blocks, WARPS * CUDA_WARP, 0, *a, runs);
    } else {
        cuda_start(d, forward_kept<PER_THREAD>, blocks, run_threads((width + PER_THREAD - 1) / PER_THREAD), 0, *a,
                   early);
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- backward: wide or unaligned groups */

/* With g = dy * weight:  dx += rstd * g - x * rstd^3 * mean(g * x) */
__global__ static void backward(struct op_rms_norm a) {
    int64_t width = a.weight.cols, begin = blockIdx.x * width, end = begin + width, step = blockDim.x * EACH;
    float rstd = ((const float *)a.rstd.data)[blockIdx.x], sum = 0;
    for (int64_t at = begin + threadIdx.x * EACH; at < end; at += step) {
        struct cuda_four x = cuda_get4(a.x.data, a.x.type, at, end), dy = cuda_get4(a.dy.data, a.dy.type, at, end);
        struct cuda_four weight = cuda_get4(a.weight.data, a.weight.type, at - begin, width);
        for (int i = 0; i < EACH; i++) sum += dy.at[i] * weight.at[i] * x.at[i];
    }
    float pull = cuda_join_block(sum, cuda_plus()) / (float)width * rstd * rstd * rstd;
    for (int64_t at = begin + threadIdx.x * EACH; at < end; at += step) {
        struct cuda_four x = cuda_get4(a.x.data, a.x.type, at, end), dy = cuda_get4(a.dy.data, a.dy.type, at, end);
        struct cuda_four weight = cuda_get4(a.weight.data, a.weight.type, at - begin, width);
        struct cuda_four dx = cuda_gradient4(a.dx, at, end);
        for (int i = 0; i < EACH; i++) dx.at[i] += rstd * dy.at[i] * weight.at[i] - pull * x.at[i];
        cuda_set4(a.dx.data, a.dx.type, at, end, dx);
        if (a.dx_rounded.data) cuda_set4(a.dx_rounded.data, DTYPE_BF16, at, end, dx);
    }
}

/* dweight += dy * x * rstd, summed over groups */
struct weight_term {
    struct op_rms_norm a;
    __device__ float operator()(int64_t run, int64_t column) const {
        int64_t at = run * a.weight.cols + column;
        float x = cuda_get(a.x.data, a.x.type, at), dy = cuda_get(a.dy.data, a.dy.type, at);
        return dy * x * ((const float *)a.rstd.data)[run];
    }
};

static int backward_in_two(device *d, const struct op_rms_norm *a, int64_t runs) {
    struct op_rms_norm again = *a;
    again.y = a->y_again; /* and the same rstd */
    if (again.y.data) TRY(cuda_rms_norm(d, &again));
    if (a->dx.data) backward<<<(unsigned)runs, run_threads(a->weight.cols), 0, cuda_stream(d)>>>(*a);
    if (!a->dweight.data || a->weight.cols == 0) return LCKV_OK;
    struct columns_plan plan;
    TRY(columns_begin(d, runs, a->weight.cols, &plan));
    columns_parts<<<plan.blocks, COLUMNS_THREADS, 0, cuda_stream(d)>>>(plan, weight_term{*a});
    columns_end(d, &plan, (float *)a->dweight.data);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- backward: both gradients in one pass */

enum { JOINED_THREADS = 256, JOINED_PER = 4, JOINED_BUSY = 1024 /* threads per multiprocessor */ };

/* A warp handles a group of up to CUDA_WARP * EACH columns, a block a wider one. */
static bool runs_in_warps(int64_t width) {
    return width <= CUDA_WARP * EACH;
}

/* The sum over the threads of a group. */
template <bool WARPS> __device__ float join_group(float x) {
    return WARPS ? cuda_join_lanes(x, CUDA_WARP, cuda_plus()) : cuda_join_block(x, cuda_plus());
}

/* Groups number group, group + gridDim.x * groups of a block, ...; a thread keeps the sums of its columns. */
template <int PER, bool WARPS>
__global__ static void __launch_bounds__(JOINED_THREADS, PER <= 2 ? JOINED_BUSY / JOINED_THREADS : 2)
    backward_joined(struct op_rms_norm a, int64_t runs, float *partial) {
    int64_t width = a.weight.cols;
    int lane = WARPS ? threadIdx.x % CUDA_WARP : threadIdx.x, threads = WARPS ? CUDA_WARP : blockDim.x;
    int per_block = WARPS ? blockDim.x / CUDA_WARP : 1, own = WARPS ? threadIdx.x / CUDA_WARP : 0;
    struct cuda_four weight[PER], sums[PER] = {};
#pragma unroll
    for (int i = 0; i < PER; i++)
        weight[i] = cuda_get4(a.weight.data, a.weight.type, ((int64_t)i * threads + lane) * EACH, width);
    int64_t first = (int64_t)blockIdx.x * per_block, step = (int64_t)gridDim.x * per_block;
    for (int64_t block_run = first; block_run < runs; block_run += step) {
        int64_t run = block_run + own, begin = run * width, end = begin + width;
        if (WARPS && run >= runs) break;
        struct cuda_four x[PER], dy[PER], dx[PER];
        float rstd = ((const float *)a.rstd.data)[run], sum = 0;
#pragma unroll
        for (int i = 0; i < PER; i++) {
            int64_t at = begin + ((int64_t)i * threads + lane) * EACH;
            x[i] = {}, dy[i] = {}, dx[i] = {};
            if (at >= end) continue;
            x[i] = cuda_get4(a.x.data, a.x.type, at, end);
            dy[i] = cuda_get4(a.dy.data, a.dy.type, at, end);
            dx[i] = cuda_gradient4(a.dx, at, end);
        }
#pragma unroll
        for (int i = 0; i < PER; i++)
            for (int j = 0; j < EACH; j++) {
                sums[i].at[j] += dy[i].at[j] * x[i].at[j] * rstd;
                dy[i].at[j] *= weight[i].at[j];
                sum += dy[i].at[j] * x[i].at[j];
            }
        float pull = join_group<WARPS>(sum) / (float)width * rstd * rstd * rstd;
#pragma unroll
        for (int i = 0; i < PER; i++) {
            int64_t at = begin + ((int64_t)i * threads + lane) * EACH;
            if (at >= end) continue;
            if (a.dx.data) {
                for (int j = 0; j < EACH; j++) dx[i].at[j] += rstd * dy[i].at[j] - pull * x[i].at[j];
                cuda_set4(a.dx.data, a.dx.type, at, end, dx[i]);
                if (a.dx_rounded.data) cuda_set4(a.dx_rounded.data, DTYPE_BF16, at, end, dx[i]);
            }
            if (!a.y_again.data) continue;
            for (int j = 0; j < EACH; j++) x[i].at[j] = weight[i].at[j] * (x[i].at[j] * rstd);
            cuda_set4(a.y_again.data, a.y_again.type, at, end, x[i]);
        }
    }
    if (!partial) return;
    float *to = partial + ((int64_t)blockIdx.x * per_block + own) * width;
#pragma unroll
    for (int i = 0; i < PER; i++) cuda_set4(to, DTYPE_F32, ((int64_t)i * threads + lane) * EACH, width, sums[i]);
}

enum { ADD_WIDE = 32, ADD_HIGH = 32 };

/* out[column] += sum of the parts, in their order: each thread of a column sums some, one of them adds these sums. */
__global__ static void __launch_bounds__(ADD_WIDE *ADD_HIGH)
    add_parts(const float *partial, int parts, int64_t cols, float *out) {
    __shared__ float sums[ADD_HIGH][ADD_WIDE];
    int wide = threadIdx.x % ADD_WIDE, high = threadIdx.x / ADD_WIDE;
    int64_t column = (int64_t)blockIdx.x * ADD_WIDE + wide;
    float sum = 0;
    for (int part = high; part < parts && column < cols; part += ADD_HIGH) sum += partial[part * cols + column];
    sums[high][wide] = sum;
    __syncthreads();
    if (high > 0 || column >= cols) return;
    for (int i = 1; i < ADD_HIGH; i++) sum += sums[i][wide];
    out[column] += sum;
}

static int backward_in_one(device *d, const struct op_rms_norm *a, int64_t runs) {
    int64_t width = a->weight.cols, warps = JOINED_THREADS / CUDA_WARP;
    bool in_warps = runs_in_warps(width);
    int64_t per = width <= JOINED_THREADS * EACH ? 1 : width <= 2 * JOINED_THREADS * EACH ? 2 : JOINED_PER;
    unsigned threads = in_warps ? (unsigned)JOINED_THREADS : run_threads((width + per - 1) / per);
    int64_t enough = (int64_t)(JOINED_BUSY / threads) * cuda_state_of(d)->multiprocessors;
    int64_t needed = in_warps ? (runs + warps - 1) / warps : runs, blocks = needed < enough ? needed : enough;
    int64_t parts = in_warps ? blocks * warps : blocks;
    float *partial = NULL;
    if (a->dweight.data)
        TRY(cuda_workspace(d, CUDA_WORK_PARTIAL, (size_t)(parts * width) * sizeof *partial, (void **)&partial));
    if (in_warps)
        backward_joined<1, true><<<(unsigned)blocks, threads, 0, cuda_stream(d)>>>(*a, runs, partial);
    else if (per == 1)
        backward_joined<1, false><<<(unsigned)blocks, threads, 0, cuda_stream(d)>>>(*a, runs, partial);
    else if (per == 2)
        backward_joined<2, false><<<(unsigned)blocks, threads, 0, cuda_stream(d)>>>(*a, runs, partial);
    else
        backward_joined<JOINED_PER, false><<<(unsigned)blocks, threads, 0, cuda_stream(d)>>>(*a, runs, partial);
    if (partial)
        add_parts<<<cuda_blocks(width, ADD_WIDE), ADD_WIDE * ADD_HIGH, 0, cuda_stream(d)>>>(partial, (int)parts, width,
                                                                                            (float *)a->dweight.data);
    return LCKV_OK;
}

int cuda_rms_norm_backward(device *d, const struct op_rms_norm *a) {
    int64_t runs = cuda_elements(a->rstd);
    if (runs == 0 || a->weight.cols == 0) return LCKV_OK;
    bool narrow = a->weight.cols <= JOINED_THREADS * EACH * JOINED_PER;
    return narrow ? backward_in_one(d, a, runs) : backward_in_two(d, a, runs);
}
