/* The optimizer's state across ranks, see optimizer_state.h. */
#include "train/checkpoint/optimizer_state.h"

#include <stdlib.h>
#include <string.h>

/* What rank 0 requests from the other ranks. */
typedef struct request {
    int32_t entry; /* -1: no more requests */
    int32_t what;
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

/* Copies between f32 host memory and a view. `buffer` is device memory, used if the view has another data type. */
static int move(device *d, view v, float *host, bool in, void *buffer) {
    view staged = {v.type == DTYPE_F32 ? v.data : buffer, v.rows, v.cols, DTYPE_F32};
    if (in) TRY(d->memory.copy_in(d, staged.data, host, view_bytes(staged)));
    struct op_cast a = {.src = in ? staged : v, .dst = in ? v : staged};
    if (v.type != DTYPE_F32) TRY(DEVICE_RUN(d, cast, &a));
    if (!in) TRY(d->memory.copy_out(d, host, staged.data, view_bytes(staged)));
    return d->memory.wait(d);
}

static int move_slice(device *d, view v, float *host, bool in) {
    void *buffer = NULL;
    if (v.type != DTYPE_F32) TRY(d->memory.alloc(d, (size_t)(v.rows * v.cols) * sizeof *host, &buffer));
    int status = move(d, v, host, in, buffer);
    if (buffer) d->memory.release(d, buffer);
    return status;
}

/* Copies this rank's elements of an entry; release with free(). NULL if it has none. */
static int read_mine(optimizer *o, int entry, optimizer_tensor what, float **out) {
    const shard_slice *q = slice_of(o, entry);
    *out = NULL;
    if (!q) return LCKV_OK;
    *out = malloc((size_t)q->count * sizeof **out);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for the %lld values of %s", (long long)q->count,
            o->params->table[entry].name);
    return move_slice(o->device, view_of(q, what), *out, false);
}

/* Called by all ranks: collects the parts of an entry in `host` of rank 0. */
static int collect(optimizer *o, int entry, optimizer_tensor what, float *host) {
    float *mine;
    int64_t *counts = calloc((size_t)o->collectives->ranks, sizeof *counts), first;
    int status = counts ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory for the sizes of an entry's parts");
    for (int r = 0; counts && r < o->collectives->ranks; r++)
        counts[r] = shards_part(o->shards, entry, r, &first) * (int64_t)sizeof *host;
    int read = read_mine(o, entry, what, &mine);
    status = collectives_agree(o->collectives, status < 0 ? status : read);
    if (status >= 0) status = collectives_gather_host(o->collectives, mine, counts, host);
    free(mine);
    free(counts);
    return status;
}

int optimizer_read(optimizer *o, int entry, optimizer_tensor what, float *host) {
    if (o->collectives->ranks == 1) return move_slice(o->device, view_of(slice_of(o, entry), what), host, false);
    request r = {entry, what};
    TRY(collectives_broadcast_host(o->collectives, &r, sizeof r));
    return collect(o, entry, what, host);
}

/* Converts f32 values that are exact in bf16. */
static void narrow_to_bf16(const float *values, int64_t count, uint16_t *out) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        out[i] = (uint16_t)(bits >> 16);
    }
}

int optimizer_read_as(optimizer *o, int entry, optimizer_tensor what, dtype type, void *host) {
    if (type == DTYPE_F32) return optimizer_read(o, entry, what, host);
    int64_t count = o->params->table[entry].rows * o->params->table[entry].cols;
    float *values = malloc((size_t)count * sizeof *values);
    REQUIRE(values, LCKV_ERROR_MEMORY, "no memory for the %lld values of %s", (long long)count,
            o->params->table[entry].name);
    int status = optimizer_read(o, entry, what, values);
    if (status >= 0) narrow_to_bf16(values, count, host);
    free(values);
    return status;
}

static int end_reading(optimizer *o) {
    request r = {-1, 0};
    return collectives_broadcast_host(o->collectives, &r, sizeof r);
}

/* The side of the other ranks. */
static int serve(optimizer *o) {
    request r;
    for (;;) {
        TRY(collectives_broadcast_host(o->collectives, &r, sizeof r));
        if (r.entry < 0) return LCKV_OK;
        /* All ranks have agreed on a failure: rank 0 knows of it and ends the requests. */
        (void)collect(o, r.entry, (optimizer_tensor)r.what, NULL);
    }
}

int optimizer_while_one_writes(optimizer *o, int (*write)(void *user), void *user) {
    int status = o->collectives->rank ? serve(o) : write(user);
    if (!o->collectives->rank) TRY(end_reading(o));
    return collectives_agree(o->collectives, status);
}

/* ---------------------------------------------------------------- writing */

int optimizer_write(optimizer *o, int entry, optimizer_tensor what, const float *host) {
    const shard_slice *q = slice_of(o, entry);
    if (what == OPTIMIZER_VALUE) TRY(params_set(o->params, entry, host, DTYPE_F32));
    bool stored_here = what != OPTIMIZER_VALUE || (q && q->master.data && !o->params->masters);
    if (!q || !stored_here) return LCKV_OK;
    float *mine = (float *)(uintptr_t)(host + q->first); /* only read */
    return move_slice(o->device, view_of(q, what), mine, true);
}
