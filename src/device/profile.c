/* Implements lckv_profile_start() and lckv_profile_stop() of lckv.h; see profile.h. */
#include "device/profile.h"

#include "base/clock.h"

#include <stdlib.h>

struct device_profile {
    struct device_ops ops;             /* the device's own entries */
    struct device_recording recording; /* the same */
    device *counting;                  /* counts the FLOPs and bytes of each op */
    lckv_op_call *calls;
    int64_t count, capacity;
    double start;
    bool inside; /* an op is running; ops within it are not recorded */
};

/* ---------------------------------------------------------------- one op */

static int make_room(struct device_profile *p) {
    if (p->count < p->capacity) return LCKV_OK;
    int64_t capacity = p->capacity ? 2 * p->capacity : 1024;
    lckv_op_call *calls = realloc(p->calls, (size_t)capacity * sizeof *calls);
    REQUIRE(calls, LCKV_ERROR_MEMORY, "no memory for a profile of %lld ops", (long long)capacity);
    p->calls = calls;
    p->capacity = capacity;
    return LCKV_OK;
}

static int begin_call(device *d, const char *name) {
    struct device_profile *p = d->profile;
    TRY(make_room(p));
    TRY(d->memory.wait(d));
    p->inside = true;
    p->calls[p->count] = (lckv_op_call){.op = name, .begin = clock_seconds() - p->start};
    return LCKV_OK;
}

/* `status`: of the op. */
static int end_call(device *d, int status) {
    struct device_profile *p = d->profile;
    lckv_op_call *call = &p->calls[p->count];
    p->inside = false;
    TRY(status);
    TRY(d->memory.wait(d));
    call->seconds = clock_seconds() - p->start - call->begin;
    p->count++;
    return LCKV_OK;
}

static void count_op(struct device_profile *p) {
    lckv_op_call *call = &p->calls[p->count - 1];
    call->flops = p->counting->counts.flops;
    call->bytes = p->counting->counts.bytes;
    p->counting->counts.flops = p->counting->counts.bytes = 0;
}

#define ENTRY(name, arguments)                                                                                         \
    static int profiled_##name(device *d, const struct op_##arguments *a) {                                            \
        struct device_profile *p = d->profile;                                                                         \
        if (p->inside) return p->ops.name(d, a);                                                                       \
        TRY(begin_call(d, device_op_name(DEVICE_##name)));                                                             \
        TRY(end_call(d, p->ops.name(d, a)));                                                                           \
        TRY(p->counting->ops.name(p->counting, a));                                                                    \
        count_op(p);                                                                                                   \
        return LCKV_OK;                                                                                                \
    }
DEVICE_OPS(ENTRY)
DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY

int device_profile_begin(device *d, const char *name) {
    return d && d->profile ? begin_call(d, name) : LCKV_OK;
}

int device_profile_end(device *d, int status, double bytes) {
    if (!d || !d->profile) return status;
    TRY(end_call(d, status));
    d->profile->calls[d->profile->count - 1].bytes = bytes;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- start and stop */

static void replace_entries(device *d) {
#define ENTRY(name, arguments)                                                                                         \
    if (d->ops.name) d->ops.name = profiled_##name;
    DEVICE_OPS(ENTRY)
#undef ENTRY
#define ENTRY(name, arguments)                                                                                         \
    if (d->ops.name && d->ops.name != device_##name) d->ops.name = profiled_##name;
    DEVICE_COMPOSED_OPS(ENTRY)
#undef ENTRY
    /* A program that was recorded before is kept and can be released. */
    d->recording.begin = NULL;
    d->recording.end = NULL;
    d->recording.replay = NULL;
}

int lckv_profile_start(lckv_device *d) {
    REQUIRE(!d->profile, LCKV_ERROR_ARGUMENT, "device %s is already profiled; call lckv_profile_stop() first", d->name);
    struct device_profile *p = calloc(1, sizeof *p);
    REQUIRE(p, LCKV_ERROR_MEMORY, "no memory for a profile");
    int status = device_open("count", 0, &p->counting);
    if (status < 0) {
        free(p);
        return status;
    }
    p->ops = d->ops;
    p->recording = d->recording;
    p->start = clock_seconds();
    d->profile = p;
    replace_entries(d);
    return LCKV_OK;
}

/* Restores the entries. Returns the calls, which the caller frees. */
static lckv_op_call *stop(device *d, int64_t *count) {
    struct device_profile *p = d->profile;
    lckv_op_call *calls = p->calls;
    *count = p->count;
    d->ops = p->ops;
    d->recording = p->recording;
    d->profile = NULL;
    device_close(p->counting);
    free(p);
    return calls;
}

int lckv_profile_stop(lckv_device *d, lckv_op_call **calls, int64_t *count) {
    *calls = NULL;
    *count = 0;
    REQUIRE(d->profile, LCKV_ERROR_ARGUMENT, "device %s is not profiled; call lckv_profile_start() first", d->name);
    *calls = stop(d, count);
    return LCKV_OK;
}

void device_profile_discard(device *d) {
    int64_t count;
    if (d->profile) free(stop(d, &count));
}
