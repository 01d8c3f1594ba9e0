/* Work recorded as a CUDA graph and replayed: one call per step, and the GPU knows the whole sequence (CUDA C++
 * Programming Guide, "CUDA Graphs", stream capture). */
#include "device/cuda/cuda.h"

#include <stdlib.h>

struct device_program {
    cudaGraphExec_t steps;
};

/* Other threads may use the GPU meanwhile. */
static int begin(device *d) {
    CUDA_TRY(d, cudaSetDevice(cuda_state_of(d)->number));
    TRY(cuda_outside_capture(d, "another recording"));
    cuda_break_chain(cuda_state_of(d));
    CUDA_TRY(d, cudaStreamBeginCapture(cuda_stream(d), cudaStreamCaptureModeThreadLocal));
    return LCKV_OK;
}

static void release(device *d, device_program *p) {
    if (p == NULL) return;
    cudaSetDevice(cuda_state_of(d)->number);
    if (p->steps) cudaGraphExecDestroy(p->steps);
    free(p);
}

static int make(device *d, cudaGraph_t graph, device_program **out) {
    device_program *p = (device_program *)calloc(1, sizeof *p);
    REQUIRE(p != NULL, LCKV_ERROR_MEMORY, "no memory for a recorded step");
    cudaError_t error = cudaGraphInstantiate(&p->steps, graph, 0);
    if (error == cudaSuccess) error = cudaGraphUpload(p->steps, cuda_stream(d));
    if (error != cudaSuccess) {
        release(d, p);
        return cuda_failed(d, "cudaGraphInstantiate", error);
    }
    *out = p;
    return LCKV_OK;
}

static int end(device *d, device_program **out) {
    cudaGraph_t graph = NULL;
    if (out) *out = NULL;
    CUDA_TRY(d, cudaSetDevice(cuda_state_of(d)->number));
    cuda_break_chain(cuda_state_of(d));
    cudaError_t error = cudaStreamEndCapture(cuda_stream(d), &graph);
    int status = LCKV_OK;
    if (error != cudaSuccess) {
        if (out) status = cuda_failed(d, "cudaStreamEndCapture", error);
        cudaGetLastError(); /* a discarded recording may have been invalidated */
    } else if (out) {
        status = make(d, graph, out);
    }
    if (graph) cudaGraphDestroy(graph);
    return status;
}

static int replay(device *d, device_program *p) {
    CUDA_TRY(d, cudaSetDevice(cuda_state_of(d)->number));
    cuda_break_chain(cuda_state_of(d));
    CUDA_TRY(d, cudaGraphLaunch(p->steps, cuda_stream(d)));
    return LCKV_OK;
}

void cuda_recording_open(device *d) {
    d->recording.begin = begin;
    d->recording.end = end;
    d->recording.replay = replay;
    d->recording.release = release;
}
