/* Calls through the table of collectives, and joining the ranks that a launcher started (lckv_processes_open() in
 * lckv.h). */
#include "collectives/collectives.h"

#include <stdlib.h>

int collectives_all_reduce(const collectives *c, view v) {
    REQUIRE(view_bytes(v) <= COLLECTIVES_MAX_REDUCE, LCKV_ERROR_ARGUMENT,
            "all_reduce: expected at most %d bytes, found %zu", COLLECTIVES_MAX_REDUCE, view_bytes(v));
    REQUIRE(v.type == DTYPE_F32 || v.type == DTYPE_F64, LCKV_ERROR_UNSUPPORTED,
            "all_reduce: expected float32 or float64, found %s", dtype_name(v.type));
    return c->ops.all_reduce(c, v);
}

int collectives_reduce_scatter(const collectives *c, collectives_parts parts) {
    REQUIRE(parts.type == DTYPE_F32, LCKV_ERROR_UNSUPPORTED, "reduce_scatter: expected float32, found %s",
            dtype_name(parts.type));
    return c->ops.reduce_scatter(c, parts);
}

int collectives_all_gather(const collectives *c, collectives_parts parts) {
    return c->ops.all_gather(c, parts);
}

int collectives_broadcast(const collectives *c, view v, int root) {
    REQUIRE(root >= 0 && root < c->ranks, LCKV_ERROR_ARGUMENT, "broadcast: expected a root from 0 to %d, found %d",
            c->ranks - 1, root);
    return c->ops.broadcast(c, v, root);
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

int64_t collectives_share(const collectives *c, int64_t count, int64_t *first) {
    int64_t each = count / c->ranks, more = count % c->ranks;
    *first = each * c->rank + (c->rank < more ? c->rank : more);
    return each + (c->rank < more);
}

/* ---------------------------------------------------------------- launchers */

/* Number of ranks that the launcher started, from the variables that it sets: mpirun of Open MPI sets the first,
 * mpiexec of other MPIs and Slurm's PMI-1 and PMI-2 the second, Slurm's PMIx the third. 1: no launcher. 0: a launcher
 * that does not say. */
static int announced_ranks(void) {
    const char *size = getenv("OMPI_COMM_WORLD_SIZE");
    if (!size) size = getenv("PMI_SIZE");
    if (size) return atoi(size) > 1 ? atoi(size) : 1;
    return getenv("PMIX_NAMESPACE") ? 0 : 1;
}

int lckv_processes_open(lckv_processes **out) {
    int announced = announced_ranks();
    *out = NULL;
    if (announced == 1) return collectives_single_open(out);
#ifdef COLLECTIVES_MPI
    return collectives_mpi_open(announced, out);
#else
    return fail(LCKV_ERROR_UNSUPPORTED,
                "started as one of several processes, but this lckv was built without MPI: install Open MPI "
                "(libopenmpi-dev) and build again, or start it without mpirun or srun");
#endif
}

int lckv_processes_rank(const lckv_processes *processes) {
    return processes->rank;
}

int lckv_processes_count(const lckv_processes *processes) {
    return processes->ranks;
}

void lckv_processes_close(lckv_processes *processes) {
    if (processes) processes->ops.close(processes);
}
