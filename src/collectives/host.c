/* Collectives on host memory; see host.h. Sums are added here, in the order of ranks. */
#include "collectives/host.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK = COLLECTIVES_MAX_REDUCE / (int)sizeof(float), /* elements per rank and exchange of a sum */
    SMALL_BROADCAST_BYTES = 1 << 16,                     /* the root sends these to each rank itself */
    MESSAGE_BYTES = 1024,
};

static host_transport *transport_of(const collectives *c) {
    return c->own;
}

/* The table of transfers of the next exchange, empty. */
static host_transfer *no_transfers(const collectives *c) {
    host_transfer *with = transport_of(c)->with;
    memset(with, 0, (size_t)c->ranks * sizeof *with);
    return with;
}

static int exchange(const collectives *c) {
    host_transport *t = transport_of(c);
    double begin = clock_seconds();
    int status = t->exchange(c, t->with);
    if (t->slot >= 0) t->waited[t->slot] += clock_seconds() - begin;
    return status;
}

/* ---------------------------------------------------------------- sums */

static void add_f64(double *sum, const double *values, int64_t count) {
    for (int64_t i = 0; i < count; i++) sum[i] += values[i];
}

static void add_f32(float *restrict sum, const float *restrict values, int64_t count) {
    for (int64_t i = 0; i < count; i++) sum[i] += values[i];
}

/* At most COLLECTIVES_MAX_REDUCE bytes. */
static int all_reduce_piece(const collectives *c, view v) {
    host_transfer *with = no_transfers(c);
    char *received = (char *)transport_of(c)->received;
    int64_t count = v.rows * v.cols;
    size_t bytes = view_bytes(v);
    for (int r = 0; r < c->ranks; r++)
        with[r] = (host_transfer){v.data, received + (size_t)r * bytes, (int)bytes, (int)bytes};
    TRY(exchange(c));
    memcpy(with[c->rank].receive, v.data, bytes);
    memcpy(v.data, received, bytes);
    for (int r = 1; r < c->ranks; r++) {
        if (v.type == DTYPE_F64)
            add_f64(v.data, with[r].receive, count);
        else
            add_f32(v.data, with[r].receive, count);
    }
    return LCKV_OK;
}

static int all_reduce(const collectives *c, view v) {
    int64_t left = v.rows * v.cols, most = COLLECTIVES_MAX_REDUCE / (int64_t)dtype_element_bytes(v.type);
    for (char *at = v.data; left > 0; left -= most, at += COLLECTIVES_MAX_REDUCE)
        TRY(all_reduce_piece(c, (view){at, 1, left < most ? left : most, v.type, NULL}));
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
    host_transfer *with = no_transfers(c);
    float *mine, *theirs;
    int here = chunk_of(p, c->rank, chunk, &mine);
    for (int r = 0; r < c->ranks; r++) {
        int there = chunk_of(p, r, chunk, &theirs);
        with[r] = (host_transfer){theirs, transport_of(c)->received + (size_t)r * CHUNK, there * (int)sizeof *theirs,
                                  here * (int)sizeof *mine};
    }
    return exchange(c);
}

static void add_chunk(const collectives *c, collectives_parts p, int64_t chunk) {
    float *mine, *received = transport_of(c)->received;
    int count = chunk_of(p, c->rank, chunk, &mine);
    memcpy(received + (size_t)c->rank * CHUNK, mine, (size_t)count * sizeof *mine);
    memcpy(mine, received, (size_t)count * sizeof *mine);
    for (int r = 1; r < c->ranks; r++) add_f32(mine, received + (size_t)r * CHUNK, count);
}

static int64_t longest_part(const collectives *c, const int64_t *begin) {
    int64_t longest = 0;
    for (int r = 0; r < c->ranks; r++)
        if (begin[r + 1] - begin[r] > longest) longest = begin[r + 1] - begin[r];
    return longest;
}

