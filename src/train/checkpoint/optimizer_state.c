/* The optimizer's state across ranks, see optimizer_state.h. */
#include "train/checkpoint/optimizer_state.h"

#include <stdlib.h>

/* What rank 0 requests from the other ranks. */
typedef struct request {
    int32_t entry; /* -1: no more requests */
    int32_t what, type, unused;
    element_range range;
} request;

static const shard_slice *slice_of(const optimizer *o, int entry) {
    for (int i = 0; i < o->slice_count; i++)
        if (o->slices[i].entry == entry) return &o->slices[i];
    return NULL;
}

static view view_of(const shard_slice *q, optimizer_tensor what) {
    if (what == OPTIMIZER_M) return q->m;
    if (what == OPTIMIZER_V) return q->v;
    return q->master.data ? q->master : q->value;
}

/* ---------------------------------------------------------------- reading */

/* The elements of `range` that are in a part of the entry. */
static element_range overlap(element_range range, int64_t first, int64_t count) {
    int64_t end = range.first + range.count, part_end = first + count;
    element_range r = {range.first > first ? range.first : first, 0};
    end = end < part_end ? end : part_end;
    if (end > r.first) r.count = end - r.first;
    return r;
}

/* The elements of a range that rank r has. */
static element_range part_of_rank(const optimizer *o, int entry, int r, element_range range) {
    int64_t first, count = shards_part(o->shards, entry, r, &first);
    return overlap(range, first, count);
}

static int read_slice(optimizer *o, const shard_slice *q, const request *r, element_range mine, void *host) {
    view v = view_elements(view_of(q, (optimizer_tensor)r->what), mine.first - q->first, mine.count);
    return view_to_host(o->device, v, host, (dtype)r->type);
}

/* Copies this rank's elements of a range; release with free(). NULL if it has none. */
static int read_mine(optimizer *o, const request *r, void **out) {
    element_range mine = part_of_rank(o, r->entry, o->collectives->rank, r->range);
    *out = NULL;
    if (!mine.count) return LCKV_OK;
    *out = malloc((size_t)mine.count * dtype_element_bytes((dtype)r->type));
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for the %lld values of %s", (long long)mine.count,
            o->params->table[r->entry].name);
    return read_slice(o, slice_of(o, r->entry), r, mine, *out);
}

/* Called by all ranks: collects the parts of a range in `host` of rank 0. */
static int collect(optimizer *o, const request *r, void *host) {
    void *mine;
    int64_t *counts = calloc((size_t)o->collectives->ranks, sizeof *counts);
    int64_t size = (int64_t)dtype_element_bytes((dtype)r->type);
    int status = counts ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory for the sizes of an entry's parts");
    for (int i = 0; counts && i < o->collectives->ranks; i++)
        counts[i] = part_of_rank(o, r->entry, i, r->range).count * size;
    int read = read_mine(o, r, &mine);
    status = collectives_agree(o->collectives, status < 0 ? status : read);
    if (status >= 0) status = collectives_gather_host(o->collectives, mine, counts, host);
    free(mine);
    free(counts);
    return status;
}

int optimizer_read(optimizer *o, int entry, optimizer_tensor what, element_range range, dtype type, void *host) {
    request r = {entry, (int32_t)what, (int32_t)type, 0, range};
    if (o->collectives->ranks == 1) return read_slice(o, slice_of(o, entry), &r, range, host);
    TRY(collectives_broadcast_host(o->collectives, &r, sizeof r));
    return collect(o, &r, host);
}

static int end_reading(optimizer *o) {
    request r = {.entry = -1};
    return collectives_broadcast_host(o->collectives, &r, sizeof r);
}

/* The side of the other ranks. */
static int serve(optimizer *o) {
    request r;
    for (;;) {
        TRY(collectives_broadcast_host(o->collectives, &r, sizeof r));
        if (r.entry < 0) return LCKV_OK;
        /* All ranks have agreed on a failure: rank 0 knows of it and ends the requests. */
        (void)collect(o, &r, NULL);
    }
}

int optimizer_while_one_writes(optimizer *o, int (*write)(void *user), void *user) {
    int status = o->collectives->rank ? serve(o) : write(user);
    if (!o->collectives->rank) TRY(end_reading(o));
    return collectives_agree(o->collectives, status);
}

/* ---------------------------------------------------------------- writing */

int optimizer_write(optimizer *o, int entry, optimizer_tensor what, const void *host, dtype type) {
    const shard_slice *q = slice_of(o, entry);
    if (what == OPTIMIZER_VALUE) return params_set(o->params, entry, host, type);
    if (!q) return LCKV_OK;
    return view_from_host(o->device, view_of(q, what),
                          (const char *)host + (size_t)q->first * dtype_element_bytes(type), type);
}
