/* The exchange through MPI, see collectives.h: in host memory, in the order of ranks whatever MPI's own sums would do.
 *
 * MPI belongs to the process and not to a handle: it is begun once, by the first exchange, and ended with it. */
#include "collectives/collectives.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK = 1 << 16, /* elements of a part that are under way at a time, of each process */
    MOST_BYTES = 1 << 30,
    MESSAGE_BYTES = 1024,
};

typedef struct joined {
    float *received;       /* [ranks, CHUNK]: what each process has for a chunk of this one's part */
    MPI_Request *requests; /* [2 * ranks] */
    bool broken;           /* MPI has failed: there is no ending it together */
} joined;

static int check(const collectives *e, int code) {
    char text[MPI_MAX_ERROR_STRING];
    int length;
    joined *j = e->own;
    if (code == MPI_SUCCESS) return LCKV_OK;
    j->broken = true;
    MPI_Error_string(code, text, &length);
    return fail(LCKV_ERROR_DEVICE, "process %d of %d: MPI: %.*s", e->rank, e->ranks, length, text);
}

#define MPI_TRY(e, call) TRY(check((e), (call)))

/* ---------------------------------------------------------------- sums */

static void add_f64(double *sum, const double *values, int64_t count) {
    for (int64_t i = 0; i < count; i++) sum[i] += values[i];
}

static void add_f32(float *restrict sum, const float *restrict values, int64_t count) {
    for (int64_t i = 0; i < count; i++) sum[i] += values[i];
}

/* Everybody gets what everybody has, and adds it up. */
static int sum(const collectives *e, view v) {
    joined *j = e->own;
    int64_t count = v.rows * v.cols;
    size_t bytes = view_bytes(v);
    REQUIRE(bytes <= CHUNK * sizeof(float), LCKV_ERROR_ARGUMENT, "a sum of %lld numbers is too long", (long long)count);
    MPI_TRY(e, MPI_Allgather(v.data, (int)bytes, MPI_BYTE, j->received, (int)bytes, MPI_BYTE, MPI_COMM_WORLD));
    memcpy(v.data, j->received, bytes);
    for (int r = 1; r < e->ranks; r++) {
        const char *theirs = (const char *)j->received + (size_t)r * bytes;
        if (v.type == DTYPE_F64)
            add_f64(v.data, (const double *)(const void *)theirs, count);
        else
            add_f32(v.data, (const float *)(const void *)theirs, count);
    }
    return LCKV_OK;
}

/* Elements of chunk number `chunk` of the part of process r. */
static int chunk_of(collectives_parts p, int r, int64_t chunk, float **at) {
    int64_t first = p.begin[r] + chunk * CHUNK, left = p.begin[r + 1] - first;
    *at = (float *)p.data + first;
    return (int)(left < 0 ? 0 : left < CHUNK ? left : CHUNK);
}

/* Sends each other process what is here of its part, and receives what they have of this one's. */
static int swap_chunk(const collectives *e, collectives_parts p, int64_t chunk) {
    joined *j = e->own;
    float *mine, *theirs;
    int here = chunk_of(p, e->rank, chunk, &mine), under_way = 0;
    for (int r = 0; r < e->ranks; r++) {
        if (r == e->rank) continue;
        int there = chunk_of(p, r, chunk, &theirs);
        MPI_TRY(e, MPI_Irecv(j->received + (size_t)r * CHUNK, here, MPI_FLOAT, r, 0, MPI_COMM_WORLD,
                             &j->requests[under_way++]));
        MPI_TRY(e, MPI_Isend(theirs, there, MPI_FLOAT, r, 0, MPI_COMM_WORLD, &j->requests[under_way++]));
    }
    return check(e, MPI_Waitall(under_way, j->requests, MPI_STATUSES_IGNORE));
}

static void add_chunk(const collectives *e, collectives_parts p, int64_t chunk) {
    joined *j = e->own;
    float *mine, *own = j->received + (size_t)e->rank * CHUNK;
    int count = chunk_of(p, e->rank, chunk, &mine);
    memcpy(own, mine, (size_t)count * sizeof *mine);
    memcpy(mine, j->received, (size_t)count * sizeof *mine);
    for (int r = 1; r < e->ranks; r++) add_f32(mine, j->received + (size_t)r * CHUNK, count);
}

static int64_t longest_part(const collectives *e, collectives_parts p) {
    int64_t most = 0;
    for (int r = 0; r < e->ranks; r++)
        if (p.begin[r + 1] - p.begin[r] > most) most = p.begin[r + 1] - p.begin[r];
    return most;
}

