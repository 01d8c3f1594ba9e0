/* Kernels that overlap: the next one's blocks start while the last blocks of the one before still run, and wait for its
 * results where they first need them (CUDA C++ Programming Guide, "Programmatic Dependent Launch"). So what a block can
 * do beforehand, such as loading weights, costs no time, and there is no pause between kernels.
 *
 * A kernel that is launched by cuda_start() calls cuda_begin() once in every thread before it writes anything, or reads
 * anything but weights and what was copied to the device or appended to pages before this step, and lets the next
 * kernel start by cuda_let_next(). Weights are written by ops that launch in the usual way; the first kernel behind
 * such an op, or behind a copy, waits for it as a whole. Before compute capability 9.0 both do nothing and kernels run
 * one after another. */
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

template <typename... P, typename... A>
void cuda_start(device *d, void (*kernel)(P...), dim3 blocks, unsigned threads, size_t shared, A... arguments) {
    cudaLaunchAttribute overlap = {};
    cudaLaunchConfig_t config = {};
    struct cuda_state *s = cuda_state_of(d);
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = blocks;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = s->stream;
    config.attrs = &overlap;
    config.numAttrs = s->overlaps && (s->chain || s->started) ? 1 : 0;
    s->started = true;
    cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...); /* errors: device.cu asks for the last one */
}

#endif
