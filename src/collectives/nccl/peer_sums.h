/* Sums of small views through the memory of the other ranks' GPUs (device/gpu.h), where the ranks of one host have
 * access to it. A sum then takes a few microseconds: one kernel instead of the steps of NCCL's ring. For nccl.c.
 *
 * Ranks exchange handles of their buffers (cudaIpcMemHandle) and make sums on trial. They all use NCCL if a rank cannot
 * open the buffer of another one (other hosts or containers, no peer access), if the trial has wrong results or takes
 * too long, with more than GPU_MAX_PEERS ranks, or if NCCL_P2P_DISABLE=1 or LCKV_PEER_SUMS=0 is set for one of them. */
#ifndef COLLECTIVES_NCCL_PEER_SUMS_H
#define COLLECTIVES_NCCL_PEER_SUMS_H

#include "collectives/collectives.h"
#include "device/gpu.h"

/* All zero: closed. */
typedef struct peer_sums {
    bool open;
    int number; /* of this rank's GPU */
    int *stop;  /* pinned; see gpu_peers */
    struct gpu_peers gpus;
} peer_sums;

/* All ranks of `host` call it, each with its own GPU. Leaves *p closed if the ranks use NCCL for all sums; that is no
 * error. */
int peer_sums_open(peer_sums *p, const collectives *host, device *d);

/* Whether v can be added up this way. All ranks get the same answer. */
bool peer_sums_take(const peer_sums *p, view v);

/* Ends sums that wait for other ranks, and makes later ones end. What they write is undefined. From any thread. */
void peer_sums_stop(const peer_sums *p);

/* Waits for the GPU. Other ranks may still have this rank's memory open, but do not write to it any more: the last sum
 * of each rank has received everything that the others have sent. */
void peer_sums_close(peer_sums *p);

#endif
