/* NCCL and the CUDA runtime on host memory; see fake_nccl.h. */
#include "fake_nccl.h"

#include "base/clock.h"

#include "expect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

lckv_processes *ranks;
device gpu = {.name = "cuda:0"};
struct fake_nccl fake = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Appends "NAME NUMBER STREAM" to the order of events and operations: streams are m (of the device) and b (beside). */
static void note(const char *name, cudaEvent_t event, cudaStream_t stream) {
    size_t length = strlen(fake.order);
    int number = event ? ((const struct event *)(const void *)event)->number : 0;
    assert_true(stream == STREAM || (stream == BESIDE && fake.streams == 1));
    snprintf(fake.order + length, sizeof fake.order - length, "%s%s%d%s", length ? " " : "", name, number,
             stream == STREAM ? "m" : "b");
}

int cuda_device_number(const device *d) {
    assert_ptr_equal(d, &gpu);
    return ranks->rank;
}

void *cuda_device_stream(const device *d) {
    assert_ptr_equal(d, &gpu);
    return STREAM;
}

void cuda_device_separate(device *d) {
    assert_ptr_equal(d, &gpu);
    fake.separated = true;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *most) {
    *least = 0;
    *most = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
    assert_true(flags == cudaStreamNonBlocking && priority == -5);
    *stream = BESIDE;
    fake.streams++;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    assert_ptr_equal(stream, BESIDE);
    fake.streams--;
    return cudaSuccess;
}

/* Only the device's stream depends on the order of the device's ops. */
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    assert_true(flags == 0 && (stream == BESIDE || fake.separated));
    note("wait", event, stream);
    if (stream == STREAM) fake.now += JOIN_MILLISECONDS;
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    assert_int_equal(flags, fake.records ? cudaEventRecordExternal : cudaEventRecordDefault);
    note("point", event, stream);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    assert_true(flags == cudaEventDisableTiming || flags == cudaEventDefault);
    struct event *made = calloc(1, sizeof *made);
    made->timed = flags == cudaEventDefault;
    made->number = fake.events++;
    *event = (cudaEvent_t)(void *)made;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    free(event);
    fake.events--;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    assert_int_equal(fake.depth, 0);
    assert_false(fake.records);
    note("event", event, stream);
    ((struct event *)(void *)event)->at = fake.now;
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end) {
    const struct event *first = (const void *)begin, *last = (const void *)end;
    assert_true(first->timed && last->timed);
    *milliseconds = last->at - first->at;
    return cudaEventQuery(end);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    assert_true(stream == STREAM || stream == BESIDE);
    *status = fake.records ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    assert_non_null(event);
    pthread_mutex_lock(&fake.lock);
    bool hangs = fake.hangs;
    pthread_mutex_unlock(&fake.lock);
    return hangs ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaSetDevice(int number) {
    fake.last_gpu = number;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int number) {
    memset(properties, fake.one_gpu ? 7 : number, sizeof *properties);
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t error) {
    (void)error;
    return "an error";
}

cudaError_t cudaGetLastError(void) {
    return cudaSuccess;
}

const char *ncclGetErrorString(ncclResult_t result) {
    return result == ncclSystemError ? "unhandled system error" : "no error";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    assert_int_equal(ranks->rank, 0);
    assert_string_equal(getenv("NCCL_ALGO"), "Ring");
    assert_string_equal(getenv("NCCL_PROTO"), "Tree of the user");
    assert_string_equal(getenv("NCCL_NVLS_ENABLE"), "0");
    memset(id->internal, 'i', sizeof id->internal);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int count, ncclUniqueId id, int rank) {
    assert_true(count == ranks->ranks && rank == ranks->rank && fake.last_gpu == rank);
    for (size_t i = 0; i < sizeof id.internal; i++) assert_int_equal(id.internal[i], 'i');
    if (fake.init_fails && rank == count - 1) return ncclSystemError;
    *comm = calloc(1, sizeof **comm);
    **comm = (struct ncclComm){rank, count};
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    fake.destroyed++;
    free(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    pthread_mutex_lock(&fake.lock);
    fake.aborted++;
    pthread_mutex_unlock(&fake.lock);
    free(comm);
    return ncclSuccess;
}

int times_aborted(void) {
    pthread_mutex_lock(&fake.lock);
    int times = fake.aborted;
    pthread_mutex_unlock(&fake.lock);
    return times;
}

ncclResult_t ncclGroupStart(void) {
    assert_int_equal(fake.depth++, 0);
    fake.groups++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
    assert_int_equal(--fake.depth, 0);
    if (fake.lost) close(fake.lost);
    fake.lost = 0;
    double begin = clock_seconds();
    while (clock_seconds() < begin + fake.launch_blocks && !times_aborted()) usleep(10000);
    return ncclSuccess;
}

static ncclResult_t done(int status, ncclComm_t comm, cudaStream_t stream) {
    assert_true(comm->rank == ranks->rank && fake.last_gpu == ranks->rank && fake.depth == 1);
    if (!strstr(fake.order, "nccl")) note("nccl", NULL, stream); /* once: there may be several calls */
    if (stream == STREAM) fake.now += OPERATION_MILLISECONDS;
    fake.calls++;
    return status >= 0 ? ncclSuccess : ncclSystemError;
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
    assert_true(send == receive && op == ncclSum && (type == ncclFloat32 || type == ncclFloat64));
    view v = {receive, 1, (int64_t)count, type == ncclFloat64 ? DTYPE_F64 : DTYPE_F32, NULL};
    return done(collectives_all_reduce(ranks, v), comm, stream);
}

ncclResult_t ncclReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, int root,
                        ncclComm_t comm, cudaStream_t stream) {
    assert_true(send == receive && op == ncclSum && type == ncclFloat32);
    int64_t *begin = calloc((size_t)ranks->ranks + 1, sizeof *begin);
    for (int r = root + 1; r <= ranks->ranks; r++) begin[r] = (int64_t)count; /* one part, of the root */
    int status = collectives_reduce_scatter(ranks, (collectives_parts){receive, DTYPE_F32, begin});
    free(begin);
    return done(status, comm, stream);
}

ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
    assert_true(send == receive && type == ncclUint8);
    return done(collectives_broadcast(ranks, (view){receive, 1, (int64_t)count, DTYPE_U8, NULL}, root), comm, stream);
}
