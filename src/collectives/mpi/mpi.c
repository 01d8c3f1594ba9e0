/* Collectives over MPI, on host memory. Sums are added here, in the order of ranks, because MPI leaves the order of its
 * own reductions to the implementation.
 *
 * MPI is initialized once per process, by the first collectives_mpi_open(), and finalized by its close. */
#include "collectives/collectives.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK = COLLECTIVES_MAX_REDUCE / (int)sizeof(float), /* elements per rank and transfer of a reduction */
    MAX_TRANSFER_BYTES = 1 << 30,                        /* MPI counts bytes in an int */
    MESSAGE_BYTES = 1024,
};

typedef struct mpi_state {
    float *received;       /* [ranks, CHUNK]: one chunk from each rank */
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

/* ---------------------------------------------------------------- sums */

static void add_f64(double *sum, const double *values, int64_t count) {
    for (int64_t i = 0; i < count; i++) sum[i] += values[i];
}

static void add_f32(float *restrict sum, const float *restrict values, int64_t count) {
    for (int64_t i = 0; i < count; i++) sum[i] += values[i];
}

static int all_reduce(const collectives *c, view v) {
    mpi_state *state = c->own;
    int64_t count = v.rows * v.cols;
    size_t bytes = view_bytes(v);
    MPI_TRY(c, MPI_Allgather(v.data, (int)bytes, MPI_BYTE, state->received, (int)bytes, MPI_BYTE, MPI_COMM_WORLD));
    memcpy(v.data, state->received, bytes);
    for (int r = 1; r < c->ranks; r++) {
        const char *theirs = (const char *)state->received + (size_t)r * bytes;
        if (v.type == DTYPE_F64)
            add_f64(v.data, (const double *)(const void *)theirs, count);
        else
            add_f32(v.data, (const float *)(const void *)theirs, count);
    }
    return LCKV_OK;
}

/* Elements of chunk `chunk` of the part of rank r. */
static int chunk_of(collectives_parts p, int r, int64_t chunk, float **at) {
    int64_t first = p.begin[r] + chunk * CHUNK, left = p.begin[r + 1] - first;
    *at = (float *)p.data + first;
    return (int)(left < 0 ? 0 : left < CHUNK ? left : CHUNK);
}

/* Sends every other rank the chunk of its part, and receives their values of the chunk of this rank's part. */
static int exchange_chunk(const collectives *c, collectives_parts p, int64_t chunk) {
    mpi_state *state = c->own;
    float *mine, *theirs;
    int here = chunk_of(p, c->rank, chunk, &mine), pending = 0;
    for (int r = 0; r < c->ranks; r++) {
        if (r == c->rank) continue;
        int there = chunk_of(p, r, chunk, &theirs);
        MPI_TRY(c, MPI_Irecv(state->received + (size_t)r * CHUNK, here, MPI_FLOAT, r, 0, MPI_COMM_WORLD,
                             &state->requests[pending++]));
        MPI_TRY(c, MPI_Isend(theirs, there, MPI_FLOAT, r, 0, MPI_COMM_WORLD, &state->requests[pending++]));
    }
    return check(c, MPI_Waitall(pending, state->requests, MPI_STATUSES_IGNORE));
}

static void add_chunk(const collectives *c, collectives_parts p, int64_t chunk) {
    mpi_state *state = c->own;
    float *mine, *own = state->received + (size_t)c->rank * CHUNK;
    int count = chunk_of(p, c->rank, chunk, &mine);
    memcpy(own, mine, (size_t)count * sizeof *mine);
    memcpy(mine, state->received, (size_t)count * sizeof *mine);
    for (int r = 1; r < c->ranks; r++) add_f32(mine, state->received + (size_t)r * CHUNK, count);
}

static int64_t longest_part(const collectives *c, collectives_parts p) {
    int64_t longest = 0;
    for (int r = 0; r < c->ranks; r++)
        if (p.begin[r + 1] - p.begin[r] > longest) longest = p.begin[r + 1] - p.begin[r];
    return longest;
}

static int reduce_scatter(const collectives *c, collectives_parts p) {
    int64_t chunks = (longest_part(c, p) + CHUNK - 1) / CHUNK;
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        TRY(exchange_chunk(c, p, chunk));
        add_chunk(c, p, chunk);
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- copies */

/* Bytes of the next transfer. */
static int transfer_bytes(int64_t left) {
    return (int)(left < MAX_TRANSFER_BYTES ? left : MAX_TRANSFER_BYTES);
}

static int broadcast_bytes(const collectives *c, int root, char *data, int64_t bytes) {
    for (int64_t done = 0; done < bytes; done += MAX_TRANSFER_BYTES)
        MPI_TRY(c, MPI_Bcast(data + done, transfer_bytes(bytes - done), MPI_BYTE, root, MPI_COMM_WORLD));
    return LCKV_OK;
}

static int all_gather(const collectives *c, collectives_parts p) {
    int64_t size = (int64_t)dtype_element_bytes(p.type);
    for (int r = 0; r < c->ranks; r++)
        TRY(broadcast_bytes(c, r, (char *)p.data + p.begin[r] * size, (p.begin[r + 1] - p.begin[r]) * size));
    return LCKV_OK;
}

static int broadcast(const collectives *c, view v, int root) {
    return broadcast_bytes(c, root, v.data, (int64_t)view_bytes(v));
}

static int broadcast_host(const collectives *c, void *host, size_t bytes) {
    return broadcast_bytes(c, 0, host, (int64_t)bytes);
}

static int barrier(const collectives *c) {
    return check(c, MPI_Barrier(MPI_COMM_WORLD));
}

static int send(const collectives *c, const char *data, int64_t bytes) {
    for (int64_t done = 0; done < bytes; done += MAX_TRANSFER_BYTES)
        MPI_TRY(c, MPI_Send(data + done, transfer_bytes(bytes - done), MPI_BYTE, 0, 0, MPI_COMM_WORLD));
    return LCKV_OK;
}

static int receive(const collectives *c, int sender, char *data, int64_t bytes) {
    for (int64_t done = 0; done < bytes; done += MAX_TRANSFER_BYTES)
        MPI_TRY(c, MPI_Recv(data + done, transfer_bytes(bytes - done), MPI_BYTE, sender, 0, MPI_COMM_WORLD,
                            MPI_STATUS_IGNORE));
    return LCKV_OK;
}

static int gather_host(const collectives *c, const void *mine, const int64_t *counts, void *all) {
    if (c->rank) return send(c, mine, counts[c->rank]);
    char *at = all;
    if (counts[0]) memcpy(at, mine, (size_t)counts[0]);
    for (int r = 1; r < c->ranks; r++) {
        at += counts[r - 1];
        TRY(receive(c, r, at, counts[r]));
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- failures */

/* State of a rank, the worst first, so that MPI_MINLOC finds the lowest rank with the worst state. */
enum { FAILED = -2, INTERRUPTED = -1, FINE = 0 };

/* The error of one rank, as it is sent to the others. */
typedef struct rank_error {
    int status;
    char message[MESSAGE_BYTES];
} rank_error;

static int agree(const collectives *c, int status) {
    struct {
        int state, rank;
    } mine = {status >= 0 ? FINE : status == LCKV_ERROR_INTERRUPTED ? INTERRUPTED : FAILED, c->rank}, worst;
    rank_error error = {.status = status};
    MPI_TRY(c, MPI_Allreduce(&mine, &worst, 1, MPI_2INT, MPI_MINLOC, MPI_COMM_WORLD));
    if (worst.state == FINE) return status;
    if (c->rank == worst.rank) snprintf(error.message, sizeof error.message, "%s", lckv_last_error());
    MPI_TRY(c, MPI_Bcast(&error, sizeof error, MPI_BYTE, worst.rank, MPI_COMM_WORLD));
    if (c->rank == worst.rank) return status;
    if (error.status == LCKV_ERROR_INTERRUPTED) return fail(error.status, "%s", error.message);
    return fail(error.status, "process %d of %d: %s", worst.rank, c->ranks, error.message);
}

/* ---------------------------------------------------------------- opening and closing */

static void release(collectives *c) {
    mpi_state *state = c->own;
    if (state) {
        free(state->received);
        free(state->requests);
    }
    free(state);
    free(c);
}

/* MPI_Finalize waits for all ranks. After a failure of MPI itself it could wait forever: then the process exits without
 * it, and mpirun ends the others. */
static void close_mpi(collectives *c) {
    const mpi_state *state = c->own;
    if (!state->broken && barrier(c) >= 0) MPI_Finalize();
    release(c);
}

static int make(collectives **out) {
    *out = NULL;
    collectives *c = calloc(1, sizeof *c);
    mpi_state *state = c ? c->own = calloc(1, sizeof *state) : NULL;
    if (state) {
        MPI_Comm_rank(MPI_COMM_WORLD, &c->rank);
        MPI_Comm_size(MPI_COMM_WORLD, &c->ranks);
        state->received = malloc((size_t)c->ranks * CHUNK * sizeof *state->received);
        state->requests = malloc(2 * (size_t)c->ranks * sizeof(MPI_Request));
    }
    if (!state || !state->received || !state->requests) {
        if (c) release(c);
        return fail(LCKV_ERROR_MEMORY, "no memory for the collectives of several processes");
    }
    c->host_memory = true;
    c->ops = (struct collectives_ops){.all_reduce = all_reduce,
                                      .reduce_scatter = reduce_scatter,
                                      .all_gather = all_gather,
                                      .broadcast = broadcast,
                                      .barrier = barrier,
                                      .gather_host = gather_host,
                                      .broadcast_host = broadcast_host,
                                      .agree = agree,
                                      .close = close_mpi};
    *out = c;
    return LCKV_OK;
}

static int initialize_mpi(void) {
    int initialized, provided;
    MPI_Initialized(&initialized);
    REQUIRE(!initialized, LCKV_ERROR_ARGUMENT, "this process has initialized MPI before; lckv can do so once");
    int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
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
