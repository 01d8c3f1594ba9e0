/* The KV cache: groups of slots, and sequences; see kv_cache.h. kv_group.c manages pages. */
#include "model/cache/kv_cache.h"

#include "model/cache/kv_group.h"
#include "model/ranks/rank_group.h"

#include <stdlib.h>
#include <string.h>

typedef struct cached_sequence {
    bool taken;
    int64_t position;
    int32_t pending; /* rows between prepare and commit; 0: none */
} cached_sequence;

struct kv_cache {
    kv_cache_options options;
    size_t plain_token; /* bytes of keys and values of one token if every layer had its own */
    kv_group groups[KV_MAX_GROUPS];
    int group_count;
    int *group_of_slot, *index_in_group; /* [slots] */
    int64_t *widths;            /* of keys, then of values, then head sizes: [slots] each, the slots of group 0 first */
    cached_sequence *sequences; /* [sequences + snapshots]; snapshots last */
    int *free_snapshots;        /* [free_snapshot_count] unused snapshots */
    int free_snapshot_count;
    rank_group *ranks; /* which have the same pages; NULL: none */
    int id;            /* on these ranks; 0: none */
};

kv_cache_options kv_cache_defaults(void) {
    return (kv_cache_options){.sequences = 1, .type = DTYPE_F32, .page_rows = 16};
}

int kv_cache_choose_type(const device *d, dtype compute, const char *name, dtype *out) {
    static const struct {
        const char *name;
        dtype type;
    } types[] = {{"float32", DTYPE_F32}, {"bfloat16", DTYPE_BF16}, {"int8", DTYPE_KV_INT8}};
    *out = compute;
    if (!name || !strcmp(name, "auto")) return LCKV_OK;
    *out = DTYPE_COUNT;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(name, types[i].name)) *out = types[i].type;
    REQUIRE(*out != DTYPE_COUNT, LCKV_ERROR_ARGUMENT,
            "kv_dtype: expected auto, float32, bfloat16 or int8, found \"%.40s\"", name);
    REQUIRE(*out != DTYPE_F32 || compute == DTYPE_F32, LCKV_ERROR_ARGUMENT,
            "kv_dtype float32: keys and values are computed in %s; use kv_dtype auto", dtype_name(compute));
    REQUIRE(*out == compute || (d->formats.attention & DTYPE_BIT(*out)), LCKV_ERROR_UNSUPPORTED,
            "kv_dtype %s: device %s stores keys and values in the type of computation only (%s); use kv_dtype auto",
            name, d->name, dtype_name(compute));
    return LCKV_OK;
}

static int check_options(const kv_cache_options *o) {
    REQUIRE(o->sequences > 0, LCKV_ERROR_ARGUMENT, "a KV cache needs at least 1 sequence, found %d", o->sequences);
    REQUIRE(o->page_rows > 0 && !(o->page_rows & (o->page_rows - 1)), LCKV_ERROR_ARGUMENT,
            "page_rows should be a power of two, found %d", o->page_rows);
    REQUIRE(o->window_length >= 0 && o->window_length < INT32_MAX / 2, LCKV_ERROR_ARGUMENT,
            "window_length %lld is out of range", (long long)o->window_length);
    REQUIRE(!o->window_length || (o->sinks >= 0 && o->sinks < o->window_length), LCKV_ERROR_ARGUMENT,
            "the sinks (%lld) should be fewer than window_length (%lld)", (long long)o->sinks,
            (long long)o->window_length);
    return LCKV_OK;
}

/* Slots with the same policy share a group: group 0 has the slots that keep all rows (or are sink slots), the last one
 * those with windows. */
static bool is_windowed(const kv_cache *c, const layer_map *map, int slot) {
    return !c->options.window_length && map->slot[slot].windowed;
}

