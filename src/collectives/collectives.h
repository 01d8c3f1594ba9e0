/* Collectives: communication between the ranks that train or run one model together.
 *
 * This is a table of operations beside the op table (device/device.h). The single rank fills it with no-ops (single.c).
 * Several ranks have operations on host memory (host.c), over TCP (tcp/tcp.c) or MPI (mpi/mpi.c), and on the memory of
 * GPUs over NCCL (nccl/nccl.c). launch.c finds out how this process was started. Callers use the functions below and do
 * not ask how many ranks there are.
 *
 *   - All ranks make the same calls in the same order, with the same shapes.
 *   - Operations on views work on device memory and are ordered with the ops of the device: they read what earlier ops
 *     wrote, and later ops read what they wrote. Operations aside (below) overlap with later ops.
 *   - Reductions in host memory and in peer memory (nccl/peer_sums.h) add in the order of ranks, those of NCCL in the
 *     order of its ring. The same number of ranks on the same hosts gives the same bits.
 *   - If one rank fails, the others would wait for it. Call collectives_agree() before every operation that a failure
 *     could have kept a rank from reaching; it reports the failure of one rank to all ranks. Where that is not
 * possible, the failed rank calls collectives_give_up(). If a rank ends or hangs, the next operation of every other
 * rank fails and names it (tcp/tcp.h); with MPI, mpirun ends the other ranks.
 *
 * Leaves out: which rank owns which parameters (train/step/optimizer.h), and which blocks it trains on
 * (train/step/step.h). */
#ifndef COLLECTIVES_COLLECTIVES_H
#define COLLECTIVES_COLLECTIVES_H

#include "device/device.h"

typedef struct lckv_processes collectives;

/* A buffer in device memory that is divided between the ranks: rank r owns elements begin[r] .. begin[r + 1] - 1. */
typedef struct collectives_parts {
    void *data;
    dtype type;
    const int64_t *begin; /* [ranks + 1] */
} collectives_parts;

/* The table. Every implementation fills every entry. */
struct collectives_ops {
    int (*all_reduce)(const collectives *c, view v);
    int (*reduce_scatter)(const collectives *c, collectives_parts parts);
    int (*all_gather)(const collectives *c, collectives_parts parts);
    int (*broadcast)(const collectives *c, view v, int root);
    int (*point)(const collectives *c, int number);
    int (*begin_aside)(const collectives *c, int number); /* operations on views are number `number` aside */
    int (*end_aside)(const collectives *c, int number);
    int (*join_aside)(const collectives *c, int number);
    int (*barrier)(const collectives *c);
    int (*gather_host)(const collectives *c, const void *mine, const int64_t *counts, void *all);
    int (*broadcast_host)(const collectives *c, void *host, size_t bytes);
    int (*agree)(const collectives *c, int status);
    int (*await)(const collectives *c);
    void (*give_up)(const collectives *c);
    int (*replayed)(const collectives *c);
    void (*count_waits)(const collectives *c, int slot);
    double (*waited)(const collectives *c, int slot);
    void (*close)(collectives *c);
};

struct lckv_processes {
    struct collectives_ops ops;
    int rank, ranks;
    int local_rank;     /* among the ranks of this host; -1: unknown */
    int sharing;        /* number of ranks on this host that share its processors; 0 and 1: each has its own */
    bool host_memory;   /* views must be in memory of a device with host_memory (device.h) */
    device *device;     /* its profile records operations on views (device/profile.h); NULL: none does */
    const int *watched; /* [ranks] sockets that become readable when a rank is lost, -1 for this rank; NULL: none */
    double time_limit;  /* seconds to wait for another rank; 0: no limit */
    void *own;          /* private state of the implementation */
};

/* The single rank: rank 0 of 1. */
const collectives *collectives_single(void);

/* Every rank receives the elementwise sum of v, f32 or f64. Ranks exchange COLLECTIVES_MAX_REDUCE bytes of host
 * memory at a time. */
enum { COLLECTIVES_MAX_REDUCE = 1 << 18 };
int collectives_all_reduce(const collectives *c, view v);
/* f32. Every rank receives the sum of its own part; the contents of the other parts do not change. */
int collectives_reduce_scatter(const collectives *c, collectives_parts parts);
/* Every rank receives every part from its owner. */
int collectives_all_gather(const collectives *c, collectives_parts parts);
/* Every rank receives v from rank `root`. */
int collectives_broadcast(const collectives *c, view v, int root);

