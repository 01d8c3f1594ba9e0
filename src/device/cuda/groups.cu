/* Weights in grouped formats as f32 or bf16, for products of many rows.
 *
 * A second stream widens the weights of an op into one of two workspaces, while the op before it still runs and reads
 * the other one. In a captured step, these are branches of the graph. */
#include "device/cuda/groups.h"

enum { THREADS = 256, EACH = 8, CHUNKS = 4 /* per thread */ };

/* Any number of columns: a thread has four of a row. */
__global__ static void widen(view v, view out) {
    int64_t pieces = (v.cols + 3) / 4, at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    int64_t row = at / pieces, c = at % pieces * 4;
    if (row < v.rows) cuda_set4(cuda_row(out, row), out.type, c, v.cols, groups_get4(v, row, c));
}

/* Rows of whole groups: integers, scales and results are three arrays without gaps. */
template <dtype TYPE> __global__ static void __launch_bounds__(THREADS) widen_chunks(view v, view out) {
    int64_t first = (int64_t)blockIdx.x * THREADS * CHUNKS + threadIdx.x, chunks = v.rows * v.cols / EACH;
    uint2 words[CHUNKS] = {};
    float scales[CHUNKS];
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        int64_t chunk = first + i * THREADS;
        if (chunk >= chunks) break;
        if (TYPE == DTYPE_INT8)
            words[i] = ((const uint2 *)v.data)[chunk];
        else
            words[i].x = ((const uint32_t *)v.data)[chunk];
        scales[i] = __half2float(((const __half *)v.scales)[chunk / (DTYPE_GROUP / EACH)]);
    }
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        int64_t chunk = first + i * THREADS;
        if (chunk >= chunks) break;
        struct cuda_eight x = groups_floats<TYPE>(words[i]);
        for (int j = 0; j < EACH; j++) x.at[j] *= scales[i];
        cuda_set8(out.data, out.type, chunk * EACH, chunks * EACH, x);
    }
}

static void run(struct cuda_state *s, view v, view out) {
    bool whole = v.cols % DTYPE_GROUP == 0 && (uintptr_t)v.data % sizeof(uint2) == 0;
    unsigned blocks = cuda_blocks(v.rows * v.cols / EACH, THREADS * CHUNKS);
    if (cuda_elements(v) == 0) return;
    if (!whole)
        widen<<<cuda_blocks(v.rows * ((v.cols + 3) / 4), THREADS), THREADS, 0, s->widening.stream>>>(v, out);
    else if (v.type == DTYPE_INT8)
        widen_chunks<DTYPE_INT8><<<blocks, THREADS, 0, s->widening.stream>>>(v, out);
    else
        widen_chunks<DTYPE_INT4><<<blocks, THREADS, 0, s->widening.stream>>>(v, out);
}

/* ---------------------------------------------------------------- two workspaces */

enum { ALIGNMENT = 256 };

static size_t wide_bytes(view v, dtype type) {
    size_t bytes = (size_t)cuda_elements(v) * dtype_element_bytes(type);
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static int widen_all(device *d, int count, view *weights, dtype type, char *memory) {
    struct cuda_state *s = cuda_state_of(d);
    for (int i = 0; i < count; i++) {
        if (!cuda_is_grouped(weights[i].type)) continue;
        view wide = {memory, weights[i].rows, weights[i].cols, type, NULL, false, 0};
        memory += wide_bytes(weights[i], type);
        run(s, weights[i], wide);
        weights[i] = wide;
    }
    CUDA_TRY(d, cudaPeekAtLastError());
    return LCKV_OK;
}

/* The workspace is free when all work before the op of the preceding call is done. That op reads the other one. Both
 * grow together: a captured step, in which none can grow, may begin with either. Kernels read weights before
 * cuda_begin(), so the first one after this call must not start before the event. */
int cuda_widen(device *d, int count, view *weights, dtype type) {
    struct cuda_state *s = cuda_state_of(d);
    auto w = &s->widening;
    size_t bytes = 0;
    void *memory, *twin;
    for (int i = 0; i < count; i++) bytes += cuda_is_grouped(weights[i].type) ? wide_bytes(weights[i], type) : 0;
    if (bytes == 0) return LCKV_OK;
    w->turn ^= 1;
    TRY(cuda_workspace(d, w->turn ? CUDA_WORK_WIDE_TWIN : CUDA_WORK_WIDE, bytes, &memory));
    TRY(cuda_workspace(d, w->turn ? CUDA_WORK_WIDE : CUDA_WORK_WIDE_TWIN, bytes, &twin));
    if (!w->ready) CUDA_TRY(d, cudaEventRecord(w->free[w->turn], s->stream));
    CUDA_TRY(d, cudaStreamWaitEvent(w->stream, w->free[w->turn], 0));
    TRY(widen_all(d, count, weights, type, (char *)memory));
    CUDA_TRY(d, cudaEventRecord(w->done[w->turn], w->stream));
    CUDA_TRY(d, cudaStreamWaitEvent(s->stream, w->done[w->turn], 0));
    s->chain = s->started = false;
    CUDA_TRY(d, cudaEventRecord(w->free[!w->turn], s->stream));
    w->ready = true;
    return LCKV_OK;
}

int cuda_widening_open(device *d) {
    auto w = &cuda_state_of(d)->widening;
    CUDA_TRY(d, cudaStreamCreateWithFlags(&w->stream, cudaStreamNonBlocking));
    for (int i = 0; i < 2; i++) {
        CUDA_TRY(d, cudaEventCreateWithFlags(&w->free[i], cudaEventDisableTiming));
        CUDA_TRY(d, cudaEventCreateWithFlags(&w->done[i], cudaEventDisableTiming));
    }
    return LCKV_OK;
}

void cuda_widening_close(device *d) {
    auto w = &cuda_state_of(d)->widening;
    if (w->stream) cudaStreamDestroy(w->stream);
    for (int i = 0; i < 2; i++) {
        if (w->free[i]) cudaEventDestroy(w->free[i]);
        if (w->done[i]) cudaEventDestroy(w->done[i]);
    }
}
