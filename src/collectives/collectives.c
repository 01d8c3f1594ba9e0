/* Calls through the table of collectives, and joining the ranks that a launcher started (lckv_processes_open() in
 * lckv.h). */
#include "collectives/collectives.h"

#include "collectives/launch.h"
#ifdef COLLECTIVES_NCCL
#include "collectives/nccl/nccl.h"
#endif
#include "collectives/tcp/tcp.h"
#include "device/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double bytes_of(const collectives *c, collectives_parts parts) {
    return (double)(parts.begin[c->ranks] - parts.begin[0]) * (double)dtype_element_bytes(parts.type);
}

int collectives_all_reduce(const collectives *c, view v) {
    REQUIRE(v.type == DTYPE_F32 || v.type == DTYPE_F64, LCKV_ERROR_UNSUPPORTED,
            "all_reduce: expected float32 or float64, found %s", dtype_name(v.type));
    TRY(device_profile_begin(c->device, "all_reduce"));
    return device_profile_end(c->device, c->ops.all_reduce(c, v), (double)view_bytes(v));
}

int collectives_reduce_scatter(const collectives *c, collectives_parts parts) {
    REQUIRE(parts.type == DTYPE_F32, LCKV_ERROR_UNSUPPORTED, "reduce_scatter: expected float32, found %s",
            dtype_name(parts.type));
    TRY(device_profile_begin(c->device, "reduce_scatter"));
    return device_profile_end(c->device, c->ops.reduce_scatter(c, parts), bytes_of(c, parts));
}

int collectives_all_gather(const collectives *c, collectives_parts parts) {
    TRY(device_profile_begin(c->device, "all_gather"));
    return device_profile_end(c->device, c->ops.all_gather(c, parts), bytes_of(c, parts));
}

int collectives_broadcast(const collectives *c, view v, int root) {
    REQUIRE(root >= 0 && root < c->ranks, LCKV_ERROR_ARGUMENT, "broadcast: expected a root from 0 to %d, found %d",
            c->ranks - 1, root);
    TRY(device_profile_begin(c->device, "broadcast"));
    return device_profile_end(c->device, c->ops.broadcast(c, v, root), (double)view_bytes(v));
}

/* Ends what it has begun, also after a failure. */
static int run_aside(const collectives *c, int (*run)(const collectives *c, collectives_parts parts),
                     collectives_parts parts, int number) {
    TRY(c->ops.begin_aside(c, number));
    int status = run(c, parts), ended = c->ops.end_aside(c, number);
    return status < 0 ? status : ended;
}

int collectives_point(const collectives *c, int number) {
    return c->ops.point(c, number);
}

int collectives_reduce_scatter_aside(const collectives *c, collectives_parts parts, int number) {
    return run_aside(c, collectives_reduce_scatter, parts, number);
}

int collectives_all_gather_aside(const collectives *c, collectives_parts parts, int number) {
    return run_aside(c, collectives_all_gather, parts, number);
}

int collectives_join_aside(const collectives *c, int number) {
    return c->ops.join_aside(c, number);
}

int collectives_barrier(const collectives *c) {
    return c->ops.barrier(c);
}

int collectives_gather_host(const collectives *c, const void *mine, const int64_t *counts, void *all) {
    return c->ops.gather_host(c, mine, counts, all);
}

int collectives_broadcast_host(const collectives *c, void *host, size_t bytes) {
    return c->ops.broadcast_host(c, host, bytes);
}

int collectives_agree(const collectives *c, int status) {
    return c->ops.agree(c, status);
}

int collectives_await(const collectives *c) {
    return c->ops.await(c);
}

void collectives_give_up(const collectives *c) {
    c->ops.give_up(c);
}

int collectives_replayed(const collectives *c) {
    return c->ops.replayed(c);
}

void collectives_count_waits(const collectives *c, int slot) {
    c->ops.count_waits(c, slot);
}

double collectives_waited(const collectives *c, int slot) {
    return c->ops.waited(c, slot);
}

int64_t collectives_share(const collectives *c, int64_t count, int64_t *first) {
    int64_t each = count / c->ranks, more = count % c->ranks;
    *first = each * c->rank + (c->rank < more ? c->rank : more);
    return each + (c->rank < more);
}

/* ---------------------------------------------------------------- devices */

