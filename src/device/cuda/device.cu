/* Opens a GPU: selects it, checks its features, fills its table of ops. */
#include "device/cuda/cuda.h"
#include "device/cuda/groups.h"
#include "device/cuda/products.h"

extern "C" {
#include "device/gpu.h"
#include "device/open.h"
}

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Errors after which a process cannot use the GPU any more (CUDA runtime API, "Data types used by CUDA Runtime":
 * "leaves the process in an inconsistent state"). */
static bool is_lost(cudaError_t error) {
    static const cudaError_t lost[] = {
        cudaErrorIllegalAddress,      cudaErrorLaunchFailure,
        cudaErrorLaunchTimeout,       cudaErrorHardwareStackError,
        cudaErrorIllegalInstruction,  cudaErrorMisalignedAddress,
        cudaErrorInvalidAddressSpace, cudaErrorInvalidPc,
        cudaErrorECCUncorrectable,    cudaErrorAssert,
        cudaErrorContextIsDestroyed,
    };
    for (size_t i = 0; i < sizeof lost / sizeof *lost; i++)
        if (error == lost[i]) return true;
    return false;
}

int cuda_failed(const device *d, const char *call, cudaError_t error) {
    cudaGetLastError(); /* clears the error if it is not sticky */
    const char *what = error == cudaErrorDevicesUnavailable ? " (another process has the GPU for itself)"
                       : is_lost(error) ? " (the GPU is lost to this process, which must be started again)"
                                        : "";
    return fail(LCKV_ERROR_DEVICE, "%s: %.*s: %s%s", d->name, (int)strcspn(call, "("), call, cudaGetErrorString(error),
                what);
}

/* ---------------------------------------------------------------- the table */

/* Every entry runs on its own GPU, whichever the thread used last, and reports kernels that failed to launch. */
#define ENTRY(name, arguments)                                                                                         \
    static int enter_##name(device *d, const struct op_##arguments *a) {                                               \
        CUDA_TRY(d, cudaSetDevice(cuda_state_of(d)->number));                                                          \
        cuda_state_of(d)->started = false;                                                                             \
        TRY(cuda_##name(d, a));                                                                                        \
        cuda_state_of(d)->chain = cuda_state_of(d)->started;                                                           \
        cudaError_t error = cudaPeekAtLastError();                                                                     \
        return error == cudaSuccess ? LCKV_OK : cuda_failed(d, #name, error);                                          \
    }
DEVICE_OPS(ENTRY)
DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY

static void fill_ops(struct device_ops *ops) {
#define ENTRY(name, arguments) ops->name = enter_##name;
    DEVICE_OPS(ENTRY)
    DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY
}

/* Weights in int8 and int4. */
static void fill_formats(struct device_formats *f) {
    f->embed = f->linear = f->linear_backward = f->linear_cross_entropy = DTYPE_GROUPED;
    f->project = f->linear_add = f->heads = DTYPE_GROUPED;
}

int cuda_device_number(const device *d) {
    return cuda_state_of((device *)d)->number;
}

void *cuda_device_stream(const device *d) {
    return cuda_state_of((device *)d)->stream;
}

void cuda_device_separate(device *d) {
    cuda_state_of(d)->chain = false;
}

/* ---------------------------------------------------------------- opening */

enum { MIN_MAJOR = 8 }; /* compute capability: bf16 tensor cores */

bool cuda_usable(void) {
    int count = 0, major = 0;
    bool usable = cudaGetDeviceCount(&count) == cudaSuccess && count > 0 &&
                  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess;
    cudaGetLastError(); /* the absence of a GPU is no error */
    return usable && major >= MIN_MAJOR;
}

int cuda_count(void) {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

static int find_gpu(const device *d, int number) {
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    REQUIRE(error == cudaSuccess, LCKV_ERROR_DEVICE, "%s: no NVIDIA GPU can be used here: %s", d->name,
            cudaGetErrorString(error));
    REQUIRE(number < count, LCKV_ERROR_DEVICE, "expected a GPU from cuda:0 to cuda:%d, found %s", count - 1, d->name);
    return LCKV_OK;
}

static int attribute(const device *d, enum cudaDeviceAttr which, int *value) {
    CUDA_TRY(d, cudaDeviceGetAttribute(value, which, cuda_state_of((device *)d)->number));
    return LCKV_OK;
}

#ifdef CUDA_WARPGROUPS
/* From the driver's library, which the program is not linked with. */
static void find_encode_map(struct cuda_state *s) {
    cudaDriverEntryPointQueryResult result;
    void *found = NULL;
#if CUDART_VERSION >= 12050
    cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result);
#else
    cudaError_t error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result);
#endif
    if (error == cudaSuccess && result == cudaDriverEntryPointSuccess)
        s->encode_map = (PFN_cuTensorMapEncodeTiled_v12000)found;
    cudaGetLastError();
}
#endif

static int check_gpu(device *d) {
    struct cuda_state *s = cuda_state_of(d);
    int major, minor;
    TRY(attribute(d, cudaDevAttrComputeCapabilityMajor, &major));
    TRY(attribute(d, cudaDevAttrComputeCapabilityMinor, &minor));
    REQUIRE(major >= MIN_MAJOR, LCKV_ERROR_DEVICE, "%s: expected compute capability %d.0 or more, found %d.%d", d->name,
            MIN_MAJOR, major, minor);
    s->overlaps = major >= 9;
#ifdef CUDA_WARPGROUPS
    if (major == 9 && minor == 0) find_encode_map(s);
#endif
    TRY(attribute(d, cudaDevAttrMultiProcessorCount, &s->multiprocessors));
    snprintf(d->features, sizeof d->features, "cuda compute capability %d.%d, %d multiprocessors", major, minor,
             s->multiprocessors);
    return attribute(d, cudaDevAttrMaxSharedMemoryPerBlockOptin, &s->shared_bytes);
}

static void close(device *d) {
    struct cuda_state *s = cuda_state_of(d);
    cudaSetDevice(s->number);
    if (s->stream) cudaStreamSynchronize(s->stream);
    if (s->widening.stream) cudaStreamSynchronize(s->widening.stream);
    cuda_products_close(d);
    cuda_widening_close(d);
    cuda_memory_close(d);
    if (s->stream) cudaStreamDestroy(s->stream);
    free(s);
}

static int open(device *d, int number) {
    struct cuda_state *s = cuda_state_of(d);
    s->number = number;
    TRY(find_gpu(d, number));
    CUDA_TRY(d, cudaSetDevice(number));
    TRY(check_gpu(d));
    CUDA_TRY(d, cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
    TRY(cuda_memory_open(d));
    TRY(cuda_widening_open(d));
    return cuda_products_open(d);
}

int cuda_open(device *d, int number) {
    struct cuda_state *s = (struct cuda_state *)calloc(1, sizeof *s);
    REQUIRE(s != NULL, LCKV_ERROR_MEMORY, "no memory for the state of cuda:%d", number);
    snprintf(d->name, sizeof d->name, "cuda:%d", number);
    d->own = s;
    d->threads = 1;
    d->compute_gradients = true;
    fill_ops(&d->ops);
    fill_formats(&d->formats);
    device_add_page_formats(&d->formats);
    cuda_recording_open(d);
    d->memory.close = close;
    int status = open(d, number);
    if (status < 0) close(d);
    return status;
}
