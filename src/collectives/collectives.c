/* One process alone, and joining others: see collectives.h and lckv_processes_open() in lckv.h. */
#include "collectives/collectives.h"

#include <stdlib.h>

static const collectives SINGLE = {.rank = 0, .ranks = 1};

const collectives *collectives_single(void) {
    return &SINGLE;
}

int collectives_all_reduce(const collectives *e, view v) {
    return e->ranks > 1 ? e->sum(e, v) : LCKV_OK;
}

int collectives_reduce_scatter(const collectives *e, collectives_parts parts) {
    return e->ranks > 1 ? e->sum_parts(e, parts) : LCKV_OK;
}

int collectives_all_gather(const collectives *e, collectives_parts parts) {
    return e->ranks > 1 ? e->gather_parts(e, parts) : LCKV_OK;
}

int collectives_gather_host(const collectives *e, const void *mine, const int64_t *counts, void *all) {
    return e->ranks > 1 ? e->collect(e, mine, counts, all) : LCKV_OK;
}

int collectives_broadcast_host(const collectives *e, void *host, size_t bytes) {
    return e->ranks > 1 ? e->broadcast(e, host, bytes) : LCKV_OK;
}

int collectives_agree(const collectives *e, int status) {
    return e->ranks > 1 ? e->agree(e, status) : status;
}

int64_t collectives_share(const collectives *e, int64_t count, int64_t *first) {
    int64_t each = count / e->ranks, more = count % e->ranks;
    *first = each * e->rank + (e->rank < more ? e->rank : more);
    return each + (e->rank < more);
}

/* ---------------------------------------------------------------- joining */

/* How many processes a launcher says it started; 0: one did, and does not say how many; 1: none did. What launchers
 * tell their children: mpirun of Open MPI the first, mpiexec of others and Slurm's PMI-1 and PMI-2 the second, Slurm's
 * PMIx the third. */
static int announced_processes(void) {
    const char *size = getenv("OMPI_COMM_WORLD_SIZE");
    if (!size) size = getenv("PMI_SIZE");
    if (size) return atoi(size) > 1 ? atoi(size) : 1;
    return getenv("PMIX_NAMESPACE") ? 0 : 1;
}

int lckv_processes_open(lckv_processes **out) {
    int announced = announced_processes();
    *out = NULL;
    if (announced != 1) {
#ifdef COLLECTIVES_MPI
        return collectives_mpi_open(announced, out);
#else
        return fail(LCKV_ERROR_UNSUPPORTED,
                    "started as one of several processes, but this lckv was built without MPI: install Open MPI "
                    "(libopenmpi-dev) and build again, or start it without mpirun or srun");
#endif
    }
    *out = malloc(sizeof **out);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a process");
    **out = SINGLE;
    return LCKV_OK;
}

int lckv_processes_rank(const lckv_processes *processes) {
    return processes->rank;
}

int lckv_processes_count(const lckv_processes *processes) {
    return processes->ranks;
}

void lckv_processes_close(lckv_processes *processes) {
    if (!processes) return;
    if (processes->close)
        processes->close(processes);
    else
        free(processes);
}
