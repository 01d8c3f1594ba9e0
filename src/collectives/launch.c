/* Reads what launchers set in the environment; see launch.h. */
#include "collectives/launch.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PORT = 65535, SLURM_FIRST_PORT = 15000, SLURM_PORTS = 15000 /* below the ports of outgoing connections */ };

/* ---------------------------------------------------------------- variables */

/* A variable that is set to nothing counts as absent. */
static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static int read_number(const char *name, long min, long max, long *out) {
    const char *text = variable(name);
    char *end;
    REQUIRE(text, LCKV_ERROR_ARGUMENT, "%s is not set; the launcher must set it", name);
    errno = 0;
    *out = strtol(text, &end, 10);
    REQUIRE(isdigit((unsigned char)*text) && !*end && !errno && *out >= min && *out <= max, LCKV_ERROR_ARGUMENT,
            "%s: expected a number from %ld to %ld, found \"%s\"", name, min, max, text);
    return LCKV_OK;
}

static int read_int(const char *name, long min, long max, int *out) {
    long value;
    TRY(read_number(name, min, max, &value));
    *out = (int)value;
    return LCKV_OK;
}

static int read_int_or(const char *name, long min, long max, int absent, int *out) {
    *out = absent;
    return variable(name) ? read_int(name, min, max, out) : LCKV_OK;
}

static int copy_host(const char *name, const char *host, char out[LAUNCH_HOST_BYTES]) {
    REQUIRE(strlen(host) < LAUNCH_HOST_BYTES, LCKV_ERROR_ARGUMENT, "%s: expected at most %d bytes, found %zu", name,
            LAUNCH_HOST_BYTES - 1, strlen(host));
    strcpy(out, host);
    return LCKV_OK;
}

static int read_rank(const char *rank, const char *ranks, launch *l) {
    TRY(read_int(ranks, 1, LAUNCH_MAX_RANKS, &l->ranks));
    TRY(read_int(rank, 0, LAUNCH_MAX_RANKS, &l->rank));
    REQUIRE(l->rank < l->ranks, LCKV_ERROR_ARGUMENT, "%s is %d, but %s is %d: expected a rank from 0 to %d", rank,
            l->rank, ranks, l->ranks, l->ranks - 1);
    return LCKV_OK;
}

static int read_local_rank(const char *name, launch *l) {
    TRY(read_int_or(name, 0, LAUNCH_MAX_RANKS, -1, &l->local_rank));
    REQUIRE(l->local_rank < l->ranks, LCKV_ERROR_ARGUMENT, "%s is %d, but there are %d processes", name, l->local_rank,
            l->ranks);
    return LCKV_OK;
}

