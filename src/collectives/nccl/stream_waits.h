/* The time that a stream waits for communication: that between CUDA events before and after each wait. Nothing waits
 * for these events. For nccl.c. */
#ifndef COLLECTIVES_NCCL_STREAM_WAITS_H
#define COLLECTIVES_NCCL_STREAM_WAITS_H

#include "collectives/collectives.h"

#include <cuda_runtime_api.h>

/* Of one slot. Events 2 i and 2 i + 1 are before and after wait i. */
typedef struct slot_waits {
    cudaEvent_t *events; /* [room]; NULL: not created yet */
    int count, room;
    bool unknown;
} slot_waits;

typedef struct stream_waits {
    slot_waits slots[COLLECTIVES_SLOTS];
    int slot; /* in which waits are counted; -1: they are not */
} stream_waits;

/* As collectives_count_waits(). */
void stream_waits_count(stream_waits *w, int slot);

/* Called before and after what the stream waits for. Does nothing if waits are not counted. */
int stream_waits_mark(stream_waits *w, cudaStream_t stream);

/* The time of the slot is not known, because a wait is recorded (device.h). */
void stream_waits_unknown(stream_waits *w);

/* As collectives_waited(). The device of the events is the current one. */
double stream_waits_seconds(const stream_waits *w, int slot);

void stream_waits_free(stream_waits *w);

#endif
