/* One process alone, and joining others: see collectives.h and lckv_processes_open() in lckv.h. */
#include "collectives/collectives.h"

#include <stdlib.h>

static const exchange ALONE = {.rank = 0, .ranks = 1};

const exchange *exchange_alone(void) {
    return &ALONE;
}

int exchange_sum(const exchange *e, view v) {
    return e->ranks > 1 ? e->sum(e, v) : LCKV_OK;
}

int exchange_sum_parts(const exchange *e, exchange_parts parts) {
    return e->ranks > 1 ? e->sum_parts(e, parts) : LCKV_OK;
}

int exchange_gather_parts(const exchange *e, exchange_parts parts) {
    return e->ranks > 1 ? e->gather_parts(e, parts) : LCKV_OK;
}

int exchange_collect(const exchange *e, const void *mine, const int64_t *counts, void *all) {
    return e->ranks > 1 ? e->collect(e, mine, counts, all) : LCKV_OK;
}

int exchange_broadcast(const exchange *e, void *host, size_t bytes) {
    return e->ranks > 1 ? e->broadcast(e, host, bytes) : LCKV_OK;
}

int exchange_agree(const exchange *e, int status) {
    return e->ranks > 1 ? e->agree(e, status) : status;
}

int64_t exchange_share(const exchange *e, int64_t count, int64_t *first) {
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
        return exchange_mpi_open(announced, out);
#else
        return fail(LCKV_ERROR_UNSUPPORTED,
                    "started as one of several processes, but this lckv was built without MPI: install Open MPI "
                    "(libopenmpi-dev) and build again, or start it without mpirun or srun");
#endif
    }
    *out = malloc(sizeof **out);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a process");
    **out = ALONE;
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
