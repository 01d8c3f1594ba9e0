/* The MPI transport of the collectives on host memory (collectives/host.h).
 *
 * MPI is initialized once per process, by the first collectives_mpi_open(), and finalized by its close. One thread at a
 * time uses it: a server runs its model in another thread than the one that opened it. */
#include "collectives/host.h"

#include "base/clock.h"

#include <mpi.h>
#include <stdlib.h>
#include <time.h>

static const double AWAKE_SECONDS = 1; /* of waiting, before a rank sleeps in between */

typedef struct mpi_state {
    host_transport host;
    MPI_Request *requests; /* [2 * ranks] */
    bool broken;           /* MPI has failed, so that a common MPI_Finalize could wait forever */
} mpi_state;

static int check(const collectives *c, int code) {
    char text[MPI_MAX_ERROR_STRING];
    int length;
    mpi_state *state = c->own;
    if (code == MPI_SUCCESS) return LCKV_OK;
    state->broken = true;
    MPI_Error_string(code, text, &length);
    return fail(LCKV_ERROR_DEVICE, "process %d of %d: MPI: %.*s", c->rank, c->ranks, length, text);
}

#define MPI_TRY(c, call) TRY(check((c), (call)))

static int exchange(const collectives *c, const host_transfer *with) {
    mpi_state *state = c->own;
    int pending = 0;
    REQUIRE(!state->broken, LCKV_ERROR_DEVICE, "process %d of %d: MPI has failed, or this process has given up",
            c->rank, c->ranks);
    for (int r = 0; r < c->ranks; r++) {
        if (r == c->rank) continue;
        if (with[r].receive_bytes)
            MPI_TRY(c, MPI_Irecv(with[r].receive, with[r].receive_bytes, MPI_BYTE, r, 0, MPI_COMM_WORLD,
                                 &state->requests[pending++]));
        if (with[r].send_bytes)
            MPI_TRY(c, MPI_Isend(with[r].send, with[r].send_bytes, MPI_BYTE, r, 0, MPI_COMM_WORLD,
                                 &state->requests[pending++]));
    }
    return check(c, MPI_Waitall(pending, state->requests, MPI_STATUSES_IGNORE));
}

/* MPI_Probe would occupy a processor while there is nothing to do. */
static int await(const collectives *c) {
    const struct timespec pause = {.tv_nsec = 1000000};
    const double sleepy = clock_seconds() + AWAKE_SECONDS;
    for (int begun = c->rank == 0; !begun;) {
        MPI_TRY(c, MPI_Iprobe(0, 0, MPI_COMM_WORLD, &begun, MPI_STATUS_IGNORE));
        if (!begun && clock_seconds() > sleepy) nanosleep(&pause, NULL);
    }
    return LCKV_OK;
}

static void give_up(const collectives *c) {
    mpi_state *state = c->own;
    state->broken = true;
}

/* ---------------------------------------------------------------- opening and closing */

static void release(collectives *c) {
    mpi_state *state = c->own;
    if (state) {
        host_free(&state->host);
        free(state->requests);
    }
    free(state);
    free(c);
}

/* MPI_Finalize waits for all ranks. After a failure of MPI itself it could wait forever: then the process exits without
 * it, and mpirun ends the others. */
static void close_mpi(collectives *c) {
    const mpi_state *state = c->own;
    if (!state->broken && c->ops.barrier(c) >= 0) MPI_Finalize();
    release(c);
}

/* The ranks of this host count from 0. */
static int find_local_rank(collectives *c) {
    MPI_Comm here;
    MPI_TRY(c, MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &here));
    MPI_TRY(c, MPI_Comm_rank(here, &c->local_rank));
    return check(c, MPI_Comm_free(&here));
}

static int fill(collectives *c) {
    mpi_state *state = c->own;
    state->requests = malloc(2 * (size_t)c->ranks * sizeof(MPI_Request));
    REQUIRE(state->requests, LCKV_ERROR_MEMORY, "no memory for the collectives of %d processes", c->ranks);
    TRY(host_fill(c));
    c->ops.await = await;
    c->ops.give_up = give_up;
    c->ops.close = close_mpi;
    return find_local_rank(c);
}

static int make(collectives **out) {
    *out = NULL;
    collectives *c = calloc(1, sizeof *c);
    mpi_state *state = c ? c->own = calloc(1, sizeof *state) : NULL;
    if (!state) {
        free(c);
        return fail(LCKV_ERROR_MEMORY, "no memory for the collectives of several processes");
    }
    MPI_Comm_rank(MPI_COMM_WORLD, &c->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &c->ranks);
    state->host.exchange = exchange;
    int status = fill(c);
    if (status < 0)
        release(c);
    else
        *out = c;
    return status;
}

static int initialize_mpi(void) {
    int initialized, provided;
    MPI_Initialized(&initialized);
    REQUIRE(!initialized, LCKV_ERROR_ARGUMENT, "this process has initialized MPI before; lckv can do so once");
    int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided);
    REQUIRE(code == MPI_SUCCESS, LCKV_ERROR_DEVICE, "MPI_Init_thread failed with code %d", code);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    return LCKV_OK;
}

int collectives_mpi_open(int announced, collectives **out) {
    *out = NULL;
    TRY(initialize_mpi());
    TRY(make(out));
    int ranks = (*out)->ranks;
    if (announced == 0 || announced == ranks) return LCKV_OK;
    close_mpi(*out);
    *out = NULL;
    return fail(LCKV_ERROR_DEVICE,
                "the launcher started %d processes, but MPI finds %d: use the mpirun of the MPI that lckv was built "
                "with",
                announced, ranks);
}
