/* Pages and page tables of one policy, see kv_group.h. */
#include "model/kv_group.h"

#include <stdlib.h>
#include <string.h>

static int32_t pages_for(int64_t rows, int32_t page_rows) {
    return (int32_t)((rows + page_rows - 1) / page_rows);
}

static int32_t sink_pages(const kv_group *g) {
    return pages_for(g->sinks, g->page_rows);
}

size_t kv_group_page_bytes(const kv_group *g) {
    return 2 * (size_t)g->slots * (size_t)g->page_rows * (size_t)g->cols * dtype_bytes(g->type);
}

size_t kv_group_bytes(const kv_group *g) {
    return (size_t)g->capacity * kv_group_page_bytes(g);
}

/* The list may begin inside a page, and so hold one more. While a table and its successor exist, pages that only one of
 * them has count too: where rows are let go, they may have none in common. */
int64_t kv_group_most_pages(const kv_group *g, int64_t rows) {
    int64_t sinks = sink_pages(g), recent = rows > g->sinks ? rows - g->sinks : 0;
    int64_t all = recent / g->page_rows + 2, kept = 2 * (g->keep / g->page_rows + 2);
    return sinks + (all < kept ? all : kept);
}

int64_t kv_group_unpromised(const kv_group *g) {
    int64_t pages = (int64_t)g->max_capacity - g->capacity + g->free_count;
    for (int i = 0; i < g->sequences; i++)
        if (g->reserved[i] > g->tables[i].count) pages -= g->reserved[i] - g->tables[i].count;
    return pages;
}

/* Carves one allocation into the pages of each slot. */
static void carve(kv_group *g, char *memory, view *k, view *v) {
    view pages = {memory, (int64_t)g->capacity * g->page_rows, g->cols, g->type};
    for (int i = 0; i < g->slots; i++) {
        k[i] = pages;
        pages.data = (char *)pages.data + view_bytes(pages);
        v[i] = pages;
        pages.data = (char *)pages.data + view_bytes(pages);
    }
}

/* Copies what the old pages hold; rows of the destination beyond them stay undefined. */
static int copy_pages(kv_group *g, const view *from, const view *to) {
    for (int i = 0; i < g->slots; i++) {
        struct op_cast a = {from[i], to[i]};
        a.dst.rows = a.src.rows;
        TRY(DEVICE_RUN(g->device, cast, &a));
    }
    return LCKV_OK;
}

static int move_pages(kv_group *g, char *memory) {
    view *k = calloc(2 * (size_t)g->slots + 1, sizeof *k);
    REQUIRE(k, LCKV_ERROR_MEMORY, "no memory for the KV cache's table of slots");
    carve(g, memory, k, k + g->slots);
    int status = LCKV_OK;
    if (g->memory) {
        status = copy_pages(g, g->k, k);
        if (status >= 0) status = copy_pages(g, g->v, k + g->slots);
        if (status >= 0) status = g->device->memory.wait(g->device);
    }
    if (status < 0) {
        free(k);
        return status;
    }
    free(g->k);
    g->k = k;
    g->v = k + g->slots;
    return LCKV_OK;
}

/* More pages, the old ones' content kept. */
static int grow(kv_group *g, int32_t pages) {
    int32_t old = g->capacity;
    int32_t *spare = realloc(g->free, (size_t)pages * sizeof *spare);
    REQUIRE(spare, LCKV_ERROR_MEMORY, "no memory for the KV cache's list of %d pages", pages);
    g->free = spare;
    g->capacity = pages;
    void *memory = NULL;
    int status = g->device->memory.alloc(g->device, kv_group_bytes(g), &memory);
    if (status >= 0) status = move_pages(g, memory);
    if (status < 0) {
        g->device->memory.release(g->device, memory);
        g->capacity = old;
        return fail_within(status, "KV cache of %d pages of %d tokens", pages, g->page_rows);
    }
    g->device->memory.release(g->device, g->memory);
    g->memory = memory;
    g->moves++;
    for (int32_t page = pages - 1; page >= old; page--) g->free[g->free_count++] = page; /* low pages come first */
    return LCKV_OK;
}

int kv_group_create(const kv_group *shape, int sequences, int32_t pages, int32_t max_pages, kv_group *out) {
    *out = *shape;
    out->sequences = sequences;
    out->max_capacity = max_pages;
    out->tables = calloc((size_t)sequences, sizeof *out->tables);
    out->next = calloc((size_t)sequences, sizeof *out->next);
    out->dropped = calloc((size_t)sequences, sizeof *out->dropped);
    out->reserved = calloc((size_t)sequences, sizeof *out->reserved);
    int status = out->tables && out->next && out->dropped && out->reserved
                     ? grow(out, pages)
                     : fail(LCKV_ERROR_MEMORY, "no memory for the KV cache's tables of %d sequences", sequences);
    if (status < 0) kv_group_free(out);
    return status;
}

void kv_group_free(kv_group *g) {
    for (int i = 0; i < g->sequences; i++) {
        if (g->tables) free(g->tables[i].pages);
        if (g->next) free(g->next[i].pages);
    }
    if (g->memory) g->device->memory.release(g->device, g->memory);
    free(g->tables);
    free(g->next);
    free(g->dropped);
    free(g->reserved);
    free(g->free);
    free(g->k);
    *g = (kv_group){0};
}