/* Adds a group of the windowed slots, or of the others, if there are any; *first is the number of slots before it. */
static void add_group(kv_cache *c, const layer_map *map, bool windowed, int *first) {
    kv_group *g = &c->groups[c->group_count];
    int64_t max_window = 0;
    *g = (kv_group){.k_width = c->widths + *first,
                    .v_width = c->widths + map->slots + *first,
                    .head_dim = c->widths + 2 * map->slots + *first};
    for (int s = 0; s < map->slots; s++) {
        if (is_windowed(c, map, s) != windowed) continue;
        c->group_of_slot[s] = c->group_count;
        c->index_in_group[s] = g->slots++;
        c->widths[2 * map->slots + *first] = map->layer[map->slot[s].layer].head_dim;
        c->widths[*first] = layer_map_k_width(map, s);
        c->widths[map->slots + (*first)++] = layer_map_v_width(map, s);
        if (map->slot[s].max_window > max_window) max_window = map->slot[s].max_window;
    }
    g->keep = windowed ? max_window - 1 : INT32_MAX;
    if (g->slots) c->group_count++;
}

/* Bytes of the keys, or the values, of one token in a layer of its own. */
static size_t row_bytes(dtype type, const layer_description *l) {
    view row = {NULL, 1, layer_kv_width(l), type};
    if (type == DTYPE_KV_INT8) row.group = l->head_dim;
    return view_bytes(row) + view_scale_bytes(row);
}

static int assign_slots(kv_cache *c, const layer_map *map) {
    int first = 0;
    c->group_of_slot = calloc((size_t)map->slots, sizeof *c->group_of_slot);
    c->index_in_group = calloc((size_t)map->slots, sizeof *c->index_in_group);
    c->widths = calloc(3 * (size_t)map->slots, sizeof *c->widths);
    REQUIRE(c->group_of_slot && c->index_in_group && c->widths, LCKV_ERROR_MEMORY,
            "no memory for the KV cache's list of slots");
    add_group(c, map, false, &first);
    add_group(c, map, true, &first);
    for (int i = 0; i < map->layers; i++) c->plain_token += 2 * row_bytes(c->options.type, &map->layer[i]);
    return LCKV_OK;
}

static void free_slots(kv_cache *c) {
    free(c->group_of_slot);
    free(c->index_in_group);
    free(c->widths);
}

static kv_group group_shape(const kv_cache *c, const model *m, int i) {
    const kv_cache_options *o = &c->options;
    const kv_group *g = &c->groups[i];
    kv_group shape = {.device = m->device,
                      .type = o->type,
                      .k_width = g->k_width,
                      .v_width = g->v_width,
                      .head_dim = g->head_dim,
                      .page_rows = o->page_rows,
                      .keep = g->keep,
                      .slots = g->slots};
    if (o->window_length) {
        shape.sinks = (int32_t)o->sinks;
        shape.keep = o->window_length - o->sinks;
    }
    return shape;
}

/* Initial and maximum numbers of pages. A group that drops rows begins with what its sequences can hold. */
static int count_pages(const kv_cache_options *o, const kv_group *shape, int64_t *pages, int64_t *max_pages) {
    /* a sequence may begin and end inside a page, and has pages of its own for its sinks */
    int64_t extra = (int64_t)o->sequences * 2, limit = INT32_MAX / o->page_rows;
    int64_t held = o->sequences * kv_group_max_pages(shape, o->rows);
    *pages = o->rows / o->page_rows + extra;
    if (*pages > held) *pages = held;
    *max_pages = o->max_rows ? (o->max_rows + o->page_rows - 1) / o->page_rows + extra : limit;
    REQUIRE(*pages <= limit && *pages <= *max_pages, LCKV_ERROR_ARGUMENT, "a KV cache of %lld tokens is out of range",
            (long long)o->rows);
    if (*max_pages > limit) *max_pages = limit;
    return LCKV_OK;
}

/* Divides max_bytes. A group that drops rows gets what all its sequences can hold, unless the other group would get
 * less. */