static int reduce_scatter(const collectives *c, collectives_parts p) {
    int64_t chunks = (longest_part(c, p.begin) + CHUNK - 1) / CHUNK;
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        TRY(exchange_chunk(c, p, chunk));
        add_chunk(c, p, chunk);
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- copies */

/* Bytes of the next transfer if `left` bytes remain. */
static int next_bytes(int64_t left) {
    return (int)(left < 0 ? 0 : left < HOST_MAX_TRANSFER_BYTES ? left : HOST_MAX_TRANSFER_BYTES);
}

/* Every rank receives bytes begin[r] .. begin[r + 1] - 1 of `data` from each rank r. */
static int gather_bytes(const collectives *c, char *data, int64_t size, const int64_t *begin) {
    int64_t longest = longest_part(c, begin) * size;
    for (int64_t done = 0; done < longest; done += HOST_MAX_TRANSFER_BYTES) {
        host_transfer *with = no_transfers(c);
        char *mine = data + begin[c->rank] * size + done;
        int here = next_bytes((begin[c->rank + 1] - begin[c->rank]) * size - done);
        for (int r = 0; r < c->ranks; r++)
            with[r] = (host_transfer){mine, data + begin[r] * size + done, here,
                                      next_bytes((begin[r + 1] - begin[r]) * size - done)};
        TRY(exchange(c));
    }
    return LCKV_OK;
}

static int all_gather(const collectives *c, collectives_parts p) {
    return gather_bytes(c, p.data, (int64_t)dtype_element_bytes(p.type), p.begin);
}

static int broadcast_small(const collectives *c, int root, char *data, int bytes) {
    host_transfer *with = no_transfers(c);
    for (int r = 0; r < c->ranks && c->rank == root; r++) with[r] = (host_transfer){data, NULL, bytes, 0};
    if (c->rank != root) with[root] = (host_transfer){NULL, data, 0, bytes};
    return exchange(c);
}

/* The root sends each rank an equal part; then every rank gathers the parts. The root sends about twice the data,
 * whatever the number of ranks. At most HOST_MAX_TRANSFER_BYTES. */
static int broadcast_large(const collectives *c, int root, char *data, int bytes) {
    int64_t *begin = transport_of(c)->begin;
    for (int r = 0; r <= c->ranks; r++) begin[r] = (int64_t)bytes * r / c->ranks;
    host_transfer *with = no_transfers(c);
    for (int r = 0; r < c->ranks && c->rank == root; r++)
        with[r] = (host_transfer){data + begin[r], NULL, (int)(begin[r + 1] - begin[r]), 0};
    if (c->rank != root)
        with[root] = (host_transfer){NULL, data + begin[c->rank], 0, (int)(begin[c->rank + 1] - begin[c->rank])};
    TRY(exchange(c));
    return gather_bytes(c, data, 1, begin);
}

static int broadcast_bytes(const collectives *c, int root, char *data, int64_t bytes) {
    if (bytes <= SMALL_BROADCAST_BYTES) return broadcast_small(c, root, data, (int)bytes);
    for (int64_t done = 0; done < bytes; done += HOST_MAX_TRANSFER_BYTES)
        TRY(broadcast_large(c, root, data + done, next_bytes(bytes - done)));
    return LCKV_OK;
}

static int broadcast(const collectives *c, view v, int root) {
    return broadcast_bytes(c, root, v.data, (int64_t)view_bytes(v));
}

static int broadcast_host(const collectives *c, void *host, size_t bytes) {
    return broadcast_bytes(c, 0, host, (int64_t)bytes);
}

static int send_to_first(const collectives *c, const char *mine, int64_t bytes) {
    for (int64_t done = 0; done < bytes; done += HOST_MAX_TRANSFER_BYTES) {
        no_transfers(c)[0] = (host_transfer){mine + done, NULL, next_bytes(bytes - done), 0};
        TRY(exchange(c));
    }
    return LCKV_OK;
}

static int gather_host(const collectives *c, const void *mine, const int64_t *counts, void *all) {
    if (c->rank) return send_to_first(c, mine, counts[c->rank]);
    int64_t longest = 0;
    for (int r = 1; r < c->ranks; r++) longest = counts[r] > longest ? counts[r] : longest;
    if (counts[0]) memcpy(all, mine, (size_t)counts[0]);
    for (int64_t done = 0; done < longest; done += HOST_MAX_TRANSFER_BYTES) {
        host_transfer *with = no_transfers(c);
        char *at = all;
        for (int r = 1; r < c->ranks; r++) {
            at += counts[r - 1];
            with[r] = (host_transfer){NULL, at + done, 0, next_bytes(counts[r] - done)};
        }
        TRY(exchange(c));
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- barrier and agreement */

/* Every rank receives the number of each rank, from that rank itself. With a tree there would be fewer messages, but a
 * rank could wait for one that itself waits for a third, and could not say which of them hangs. */
static int exchange_states(const collectives *c, int32_t mine) {
    host_transfer *with = no_transfers(c);
    int32_t *states = transport_of(c)->states;
    states[c->rank] = mine;
    for (int r = 0; r < c->ranks; r++)
        with[r] = (host_transfer){&states[c->rank], &states[r], sizeof *states, sizeof *states};
    return exchange(c);
}

static int barrier(const collectives *c) {
    return exchange_states(c, 0);
}

/* States of a rank, the worst first. */
enum { FAILED = -2, INTERRUPTED = -1, FINE = 0 };

/* The error of one rank, as it is sent to the others. */
typedef struct rank_error {
    int status;
    char message[MESSAGE_BYTES];
} rank_error;

/* The failure of this rank, and the reason that its message has not reached the others, unless that is the failure. */
static int after_failure(int status, const char *message) {
    char reason[MESSAGE_BYTES];
    snprintf(reason, sizeof reason, "%s", lckv_last_error());
    if (!strcmp(reason, message)) return fail(status, "%s", message);
    return fail(status, "%s (%s)", message, reason);
}

static int agree(const collectives *c, int status) {
    const int32_t *states = transport_of(c)->states;
    rank_error error = {.status = status};
    int worst = 0;
    if (status < 0) snprintf(error.message, sizeof error.message, "%s", lckv_last_error());
    int exchanged = exchange_states(c, status >= 0 ? FINE : status == LCKV_ERROR_INTERRUPTED ? INTERRUPTED : FAILED);
    if (exchanged < 0) return status >= 0 ? exchanged : after_failure(status, error.message);
    for (int r = 1; r < c->ranks; r++)
        if (states[r] < states[worst]) worst = r;
    if (states[worst] == FINE) return status;
    TRY(broadcast_small(c, worst, (char *)&error, sizeof error));
    if (c->rank == worst) return status;
    error.message[MESSAGE_BYTES - 1] = '\0';
    if (error.status == LCKV_ERROR_INTERRUPTED) return fail(error.status, "%s", error.message);
    return fail(error.status, "process %d of %d: %s", worst, c->ranks, error.message);
}

/* Devices with host memory complete operations at once, also those aside. */
static int replayed(const collectives *c) {
    (void)c;
    return LCKV_OK;
}

static int pass_number(const collectives *c, int number) {
    (void)c, (void)number;
    return LCKV_OK;
}

static void count_waits(const collectives *c, int slot) {
    host_transport *t = transport_of(c);
    t->slot = slot;
    if (slot >= 0) t->waited[slot] = 0;
}

static double waited(const collectives *c, int slot) {
    return transport_of(c)->waited[slot];
}

/* ---------------------------------------------------------------- buffers */

int host_fill(collectives *c) {
    host_transport *t = transport_of(c);
    size_t ranks = (size_t)c->ranks;
    t->received = malloc(ranks * CHUNK * sizeof *t->received);
    t->with = malloc(ranks * sizeof *t->with);
    t->begin = malloc((ranks + 1) * sizeof *t->begin);
    t->states = malloc(ranks * sizeof *t->states);
    REQUIRE(t->received && t->with && t->begin && t->states, LCKV_ERROR_MEMORY,
            "no memory for the collectives of %d processes", c->ranks);
    t->slot = -1;
    c->host_memory = true;
    c->ops = (struct collectives_ops){.all_reduce = all_reduce,
                                      .reduce_scatter = reduce_scatter,
                                      .all_gather = all_gather,
                                      .broadcast = broadcast,
                                      .point = pass_number,
                                      .begin_aside = pass_number,
                                      .end_aside = pass_number,
                                      .join_aside = pass_number,
                                      .barrier = barrier,
                                      .gather_host = gather_host,
                                      .broadcast_host = broadcast_host,
                                      .agree = agree,
                                      .replayed = replayed,
                                      .count_waits = count_waits,
                                      .waited = waited};
    return LCKV_OK;
}

void host_free(host_transport *t) {
    free(t->received);
    free(t->with);
    free(t->begin);
    free(t->states);
}