static int reserve_pages(kv_group *g, int32_t needed) {
    if (needed <= g->free_count) return LCKV_OK;
    int64_t pages = (int64_t)g->capacity - g->free_count + needed;
    REQUIRE(pages <= g->max_capacity, LCKV_ERROR_MEMORY,
            "the KV cache is full: %lld pages of %d tokens are needed, %d are allowed", (long long)pages, g->page_rows,
            g->max_capacity);
    if (pages < 2 * (int64_t)g->capacity) pages = 2 * (int64_t)g->capacity;
    return grow(g, pages < g->max_capacity ? (int32_t)pages : g->max_capacity);
}

static int reserve_table(kv_table *t, int32_t pages) {
    if (pages <= t->capacity) return LCKV_OK;
    int32_t *fresh = realloc(t->pages, 2 * (size_t)pages * sizeof *fresh);
    REQUIRE(fresh, LCKV_ERROR_MEMORY, "no memory for a page table of %d pages", pages);
    t->pages = fresh;
    t->capacity = 2 * pages;
    return LCKV_OK;
}

/* The successor of a table in numbers. Recent row r of the list lies at row r + skip of the table's recent pages. */
typedef struct successor {
    int32_t first;  /* recent page of the table that becomes the successor's first; may lie behind the table's end */
    int32_t pages;  /* recent pages of the successor */
    int32_t shared; /* of these, pages that the table has already */
    int32_t past, skip;
    int64_t gone; /* recent rows, counted in the table's list, that the successor has not */
} successor;

static successor succeed(const kv_group *g, const kv_table *t, int32_t rows) {
    int64_t all = (int64_t)t->past + rows;
    int64_t recent = all > g->sinks ? all - g->sinks : 0, kept = recent < g->keep ? recent : g->keep;
    int32_t old_pages = t->count ? t->count - sink_pages(g) : 0;
    successor s = {.gone = recent - kept};
    s.past = (int32_t)((all < g->sinks ? all : g->sinks) + kept);
    s.first = (int32_t)((s.gone + t->skip) / g->page_rows);
    s.skip = (int32_t)((s.gone + t->skip) % g->page_rows);
    s.pages = kept ? pages_for(recent + t->skip, g->page_rows) - s.first : 0;
    s.shared = old_pages - s.first < s.pages ? old_pages - s.first : s.pages;
    if (s.shared < 0) s.shared = 0;
    return s;
}

int kv_group_prepare(kv_group *g, int id, int32_t rows) {
    const kv_table *t = &g->tables[id];
    kv_table *n = &g->next[id];
    successor s = succeed(g, t, rows);
    int32_t sinks = sink_pages(g), fresh = s.pages - s.shared + (t->count ? 0 : sinks);
    TRY(reserve_pages(g, fresh));
    TRY(reserve_table(n, sinks + s.pages + 1));
    n->count = 0;
    for (int32_t i = 0; i < sinks; i++) n->pages[n->count++] = t->count ? t->pages[i] : g->free[--g->free_count];
    for (int32_t i = 0; i < s.pages; i++)
        n->pages[n->count++] = i < s.shared ? t->pages[sinks + s.first + i] : g->free[--g->free_count];
    n->past = s.past;
    n->skip = s.skip;
    int32_t old_pages = t->count ? t->count - sinks : 0;
    g->dropped[id] = old_pages - s.shared;
    return LCKV_OK;
}

void kv_group_destinations(const kv_group *g, int id, int32_t rows, int64_t *destination) {
    const kv_table *t = &g->tables[id], *n = &g->next[id];
    successor s = succeed(g, t, rows);
    for (int32_t j = 0; j < rows; j++) {
        int64_t u = (int64_t)t->past + j, r = u - g->sinks, at = r + t->skip;
        int32_t page = 0;
        if (r < 0) {
            page = n->pages[u / g->page_rows];
            at = u;
        } else if (r >= s.gone) {
            page = n->pages[sink_pages(g) + at / g->page_rows - s.first];
        }
        destination[j] = r >= 0 && r < s.gone ? -1 : (int64_t)page * g->page_rows + at % g->page_rows;
    }
}

static void give_pages(kv_group *g, const int32_t *pages, int32_t count) {
    for (int32_t i = count - 1; i >= 0; i--) g->free[g->free_count++] = pages[i];
}

/* Dropped pages are those in front of the shared ones: pages leave a list at its old end alone. */
void kv_group_commit(kv_group *g, int id) {
    kv_table *t = &g->tables[id], *n = &g->next[id], old = *t;
    if (t->count) give_pages(g, t->pages + sink_pages(g), g->dropped[id]);
    *t = *n;
    *n = old;
    n->count = 0;
}

void kv_group_rollback(kv_group *g, int id) {
    kv_table *t = &g->tables[id], *n = &g->next[id];
    int32_t shared = t->count ? t->count - g->dropped[id] : 0;
    give_pages(g, n->pages + shared, n->count - shared);
    n->count = 0;
}

void kv_group_truncate(kv_group *g, int id, int32_t rows) {
    kv_table *t = &g->tables[id];
    int32_t pages = pages_for(rows, g->page_rows);
    if (!rows) pages = 0;
    give_pages(g, t->pages + pages, t->count - pages);
    t->count = pages;
    t->past = rows;
    if (!rows) t->skip = 0;
}