/* A rank that sees one GPU was given that one by the launcher. */
static int own_gpu(const collectives *c, int gpus, char out[32]) {
    REQUIRE(c->local_rank >= 0 || gpus == 1, LCKV_ERROR_ARGUMENT,
            "process %d of %d: %d GPUs, and LOCAL_RANK is not set: set it, or choose one with device cuda:N", c->rank,
            c->ranks, gpus);
    REQUIRE(c->local_rank < gpus || gpus == 1, LCKV_ERROR_ARGUMENT,
            "process %d of %d has local rank %d, but there %s %d GPU%s: start one process per GPU", c->rank, c->ranks,
            c->local_rank, is_or_are(gpus), gpus, plural(gpus));
    snprintf(out, 32, "cuda:%d", gpus == 1 ? 0 : c->local_rank);
    return LCKV_OK;
}

static int own_threads(const collectives *c, int threads) {
    if (threads || c->sharing < 2) return threads;
    int processors = device_processors();
    return processors > c->sharing ? processors / c->sharing : 1;
}

int collectives_device_open(const collectives *c, const char *name, int threads, device **out) {
    char numbered[32];
    *out = NULL;
    int gpus = c->ranks > 1 && (!strcmp(name, "cuda") || !strcmp(name, "auto")) ? device_gpus() : 0;
    if (gpus) {
        TRY(own_gpu(c, gpus, numbered));
        name = numbered;
    }
    return device_open(name, own_threads(c, threads), out);
}

static void close_copy(collectives *c) {
    free(c);
}

int collectives_copy(const collectives *c, collectives **out) {
    *out = malloc(sizeof **out);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for the collectives of %d process%s", c->ranks,
            c->ranks == 1 ? "" : "es");
    memcpy(*out, c, sizeof **out);
    (*out)->ops.close = close_copy;
    return LCKV_OK;
}

static int open_on_host(const collectives *c, device *d, collectives **out) {
    int status = collectives_agree(c, collectives_copy(c, out));
    if (status >= 0) {
        (*out)->device = d;
        return status;
    }
    free(*out);
    *out = NULL;
    return status;
}

int collectives_on_device(const collectives *c, device *d, collectives **out) {
    *out = NULL;
    if (c->ranks == 1) return LCKV_OK;
    double gpus = d->host_memory ? 0 : 1;
    TRY(collectives_all_reduce(c, (view){&gpus, 1, 1, DTYPE_F64, NULL}));
    if (gpus == 0) return open_on_host(c, d, out);
    REQUIRE(gpus == c->ranks, LCKV_ERROR_ARGUMENT,
            "%.0f of %d processes have a GPU: expected one per process; set device to cuda or cpu for all", gpus,
            c->ranks);
#ifdef COLLECTIVES_NCCL
    return collectives_nccl_open(c, d, out);
#else
    return fail(LCKV_ERROR_UNSUPPORTED,
                "%d processes on device %s: this lckv was built without NCCL, which several GPUs need; build it with "
                "NCCL (docs/dependencies.md), or use device cpu",
                c->ranks, d->name);
#endif
}

void collectives_close(collectives *c) {
    if (c) c->ops.close(c);
}

/* ---------------------------------------------------------------- joining */

static const double DEFAULT_TIME_LIMIT = 1800; /* as in TrainingArguments.ddp_timeout */

int lckv_processes_announced(int *count) {
    launch l;
    TRY(launch_read(&l));
    *count = l.ranks;
    return LCKV_OK;
}

int lckv_processes_open(double time_limit, lckv_processes **out) {
    launch l;
    *out = NULL;
    REQUIRE(time_limit >= 0 && time_limit <= 1e9, LCKV_ERROR_ARGUMENT,
            "ddp_timeout: expected a number of seconds from 0 to 1e9, found %g", time_limit);
    TRY(launch_read(&l));
    if (l.kind == LAUNCH_ALONE) return collectives_single_open(out);
    if (l.kind == LAUNCH_TCP) return collectives_tcp_open(&l, time_limit > 0 ? time_limit : DEFAULT_TIME_LIMIT, out);
#ifdef COLLECTIVES_MPI
    return collectives_mpi_open(l.ranks, out);
#else
    return fail(LCKV_ERROR_UNSUPPORTED,
                "started by MPI as one of several processes, but this lckv was built without MPI: start it with "
                "num_processes, torchrun or srun, or install Open MPI (libopenmpi-dev) and build again");
#endif
}

int lckv_processes_rank(const lckv_processes *processes) {
    return processes->rank;
}

int lckv_processes_count(const lckv_processes *processes) {
    return processes->ranks;
}

int lckv_processes_device(const lckv_processes *processes, const char *name, int threads, lckv_device **out) {
    return collectives_device_open(processes ? processes : collectives_single(), name, threads, out);
}

void lckv_processes_give_up(lckv_processes *processes) {
    collectives_give_up(processes);
}

void lckv_processes_close(lckv_processes *processes) {
    collectives_close(processes);
}
