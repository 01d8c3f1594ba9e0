/* Pages and page tables of one group; see kv_group.h. */
#include "model/cache/kv_group.h"

#include "model/ranks/rank_group.h"

#include <stdlib.h>
#include <string.h>

static int32_t pages_for(int64_t rows, int32_t page_rows) {
    return (int32_t)((rows + page_rows - 1) / page_rows);
}

static int32_t sink_pages(const kv_group *g) {
    return pages_for(g->sinks, g->page_rows);
}

/* `pages` pages of one slot's keys or values, without memory. */
static view part(const kv_group *g, int slot, int64_t width, int64_t pages) {
    view v = {NULL, pages * g->page_rows, width, g->type};
    if (g->type == DTYPE_KV_INT8) v.group = (int32_t)g->head_dim[slot];
    return v;
}

static size_t part_bytes(view v) {
    return view_bytes(v) + view_scale_bytes(v);
}

size_t kv_group_slot_page_bytes(const kv_group *g, int slot) {
    return part_bytes(part(g, slot, g->k_width[slot], 1)) + part_bytes(part(g, slot, g->v_width[slot], 1));
}

size_t kv_group_page_bytes(const kv_group *g) {
    size_t bytes = 0;
    for (int i = 0; i < g->slots; i++) bytes += kv_group_slot_page_bytes(g, i);
    return bytes;
}

size_t kv_group_bytes(const kv_group *g) {
    return (size_t)g->capacity * kv_group_page_bytes(g);
}

int64_t kv_group_held_pages(const kv_group *g, int64_t rows) {
    if (!rows) return 0;
    int64_t recent = rows > g->sinks ? rows - g->sinks : 0, gone = recent > g->keep ? recent - g->keep : 0;
    int64_t pages = (recent + g->page_rows - 1) / g->page_rows - gone / g->page_rows;
    return sink_pages(g) + (recent > gone ? pages : 0);
}

/* The list may start inside a page and then needs one more. While a table and its successor exist, pages of either
 * count; if rows are dropped, they may have none in common. */
int64_t kv_group_max_pages(const kv_group *g, int64_t rows) {
    int64_t sinks = sink_pages(g), recent = rows > g->sinks ? rows - g->sinks : 0;
    int64_t all = recent / g->page_rows + 2, kept = 2 * (g->keep / g->page_rows + 2);
    return sinks + (all < kept ? all : kept);
}

int64_t kv_group_available(const kv_group *g) {
    int64_t pages = (int64_t)g->max_capacity - g->capacity + g->free_count + g->snapshot_only;
    for (int i = 0; i < g->sequences; i++) {
        int64_t held = g->tables[i].count > g->prefix[i] ? g->tables[i].count : g->prefix[i];
        if (g->reserved[i] > held) pages -= g->reserved[i] - held;
    }
    return pages;
}

int64_t kv_group_shared(const kv_group *g) {
    int64_t pages = 0;
    for (int32_t i = 0; i < g->capacity; i++) pages += g->active[i] > 1;
    return pages;
}

/* ---------------------------------------------------------------- memory */

/* Carves one allocation into the pages of each slot. Scales come first, so that they are aligned for any width. */
static void carve(kv_group *g, char *memory, view *k, view *v) {
    for (int i = 0; i < g->slots; i++) {
        k[i] = part(g, i, g->k_width[i], g->capacity);
        v[i] = part(g, i, g->v_width[i], g->capacity);
        if (k[i].group) k[i].scales = memory, v[i].scales = memory + view_scale_bytes(k[i]);
        memory += view_scale_bytes(k[i]) + view_scale_bytes(v[i]);
    }
    for (int i = 0; i < g->slots; i++) {
        k[i].data = memory;
        v[i].data = memory + view_bytes(k[i]);
        memory += view_bytes(k[i]) + view_bytes(v[i]);
    }
}

/* Copies the contents of the old pages; further rows stay undefined. */
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

static int lengthen(int32_t **list, int32_t from, int32_t to) {
    int32_t *longer = realloc(*list, (size_t)to * sizeof *longer);
    REQUIRE(longer, LCKV_ERROR_MEMORY, "no memory for the KV cache's list of %d pages", to);
    memset(longer + from, 0, (size_t)(to - from) * sizeof *longer);
    *list = longer;
    return LCKV_OK;
}

int kv_group_grow(kv_group *g, int32_t pages) {
    int32_t old = g->capacity;
    TRY(lengthen(&g->free, old, pages));
    TRY(lengthen(&g->uses, old, pages));
    TRY(lengthen(&g->active, old, pages));
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
    for (int32_t page = pages - 1; page >= old; page--) g->free[g->free_count++] = page; /* low pages are used first */
    return g->ranks ? rank_group_cache_grown(g->ranks, g->cache_id, g->index, pages) : LCKV_OK;
}

