/* What the launcher of this process has set in its environment: rank, number of ranks, and where to meet.
 *
 *   launcher                         variables
 *   torchrun, accelerate,            RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT
 *   lckv train --num_processes
 *   mpirun, mpiexec, srun with PMI   OMPI_COMM_WORLD_SIZE, PMI_SIZE, PMIX_NAMESPACE: MPI does the rest
 *   srun                             SLURM_PROCID, SLURM_STEP_NUM_TASKS or SLURM_NTASKS, SLURM_LOCALID, and the first
 *                                    host of SLURM_STEP_NODELIST or SLURM_JOB_NODELIST, or SLURM_LAUNCH_NODE_IPADDR
 *
 * The first row that is there counts; without MPI, srun comes before the row of MPI. Rank 0 listens at MASTER_PORT + 1,
 * because torchrun's agent may have a store of its own at MASTER_PORT (TORCHELASTIC_USE_AGENT_STORE). Under srun,
 * MASTER_ADDR and MASTER_PORT are optional: the port then follows from the numbers of the job and the step.
 *
 * Leaves out: starting processes (cli/start_processes.h). */
#ifndef COLLECTIVES_LAUNCH_H
#define COLLECTIVES_LAUNCH_H

#include "base/status.h"

enum { LAUNCH_MAX_RANKS = 1 << 20, LAUNCH_HOST_BYTES = 256 };

typedef enum launch_kind {
    LAUNCH_ALONE,
    LAUNCH_TCP, /* the ranks meet at host:port */
    LAUNCH_MPI, /* MPI knows the rank */
} launch_kind;

typedef struct launch {
    launch_kind kind;
    int ranks;      /* 1 if alone; 0 if MPI's launcher does not say */
    int rank;       /* not of LAUNCH_MPI */
    int local_rank; /* among the ranks of this host; -1: unknown */
    /* Number of ranks on this host that share its processors. 1 if the launcher gives each rank processors of its own,
     * as srun and mpirun do. */
    int sharing;
    char host[LAUNCH_HOST_BYTES]; /* of rank 0: a name or an address */
    int port;                     /* at which rank 0 listens */
} launch;

/* Reads the environment. Fails with LCKV_ERROR_ARGUMENT if variables are missing, malformed or contradictory. */
int launch_read(launch *out);

/* Copies the first host of a Slurm list of hosts ("gpu[003-005,9]-ib,login1": gpu003-ib). Returns false if the list is
 * empty, malformed, or the name is longer than LAUNCH_HOST_BYTES - 1. */
bool launch_first_host(const char *list, char out[LAUNCH_HOST_BYTES]);

#endif
