/* Shared by the CUDA entries: private state, workspaces, errors, elements of any floating-point type, reductions
 * over warps and blocks.
 *
 * All work is on one stream, so a workspace is free when the next op begins; groups.cu alone has a second stream. Ops
 * do not wait for the GPU, read its memory or allocate, with one exception: a workspace that is too small grows. It
 * grows only outside of stream capture (run a step once before capturing it). The old workspace is kept until the
 * device is closed, so that addresses in a captured graph stay valid.
 *
 * Reductions have a fixed order and do not use floating-point atomics: the same call gives the same bits.
 *
 * Leaves out: products (products.h), the common part of attention (attention.h). */
#ifndef DEVICE_CUDA_CUDA_H
#define DEVICE_CUDA_CUDA_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include "device/device.h"
}

#include <cudaTypedefs.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

/* The entries of the table, each in the file of its name. */
#define ENTRY(name, arguments) int cuda_##name(device *d, const struct op_##arguments *a);
DEVICE_OPS(ENTRY)
DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY

/* ---------------------------------------------------------------- private state */

/* An entry that calls another uses a workspace that the other does not use. */
enum cuda_work {
    CUDA_WORK_WEIGHT,    /* a weight in the compute type */
    CUDA_WORK_BIAS,      /* a bias in the result's type */
    CUDA_WORK_GRADIENT,  /* the gradient of an output in the compute type */
    CUDA_WORK_LOGITS,    /* chunks of cross-entropy */
    CUDA_WORK_PARTIAL,   /* partial sums, and data of a single op */
    CUDA_WORK_WIDE,      /* weights in a grouped format as floats, of every other op (groups.cu) */
    CUDA_WORK_WIDE_TWIN, /* of the ops between */
    CUDA_WORKS
};

enum { CUDA_COUNTERS = 1 << 14 };

enum { CUDA_STAGES = 16, CUDA_STAGE_BYTES = 1 << 20, CUDA_RESULTS = 256, CUDA_RESULT_BYTES = 4 << 20 };

struct cuda_state {
    int number, multiprocessors, shared_bytes /* maximum per block */;
    cudaStream_t stream;
    bool overlaps; /* kernels may start before the preceding one has ended; see launch.h */
    PFN_cuTensorMapEncodeTiled_v12000 encode_map; /* warpgroup.h: NULL without compute capability 9.0 and code for it */
    bool started, chain; /* the current op has launched such a kernel; so had the op before it */
    struct {
        cudaStream_t stream;
        cudaEvent_t free[2], done[2]; /* a workspace may be written; it has been */
        int turn;
        bool ready; /* free[!turn] was recorded, and weights have not changed since */
    } widening;     /* groups.cu */
    struct {
        void *memory;
        size_t bytes;
    } works[CUDA_WORKS];
    unsigned *counters;             /* [CUDA_COUNTERS] zeros; a kernel that counts its blocks resets them */
    struct cuda_outgrown *outgrown; /* replaced workspaces */
    struct cuda_block *blocks;      /* [block_count] of alloc(), with room for block_room */
    int block_count, block_room;
    size_t held, limit; /* bytes of these blocks; their maximum, 0: none */
    struct {
        void *memory; /* pinned */
        cudaEvent_t sent;
    } stages[CUDA_STAGES]; /* used by copy_in() in turn */
    int next_stage;
    /* Two ring buffers, of bytes and of their descriptions, for results in flight: copy_out() adds them, wait() and
     * reach() deliver them. Positions count from the device's opening. */
    char *result_memory; /* pinned */
    int64_t results_put, results_taken;
    size_t result_bytes_put, result_bytes_taken;
    struct {
        void *host;
        size_t at, bytes;
    } result[CUDA_RESULTS];
    struct {
        cudaEvent_t passed;
        int64_t results; /* results before it */
    } marks[DEVICE_MARKS];
    int64_t marks_set;
    struct cuda_products *products; /* products.cu */
};

static inline struct cuda_state *cuda_state_of(device *d) {
    return (struct cuda_state *)d->own;
}

static inline cudaStream_t cuda_stream(device *d) {
    return cuda_state_of(d)->stream;
}

/* What follows waits for all work so far. */
static inline void cuda_break_chain(struct cuda_state *s) {
    s->chain = s->widening.ready = false;
}

/* At least `bytes`, aligned to 256; contents are undefined. */
int cuda_workspace(device *d, enum cuda_work which, size_t bytes, void **out);

