/* The exchange between processes that train one model together.
 *
 * Each has all weights and takes its share of every step's blocks (data parallel); the optimizer's state is divided
 * into one part a process (ZeRO stage 1: Rajbhandari et al. 2020, section 5.1). One process alone exchanges nothing.
 *
 *   - All processes make the same calls in the same order.
 *   - Sums add up in the order of ranks: the same number of processes gives the same bits.
 *   - A process that fails would leave the others waiting for it. So collectives_agree() stands before every call that
 * a failure can have kept one from, and makes the failure of one that of all. A process that dies is for whatever
 *     started it to notice: mpirun and Slurm then end the others.
 *   - Data is in device memory, so that a GPU's exchange may take it where it is. That of MPI (mpi/mpi.c) takes
 *     memory of devices that compute in host memory.
 *
 * Leaves out: who owns what (optimizer.h), and whose blocks are whose (step.h). */
#ifndef COLLECTIVES_COLLECTIVES_H
#define COLLECTIVES_COLLECTIVES_H

#include "device/device.h"

/* Memory in one part a process: part r is elements begin[r] .. begin[r + 1] - 1. */
typedef struct lckv_processes_parts {
    void *data;
    dtype type;
    const int64_t *begin; /* [ranks + 1] */
} collectives_parts;

typedef struct lckv_processes {
    int rank, ranks;
    bool host_memory; /* takes memory of devices that compute in host memory alone */
    /* What an implementation gives; called through the functions below, and only where there are several. */
    int (*sum)(const struct lckv_processes *e, view v);
    int (*sum_parts)(const struct lckv_processes *e, collectives_parts parts);
    int (*gather_parts)(const struct lckv_processes *e, collectives_parts parts);
    int (*collect)(const struct lckv_processes *e, const void *mine, const int64_t *counts, void *all);
    int (*broadcast)(const struct lckv_processes *e, void *host, size_t bytes);
    int (*agree)(const struct lckv_processes *e, int status);
    void (*close)(struct lckv_processes *e);
    void *own;
} collectives;

/* One process alone. */
const collectives *collectives_single(void);

/* A few f32 or f64: each process has the sum afterwards. */
int collectives_all_reduce(const collectives *e, view v);
/* f32: each process has the sum in its own part; the other parts hold what they held. */
int collectives_reduce_scatter(const collectives *e, collectives_parts parts);
/* Each process has every part as its owner has it. */
int collectives_all_gather(const collectives *e, collectives_parts parts);
/* counts[r] bytes of host memory of each process r, one after the other in `all` of process 0 (NULL at the others). */
int collectives_gather_host(const collectives *e, const void *mine, const int64_t *counts, void *all);
/* Host memory of process 0 for all. */
int collectives_broadcast_host(const collectives *e, void *host, size_t bytes);
/* LCKV_OK (or a positive status, its own) where no process has failed. Else all get the failure of one, which the
 * message names: an interruption only where nothing worse happened, then that of the lowest rank. */
int collectives_agree(const collectives *e, int status);

/* The share of this process of `count` things: *first .. *first + what is returned - 1. Shares differ by 1 at most. */
int64_t collectives_share(const collectives *e, int64_t count, int64_t *first);

/* mpi/mpi.c, built where MPI is found: joins the processes that this one was started with. `announced`: how many
 * the launcher says there are; 0: it does not say. */
int collectives_mpi_open(int announced, collectives **out);

#endif
