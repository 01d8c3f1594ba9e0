/* The counting device's memory. Addresses come from a counter, so that no two blocks ever share one. The list of
 * blocks, which release() searches, is therefore sorted. */
#include "device/count/count.h"
#include "base/clock.h"
#include "device/open.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT ((size_t)256)
#define FIRST_ADDRESS ((uintptr_t)1 << 40) /* nothing is mapped there; a stray access faults */

typedef struct block {
    uintptr_t address;
    size_t bytes;
    bool live;
} block;

typedef struct count_state {
    block *blocks; /* ascending addresses; released ones are removed when they are the majority */
    size_t count, capacity, released;
    uintptr_t next;
} count_state;

static int make_room(count_state *s) {
    if (s->count < s->capacity) return LCKV_OK;
    size_t capacity = s->capacity ? 2 * s->capacity : 64;
    block *blocks = realloc(s->blocks, capacity * sizeof *blocks);
    REQUIRE(blocks, LCKV_ERROR_MEMORY, "no memory for the counting device's list of %zu blocks", capacity);
    s->blocks = blocks;
    s->capacity = capacity;
    return LCKV_OK;
}

static int count_alloc(device *d, size_t bytes, void **out) {
    count_state *s = d->own;
    *out = NULL;
    REQUIRE(bytes <= (SIZE_MAX >> 2) - s->next, LCKV_ERROR_MEMORY,
            "the counting device has no addresses left for a block of %zu bytes", bytes);
    TRY(make_room(s));
    s->blocks[s->count++] = (block){s->next, bytes, true};
    *out = (void *)s->next;
    s->next += (bytes / ALIGNMENT + 1) * ALIGNMENT; /* an empty block has an address of its own too */
    d->counts.memory += bytes;
    if (d->counts.memory > d->counts.peak) d->counts.peak = d->counts.memory;
    return LCKV_OK;
}

static int compare_blocks(const void *a, const void *b) {
    uintptr_t left = ((const block *)a)->address, right = ((const block *)b)->address;
    return (left > right) - (left < right);
}

static void forget_released(count_state *s) {
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (s->blocks[i].live) s->blocks[kept++] = s->blocks[i];
    }
    s->count = kept;
    s->released = 0;
}

static void count_release(device *d, void *memory) {
    count_state *s = d->own;
    if (!memory) return;
    block key = {(uintptr_t)memory, 0, true};
    block *found = bsearch(&key, s->blocks, s->count, sizeof key, compare_blocks);
    if (!found || !found->live) return;
    found->live = false;
    d->counts.memory -= found->bytes;
    if (++s->released > s->count / 2) forget_released(s);
}

static int count_copy_in(device *d, void *to, const void *host, size_t bytes) {
    (void)d, (void)to, (void)host, (void)bytes;
    return LCKV_OK;
}

static int count_copy_out(device *d, void *host, const void *from, size_t bytes) {
    (void)d, (void)from;
    if (bytes) memset(host, 0, bytes);
    return LCKV_OK;
}

static int count_clock_out(device *d, double *host) {
    (void)d;
    *host = clock_seconds();
    return LCKV_OK;
}

static int count_zero(device *d, void *memory, size_t bytes) {
    (void)d, (void)memory, (void)bytes;
    return LCKV_OK;
}

static int count_wait(device *d) {
    (void)d;
    return LCKV_OK;
}

static int count_mark(device *d, int64_t *mark) {
    (void)d;
    *mark = 0;
    return LCKV_OK;
}

static int count_reach(device *d, int64_t mark) {
    (void)d, (void)mark;
    return LCKV_OK;
}

static int count_available(device *d, size_t *free_bytes, size_t *total_bytes) {
    *total_bytes = SIZE_MAX >> 2;
    *free_bytes = *total_bytes - d->counts.memory;
    return LCKV_OK;
}

static void count_close(device *d) {
    count_state *s = d->own;
    if (!s) return;
    free(s->blocks);
    free(s);
    d->own = NULL;
}

int count_open(device *d) {
    count_state *s = calloc(1, sizeof *s);
    REQUIRE(s, LCKV_ERROR_MEMORY, "no memory for the counting device");
    s->next = FIRST_ADDRESS;
    d->own = s;
    d->ops = count_ops;
    d->formats = count_formats;
    device_fill_composed(&d->ops);
    d->memory = (struct device_memory){.alloc = count_alloc,
                                       .release = count_release,
                                       .copy_in = count_copy_in,
                                       .copy_out = count_copy_out,
                                       .clock_out = count_clock_out,
                                       .zero = count_zero,
                                       .wait = count_wait,
                                       .mark = count_mark,
                                       .reach = count_reach,
                                       .available = count_available,
                                       .close = count_close};
    snprintf(d->name, sizeof d->name, "count");
    d->host_memory = false;
    d->counts_only = true;
    return LCKV_OK;
}
