/* Sums over the processes of a launcher, each with its own GPU, as in a recorded step of tensor parallelism: through
 * peer memory where the GPUs have it, against NCCL. See perf_main.c. */
#include "collectives/collectives.h"
#include "perf.h"

#include <stdio.h>
#include <stdlib.h>

enum { SUMS = 64 /* per step */, STEPS = 10, ROUNDS = 20, WAYS = 2, SIZES = 5 };

static const int64_t BYTES[SIZES] = {4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20};

/* One way to add, and its time for each size. */
typedef struct way {
    const char *name, *setting; /* of LCKV_PEER_SUMS */
    collectives *ranks;
    device_program *step;
    double seconds[SIZES]; /* per sum */
} way;

static int record(device *d, view v, way *w) {
    TRY(collectives_all_reduce(w->ranks, v));
    TRY(d->memory.wait(d));
    TRY(d->recording.begin(d));
    int status = LCKV_OK;
    for (int i = 0; i < SUMS && status >= 0; i++) status = collectives_all_reduce(w->ranks, v);
    if (status >= 0) return d->recording.end(d, &w->step);
    d->recording.end(d, NULL);
    return status;
}

static int run(device *d, const way *w, double *seconds) {
    TRY(collectives_barrier(w->ranks));
    double begin = clock_seconds();
    for (int i = 0; i < STEPS; i++) {
        TRY(d->recording.replay(d, w->step));
        TRY(collectives_replayed(w->ranks));
    }
    TRY(d->memory.wait(d));
    *seconds = (clock_seconds() - begin) / (STEPS * SUMS);
    return LCKV_OK;
}

static int alternate(device *d, way *ways, int size) {
    double seconds[WAYS][ROUNDS];
    for (int r = 0; r < ROUNDS; r++)
        for (int i = 0; i < WAYS; i++) TRY(run(d, &ways[i], &seconds[i][r]));
    for (int i = 0; i < WAYS; i++) ways[i].seconds[size] = perf_median(seconds[i], ROUNDS);
    return LCKV_OK;
}

static int measure(device *d, way *ways, int size) {
    view v = {NULL, 1, BYTES[size] / 4, DTYPE_F32, NULL};
    int status = d->memory.alloc(d, view_bytes(v), &v.data);
    if (status >= 0) status = d->memory.zero(d, v.data, view_bytes(v));
    for (int i = 0; i < WAYS && status >= 0; i++) status = record(d, v, &ways[i]);
    if (status >= 0) status = alternate(d, ways, size);
    for (int i = 0; i < WAYS; i++) {
        d->recording.release(d, ways[i].step);
        ways[i].step = NULL;
    }
    d->memory.release(d, v.data);
    return status;
}

static void print(const device *d, const way *ways) {
    int ranks = ways->ranks->ranks;
    printf("{\"bench\": \"sums\", \"device\": \"%s\", \"processes\": %d", d->name, ranks);
    for (int i = 0; i < SIZES; i++)
        printf(", \"%lld\": {\"%s_us\": %.2f, \"%s_us\": %.2f}", (long long)BYTES[i], ways[0].name,
               1e6 * ways[0].seconds[i], ways[1].name, 1e6 * ways[1].seconds[i]);
    printf("}\n");
}

static int compare(const collectives *host, device *d) {
    way ways[WAYS] = {{.name = "peer", .setting = "1"}, {.name = "nccl", .setting = "0"}};
    int status = LCKV_OK;
    for (int i = 0; i < WAYS && status >= 0; i++) {
        setenv("LCKV_PEER_SUMS", ways[i].setting, 1);
        status = collectives_on_device(host, d, &ways[i].ranks);
    }
    if (status >= 0 && (!ways[0].ranks || !d->recording.begin))
        status = fail(LCKV_ERROR_ARGUMENT, "sums: expected several processes (RANK, WORLD_SIZE) and device cuda");
    for (int i = 0; i < SIZES && status >= 0; i++) status = measure(d, ways, i);
    if (status >= 0 && host->rank == 0) print(d, ways);
    for (int i = 0; i < WAYS; i++) collectives_close(ways[i].ranks);
    return status;
}

int perf_sums(const perf_options *o) {
    lckv_processes *host;
    device *d = NULL;
    TRY(lckv_processes_open(120, &host));
    int status = collectives_agree(host, collectives_device_open(host, o->device, o->threads, &d));
    if (status >= 0) status = compare(host, d);
    device_close(d);
    lckv_processes_close(host);
    return status;
}
