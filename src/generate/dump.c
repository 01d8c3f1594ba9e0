/* Activation dump, see dump.h. Not optimized for speed: each tensor is copied to the host at once. */
#include "generate/dump.h"

#include "io/tensors/safetensors.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 64, PATTERN_BYTES = 256 };

typedef struct dumped {
    char name[NAME_BYTES];
    int64_t cols, filled; /* filled: rows so far */
    float *values;        /* [rows, cols] */
} dumped;

struct dump {
    device *device;
    char pattern[PATTERN_BYTES];
    bool iterations;
    int64_t rows;
    layer_watch watch;
    dumped *all; /* [count] in order of arrival */
    int count, capacity;
};

/* ---------------------------------------------------------------- names */

/* Expands the first group of braces and recurses. dump_create() limits the length of the pattern. */
bool dump_matches(const char *pattern, const char *name) {
    const char *open = strchr(pattern, '{'), *close = open ? strchr(open, '}') : NULL;
    if (!close) return fnmatch(pattern, name, 0) == 0;
    for (const char *at = open; at < close;) {
        char one[PATTERN_BYTES];
        size_t length = strcspn(at + 1, ",}");
        snprintf(one, sizeof one, "%.*s%.*s%s", (int)(open - pattern), pattern, (int)length, at + 1, close + 1);
        if (dump_matches(one, name)) return true;
        at += 1 + length;
    }
    return false;
}

static void name_value(const dump *d, int layer, const plan_step *step, layer_value what, char name[NAME_BYTES]) {
    static const char *const WHAT[] = {"hidden", "attn", "k", "v"};
    if (d->iterations && step->in_loop)
        snprintf(name, NAME_BYTES, "layers.%d.run.%d.%s", layer, step->iteration, WHAT[what]);
    else
        snprintf(name, NAME_BYTES, "layers.%d.%s", layer, WHAT[what]);
}

/* ---------------------------------------------------------------- values */

static int add(dump *d, const char *name, int64_t cols, dumped **out) {
    if (d->count == d->capacity) {
        int capacity = d->capacity ? 2 * d->capacity : 16;
        dumped *all = realloc(d->all, (size_t)capacity * sizeof *all);
        REQUIRE(all, LCKV_ERROR_MEMORY, "no memory to dump %d tensors", capacity);
        d->all = all;
        d->capacity = capacity;
    }
    *out = &d->all[d->count];
    **out = (dumped){.cols = cols, .values = calloc((size_t)d->rows * (size_t)cols, sizeof(float))};
    REQUIRE((*out)->values, LCKV_ERROR_MEMORY, "no memory for %lld rows of '%s'", (long long)d->rows, name);
    snprintf((*out)->name, NAME_BYTES, "%s", name);
    d->count++;
    return LCKV_OK;
}

static int find_or_add(dump *d, const char *name, int64_t cols, dumped **out) {
    for (int i = 0; i < d->count; i++) {
        *out = &d->all[i];
        if (!strcmp((*out)->name, name)) return LCKV_OK;
    }
    return add(d, name, cols, out);
}

static int copy(device *d, view from, float *to) {
    view wide = from;
    wide.type = DTYPE_F32;
    TRY(d->memory.alloc(d, view_bytes(wide), &wide.data));
    struct op_cast cast = {.src = from, .dst = wide};
    int status = DEVICE_RUN(d, cast, &cast);
    if (status >= 0) status = d->memory.copy_out(d, to, wide.data, view_bytes(wide));
    if (status >= 0) status = d->memory.wait(d);
    d->memory.release(d, wide.data);
    return status;
}

static int see(void *user, int layer, const plan_step *step, layer_value what, view value) {
    dump *d = user;
    dumped *to;
    char name[NAME_BYTES];
    if (!d->iterations && !step->commit) return LCKV_OK;
    name_value(d, layer, step, what, name);
    if (!dump_matches(d->pattern, name)) return LCKV_OK;
    TRY(find_or_add(d, name, value.cols, &to));
    REQUIRE(to->filled + value.rows <= d->rows, LCKV_ERROR_ARGUMENT, "'%s' has more rows than there are tokens", name);
    if (value.data) TRY(copy(d->device, value, to->values + to->filled * to->cols));
    to->filled += value.rows;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- creating and writing */

int dump_create(device *on, const char *pattern, bool iterations, int64_t rows, dump **out) {
    *out = NULL;
    REQUIRE(strlen(pattern) < PATTERN_BYTES, LCKV_ERROR_ARGUMENT, "dump: expected a pattern of less than %d characters",
            PATTERN_BYTES);
    dump *d = calloc(1, sizeof *d);
    REQUIRE(d, LCKV_ERROR_MEMORY, "no memory for a dump");
    d->device = on;
    memcpy(d->pattern, pattern, strlen(pattern));
    d->iterations = iterations;
    d->rows = rows;
    d->watch = (layer_watch){.see = see, .user = d};
    *out = d;
    return LCKV_OK;
}

void dump_free(dump *d) {
    if (!d) return;
    for (int i = 0; i < d->count; i++) free(d->all[i].values);
    free(d->all);
    free(d);
}

const layer_watch *dump_watch(const dump *d) {
    return &d->watch;
}

static int values_of(void *user, int index, element_range range, void *bytes) {
    const dump *d = user;
    const dumped *from = &d->all[index];
    memcpy(bytes, from->values + range.first, (size_t)range.count * sizeof *from->values);
    return LCKV_OK;
}

static int write_items(const dump *d, const safetensors_item *items, const char *path) {
    new_file file;
    TRY(file_begin(path, &file));
    int status = safetensors_write(&file, items, d->count, values_of, (void *)(uintptr_t)d);
    if (status >= 0)
        status = file_commit(&file);
    else
        file_abandon(&file);
    return status;
}

int dump_write(const dump *d, const char *path) {
    REQUIRE(
        d->count, LCKV_ERROR_ARGUMENT,
        "dump: no tensor matches '%s'; tensors are called layers.0.hidden, .attn, .k, .v, and layers.1.run.0.hidden "
        "for iteration 0 of a loop",
        d->pattern);
    safetensors_item *items = calloc((size_t)d->count, sizeof *items);
    REQUIRE(items, LCKV_ERROR_MEMORY, "no memory for the names of %d tensors", d->count);
    for (int i = 0; i < d->count; i++)
        items[i] = (safetensors_item){
            .name = d->all[i].name, .type = DTYPE_F32, .shape = {d->all[i].filled, d->all[i].cols}, .dimensions = 2};
    int status = write_items(d, items, path);
    free(items);
    return status;
}