int kv_group_create(const kv_group *shape, int sequences, int snapshots, int32_t pages, int32_t max_pages,
                    kv_group *out) {
    *out = *shape;
    out->sequences = sequences;
    out->snapshots = snapshots;
    out->max_capacity = max_pages;
    out->tables = calloc((size_t)(sequences + snapshots), sizeof *out->tables);
    out->next = calloc((size_t)sequences, sizeof *out->next);
    out->reserved = calloc((size_t)sequences, sizeof *out->reserved);
    out->prefix = calloc((size_t)sequences, sizeof *out->prefix);
    int status = out->tables && out->next && out->reserved && out->prefix
                     ? kv_group_grow(out, pages)
                     : fail(LCKV_ERROR_MEMORY, "no memory for the KV cache's tables of %d sequences", sequences);
    if (status < 0) kv_group_free(out);
    return status;
}

void kv_group_free(kv_group *g) {
    for (int i = 0; g->tables && i < g->sequences + g->snapshots; i++) free(g->tables[i].pages);
    for (int i = 0; g->next && i < g->sequences; i++) free(g->next[i].pages);
    if (g->memory) g->device->memory.release(g->device, g->memory);
    free(g->tables);
    free(g->next);
    free(g->reserved);
    free(g->prefix);
    free(g->free);
    free(g->uses);
    free(g->active);
    free(g->k);
    *g = (kv_group){0};
}

/* ---------------------------------------------------------------- pages */

static bool is_snapshot(const kv_group *g, int id) {
    return id >= g->sequences;
}

static int32_t use_page(kv_group *g, int id, int32_t page) {
    if (!is_snapshot(g, id) && g->uses[page] && !g->active[page]) g->snapshot_only--;
    if (is_snapshot(g, id) && !g->uses[page]) g->snapshot_only++;
    g->uses[page]++;
    g->active[page] += !is_snapshot(g, id);
    return page;
}

static void leave_page(kv_group *g, int id, int32_t page) {
    g->uses[page]--;
    g->active[page] -= !is_snapshot(g, id);
    if (!g->uses[page]) g->free[g->free_count++] = page;
    if (!is_snapshot(g, id) && g->uses[page] && !g->active[page]) g->snapshot_only++;
    if (is_snapshot(g, id) && !g->uses[page]) g->snapshot_only--;
}

static void leave_pages(kv_group *g, int id, const int32_t *pages, int32_t count) {
    for (int32_t i = count - 1; i >= 0; i--) leave_page(g, id, pages[i]);
}

static int reserve_pages(kv_group *g, int32_t needed) {
    while (needed > g->free_count && g->evict && g->evict(g->user)) continue;
    if (needed <= g->free_count) return LCKV_OK;
    int64_t pages = (int64_t)g->capacity - g->free_count + needed;
    REQUIRE(pages <= g->max_capacity, LCKV_ERROR_MEMORY,
            "the KV cache is full: %lld pages of %d tokens are needed, %d are allowed", (long long)pages, g->page_rows,
            g->max_capacity);
    if (pages < 2 * (int64_t)g->capacity) pages = 2 * (int64_t)g->capacity;
    return kv_group_grow(g, pages < g->max_capacity ? (int32_t)pages : g->max_capacity);
}

static int reserve_table(kv_table *t, int32_t pages) {
    if (pages <= t->capacity) return LCKV_OK;
    int32_t *fresh = realloc(t->pages, 2 * (size_t)pages * sizeof *fresh);
    REQUIRE(fresh, LCKV_ERROR_MEMORY, "no memory for a page table of %d pages", pages);
    t->pages = fresh;
    t->capacity = 2 * pages;
    return LCKV_OK;
}

