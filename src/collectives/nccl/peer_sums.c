/* Sums of small views through the memory of the other ranks' GPUs; see peer_sums.h. */
#include "collectives/nccl/peer_sums.h"

#include "base/clock.h"
#include "base/log.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Two sums use all cells. The first one also loads the kernel. */
enum { TRIALS = 3, TRIAL_SECONDS = 10 };

/* Errors only mean that the ranks use NCCL; they are not those of a later call. */
static bool works(cudaError_t error) {
    if (error != cudaSuccess) cudaGetLastError();
    return error == cudaSuccess;
}

static bool is_set(const char *variable, bool otherwise) {
    const char *value = getenv(variable);
    return value ? atoi(value) != 0 : otherwise;
}

/* ---------------------------------------------------------------- memory */

/* Buffers have at least 2 MiB, so that CUDA does not share their block of memory with another allocation. */
static bool allocate(peer_sums *p) {
    struct gpu_peers *g = &p->gpus;
    size_t bytes = gpu_peer_buffer_bytes(g->ranks), number_bytes = GPU_PEER_NUMBERS * sizeof *g->numbers;
    if (!works(cudaMalloc(&g->buffers[g->rank], bytes))) return false;
    if (!works(cudaMalloc((void **)&g->numbers, number_bytes))) return false;
    if (!works(cudaHostAlloc((void **)&p->stop, sizeof *p->stop, cudaHostAllocDefault))) return false;
    *p->stop = 0;
    g->stop = p->stop;
    return works(cudaMemset(g->buffers[g->rank], 0, bytes)) && works(cudaMemset(g->numbers, 0, number_bytes)) &&
           works(cudaDeviceSynchronize());
}

static bool open_others(peer_sums *p, const cudaIpcMemHandle_t *handles) {
    struct gpu_peers *g = &p->gpus;
    for (int r = 0; r < g->ranks; r++) {
        void **at = &g->buffers[r];
        if (r != g->rank && !works(cudaIpcOpenMemHandle(at, handles[r], cudaIpcMemLazyEnablePeerAccess))) {
            *at = NULL;
            return false;
        }
    }
    return true;
}

static void release(peer_sums *p) {
    struct gpu_peers *g = &p->gpus;
    for (int r = 0; r < g->ranks; r++)
        if (r != g->rank && g->buffers[r]) works(cudaIpcCloseMemHandle(g->buffers[r]));
    if (g->buffers[g->rank]) works(cudaFree(g->buffers[g->rank]));
    if (g->numbers) works(cudaFree(g->numbers));
    if (p->stop) works(cudaFreeHost(p->stop));
    memset(p, 0, sizeof *p);
}

/* ---------------------------------------------------------------- trial */

/* Integers, so that the sums are exact in f32. */
static float trial_value(int rank, int i) {
    return (float)(rank + 1 + i % 5);
}

static float trial_sum(int ranks, int i) {
    float sum = 0;
    for (int r = 0; r < ranks; r++) sum += trial_value(r, i);
    for (int t = 1; t < TRIALS; t++) sum *= (float)ranks;
    return sum;
}

/* Without access in fact, the sums would wait for ever. */
static bool ends_in_time(const peer_sums *p, cudaStream_t stream) {
    double begin = clock_seconds();
    cudaError_t state = cudaStreamQuery(stream);
    while (state == cudaErrorNotReady && clock_seconds() < begin + TRIAL_SECONDS) {
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        state = cudaStreamQuery(stream);
    }
    if (state != cudaErrorNotReady) return works(state);
    peer_sums_stop(p);
    works(cudaStreamSynchronize(stream));
    return false;
}

