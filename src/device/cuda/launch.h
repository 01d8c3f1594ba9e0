/* Overlapping kernels: blocks of the next kernel start while the last blocks of the preceding one still run, and
 * wait for its results where they need them (CUDA C++ Programming Guide, "Programmatic Dependent Launch"). Work that
 * does not depend on them, such as loading weights, is hidden, and there is no gap between kernels.
 *
 * A kernel launched by cuda_start() calls cuda_begin() once in every thread before it writes anything, and before it
 * reads anything except weights and data that was copied to the device or appended to pages before this step.
 * cuda_let_next() lets the next kernel start. Ops that write weights are launched normally; the first kernel after
 * such an op, or after a copy, waits for all of it. Below compute capability 9.0 both functions do nothing and
 * kernels run one after another. */
#ifndef DEVICE_CUDA_LAUNCH_H
#define DEVICE_CUDA_LAUNCH_H

#include "device/cuda/cuda.h"

__device__ static inline void cuda_begin(void) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ static inline void cuda_let_next(void) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* In clusters of `cluster` blocks, where that is more than one. */
template <typename... P, typename... A>
void cuda_start_clusters(device *d, void (*kernel)(P...), dim3 blocks, unsigned threads, size_t shared,
                         unsigned cluster, A... arguments) {
    cudaLaunchAttribute attributes[2] = {};
    cudaLaunchConfig_t config = {};
    struct cuda_state *s = cuda_state_of(d);
    config.gridDim = blocks;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = s->stream;
    config.attrs = attributes;
    if (s->overlaps && (s->chain || s->started)) {
        attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (cluster > 1) {
        attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
        attributes[config.numAttrs].val.clusterDim.x = cluster;
        attributes[config.numAttrs].val.clusterDim.y = attributes[config.numAttrs].val.clusterDim.z = 1;
        config.numAttrs++;
    }
    s->started = true;
    cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...); /* device.cu checks the last error */
}

template <typename... P, typename... A>
void cuda_start(device *d, void (*kernel)(P...), dim3 blocks, unsigned threads, size_t shared, A... arguments) {
    cuda_start_clusters(d, kernel, blocks, threads, shared, 1, arguments...);
}

#endif
