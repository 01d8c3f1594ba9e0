/* What src/collectives/nccl uses of the CUDA runtime, for test_collectives_nccl.c, which implements it; fake_peers.c
 * implements what peer_sums.c uses. */
#ifndef FAKE_CUDA_RUNTIME_API_H
#define FAKE_CUDA_RUNTIME_API_H

#include <stddef.h>

typedef enum cudaError { cudaSuccess, cudaErrorPeerAccessUnsupported = 217, cudaErrorNotReady = 600 } cudaError_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUstream_st *cudaStream_t;
typedef struct cudaUUID_t {
    char bytes[16];
} cudaUUID_t;
struct cudaDeviceProp {
    cudaUUID_t uuid;
};

/* A build for GPUs also links the real runtime. */
#define cudaEventCreateWithFlags fake_cudaEventCreateWithFlags
#define cudaEventElapsedTime fake_cudaEventElapsedTime
#define cudaEventDestroy fake_cudaEventDestroy
#define cudaEventQuery fake_cudaEventQuery
#define cudaEventRecord fake_cudaEventRecord
#define cudaEventRecordWithFlags fake_cudaEventRecordWithFlags
#define cudaStreamCreateWithPriority fake_cudaStreamCreateWithPriority
#define cudaStreamDestroy fake_cudaStreamDestroy
#define cudaStreamWaitEvent fake_cudaStreamWaitEvent
#define cudaDeviceGetStreamPriorityRange fake_cudaDeviceGetStreamPriorityRange
#define cudaStreamIsCapturing fake_cudaStreamIsCapturing
#define cudaSetDevice fake_cudaSetDevice
#define cudaGetDeviceProperties fake_cudaGetDeviceProperties
#define cudaGetErrorString fake_cudaGetErrorString
#define cudaGetLastError fake_cudaGetLastError
#define cudaMalloc fake_cudaMalloc
#define cudaFree fake_cudaFree
#define cudaHostAlloc fake_cudaHostAlloc
#define cudaFreeHost fake_cudaFreeHost
#define cudaMemset fake_cudaMemset
#define cudaMemcpyAsync fake_cudaMemcpyAsync
#define cudaDeviceSynchronize fake_cudaDeviceSynchronize
#define cudaStreamQuery fake_cudaStreamQuery
#define cudaStreamSynchronize fake_cudaStreamSynchronize
#define cudaIpcGetMemHandle fake_cudaIpcGetMemHandle
#define cudaIpcOpenMemHandle fake_cudaIpcOpenMemHandle
#define cudaIpcCloseMemHandle fake_cudaIpcCloseMemHandle

enum { cudaEventDefault = 0, cudaEventDisableTiming = 2 };
enum { cudaEventRecordDefault = 0, cudaEventRecordExternal = 1, cudaStreamNonBlocking = 1 };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags);
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *most);
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status);
cudaError_t cudaSetDevice(int number);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int number);
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError(void);

typedef struct cudaIpcMemHandle_t {
    char reserved[64];
} cudaIpcMemHandle_t;
enum { cudaHostAllocDefault = 0, cudaIpcMemLazyEnablePeerAccess = 1 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };

cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemset(void *memory, int value, size_t bytes);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *handle, void *memory);
cudaError_t cudaIpcOpenMemHandle(void **out, cudaIpcMemHandle_t handle, unsigned flags);
cudaError_t cudaIpcCloseMemHandle(void *memory);

#endif