/* The successor of a table in numbers. Recent row r of the list is row r + skip of the table's recent pages. */
typedef struct successor {
    int32_t first;  /* recent page of the table that is the successor's first; may be past the table's end */
    int32_t pages;  /* recent pages of the successor */
    int32_t shared; /* of these, pages that the table has too */
    int32_t past, skip;
    int64_t gone; /* recent rows of the table's list that the successor drops */
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

/* ---------------------------------------------------------------- tables */

/* Whether new rows of a table are written to a page that it already has: entry `i` of the sink pages, or the page in
 * which its list ends. */
static bool writes_sink_page(const kv_group *g, const kv_table *t, int32_t i) {
    int64_t end = (int64_t)(i + 1) * g->page_rows;
    return t->past < (end < g->sinks ? end : g->sinks);
}

static bool writes_last_page(const kv_group *g, const kv_table *t, const successor *s) {
    int64_t at = (int64_t)t->past - g->sinks + t->skip;
    bool begins_inside = t->past > g->sinks && at % g->page_rows != 0;
    return begins_inside && s->shared > 0 && at / g->page_rows == s->first + s->shared - 1;
}

int kv_group_copy_page(kv_group *g, int32_t from, int32_t to) {
    for (int i = 0; i < 2 * g->slots; i++) {
        view pages = i < g->slots ? g->k[i] : g->v[i - g->slots];
        view src = view_rows(pages, (int64_t)from * g->page_rows, g->page_rows);
        view dst = view_rows(pages, (int64_t)to * g->page_rows, g->page_rows);
        TRY(DEVICE_RUN(g->device, cast, &(struct op_cast){src, dst}));
    }
    return g->ranks ? rank_group_page_copied(g->ranks, g->cache_id, g->index, from, to) : LCKV_OK;
}

/* The successor's page in place of `page`; a fresh copy if other tables have the page too. */
static int32_t page_to_write(kv_group *g, int id, int32_t page, int *status) {
    if (g->uses[page] == 1) return use_page(g, id, page);
    int32_t fresh = use_page(g, id, g->free[--g->free_count]);
    if (*status >= 0) *status = kv_group_copy_page(g, page, fresh);
    return fresh;
}

/* Number of pages that the successor needs. */
static int32_t count_fresh(const kv_group *g, const kv_table *t, const successor *s) {
    int32_t sinks = sink_pages(g), fresh = s->pages - s->shared;
    if (!t->count) return fresh + sinks;
    for (int32_t i = 0; i < sinks; i++) fresh += writes_sink_page(g, t, i) && g->uses[t->pages[i]] > 1;
    if (writes_last_page(g, t, s)) fresh += g->uses[t->pages[t->count - 1]] > 1;
    return fresh;
}

int kv_group_prepare(kv_group *g, int id, int32_t rows) {
    const kv_table *t = &g->tables[id];
    kv_table *n = &g->next[id];
    successor s = succeed(g, t, rows);
    int32_t sinks = sink_pages(g);
    int status = LCKV_OK;
    TRY(reserve_pages(g, count_fresh(g, t, &s)));
    TRY(reserve_table(n, sinks + s.pages + 1));
    n->count = 0;
    for (int32_t i = 0; i < sinks; i++)
        n->pages[n->count++] = !t->count                   ? use_page(g, id, g->free[--g->free_count])
                               : writes_sink_page(g, t, i) ? page_to_write(g, id, t->pages[i], &status)
                                                           : use_page(g, id, t->pages[i]);
    for (int32_t i = 0; i < s.pages; i++) {
        int32_t page = i < s.shared ? t->pages[sinks + s.first + i] : g->free[--g->free_count];
        bool writes = i == s.shared - 1 && writes_last_page(g, t, &s);
        n->pages[n->count++] = writes ? page_to_write(g, id, page, &status) : use_page(g, id, page);
    }
    n->past = s.past;
    n->skip = s.skip;
    if (status < 0) kv_group_rollback(g, id);
    return status;
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

void kv_group_commit(kv_group *g, int id) {
    kv_table *t = &g->tables[id], *n = &g->next[id], old = *t;
    leave_pages(g, id, t->pages, t->count);
    *t = *n;
    *n = old;
    n->count = 0;
}

void kv_group_rollback(kv_group *g, int id) {
    kv_table *n = &g->next[id];
    leave_pages(g, id, n->pages, n->count);
    n->count = 0;
}

int kv_group_copy(kv_group *g, int from, int to) {
    const kv_table *t = &g->tables[from];
    kv_table *copy = &g->tables[to];
    TRY(reserve_table(copy, t->count));
    for (int32_t i = 0; i < t->count; i++) copy->pages[i] = use_page(g, to, t->pages[i]);
    copy->count = t->count;
    copy->past = t->past;
    copy->skip = t->skip;
    return LCKV_OK;
}

void kv_group_truncate(kv_group *g, int id, int32_t rows) {
    kv_table *t = &g->tables[id];
    int32_t pages = pages_for(rows, g->page_rows);
    if (!rows) pages = 0;
    if (t->count > pages) leave_pages(g, id, t->pages + pages, t->count - pages);
    t->count = pages;
    t->past = rows;
    if (!rows) t->skip = 0;
}