static void divide_bytes(const kv_cache *c, const kv_group *shapes, int64_t pages[KV_MAX_GROUPS]) {
    const kv_cache_options *o = &c->options;
    int64_t limit = INT32_MAX / o->page_rows, each = 0, left = (int64_t)o->max_bytes;
    for (int i = 0; i < c->group_count; i++) each += (int64_t)kv_group_page_bytes(&shapes[i]);
    for (int i = c->group_count - 1; i >= 0; i--) {
        int64_t page_bytes = (int64_t)kv_group_page_bytes(&shapes[i]), equal = left / each;
        int64_t enough = o->sequences * kv_group_max_pages(&shapes[i], INT32_MAX / 2);
        pages[i] = equal < enough ? equal : enough;
        if (pages[i] > limit) pages[i] = limit;
        left -= pages[i] * page_bytes;
        each -= page_bytes;
    }
}

/* `fixed`: numbers of pages; NULL: they follow from the options. */
static int create_groups(kv_cache *c, const model *m, const int32_t *fixed) {
    const kv_cache_options *o = &c->options;
    kv_group shapes[KV_MAX_GROUPS];
    int64_t pages[KV_MAX_GROUPS], max_pages[KV_MAX_GROUPS];
    for (int i = 0; i < c->group_count; i++) shapes[i] = group_shape(c, m, i);
    if (o->max_bytes) divide_bytes(c, shapes, pages);
    for (int i = 0; i < c->group_count; i++) {
        if (fixed)
            pages[i] = fixed[i], max_pages[i] = INT32_MAX;
        else if (o->max_bytes)
            max_pages[i] = pages[i];
        else
            TRY(count_pages(o, &shapes[i], &pages[i], &max_pages[i]));
        REQUIRE(pages[i] > 0, LCKV_ERROR_ARGUMENT, "a KV cache of %zu bytes has no room for a page of %d tokens",
                o->max_bytes, o->page_rows);
        TRY(kv_group_create(&shapes[i], o->sequences, o->snapshots, (int32_t)pages[i], (int32_t)max_pages[i],
                            &c->groups[i]));
    }
    return LCKV_OK;
}

static int create(kv_cache *c, const model *m, const int32_t *fixed) {
    c->sequences = calloc((size_t)(c->options.sequences + c->options.snapshots), sizeof *c->sequences);
    c->free_snapshots = malloc(((size_t)c->options.snapshots + 1) * sizeof *c->free_snapshots);
    REQUIRE(c->sequences && c->free_snapshots, LCKV_ERROR_MEMORY, "no memory for %d cached sequences",
            c->options.sequences);
    for (int i = c->options.snapshots; i > 0; i--)
        c->free_snapshots[c->free_snapshot_count++] = c->options.sequences + i - 1;
    TRY(assign_slots(c, &m->config->map));
    return create_groups(c, m, fixed);
}

/* From here on, the other ranks do what this cache does to its pages. */
static int create_on_ranks(kv_cache *c, rank_group *ranks) {
    TRY(rank_group_cache_created(ranks, c, &c->id));
    c->ranks = ranks;
    for (int i = 0; i < c->group_count; i++) {
        c->groups[i].ranks = ranks;
        c->groups[i].cache_id = c->id;
        c->groups[i].index = i;
    }
    return LCKV_OK;
}

/* Bytes of `rows` tokens in whole pages if every layer had its own keys and values. */
static int64_t plain_bytes_of(const kv_cache *c, int64_t rows) {
    int64_t page_rows = c->options.page_rows;
    return (rows + page_rows - 1) / page_rows * page_rows * (int64_t)c->plain_token;
}

int kv_cache_bytes_for(const model *m, const kv_cache_options *options, int64_t sequences, int64_t rows,
                       kv_cache_need *out) {
    kv_cache c = {.options = *options};
    double count = (double)sequences;
    *out = (kv_cache_need){0};
    TRY(check_options(options));
    int status = assign_slots(&c, &m->config->map);
    for (int i = 0; status >= 0 && i < c.group_count; i++) {
        kv_group shape = group_shape(&c, m, i);
        double page_bytes = (double)kv_group_page_bytes(&shape);
        out->held += count * (double)kv_group_held_pages(&shape, rows) * page_bytes;
        out->reserved += count * (double)kv_group_max_pages(&shape, rows) * page_bytes;
    }
    out->plain = count * (double)plain_bytes_of(&c, rows);
    free_slots(&c);
    return status;
}