static int read_master_port(launch *l) {
    TRY(read_int("MASTER_PORT", 1, MAX_PORT - 1, &l->port));
    l->port++;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- torchrun, accelerate, --num_processes */

static int read_sharing(launch *l) {
    TRY(read_int_or("LOCAL_WORLD_SIZE", 1, LAUNCH_MAX_RANKS, 1, &l->sharing));
    REQUIRE(!variable("LOCAL_WORLD_SIZE") || (l->sharing <= l->ranks && l->local_rank < l->sharing),
            LCKV_ERROR_ARGUMENT, "LOCAL_WORLD_SIZE is %d, but WORLD_SIZE is %d and LOCAL_RANK is %d", l->sharing,
            l->ranks, l->local_rank);
    return LCKV_OK;
}

static int read_torchrun(launch *l) {
    TRY(read_rank("RANK", "WORLD_SIZE", l));
    TRY(read_local_rank("LOCAL_RANK", l));
    TRY(read_sharing(l));
    if (l->ranks == 1) return LCKV_OK;
    l->kind = LAUNCH_TCP;
    const char *host = variable("MASTER_ADDR");
    REQUIRE(host, LCKV_ERROR_ARGUMENT,
            "MASTER_ADDR is not set; with RANK and WORLD_SIZE it is the host name or address of rank 0");
    TRY(copy_host("MASTER_ADDR", host, l->host));
    return read_master_port(l);
}

/* ---------------------------------------------------------------- Slurm */

bool launch_first_host(const char *list, char out[LAUNCH_HOST_BYTES]) {
    size_t used = 0;
    while (*list && *list != ',') {
        if (used == LAUNCH_HOST_BYTES - 1) return false;
        if (*list != '[') {
            out[used++] = *list++;
            continue;
        }
        for (list++; isdigit((unsigned char)*list) && used < LAUNCH_HOST_BYTES - 1; list++) out[used++] = *list;
        list = isdigit((unsigned char)*list) ? NULL : strchr(list, ']');
        if (!list) return false;
        list++;
    }
    out[used] = '\0';
    return used > 0 && !strchr(out, ']');
}

/* The batch script of sbatch has SLURM_PROCID and SLURM_NTASKS, too, but runs once. */
static bool in_slurm_step(void) {
    const char *environment = variable("ENVIRONMENT");
    bool batch = environment && !strcmp(environment, "BATCH") && !variable("SLURM_STEP_ID");
    return variable("SLURM_PROCID") && !batch;
}

/* The host where srun was started may be a login node, so it is the last choice. */
static int find_slurm_host(launch *l) {
    const char *host = variable("MASTER_ADDR"), *name = "SLURM_STEP_NODELIST";
    if (host) return copy_host("MASTER_ADDR", host, l->host);
    if (!variable(name)) name = "SLURM_JOB_NODELIST";
    const char *list = variable(name);
    if (list) {
        REQUIRE(launch_first_host(list, l->host), LCKV_ERROR_ARGUMENT,
                "%s: expected a list of hosts, found \"%.200s\"; set MASTER_ADDR to the host of rank 0", name, list);
        return LCKV_OK;
    }
    host = variable("SLURM_LAUNCH_NODE_IPADDR");
    REQUIRE(host, LCKV_ERROR_ARGUMENT,
            "started by Slurm as one of %d processes, but SLURM_JOB_NODELIST is not set; set MASTER_ADDR to the host "
            "of rank 0",
            l->ranks);
    return copy_host("SLURM_LAUNCH_NODE_IPADDR", host, l->host);
}

/* The same on all ranks, and another one for another step of the host. */
static int find_slurm_port(launch *l) {
    long job = 0, step = 0;
    if (variable("MASTER_PORT")) return read_master_port(l);
    if (variable("SLURM_JOB_ID")) TRY(read_number("SLURM_JOB_ID", 0, LONG_MAX, &job));
    if (variable("SLURM_STEP_ID")) TRY(read_number("SLURM_STEP_ID", 0, LONG_MAX, &step));
    l->port = SLURM_FIRST_PORT + (int)((job % SLURM_PORTS + 101 * (step % SLURM_PORTS)) % SLURM_PORTS);
    return LCKV_OK;
}

static int read_slurm(launch *l) {
    TRY(read_rank("SLURM_PROCID", variable("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS", l));
    TRY(read_local_rank("SLURM_LOCALID", l));
    if (variable("WORLD_SIZE")) {
        int announced;
        TRY(read_int("WORLD_SIZE", 1, LAUNCH_MAX_RANKS, &announced));
        REQUIRE(announced == l->ranks, LCKV_ERROR_ARGUMENT, "WORLD_SIZE is %d, but Slurm started %d processes",
                announced, l->ranks);
    }
    if (l->ranks == 1) return LCKV_OK;
    l->kind = LAUNCH_TCP;
    TRY(find_slurm_host(l));
    return find_slurm_port(l);
}

/* ---------------------------------------------------------------- MPI */

/* mpirun of Open MPI sets the first, mpiexec of other MPIs and Slurm's PMI-1 and PMI-2 the second, Slurm's PMIx the
 * third, without a number. */
static bool has_mpi_launcher(void) {
    return variable("OMPI_COMM_WORLD_SIZE") || variable("PMI_SIZE") || variable("PMIX_NAMESPACE");
}

static int read_mpi(launch *l) {
    const char *name = variable("OMPI_COMM_WORLD_SIZE") ? "OMPI_COMM_WORLD_SIZE" : "PMI_SIZE";
    l->ranks = 0;
    if (variable(name)) TRY(read_int(name, 1, LAUNCH_MAX_RANKS, &l->ranks));
    l->kind = l->ranks == 1 ? LAUNCH_ALONE : LAUNCH_MPI;
    return LCKV_OK;
}

int launch_read(launch *out) {
    *out = (launch){.kind = LAUNCH_ALONE, .ranks = 1, .local_rank = -1, .sharing = 1};
    if (variable("RANK")) return read_torchrun(out);
#ifdef COLLECTIVES_MPI
    if (has_mpi_launcher()) return read_mpi(out);
    if (in_slurm_step()) return read_slurm(out);
#else
    if (in_slurm_step()) return read_slurm(out);
    if (has_mpi_launcher()) return read_mpi(out);
#endif
    REQUIRE(!variable("WORLD_SIZE"), LCKV_ERROR_ARGUMENT,
            "WORLD_SIZE is \"%s\", but RANK is not set: the launcher must set both, or neither",
            variable("WORLD_SIZE"));
    return LCKV_OK;
}
