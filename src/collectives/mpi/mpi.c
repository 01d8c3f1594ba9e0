/* The MPI transport of the collectives on host memory (collectives/host.h).
 *
 * MPI is initialized once per process, by the first collectives_mpi_open(), and finalized by its close. One thread at a
 * time uses it: a server runs its model in another thread than the one that opened it. */
#include "collectives/host.h"

#include "base/clock.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const double AWAKE_SECONDS = 0.0001, LONGEST_PAUSE = 0.001; /* of a rank that waits */

enum { DATA_TAG, NOTICE_TAG, REASON_BYTES = 512 };

typedef struct mpi_state {
    host_transport host;
    MPI_Request *requests;     /* [1 + 2 * ranks]: the notice of a rank that gives up, then data */
    int *completed;            /* the same number */
    char reason[REASON_BYTES]; /* receives the notice */
    bool broken; /* MPI has failed, or a rank has given up, so that a common MPI_Finalize could wait forever */
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

static int end_of_all(const collectives *c) {
    mpi_state *state = c->own;
    state->broken = true;
    return fail(LCKV_ERROR_DEVICE, "%.*s", REASON_BYTES - 1, state->reason);
}

/* MPI's functions that wait occupy a processor, also for the minutes in which rank 0 encodes data, and on a busy
 * machine they keep it from the rank that they wait for. Therefore, a rank sleeps between two tests for a small part of
 * the time that it has waited since `begin`. */
static void rest(double begin) {
    double waited = clock_seconds() - begin, pause = waited / 16;
    if (waited < AWAKE_SECONDS) return;
    nanosleep(&(struct timespec){.tv_nsec = (long)(1e9 * (pause < LONGEST_PAUSE ? pause : LONGEST_PAUSE))}, NULL);
}

/* Waits for the requests of an exchange, or for the notice of a rank. */
static int wait_for(const collectives *c, int pending) {
    mpi_state *state = c->own;
    double begin = clock_seconds();
    for (int count; pending > 0; pending -= count) {
        MPI_TRY(c, MPI_Testsome(1 + 2 * c->ranks, state->requests, &count, state->completed, MPI_STATUSES_IGNORE));
        for (int i = 0; i < count; i++)
            if (state->completed[i] == 0) return end_of_all(c);
        if (!count) rest(begin);
    }
    return LCKV_OK;
}

static int exchange(const collectives *c, const host_transfer *with) {
    mpi_state *state = c->own;
    MPI_Request *data = state->requests + 1;
    int pending = 0;
    REQUIRE(!state->broken, LCKV_ERROR_DEVICE, "%s", state->reason);
    for (int r = 0; r < c->ranks; r++) {
        if (r == c->rank) continue;
        if (with[r].receive_bytes)
            MPI_TRY(c, MPI_Irecv(with[r].receive, with[r].receive_bytes, MPI_BYTE, r, DATA_TAG, MPI_COMM_WORLD,
                                 &data[pending++]));
        if (with[r].send_bytes)
            MPI_TRY(c, MPI_Isend(with[r].send, with[r].send_bytes, MPI_BYTE, r, DATA_TAG, MPI_COMM_WORLD,
                                 &data[pending++]));
    }
    return wait_for(c, pending);
}

/* A notice is short enough to be sent without waiting for its receiver. */
static void give_up(const collectives *c) {
    mpi_state *state = c->own;
    char notice[REASON_BYTES] = "";
    if (state->broken) return;
    state->broken = true;
    snprintf(state->reason, sizeof state->reason, "%s", lckv_last_error());
    int prefix = snprintf(notice, sizeof notice, "process %d of %d: ", c->rank, c->ranks);
    snprintf(notice + prefix, sizeof notice - (size_t)prefix, "%s", lckv_last_error());
    for (int r = 0; r < c->ranks; r++)
        if (r != c->rank) MPI_Send(notice, REASON_BYTES, MPI_CHAR, r, NOTICE_TAG, MPI_COMM_WORLD);
}

static int await(const collectives *c) {
    mpi_state *state = c->own;
    double begin = clock_seconds();
    REQUIRE(!state->broken, LCKV_ERROR_DEVICE, "%s", state->reason);
    for (int begun = c->rank == 0, given_up = 0; !begun;) {
        MPI_TRY(c, MPI_Iprobe(0, DATA_TAG, MPI_COMM_WORLD, &begun, MPI_STATUS_IGNORE));
        if (!begun) MPI_TRY(c, MPI_Test(&state->requests[0], &given_up, MPI_STATUS_IGNORE));
        if (given_up) return end_of_all(c);
        if (!begun) rest(begin);
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- opening and closing */

static void release(collectives *c) {
    mpi_state *state = c->own;
    if (state) {
        host_free(&state->host);
        free(state->requests);
        free(state->completed);
    }
    free(state);
    free(c);
}

/* MPI_Finalize waits for all ranks. After a failure of MPI itself it could wait forever: then the process exits without
 * it, and mpirun ends the others. */
static void close_mpi(collectives *c) {
    mpi_state *state = c->own;
    if (!state->broken && c->ops.barrier(c) >= 0) {
        MPI_Cancel(&state->requests[0]);
        MPI_Wait(&state->requests[0], MPI_STATUS_IGNORE);
        MPI_Finalize();
    }
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
    size_t requests = 1 + 2 * (size_t)c->ranks;
    state->requests = malloc(requests * sizeof *state->requests);
    state->completed = malloc(requests * sizeof *state->completed);
    for (size_t i = 0; state->requests && i < requests; i++) state->requests[i] = MPI_REQUEST_NULL;
    REQUIRE(state->requests && state->completed, LCKV_ERROR_MEMORY, "no memory for the collectives of %d processes",
            c->ranks);
    TRY(host_fill(c));
    c->ops.await = await;
    c->ops.give_up = give_up;
    c->ops.close = close_mpi;
    TRY(find_local_rank(c));
    return check(c, MPI_Irecv(state->reason, REASON_BYTES, MPI_CHAR, MPI_ANY_SOURCE, NOTICE_TAG, MPI_COMM_WORLD,
                              &state->requests[0]));
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