static int create_with(const model *m, const kv_cache_options *options, const int32_t *fixed, kv_cache **out) {
    *out = NULL;
    TRY(check_options(options));
    kv_cache *c = calloc(1, sizeof *c);
    REQUIRE(c, LCKV_ERROR_MEMORY, "no memory for a KV cache");
    c->options = *options;
    int status = create(c, m, fixed);
    if (status >= 0 && m->ranks && !fixed) status = create_on_ranks(c, m->ranks);
    if (status < 0)
        kv_cache_free(c);
    else
        *out = c;
    return status;
}

int kv_cache_create(const model *m, const kv_cache_options *options, kv_cache **out) {
    return create_with(m, options, NULL, out);
}

int kv_cache_create_pages(const model *m, const kv_cache_options *options, const int32_t *pages, kv_cache **out) {
    kv_cache_options o = *options;
    o.sequences = 1;
    o.snapshots = 0;
    o.max_bytes = 0;
    return create_with(m, &o, pages, out);
}

kv_cache_options kv_cache_options_of(const kv_cache *c) {
    return c->options;
}

int32_t kv_cache_group_pages(const kv_cache *c, int group) {
    return c->groups[group].capacity;
}

int kv_cache_id(const kv_cache *c) {
    return c->id;
}

int kv_cache_grow_group(kv_cache *c, int group, int32_t pages) {
    return kv_group_grow(&c->groups[group], pages);
}

int kv_cache_copy_page(kv_cache *c, int group, int32_t from, int32_t to) {
    return kv_group_copy_page(&c->groups[group], from, to);
}

void kv_cache_free(kv_cache *c) {
    if (!c) return;
    if (c->ranks) rank_group_cache_freed(c->ranks, c->id);
    for (int i = 0; i < KV_MAX_GROUPS; i++) kv_group_free(&c->groups[i]);
    free_slots(c);
    free(c->sequences);
    free(c->free_snapshots);
    free(c);
}

int kv_cache_add(kv_cache *c, int *id) {
    for (*id = 0; *id < c->options.sequences; (*id)++) {
        if (c->sequences[*id].taken) continue;
        c->sequences[*id] = (cached_sequence){.taken = true};
        return LCKV_OK;
    }
    *id = -1;
    return fail(LCKV_ERROR_MEMORY, "all %d sequences of the KV cache are in use", c->options.sequences);
}

void kv_cache_remove(kv_cache *c, int id) {
    if (c->sequences[id].pending) kv_cache_rollback(c);
    for (int i = 0; i < c->group_count; i++) {
        kv_group_truncate(&c->groups[i], id, 0);
        if (id < c->options.sequences) c->groups[i].reserved[id] = c->groups[i].prefix[id] = 0;
    }
    if (id >= c->options.sequences && c->sequences[id].taken) c->free_snapshots[c->free_snapshot_count++] = id;
    c->sequences[id] = (cached_sequence){0};
}

static bool is_bounded(const kv_cache *c) {
    return c->options.max_bytes || c->options.max_rows;
}

/* Full pages of a shared prefix that a sequence does not have to allocate itself. */
static int64_t prefix_pages(const kv_group *g, int64_t prefix) {
    return g->keep == INT32_MAX ? prefix / g->page_rows : 0;
}

bool kv_cache_can_hold(const kv_cache *c, int count, int64_t rows, int64_t prefix) {
    for (int i = 0; is_bounded(c) && i < c->group_count; i++) {
        const kv_group *g = &c->groups[i];
        int64_t each = kv_group_max_pages(g, rows);
        if (each + (count - 1) * (each - prefix_pages(g, prefix)) > g->max_capacity) return false;
    }
    return true;
}

bool kv_cache_reserve(kv_cache *c, int id, int64_t rows, int64_t prefix) {
    bool fits = true;
    if (!is_bounded(c)) return true;
    for (int i = 0; i < c->group_count; i++) {
        kv_group *g = &c->groups[i];
        g->reserved[id] = kv_group_max_pages(g, rows);
        g->prefix[id] = prefix_pages(g, prefix);
        fits = fits && kv_group_available(g) >= 0;
    }
    for (int i = 0; !fits && i < c->group_count; i++) c->groups[i].reserved[id] = c->groups[i].prefix[id] = 0;
    return fits;
}