/* Operations aside: they run while the device runs later ops. The caller numbers them from 0; a number can be used
 * again after its operation has begun. On devices with host memory, they run when they begin.
 *
 *   - collectives_point() is where an operation may start: it reads and writes what the ops so far have left. The point
 *     can be part of a recording (device.h); each replay passes it again.
 *   - collectives_*_aside() begins the operation with the number of a point. All ranks begin the same ones in the same
 *     order, and the operations run in this order, also with those that are not aside.
 *   - collectives_join_aside(): later ops of the device wait for the operation, and for those that began before it.
 *     Until then no op may use its memory. */
int collectives_point(const collectives *c, int number);
int collectives_reduce_scatter_aside(const collectives *c, collectives_parts parts, int number);
int collectives_all_gather_aside(const collectives *c, collectives_parts parts, int number);
int collectives_join_aside(const collectives *c, int number);

/* Returns after all ranks have called it. */
int collectives_barrier(const collectives *c);

/* Host memory: rank 0 receives counts[r] bytes from each rank r, in the order of ranks, in `all` (NULL on the others).
 */
int collectives_gather_host(const collectives *c, const void *mine, const int64_t *counts, void *all);
/* Host memory: every rank receives the bytes of rank 0. */
int collectives_broadcast_host(const collectives *c, void *host, size_t bytes);
/* Returns `status` if no rank has failed. Otherwise every rank returns the error of one rank, with a message that names
 * the rank: that of the lowest rank with an error other than LCKV_ERROR_INTERRUPTED, else of the lowest interrupted
 * rank. */
int collectives_agree(const collectives *c, int status);

/* On ranks other than 0: returns when rank 0 sends something, without a time limit, or fails when a rank is lost. The
 * operation that receives it must follow. */
int collectives_await(const collectives *c);
/* Ends the communication of all ranks: their operations fail from now on. That of another rank, also one that is
 * waiting, fails with the last error of this thread and the number of this rank. */
void collectives_give_up(const collectives *c);

/* The device has begun to replay recorded operations on views: the time limit applies to them. Also fails if earlier
 * operations were ended because a rank is lost; what they have written is then undefined. */
int collectives_replayed(const collectives *c);

/* The time that the computation waits for communication. It is counted in one of the slots 0 .. COLLECTIVES_SLOTS - 1
 * at a time, because the device may not have completed one step when the next one is launched.
 *
 *   - collectives_count_waits(): the calls from here on are counted in `slot`, from zero; slot -1: in none.
 *   - collectives_waited(): the seconds of a slot, after the device has completed its calls. On devices with host
 *     memory, this is the time of all transfers. On a GPU, it is the time in which its ops waited for operations that
 *     are not aside, or in collectives_join_aside(). NAN if it is not known: of a single rank, and if operations were
 *     recorded (device.h). */
enum { COLLECTIVES_SLOTS = 2 };
void collectives_count_waits(const collectives *c, int slot);
double collectives_waited(const collectives *c, int slot);

/* Host memory: every rank receives the `bytes` of each rank, in the order of ranks, in `all`, [ranks * bytes]. All
 * ranks give the same number of bytes. */
int collectives_gather_host_for_all(const collectives *c, const void *mine, size_t bytes, void *all);
/* Number of ranks on this rank's host. */
int collectives_ranks_here(const collectives *c, int *count);
/* Every rank receives the smallest of the ranks' numbers. */
int collectives_smallest(const collectives *c, double *number);

/* This rank's share of `count` items: items *first .. *first + N - 1, where N is the result. Shares differ by at most
 * one item. */
int64_t collectives_share(const collectives *c, int64_t count, int64_t *first);

/* A copy of the single rank, which lckv_processes_close() frees. */
int collectives_single_open(collectives **out);
/* A copy that shares the implementation of c, which must outlive it. Closing it frees the copy alone. */
int collectives_copy(const collectives *c, collectives **out);
/* Opens this rank's device, as device_open() does. With several ranks, "cuda" is the GPU with the number of the local
 * rank, and so is "auto" if there are GPUs. `threads` 0 divides the processors between the ranks that share them. */
int collectives_device_open(const collectives *c, const char *name, int threads, device **out);

/* The collectives for views in the memory of `d`, between the ranks of `c`, which is on host memory and must outlive
 * them. All ranks call it and get the same status. GPUs have NCCL's. Close them before the device. *out is NULL if `c`
 * itself serves, as the single rank does. */
int collectives_on_device(const collectives *c, device *d, collectives **out);
void collectives_close(collectives *c); /* NULL is fine */

/* mpi/mpi.c, which is built if MPI is found. `announced`: number of ranks that the launcher announced; 0 if it did not
 * announce one. */
int collectives_mpi_open(int announced, collectives **out);

#endif
