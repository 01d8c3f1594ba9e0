/* The pool; see pool.h. Free spans are in one array sorted by address. A span does not cross chunks. */
#include "graph/pool.h"

#include <stdlib.h>
#include <string.h>

typedef struct chunk {
    char *start;
    size_t bytes;
} chunk;

typedef struct span {
    char *start;
    size_t bytes;
    int chunk;
} span;

struct pool {
    device *device;
    chunk *chunks;
    int chunk_count;
    span *spans; /* free ones */
    int span_count, span_capacity;
    size_t held, in_use, peak;
    int64_t generation;
};

enum { ALIGNMENT = 256, SMALLEST_CHUNK = 4 << 20, LARGEST_GROWTH = 512 << 20 };

static size_t rounded(size_t bytes) {
    return bytes ? (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : ALIGNMENT;
}

int pool_create(device *d, pool **out) {
    *out = calloc(1, sizeof **out);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a pool");
    (*out)->device = d;
    return LCKV_OK;
}

static void release_chunks(pool *p) {
    for (int i = 0; i < p->chunk_count; i++) p->device->memory.release(p->device, p->chunks[i].start);
    p->chunk_count = p->span_count = 0;
    p->held = 0;
    p->generation++;
}

void pool_free(pool *p) {
    if (!p) return;
    release_chunks(p);
    free(p->chunks);
    free(p->spans);
    free(p);
}

/* The index of the first free span at or after `start`. */
static int span_at(const pool *p, const char *start) {
    int low = 0, high = p->span_count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (p->spans[middle].start < start)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Reserves room for one more span, so that giving memory back cannot fail: every block may become a span. */
static int reserve_span(pool *p) {
    if (p->span_count + 1 < p->span_capacity) return LCKV_OK;
    int capacity = p->span_capacity ? 2 * p->span_capacity : 64;
    span *spans = realloc(p->spans, (size_t)capacity * sizeof *spans);
    REQUIRE(spans, LCKV_ERROR_MEMORY, "no memory for the pool's list of %d free spans", capacity);
    p->spans = spans;
    p->span_capacity = capacity;
    return LCKV_OK;
}

static void insert_span(pool *p, int at, span s) {
    memmove(p->spans + at + 1, p->spans + at, (size_t)(p->span_count - at) * sizeof *p->spans);
    p->spans[at] = s;
    p->span_count++;
}

static void remove_span(pool *p, int at) {
    p->span_count--;
    memmove(p->spans + at, p->spans + at + 1, (size_t)(p->span_count - at) * sizeof *p->spans);
}

/* A new chunk of at least `bytes`. Chunks grow with the memory held, so that there are few, up to a size that is small
 * beside what a large step needs. If the device does not have that much, exactly `bytes` are tried. */
static int add_chunk(pool *p, size_t bytes) {
    TRY(reserve_span(p));
    chunk *chunks = realloc(p->chunks, (size_t)(p->chunk_count + 1) * sizeof *chunks);
    REQUIRE(chunks, LCKV_ERROR_MEMORY, "no memory for the pool's list of chunks");
    p->chunks = chunks;
    size_t growth = p->held / 2 < LARGEST_GROWTH ? p->held / 2 : LARGEST_GROWTH;
    size_t wanted = bytes > growth ? bytes : rounded(growth);
    if (wanted < SMALLEST_CHUNK) wanted = SMALLEST_CHUNK;
    void *start;
    int status = p->device->memory.alloc(p->device, wanted, &start);
    if (status < 0 && wanted > bytes) status = p->device->memory.alloc(p->device, wanted = bytes, &start);
    if (status < 0) return status;
    chunks[p->chunk_count] = (chunk){start, wanted};
    p->held += wanted;
    p->generation++;
    insert_span(p, span_at(p, start), (span){start, wanted, p->chunk_count++});
    return LCKV_OK;
}

/* The smallest free span that holds `bytes`, the lowest of equal ones; -1: none. */
static int best_fit(const pool *p, size_t bytes) {
    int best = -1;
    for (int i = 0; i < p->span_count; i++)
        if (p->spans[i].bytes >= bytes && (best < 0 || p->spans[i].bytes < p->spans[best].bytes)) best = i;
    return best;
}

int pool_take(pool *p, size_t bytes, void **out) {
    *out = NULL;
    bytes = rounded(bytes);
    int at = best_fit(p, bytes);
    if (at < 0) {
        TRY(add_chunk(p, bytes));
        at = best_fit(p, bytes);
    }
    span *s = &p->spans[at];
    *out = s->start;
    s->start += bytes;
    s->bytes -= bytes;
    if (!s->bytes) remove_span(p, at);
    p->in_use += bytes;
    if (p->in_use > p->peak) p->peak = p->in_use;
    return LCKV_OK;
}

static bool adjoin(span a, span b) {
    return a.chunk == b.chunk && a.start + a.bytes == b.start;
}

static int chunk_of(const pool *p, const char *memory) {
    for (int i = 0; i < p->chunk_count; i++)
        if (memory >= p->chunks[i].start && memory < p->chunks[i].start + p->chunks[i].bytes) return i;
    return -1;
}

void pool_give(pool *p, void *memory, size_t bytes) {
    bytes = rounded(bytes);
    span s = {memory, bytes, chunk_of(p, memory)};
    int at = span_at(p, s.start);
    p->in_use -= bytes;
    if (at < p->span_count && adjoin(s, p->spans[at])) {
        s.bytes += p->spans[at].bytes;
        remove_span(p, at);
    }
    if (at > 0 && adjoin(p->spans[at - 1], s)) {
        p->spans[at - 1].bytes += s.bytes;
        return;
    }
    if (reserve_span(p) < 0) return; /* the span is lost until the next reset */
    insert_span(p, at, s);
}

int pool_reset(pool *p) {
    size_t held = p->held;
    p->in_use = 0;
    p->span_count = 0;
    if (p->chunk_count > 1) {
        TRY(p->device->memory.wait(p->device));
        release_chunks(p);
        return add_chunk(p, held);
    }
    if (p->chunk_count == 1) insert_span(p, 0, (span){p->chunks[0].start, p->chunks[0].bytes, 0});
    return LCKV_OK;
}

int64_t pool_generation(const pool *p) {
    return p->generation;
}

size_t pool_in_use(const pool *p) {
    return p->in_use;
}

size_t pool_peak(const pool *p) {
    return p->peak;
}