int kv_cache_copy(kv_cache *c, int from, int to) {
    for (int i = 0; i < c->group_count; i++) {
        int status = kv_group_copy(&c->groups[i], from, to);
        if (status >= 0) continue;
        while (i--) kv_group_truncate(&c->groups[i], to, 0);
        return status;
    }
    c->sequences[to].position = c->sequences[from].position;
    return LCKV_OK;
}

int kv_cache_snapshot(kv_cache *c, int from, int64_t position, int *id) {
    *id = -1;
    REQUIRE(c->free_snapshot_count, LCKV_ERROR_MEMORY, "all %d snapshots of the KV cache are in use",
            c->options.snapshots);
    *id = c->free_snapshots[c->free_snapshot_count - 1];
    TRY(kv_cache_copy(c, from, *id));
    c->free_snapshot_count--;
    c->sequences[*id].taken = true;
    return position < c->sequences[*id].position ? kv_cache_truncate(c, *id, position) : LCKV_OK;
}

void kv_cache_set_evict(kv_cache *c, bool (*evict)(void *user), void *user) {
    for (int i = 0; i < c->group_count; i++) {
        c->groups[i].evict = evict;
        c->groups[i].user = user;
    }
}

static int64_t used_pages(const kv_group *g) {
    return (int64_t)g->capacity - g->free_count - g->snapshot_only;
}

static int64_t plain_bytes(const kv_cache *c) {
    int64_t bytes = 0;
    for (int i = 0; i < c->options.sequences; i++) bytes += plain_bytes_of(c, c->sequences[i].position);
    return bytes;
}

kv_cache_usage kv_cache_used(const kv_cache *c) {
    kv_cache_usage u = {.plain_bytes = plain_bytes(c)};
    for (int i = 0; i < c->group_count; i++) {
        const kv_group *g = &c->groups[i];
        int64_t used = used_pages(g);
        u.pages += g->capacity;
        u.used_pages += used;
        u.shared_pages += kv_group_shared(g);
        u.snapshot_pages += g->snapshot_only;
        u.used_bytes += used * (int64_t)kv_group_page_bytes(g);
    }
    return u;
}

int64_t kv_cache_used_by_slot(const kv_cache *c, int slot) {
    const kv_group *g = &c->groups[c->group_of_slot[slot]];
    return used_pages(g) * (int64_t)kv_group_slot_page_bytes(g, c->index_in_group[slot]);
}

int64_t kv_cache_position(const kv_cache *c, int id) {
    return c->sequences[id].position;
}

dtype kv_cache_type(const kv_cache *c) {
    return c->options.type;
}

bool kv_cache_has_sinks(const kv_cache *c) {
    return c->options.window_length > 0;
}

size_t kv_cache_bytes(const kv_cache *c) {
    size_t bytes = 0;
    for (int i = 0; i < c->group_count; i++) bytes += kv_group_bytes(&c->groups[i]);
    return bytes;
}

int64_t kv_cache_generation(const kv_cache *c) {
    int64_t moves = 0;
    for (int i = 0; i < c->group_count; i++) moves += c->groups[i].moves;
    return moves;
}

int kv_cache_prepare(kv_cache *c, int id, int32_t rows) {
    REQUIRE(id >= 0 && id < c->options.sequences && c->sequences[id].taken && !c->sequences[id].pending,
            LCKV_ERROR_ARGUMENT, "sequence %d is not in the KV cache, or is twice in a batch", id);
    REQUIRE(rows > 0, LCKV_ERROR_ARGUMENT, "sequence %d has %d new rows", id, rows);
    int64_t window = c->options.window_length, after = (int64_t)c->groups[0].tables[id].past + rows;
    REQUIRE(!window || rows == 1 || after <= window, LCKV_ERROR_ARGUMENT,
            "a sink cache of window %lld takes one token at a time once it is full, found %d", (long long)window, rows);
    REQUIRE(after < INT32_MAX / 2, LCKV_ERROR_ARGUMENT, "a sequence of %lld cached tokens is too long",
            (long long)after);
    for (int i = 0; i < c->group_count; i++) {
        int status = kv_group_prepare(&c->groups[i], id, rows);
        if (status >= 0) continue;
        while (i--) kv_group_rollback(&c->groups[i], id);
        return status;
    }
    c->sequences[id].pending = rows;
    return LCKV_OK;
}

