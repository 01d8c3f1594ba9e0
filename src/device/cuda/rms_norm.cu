/* RMSNorm (Zhang and Sennrich 2019) of whole rows or of each head: a row has cols / width groups with a norm each. A
 * block handles a group. */
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

/* The same for groups of up to blockDim.x * EACH * PER columns, which are read once. */
template <int PER> __global__ static void forward_kept(struct op_rms_norm a) {
    int64_t width = a.weight.cols, begin = blockIdx.x * width, end = begin + width;
    struct cuda_four x[PER];
    float sum = 0;
    cuda_let_next();
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
        struct cuda_four weight = cuda_get4(a.weight.data, a.weight.type, at - begin, width);
        for (int j = 0; j < EACH; j++) x[i].at[j] = weight.at[j] * (x[i].at[j] * rstd);
        cuda_set4(a.y.data, a.y.type, at, end, x[i]);
    }
}

enum { PER_THREAD = 4, MAX_KEPT = MAX_THREADS * EACH * PER_THREAD };

int cuda_rms_norm(device *d, const struct op_rms_norm *a) {
    int64_t runs = cuda_elements(a->rstd), width = a->weight.cols;
    dim3 blocks((unsigned)runs);
    if (runs == 0) return LCKV_OK;
    if (width > MAX_KEPT) {
        cuda_start(d, forward, blocks, MAX_THREADS, 0, *a);
    } else if (width <= CUDA_WARP * EACH) {
        cuda_start(d, forward_kept<1>, blocks, CUDA_WARP, 0, *a);
    } else {
        cuda_start(d, forward_kept<PER_THREAD>, blocks, run_threads((width + PER_THREAD - 1) / PER_THREAD), 0, *a);
    }
    return LCKV_OK;
}

/* With g = dy * weight:  dx += rstd * g - x * rstd^3 * mean(g * x) */
__global__ static void backward(struct op_rms_norm a) {
    int64_t width = a.weight.cols, begin = blockIdx.x * width, end = begin + width, step = blockDim.x * EACH;
    float rstd = ((const float *)a.rstd.data)[blockIdx.x], sum = 0;
    for (int64_t at = begin + threadIdx.x * EACH; at < end; at += step) {
        struct cuda_four x = cuda_get4(a.x.data, a.x.type, at, end), dy = cuda_get4(a.dy.data, DTYPE_F32, at, end);
        struct cuda_four weight = cuda_get4(a.weight.data, a.weight.type, at - begin, width);
        for (int i = 0; i < EACH; i++) sum += dy.at[i] * weight.at[i] * x.at[i];
    }
    float pull = cuda_join_block(sum, cuda_plus()) / (float)width * rstd * rstd * rstd;
    for (int64_t at = begin + threadIdx.x * EACH; at < end; at += step) {
        struct cuda_four x = cuda_get4(a.x.data, a.x.type, at, end), dy = cuda_get4(a.dy.data, DTYPE_F32, at, end);
        struct cuda_four weight = cuda_get4(a.weight.data, a.weight.type, at - begin, width);
        struct cuda_four dx = cuda_get4(a.dx.data, DTYPE_F32, at, end);
        for (int i = 0; i < EACH; i++) dx.at[i] += rstd * dy.at[i] * weight.at[i] - pull * x.at[i];
        cuda_set4(a.dx.data, DTYPE_F32, at, end, dx);
    }
}

/* dweight += dy * x * rstd, summed over groups */
struct weight_term {
    struct op_rms_norm a;
    __device__ float operator()(int64_t run, int64_t column) const {
        int64_t at = run * a.weight.cols + column;
        float x = cuda_get(a.x.data, a.x.type, at), dy = ((const float *)a.dy.data)[at];
        return dy * x * ((const float *)a.rstd.data)[run];
    }
};

int cuda_rms_norm_backward(device *d, const struct op_rms_norm *a) {
    int64_t runs = cuda_elements(a->rstd);
    if (runs == 0) return LCKV_OK;
    if (a->dx.data) backward<<<(unsigned)runs, run_threads(a->weight.cols), 0, cuda_stream(d)>>>(*a);
    if (!a->dweight.data || a->weight.cols == 0) return LCKV_OK;
    struct columns_plan plan;
    TRY(columns_begin(d, runs, a->weight.cols, &plan));
    columns_parts<<<plan.blocks, COLUMNS_THREADS, 0, cuda_stream(d)>>>(plan, weight_term{*a});
    columns_end(d, &plan, (float *)a->dweight.data);
    return LCKV_OK;
}
