/* Collectives on the memory of GPUs, one GPU per rank, by NCCL.
 *
 * Operations on views are NCCL's, on the stream of the device, except for sums of small views on one host
 * (peer_sums.h). Operations on host memory, the barrier and collectives_agree() stay with the ranks' own transport, TCP
 * or MPI, which also carries NCCL's id.
 *
 * NCCL chooses its algorithm by size and topology, which changes the order of sums. Unless NCCL_ALGO and NCCL_PROTO are
 * set, they become Ring and Simple, so that the same ranks on the same hosts give the same bits. NCCL_NVLS_ENABLE
 * becomes 0, because sums in the switches of NVLink have another order.
 *
 * Operations may be recorded (device.h): all ranks then record and replay the same ones, because NCCL requires it.
 *
 * Operations aside (collectives.h) are on a stream of their own, which waits for events on the device's stream. They
 * are not part of recordings, because ranks need not record the same steps: the recording has an event at the point,
 * and the operation begins after the replay.
 *
 * The time that the device's ops wait for communication (collectives_count_waits()) is that between two events on the
 * device's stream, before and after each operation or join. Nothing waits for these events.
 *
 * An operation that waits for a rank that has ended or hangs would never complete. A thread watches the connections of
 * the transport. When one closes, or when the GPU has not completed the last operation within the transport's time
 * limit, the thread stops sums through peer memory and aborts NCCL. The next collectives_agree() then fails. A launch
 * can wait for such a rank, too: it has the same time limit, and fails when NCCL is aborted. With MPI, mpirun ends the
 * other ranks, and there is no time limit. */
#ifndef COLLECTIVES_NCCL_NCCL_H
#define COLLECTIVES_NCCL_NCCL_H

#include "collectives/collectives.h"

/* All ranks of `host` call it. `host` and `d`, a GPU, must outlive the result. */
int collectives_nccl_open(const collectives *host, device *d, collectives **out);

#endif
