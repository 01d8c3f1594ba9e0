/* Collectives on host memory, written once over a transport that exchanges bytes between pairs of ranks. MPI
 * (mpi/mpi.c) and TCP (tcp/tcp.c) are transports, so that both give the same bits.
 *
 * Every rank talks to every other rank directly. Sums and copies of large buffers are divided evenly between the ranks:
 * each rank sends and receives about twice the buffer for a sum that all need, whatever the number of ranks. */
#ifndef COLLECTIVES_HOST_H
#define COLLECTIVES_HOST_H

#include "collectives/collectives.h"

enum { HOST_MAX_TRANSFER_BYTES = 1 << 30 }; /* MPI counts bytes in an int */

/* The bytes of one exchange with one other rank. The other rank gives the same numbers the other way round. */
typedef struct host_transfer {
    const void *send;
    void *receive;
    int send_bytes, receive_bytes; /* 0 to HOST_MAX_TRANSFER_BYTES */
} host_transfer;

/* The first member of a transport's private state (collectives.own). */
typedef struct host_transport {
    /* Sends and receives everything in `with`, [ranks]; this rank's own element is ignored. */
    int (*exchange)(const collectives *c, const host_transfer *with);
    /* Buffers of host.c. */
    float *received;     /* one chunk of a sum from each rank */
    host_transfer *with; /* [ranks] */
    int64_t *begin;      /* [ranks + 1] */
    int32_t *states;     /* [ranks] */
    /* Seconds of the exchanges, see collectives_count_waits(). */
    int slot; /* -1: they are not counted */
    double waited[COLLECTIVES_SLOTS];
} host_transport;

/* Fills the table except for `await`, `give_up` and `close`, and allocates the buffers. c->ranks and c->own are set,
 * and own->exchange. On failure the caller calls host_free(). */
int host_fill(collectives *c);
void host_free(host_transport *t);

#endif