static int sum_parts(const collectives *e, collectives_parts p) {
    int64_t chunks = (longest_part(e, p) + CHUNK - 1) / CHUNK;
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        TRY(swap_chunk(e, p, chunk));
        add_chunk(e, p, chunk);
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- copies */

/* MPI counts in int: longer copies go in pieces. */
static int piece_bytes(int64_t left) {
    return (int)(left < MOST_BYTES ? left : MOST_BYTES);
}

static int copy_from(const collectives *e, int owner, char *data, int64_t bytes) {
    for (int64_t done = 0; done < bytes; done += MOST_BYTES)
        MPI_TRY(e, MPI_Bcast(data + done, piece_bytes(bytes - done), MPI_BYTE, owner, MPI_COMM_WORLD));
    return LCKV_OK;
}

static int gather_parts(const collectives *e, collectives_parts p) {
    int64_t size = (int64_t)dtype_bytes(p.type);
    for (int r = 0; r < e->ranks; r++)
        TRY(copy_from(e, r, (char *)p.data + p.begin[r] * size, (p.begin[r + 1] - p.begin[r]) * size));
    return LCKV_OK;
}

static int broadcast(const collectives *e, void *host, size_t bytes) {
    return copy_from(e, 0, host, (int64_t)bytes);
}

static int send(const collectives *e, const char *data, int64_t bytes) {
    for (int64_t done = 0; done < bytes; done += MOST_BYTES)
        MPI_TRY(e, MPI_Send(data + done, piece_bytes(bytes - done), MPI_BYTE, 0, 0, MPI_COMM_WORLD));
    return LCKV_OK;
}

static int receive(const collectives *e, int sender, char *data, int64_t bytes) {
    for (int64_t done = 0; done < bytes; done += MOST_BYTES)
        MPI_TRY(e, MPI_Recv(data + done, piece_bytes(bytes - done), MPI_BYTE, sender, 0, MPI_COMM_WORLD,
                            MPI_STATUS_IGNORE));
    return LCKV_OK;
}

static int collect(const collectives *e, const void *mine, const int64_t *counts, void *all) {
    if (e->rank) return send(e, mine, counts[e->rank]);
    char *at = all;
    if (counts[0]) memcpy(at, mine, (size_t)counts[0]);
    for (int r = 1; r < e->ranks; r++) {
        at += counts[r - 1];
        TRY(receive(e, r, at, counts[r]));
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- failures */

/* What became of a process, worst first: MPI_MINLOC finds the worst and the lowest rank that has it. */
enum { FAILED = -2, INTERRUPTED = -1, FINE = 0 };

/* A failure on its way to the others. */
typedef struct verdict {
    int status;
    char message[MESSAGE_BYTES];
} verdict;

static int agree(const collectives *e, int status) {
    struct {
        int state, rank;
    } mine = {status >= 0 ? FINE : status == LCKV_ERROR_INTERRUPTED ? INTERRUPTED : FAILED, e->rank}, worst;
    verdict v = {.status = status};
    MPI_TRY(e, MPI_Allreduce(&mine, &worst, 1, MPI_2INT, MPI_MINLOC, MPI_COMM_WORLD));
    if (worst.state == FINE) return status;
    if (e->rank == worst.rank) snprintf(v.message, sizeof v.message, "%s", lckv_last_error());
    MPI_TRY(e, MPI_Bcast(&v, sizeof v, MPI_BYTE, worst.rank, MPI_COMM_WORLD));
    if (e->rank == worst.rank) return status;
    if (v.status == LCKV_ERROR_INTERRUPTED) return fail(v.status, "%s", v.message);
    return fail(v.status, "process %d of %d: %s", worst.rank, e->ranks, v.message);
}

/* ---------------------------------------------------------------- joining and leaving */

static void release(collectives *e) {
    joined *j = e->own;
    if (j) {
        free(j->received);
        free(j->requests);
    }
    free(j);
    free(e);
}

/* Ending MPI waits for all. After a failure of MPI itself that could be for ever: then it is left to mpirun, which ends
 * the others when a process goes without having ended MPI. */
static void leave(collectives *e) {
    const joined *j = e->own;
    if (!j->broken && MPI_Barrier(MPI_COMM_WORLD) == MPI_SUCCESS) MPI_Finalize();
    release(e);
}

static int make(collectives **out) {
    *out = NULL;
    collectives *e = calloc(1, sizeof *e);
    joined *j = e ? e->own = calloc(1, sizeof *j) : NULL;
    if (j) {
        MPI_Comm_rank(MPI_COMM_WORLD, &e->rank);
        MPI_Comm_size(MPI_COMM_WORLD, &e->ranks);
        j->received = malloc((size_t)e->ranks * CHUNK * sizeof *j->received);
        j->requests = malloc(2 * (size_t)e->ranks * sizeof(MPI_Request));
    }
    if (!j || !j->received || !j->requests) {
        if (e) release(e);
        return fail(LCKV_ERROR_MEMORY, "no memory to exchange gradients");
    }
    e->host_memory = true;
    e->sum = sum;
    e->sum_parts = sum_parts;
    e->gather_parts = gather_parts;
    e->collect = collect;
    e->broadcast = broadcast;
    e->agree = agree;
    e->close = leave;
    *out = e;
    return LCKV_OK;
}

static int begin_mpi(void) {
    int begun, provided;
    MPI_Initialized(&begun);
    REQUIRE(!begun, LCKV_ERROR_ARGUMENT, "this process has begun MPI before: it may join other processes once");
    int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
    REQUIRE(code == MPI_SUCCESS, LCKV_ERROR_DEVICE, "MPI could not be begun (MPI_Init: %d)", code);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    return LCKV_OK;
}

int collectives_mpi_open(int announced, collectives **out) {
    *out = NULL;
    TRY(begin_mpi());
    TRY(make(out));
    int ranks = (*out)->ranks;
    if (announced == 0 || announced == ranks) return LCKV_OK;
    leave(*out);
    *out = NULL;
    return fail(LCKV_ERROR_DEVICE,
                "started as one of %d processes, of which MPI finds %d: mpirun is not of the MPI that lckv was built "
                "with",
                announced, ranks);
}
