/* NCCL and the CUDA runtime on host memory, for test_collectives_nccl.c: operations go over the ranks' transport, and
 * the calls are counted. */
#ifndef TESTS_FAKE_NCCL_H
#define TESTS_FAKE_NCCL_H

#include "collectives/nccl/nccl.h"
#include "device/gpu.h"

#include <cuda_runtime_api.h>
#include <nccl.h>
#include <pthread.h>

struct ncclComm {
    int rank, ranks;
};

struct fake_nccl {
    int groups, depth, destroyed, last_gpu;
    int calls; /* of collective operations */
    bool one_gpu, init_fails, records;
    bool separated;       /* since the last operation */
    int streams;          /* created and not destroyed */
    int events;           /* created and not destroyed */
    char order[256];      /* what has happened to streams; see note() */
    float now;            /* milliseconds on the device's stream */
    pthread_mutex_t lock; /* for the members after it */
    int aborted;
    bool hangs;           /* operations do not complete */
    int lost;             /* closed within a launch, for the thread that watches; 0: none */
    double launch_blocks; /* seconds that a launch takes, unless NCCL is aborted */
};

extern struct fake_nccl fake;
extern lckv_processes *ranks; /* the transport */
extern device gpu;

#define STREAM ((cudaStream_t)&fake)
#define BESIDE ((cudaStream_t)&fake.streams)

enum { OPERATION_MILLISECONDS = 5, JOIN_MILLISECONDS = 3 };

struct event {
    int number; /* in the order of creation */
    bool timed;
    float at; /* when it was recorded */
};

int times_aborted(void);

#endif
