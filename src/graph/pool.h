/* Device memory for temporary tensors: best fit over a few large chunks; adjacent free spans are merged.
 *
 * The same calls give the same addresses, so that a step repeats exactly and a GPU can record it. All bookkeeping is
 * on the host; therefore the counting device's pool has exactly the peak of a real one. Leaves out: ownership. */
#ifndef GRAPH_POOL_H
#define GRAPH_POOL_H

#include "device/device.h"

typedef struct pool pool;

int pool_create(device *d, pool **out);
void pool_free(pool *p); /* releases every chunk; NULL is fine */

/* `bytes` are rounded up to 256. */
int pool_take(pool *p, size_t bytes, void **out);
void pool_give(pool *p, void *memory, size_t bytes); /* `bytes` as in pool_take() */

/* Releases all allocations. If the last round needed several chunks, they are merged into one, so that a loop of
 * equal rounds has constant addresses from its second round on. Then the pool waits for the device. */
int pool_reset(pool *p);

/* Changes whenever memory is taken from the device or released. While it is constant, the same calls after a reset
 * give the same addresses. */
int64_t pool_generation(const pool *p);

size_t pool_in_use(const pool *p);
size_t pool_peak(const pool *p); /* maximum in use since the pool was created */

#endif
