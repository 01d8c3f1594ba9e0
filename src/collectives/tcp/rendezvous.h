/* How ranks find each other over TCP.
 *
 * Rank 0 listens at the address that the launcher announced. Every other rank listens at a port of its own, connects to
 * rank 0 and sends its rank, number of ranks, version and port. When all have joined, rank 0 answers each with a random
 * number, which identifies the job, and the addresses of all ranks. Then every rank connects to all lower ranks, twice:
 *
 *   data     the bytes of collectives
 *   notice   silent, until a rank fails; then it says why (tcp.c)
 *
 * If ranks are missing when the time is over, or do not fit together, rank 0 sends the error to those that have joined.
 * Numbers are sent in the byte order of the machine: all ranks run the same lckv on the same kind of machine. */
#ifndef COLLECTIVES_TCP_RENDEZVOUS_H
#define COLLECTIVES_TCP_RENDEZVOUS_H

#include "collectives/launch.h"

/* Fills data[r] and notice[r] with sockets for each other rank r, within `time_limit` seconds. Both are [ranks] and
 * filled with -1 before; on failure, the caller closes those that are not. */
int rendezvous(const launch *l, double time_limit, int *data, int *notice);

#endif
