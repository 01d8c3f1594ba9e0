/* Device memory for tensors that come and go: best fit over a few large chunks, neighbours merged when freed.
 *
 * The same calls give the same addresses, so a step repeats exactly and a GPU can capture it. All bookkeeping is on the
 * host; the counting device's pool therefore has exactly the peak that a real one has. Leaves out: who owns what.
 */
#ifndef GRAPH_POOL_H
#define GRAPH_POOL_H

#include "device/device.h"

typedef struct pool pool;

int pool_create(device *d, pool **out);
void pool_free(pool *p); /* gives every chunk back; NULL is fine */

/* `bytes` are rounded up to 256. */
int pool_take(pool *p, size_t bytes, void **out);
void pool_give(pool *p, void *memory, size_t bytes); /* the same number of bytes */

/* Forgets every allocation. Where the last round needed several chunks they become one, so that a loop of equal rounds
 * stands still from its second round on. Work on the device must have ended (device wait) if chunks are merged; the
 * pool waits by itself then. */
int pool_reset(pool *p);

/* Changes whenever memory came from the device or went back to it: while it stays, the same calls after a reset give
 * the same addresses. */
int64_t pool_generation(const pool *p);

size_t pool_in_use(const pool *p);
size_t pool_peak(const pool *p); /* most in use since the pool was made */

#endif