void kv_cache_commit(kv_cache *c) {
    for (int id = 0; id < c->options.sequences; id++) {
        cached_sequence *s = &c->sequences[id];
        if (!s->pending) continue;
        for (int i = 0; i < c->group_count; i++) kv_group_commit(&c->groups[i], id);
        s->position += s->pending;
        s->pending = 0;
    }
}

void kv_cache_rollback(kv_cache *c) {
    for (int id = 0; id < c->options.sequences; id++) {
        cached_sequence *s = &c->sequences[id];
        if (!s->pending) continue;
        for (int i = 0; i < c->group_count; i++) kv_group_rollback(&c->groups[i], id);
        s->pending = 0;
    }
}

bool kv_cache_can_truncate(const kv_cache *c) {
    return c->group_count == 1 && !c->options.window_length && c->groups[0].keep == INT32_MAX;
}

int kv_cache_truncate(kv_cache *c, int id, int64_t position) {
    cached_sequence *s = &c->sequences[id];
    REQUIRE(kv_cache_can_truncate(c), LCKV_ERROR_UNSUPPORTED, "a KV cache with windows or sinks cannot be truncated");
    REQUIRE(position >= 0 && position <= s->position && !s->pending, LCKV_ERROR_ARGUMENT,
            "a sequence of %lld tokens cannot be truncated to %lld", (long long)s->position, (long long)position);
    kv_group_truncate(&c->groups[0], id, (int32_t)position);
    s->position = position;
    return LCKV_OK;
}

int kv_cache_skip(kv_cache *c, int id, int64_t tokens) {
    cached_sequence *s = &c->sequences[id];
    REQUIRE(c->options.window_length && s->position == c->options.sinks && !s->pending, LCKV_ERROR_ARGUMENT,
            "only a sink cache that holds exactly its %lld sinks can skip tokens", (long long)c->options.sinks);
    REQUIRE(tokens >= 0 && tokens <= INT64_MAX / 2, LCKV_ERROR_ARGUMENT, "%lld tokens cannot be skipped",
            (long long)tokens);
    s->position += tokens;
    return LCKV_OK;
}

int kv_cache_groups(const kv_cache *c) {
    return c->group_count;
}

int kv_cache_group_of_slot(const kv_cache *c, int slot) {
    return c->group_of_slot[slot];
}

int32_t kv_cache_table_pages(const kv_cache *c) {
    int32_t max_pages = 0;
    for (int i = 0; i < c->group_count; i++)
        for (int id = 0; id < c->options.sequences; id++)
            if (c->groups[i].tables[id].count > max_pages) max_pages = c->groups[i].tables[id].count;
    return max_pages;
}

void kv_cache_place(const kv_cache *c, int group, int id, attention_sequence *s, int32_t *table, int64_t *destination) {
    const kv_group *g = &c->groups[group];
    const kv_table *t = &g->tables[id];
    s->past = t->past;
    s->sinks = g->sinks;
    s->skip = t->skip;
    if (t->count) memcpy(table, t->pages, (size_t)t->count * sizeof *table);
    kv_group_destinations(g, id, c->sequences[id].pending, destination);
}

struct kv_pages kv_cache_pages(const kv_cache *c, int k_slot, int v_slot) {
    const kv_group *g = &c->groups[c->group_of_slot[k_slot]];
    return (struct kv_pages){
        .k = g->k[c->index_in_group[k_slot]], .v = g->v[c->index_in_group[v_slot]], .page_rows = g->page_rows};
}
