/* What communication needs of a GPU (src/collectives/nccl): its number, the stream of its ops, and sums through the
 * memory of other GPUs. Work of others on the stream is followed by cuda_device_separate() if the next op depends on
 * it. */
#ifndef DEVICE_GPU_H
#define DEVICE_GPU_H

#include "device/device.h"

/* Of a device that is a GPU. The stream is a cudaStream_t, and the device's until it is closed. */
int cuda_device_number(const device *d);
void *cuda_device_stream(const device *d);
/* The next op does not start before everything on the stream has ended. */
void cuda_device_separate(device *d);

enum { GPU_MAX_PEERS = 8, GPU_PEER_BLOCKS = 128, GPU_PEER_THREADS = 256, GPU_PEER_PIECES = 4 };
/* The largest view of a sum, 1 MiB: 64 rows of 4,096 numbers in f32. Every rank sends twice these bytes to every other
 * one, which for two ranks takes about 6 us over NVLink and for eight about 40; NCCL's ring has two steps per rank. A
 * thread adds GPU_PEER_PIECES pieces of 8 bytes, two numbers in f32 or one in f64. No more blocks run than a GPU has
 * room for at once, because they wait for those of other ranks. */
enum { GPU_PEER_NUMBERS = GPU_PEER_BLOCKS * GPU_PEER_PIECES, GPU_PEER_BYTES = GPU_PEER_NUMBERS * GPU_PEER_THREADS * 8 };

/* Memory of a sum between GPUs that can write to each other's memory. All of it is zero before the first sum. */
struct gpu_peers {
    int rank, ranks; /* 2 to GPU_MAX_PEERS */
    /* On each rank's GPU, gpu_peer_buffer_bytes(ranks), to which all ranks write. As mapped into this process. */
    void *buffers[GPU_MAX_PEERS];
    uint32_t *numbers; /* on this GPU: [GPU_PEER_NUMBERS] */
    const int *stop;   /* pinned host memory; other than 0: sums stop waiting, and what they write is undefined */
};

/* Cells of 16 bytes, for 8 bytes of each rank, twice: cuda/peer_sum.cu. */
static inline size_t gpu_peer_buffer_bytes(int ranks) {
    return 2 * 2 * (size_t)ranks * GPU_PEER_BYTES;
}

/* All ranks add up their v, f32 or f64, in place and in the order of ranks: every rank gets the same bits. v has 1 to
 * GPU_PEER_BYTES bytes. One op on the device's stream, which waits for the same op of the other ranks; it can be
 * recorded. */
int cuda_device_sum_peers(device *d, const struct gpu_peers *p, view v);

#endif