/* Fails during stream capture: `what` cannot be part of a captured step. */
int cuda_outside_capture(device *d, const char *what);

void cuda_recording_open(device *d); /* recording.cu */
int cuda_memory_open(device *d);     /* memory.cu: fills d->memory except close() */
void cuda_memory_close(device *d);

/* ---------------------------------------------------------------- errors */

/* Sets the message "cuda:N: CALL: text" and returns LCKV_ERROR_DEVICE. `call` may continue after a parenthesis. */
int cuda_failed(const device *d, const char *call, cudaError_t error);

#define CUDA_TRY(d, call)                                                                                              \
    do {                                                                                                               \
        cudaError_t error_ = (call);                                                                                   \
        if (error_ != cudaSuccess) return cuda_failed((d), #call, error_);                                             \
    } while (0)

/* ---------------------------------------------------------------- launching */

static inline unsigned cuda_blocks(int64_t n, int64_t each) {
    return (unsigned)((n + each - 1) / each);
}

static inline int64_t cuda_elements(view v) {
    return v.rows * v.cols;
}

/* Lets `kernel` use more than the default 48 KiB of shared memory. */
template <typename K> int cuda_allow_shared(device *d, K kernel, size_t bytes) {
    if (bytes > 48 << 10) {
        CUDA_TRY(d, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
    }
    return LCKV_OK;
}

/* For entries that do not write all of a gradient: a fresh one becomes zeros. */
static inline int cuda_clear_fresh(device *d, view v) {
    if (v.data && v.fresh && v.rows * v.cols > 0) TRY(d->memory.zero(d, v.data, view_bytes(v)));
    return LCKV_OK;
}

/* ---------------------------------------------------------------- elements of f32, bf16 and f16 */

__host__ __device__ static inline size_t cuda_bytes(dtype type) {
    return type == DTYPE_F32 ? 4 : 2;
}

__device__ static inline float cuda_get(const void *from, dtype type, int64_t at) {
    if (type == DTYPE_F32) return ((const float *)from)[at];
    if (type == DTYPE_BF16) return __bfloat162float(((const __nv_bfloat16 *)from)[at]);
    return __half2float(((const __half *)from)[at]);
}

/* Rounds to nearest even. */
__device__ static inline void cuda_set(void *to, dtype type, int64_t at, float x) {
    if (type == DTYPE_F32) {
        ((float *)to)[at] = x;
    } else if (type == DTYPE_BF16) {
        ((__nv_bfloat16 *)to)[at] = __float2bfloat16_rn(x);
    } else {
        ((__half *)to)[at] = __float2half_rn(x);
    }
}

struct cuda_four {
    float at[4];
};

/* Four elements of two bytes each. */
struct alignas(8) cuda_four_halves {
    uint16_t at[4];
};

__device__ static inline bool cuda_together(const void *from, dtype type, int64_t at) {
    return ((uintptr_t)from + (uintptr_t)at * cuda_bytes(type)) % (4 * cuda_bytes(type)) == 0;
}

/* Elements [at, at + 4) as f32, zeros from `end` on. One access if they are aligned. */
__device__ static inline struct cuda_four cuda_get4(const void *from, dtype type, int64_t at, int64_t end) {
    struct cuda_four x = {{0, 0, 0, 0}};
    if (at + 4 > end || !cuda_together(from, type, at)) {
        for (int i = 0; i < 4 && at + i < end; i++) x.at[i] = cuda_get(from, type, at + i);
    } else if (type == DTYPE_F32) {
        float4 wide = *(const float4 *)((const float *)from + at);
        x = {{wide.x, wide.y, wide.z, wide.w}};
    } else {
        struct cuda_four_halves halves = *(const struct cuda_four_halves *)((const uint16_t *)from + at);
        for (int i = 0; i < 4; i++) x.at[i] = cuda_get(halves.at, type, i);
    }
    return x;
}

__device__ static inline void cuda_set4(void *to, dtype type, int64_t at, int64_t end, struct cuda_four x) {
    if (at + 4 > end || !cuda_together(to, type, at)) {
        for (int i = 0; i < 4 && at + i < end; i++) cuda_set(to, type, at + i, x.at[i]);
    } else if (type == DTYPE_F32) {
        *(float4 *)((float *)to + at) = make_float4(x.at[0], x.at[1], x.at[2], x.at[3]);
    } else {
        struct cuda_four_halves halves;
        for (int i = 0; i < 4; i++) cuda_set(halves.at, type, i, x.at[i]);
        *(struct cuda_four_halves *)((uint16_t *)to + at) = halves;
    }
}

struct cuda_eight {
    float at[8];
};

/* Elements [at, at + 8), in 16-byte accesses if they are aligned. */
__device__ static inline struct cuda_eight cuda_get8(const void *from, dtype type, int64_t at, int64_t end) {
    struct cuda_eight x;
    if (type == DTYPE_BF16 && at + 8 <= end && ((uintptr_t)from + (uintptr_t)at * 2) % 16 == 0) {
        uint4 wide = *(const uint4 *)((const uint16_t *)from + at);
        const __nv_bfloat162 *pairs = (const __nv_bfloat162 *)&wide;
        for (int i = 0; i < 4; i++) {
            float2 pair = __bfloat1622float2(pairs[i]);
            x.at[2 * i] = pair.x, x.at[2 * i + 1] = pair.y;
        }
        return x;
    }
    struct cuda_four low = cuda_get4(from, type, at, end), high = {};
    if (at + 4 < end) high = cuda_get4(from, type, at + 4, end);
    for (int i = 0; i < 4; i++) x.at[i] = low.at[i], x.at[4 + i] = high.at[i];
    return x;
}

__device__ static inline void cuda_set8(void *to, dtype type, int64_t at, int64_t end, struct cuda_eight x) {
    if (type == DTYPE_BF16 && at + 8 <= end && ((uintptr_t)to + (uintptr_t)at * 2) % 16 == 0) {
        uint4 wide;
        __nv_bfloat162 *pairs = (__nv_bfloat162 *)&wide;
        for (int i = 0; i < 4; i++) pairs[i] = __floats2bfloat162_rn(x.at[2 * i], x.at[2 * i + 1]);
        *(uint4 *)((uint16_t *)to + at) = wide;
        return;
    }
    struct cuda_four low, high;
    for (int i = 0; i < 4; i++) low.at[i] = x.at[i], high.at[i] = x.at[4 + i];
    cuda_set4(to, type, at, end, low);
    if (at + 4 < end) cuda_set4(to, type, at + 4, end, high);
}

/* The gradient's elements [at, at + 4) before the op; zeros if it is fresh or absent. */
__device__ static inline struct cuda_four cuda_gradient4(view v, int64_t at, int64_t end) {
    return v.fresh || v.data == NULL ? cuda_four{} : cuda_get4(v.data, v.type, at, end);
}

__device__ static inline struct cuda_eight cuda_gradient8(view v, int64_t at, int64_t end) {
    return v.fresh || v.data == NULL ? cuda_eight{} : cuda_get8(v.data, v.type, at, end);
}

/* Index of the first element of row r. */
__device__ static inline void *cuda_row(view v, int64_t r) {
    return (char *)v.data + r * v.cols * (int64_t)cuda_bytes(v.type);
}

/* ---------------------------------------------------------------- warps and blocks */

enum { CUDA_WARP = 32, CUDA_MAX_WARPS = 32 };
#define CUDA_ALL_LANES 0xffffffffu

struct cuda_plus {
    template <typename T> __device__ T operator()(T a, T b) const {
        return a + b;
    }
};

struct cuda_larger {
    template <typename T> __device__ T operator()(T a, T b) const {
        return a > b ? a : b;
    }
};

/* Reduces groups of `lanes` lanes; every lane receives the result. `join` is commutative. */
template <typename T, typename Join> __device__ T cuda_join_lanes(T x, int lanes, Join join) {
    for (int i = lanes / 2; i > 0; i /= 2) x = join(x, __shfl_xor_sync(CUDA_ALL_LANES, x, i));
    return x;
}

/* The same for the whole block. All threads call it; blockDim.x is a multiple of CUDA_WARP. */
template <typename T, typename Join> __device__ T cuda_join_block(T x, Join join) {
    __shared__ T warps[CUDA_MAX_WARPS];
    x = cuda_join_lanes(x, CUDA_WARP, join);
    if (blockDim.x == CUDA_WARP) return x;
    __syncthreads(); /* values of an earlier call may still be read */
    if (threadIdx.x % CUDA_WARP == 0) warps[threadIdx.x / CUDA_WARP] = x;
    __syncthreads();
    x = warps[0];
    for (unsigned w = 1; w < blockDim.x / CUDA_WARP; w++) x = join(x, warps[w]);
    return x;
}

#endif
