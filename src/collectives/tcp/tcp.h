/* The TCP transport of the collectives on host memory (collectives/host.h).
 *
 * A rank that ends is noticed at once by all that wait in a collective, because its connections close. A host that is
 * lost is noticed within 60 s (socket.c). A rank that hangs is noticed when it has not sent or taken a byte of a
 * collective for the time limit. A rank that itself waits does not answer either; therefore ranks that have waited so
 * long tell each other for whom. The first to find the cause tells all others, so that every rank reports the same
 * process. */
#ifndef COLLECTIVES_TCP_TCP_H
#define COLLECTIVES_TCP_TCP_H

#include "collectives/collectives.h"
#include "collectives/launch.h"

/* `time_limit`: seconds, for joining and for each wait in a collective. */
int collectives_tcp_open(const launch *l, double time_limit, collectives **out);

#endif