static bool add_on_trial(const peer_sums *p, device *d, float *values, void *memory) {
    cudaStream_t stream = cuda_device_stream(d);
    const struct gpu_peers *g = &p->gpus;
    const view v = {memory, 1, GPU_PEER_BYTES / sizeof *values, DTYPE_F32, NULL};
    for (int i = 0; i < v.cols; i++) values[i] = trial_value(g->rank, i);
    if (!works(cudaMemcpyAsync(memory, values, GPU_PEER_BYTES, cudaMemcpyHostToDevice, stream))) return false;
    cuda_device_separate(d);
    for (int t = 0; t < TRIALS; t++)
        if (cuda_device_sum_peers(d, g, v) < 0) return false;
    if (!ends_in_time(p, stream)) return false;
    if (!works(cudaMemcpyAsync(values, memory, GPU_PEER_BYTES, cudaMemcpyDeviceToHost, stream))) return false;
    if (!works(cudaStreamSynchronize(stream))) return false;
    for (int i = 0; i < v.cols; i++)
        if (values[i] != trial_sum(g->ranks, i)) return false;
    return true;
}

static bool passes_trial(const peer_sums *p, device *d) {
    void *memory = NULL;
    float *values = malloc(GPU_PEER_BYTES);
    bool passes = values && works(cudaMalloc(&memory, GPU_PEER_BYTES)) && add_on_trial(p, d, values, memory);
    if (memory) works(cudaFree(memory));
    free(values);
    return passes;
}

/* ---------------------------------------------------------------- opening */

typedef struct offer {
    bool able;
    cudaIpcMemHandle_t handle; /* of the rank's buffer */
} offer;

/* *able becomes that of all ranks. */
static int agree_on(const collectives *host, bool *able) {
    double number = *able ? 1 : 0;
    TRY(collectives_smallest(host, &number));
    *able = number > 0;
    return LCKV_OK;
}

static bool make_offer(peer_sums *p, offer *mine) {
    return works(cudaSetDevice(p->number)) && allocate(p) &&
           works(cudaIpcGetMemHandle(&mine->handle, p->gpus.buffers[p->gpus.rank]));
}

static int join_others(peer_sums *p, const collectives *host, device *d, const offer *mine, bool *able) {
    offer all[GPU_MAX_PEERS];
    cudaIpcMemHandle_t handles[GPU_MAX_PEERS];
    TRY(collectives_gather_host_for_all(host, mine, sizeof *mine, all));
    *able = true;
    for (int r = 0; r < host->ranks; r++) {
        *able = *able && all[r].able;
        handles[r] = all[r].handle;
    }
    if (!*able) return LCKV_OK;
    *able = open_others(p, handles);
    TRY(agree_on(host, able));
    if (!*able) return LCKV_OK;
    *able = passes_trial(p, d);
    return agree_on(host, able);
}

int peer_sums_open(peer_sums *p, const collectives *host, device *d) {
    int here;
    offer mine = {0};
    *p = (peer_sums){.number = cuda_device_number(d)};
    if (host->ranks < 2 || host->ranks > GPU_MAX_PEERS) return LCKV_OK;
    TRY(collectives_ranks_here(host, &here));
    p->gpus.rank = host->rank;
    p->gpus.ranks = host->ranks;
    bool wanted = is_set("LCKV_PEER_SUMS", true) && !is_set("NCCL_P2P_DISABLE", false);
    mine.able = here == host->ranks && wanted && make_offer(p, &mine);
    int status = join_others(p, host, d, &mine, &p->open);
    if (status < 0 || !p->open) release(p);
    if (status >= 0 && host->rank == 0)
        log_message(LCKV_LOG_DEBUG,
                    p->open ? "sums of up to %d KiB go through peer memory"
                            : "all sums go through NCCL: no peer memory for those of up to %d KiB",
                    GPU_PEER_BYTES >> 10);
    return status;
}

bool peer_sums_take(const peer_sums *p, view v) {
    return p->open && v.rows * v.cols > 0 && view_bytes(v) <= GPU_PEER_BYTES;
}

void peer_sums_stop(const peer_sums *p) {
    if (p->stop) __atomic_store_n(p->stop, 1, __ATOMIC_RELEASE);
}

void peer_sums_close(peer_sums *p) {
    if (!p->open) return;
    works(cudaSetDevice(p->number));
    works(cudaDeviceSynchronize());
    release(p);
}
