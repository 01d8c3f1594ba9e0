/* Memory of a GPU that the processes of a test share, and the sums in it; see fake_peers.h. Allocations are files in
 * memory, and a handle is the path of one. The sums follow the protocol of src/device/cuda/peer_sum.cu: one word of 64
 * bits for 4 bytes of data and the number of the sum. */
#define _GNU_SOURCE /* memfd_create */
#include "fake_peers.h"

#include "device/gpu.h"

#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_BLOCKS = 32 };

struct fake_peers fake_peers;

static struct block {
    void *at; /* NULL: free */
    size_t bytes;
    int file;
} blocks[MAX_BLOCKS];

static struct block *find(const void *at) {
    int i = 0;
    while (i < MAX_BLOCKS - 1 && blocks[i].at != at) i++;
    return &blocks[i];
}

static cudaError_t map(int file, size_t bytes, void **out) {
    struct block *b = find(NULL);
    *out = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file < 0 || *out == MAP_FAILED) abort();
    *b = (struct block){*out, bytes, file};
    fake_peers.held++;
    return cudaSuccess;
}

static cudaError_t unmap(void *memory) {
    struct block *b = find(memory);
    munmap(b->at, b->bytes);
    close(b->file);
    b->at = NULL;
    fake_peers.held--;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t bytes) {
    int file = memfd_create("gpu", 0);
    if (ftruncate(file, (off_t)bytes)) abort();
    map(file, bytes, out);
    memset(*out, 7, bytes);
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory) {
    return unmap(memory);
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags) {
    (void)flags;
    *out = malloc(bytes);
    fake_peers.held++;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *memory) {
    free(memory);
    fake_peers.held--;
    return cudaSuccess;
}

cudaError_t cudaMemset(void *memory, int value, size_t bytes) {
    memset(memory, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    (void)kind;
    (void)stream;
    memcpy(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    (void)stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    (void)stream;
    return cudaSuccess;
}

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *handle, void *memory) {
    const struct block *b = find(memory);
    snprintf(handle->reserved, sizeof handle->reserved, "/proc/%d/fd/%d %zu", (int)getpid(), b->file, b->bytes);
    return cudaSuccess;
}

cudaError_t cudaIpcOpenMemHandle(void **out, cudaIpcMemHandle_t handle, unsigned flags) {
    char path[sizeof handle.reserved];
    size_t bytes;
    if (fake_peers.cannot_open) return cudaErrorPeerAccessUnsupported;
    if (flags != cudaIpcMemLazyEnablePeerAccess || sscanf(handle.reserved, "%63s %zu", path, &bytes) != 2) abort();
    return map(open(path, O_RDWR), bytes, out);
}

cudaError_t cudaIpcCloseMemHandle(void *memory) {
    return unmap(memory);
}

/* ---------------------------------------------------------------- sums */

enum { WORDS = GPU_PEER_BYTES / 4 };

/* Buffers end with the last word. */
static _Atomic uint64_t *word_of(const struct gpu_peers *p, int to, int from, uint32_t number, size_t i) {
    return (_Atomic uint64_t *)p->buffers[to] + ((size_t)(number % 2) * (size_t)p->ranks + (size_t)from) * WORDS + i;
}

static bool receive(const struct gpu_peers *p, int from, uint32_t number, size_t words, uint32_t *out) {
    for (size_t i = 0; i < words; i++) {
        uint64_t word = 0;
        while ((word = atomic_load(word_of(p, p->rank, from, number, i))) >> 32 != number) {
            if (__atomic_load_n(p->stop, __ATOMIC_ACQUIRE)) return false;
            sched_yield();
        }
        out[i] = (uint32_t)word;
    }
    return true;
}

static void add(void *sum, const void *part, view v, bool first) {
    for (int64_t i = 0; i < v.rows * v.cols; i++) {
        if (v.type == DTYPE_F64)
            ((double *)sum)[i] = (first ? 0 : ((double *)sum)[i]) + ((const double *)part)[i];
        else
            ((float *)sum)[i] = (first ? 0 : ((float *)sum)[i]) + ((const float *)part)[i];
    }
}

static struct sum {
    const struct gpu_peers *p;
    view v;
    pthread_t thread;
    bool running;
} sum;

static void *run_sum(void *user) {
    (void)user;
    static uint32_t part[WORDS];
    const struct gpu_peers *p = sum.p;
    size_t words = view_bytes(sum.v) / 4;
    uint32_t number = ++p->numbers[0];
    for (int r = 0; r < p->ranks; r++)
        for (size_t i = 0; i < words; i++) {
            uint32_t mine = ((const uint32_t *)sum.v.data)[i] ^ (fake_peers.wrong ? 1u << 22 : 0);
            atomic_store(word_of(p, r, p->rank, number, i), (uint64_t)number << 32 | mine);
        }
    for (int r = 0; r < p->ranks; r++) {
        if (!receive(p, r, number, words, part)) {
            fake_peers.stopped++;
            return NULL;
        }
        add(sum.v.data, part, sum.v, r == 0);
    }
    return NULL;
}

int cuda_device_sum_peers(device *d, const struct gpu_peers *p, view v) {
    (void)d;
    fake_peers.sums++;
    sum.p = p;
    sum.v = v;
    sum.running = fake_peers.returns_at_once && !pthread_create(&sum.thread, NULL, run_sum, NULL);
    if (!sum.running) run_sum(NULL);
    return LCKV_OK;
}

cudaError_t cudaDeviceSynchronize(void) {
    if (sum.running) pthread_join(sum.thread, NULL);
    sum.running = false;
    return cudaSuccess;
}
