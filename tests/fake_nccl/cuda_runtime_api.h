/* What src/collectives/nccl uses of the CUDA runtime, for test_collectives_nccl.c, which implements it. */
#ifndef FAKE_CUDA_RUNTIME_API_H
#define FAKE_CUDA_RUNTIME_API_H

typedef enum cudaError { cudaSuccess, cudaErrorUnknown = 999 } cudaError_t;
typedef struct CUstream_st *cudaStream_t;
typedef struct cudaUUID_t {
    char bytes[16];
} cudaUUID_t;
struct cudaDeviceProp {
    cudaUUID_t uuid;
};

/* A build for GPUs also links the real runtime. */
#define cudaSetDevice fake_cudaSetDevice
#define cudaGetDeviceProperties fake_cudaGetDeviceProperties
#define cudaGetErrorString fake_cudaGetErrorString

cudaError_t cudaSetDevice(int number);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int number);
const char *cudaGetErrorString(cudaError_t error);

#endif
