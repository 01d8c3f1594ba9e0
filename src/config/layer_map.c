/* Reads layer_types into layer descriptions, slots, loops and the plan; see layer_map.h. */
#include "config/layer_map.h"

#include "base/text/text_buffer.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_DIGITS = 9, QUOTED_ENTRY = 60 };

/* ---------------------------------------------------------------- memory */

static int allocate(layer_map *map, int layers) {
    *map = (layer_map){0};
    REQUIRE(layers >= 1 && layers <= LAYER_MAP_MAX_LAYERS, LCKV_ERROR_ARGUMENT, "expected 1 to %d layers, found %d",
            LAYER_MAP_MAX_LAYERS, layers);
    layer_map made = {.layers = layers,
                      .layer = calloc((size_t)layers, sizeof *made.layer),
                      .slot = calloc((size_t)layers, sizeof *made.slot)};
    if (!made.layer || !made.slot) {
        layer_map_free(&made);
        return fail(LCKV_ERROR_MEMORY, "no memory for a map of %d layers", layers);
    }
    *map = made;
    return LCKV_OK;
}

void layer_map_free(layer_map *map) {
    free(map->layer);
    free(map->slot);
    *map = (layer_map){0};
}

int layer_map_copy(const layer_map *map, layer_map *out) {
    TRY(allocate(out, map->layers));
    memcpy(out->layer, map->layer, (size_t)map->layers * sizeof *out->layer);
    memcpy(out->slot, map->slot, (size_t)map->layers * sizeof *out->slot);
    out->slots = map->slots;
    out->loops = map->loops;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- what follows from sources and windows */

static int highest_source(const layer_description *l) {
    return l->k_source > l->v_source ? l->k_source : l->v_source;
}

/* The last layer of the loop that starts at `first`. A loop is the smallest range whose layers read no slot above
 * it. */
static int loop_last(const layer_map *map, int first) {
    int last = highest_source(&map->layer[first]);
    for (int i = first; i <= last; i++)
        if (highest_source(&map->layer[i]) > last) last = highest_source(&map->layer[i]);
    return last;
}

/* The last layer of the range without loops that starts at `first`. */
static int straight_last(const layer_map *map, int first) {
    int last = first;
    while (last + 1 < map->layers && !map->layer[last + 1].looks_up) last++;
    return last;
}

static void assign_slots(layer_map *map) {
    for (int i = 0; i < map->layers; i++) map->layer[i].slot = -1;
    for (int i = 0; i < map->layers; i++) { /* mark owners; numbers follow */
        map->layer[map->layer[i].k_source].slot = 0;
        map->layer[map->layer[i].v_source].slot = 0;
    }
    for (int i = 0; i < map->layers; i++) {
        if (map->layer[i].slot < 0) continue;
        map->layer[i].slot = map->slots;
        map->slot[map->slots++] = (slot_description){.layer = i, .windowed = true};
    }
    for (int i = 0; i < map->layers; i++) {
        layer_description *l = &map->layer[i];
        l->k_slot = map->layer[l->k_source].slot;
        l->v_slot = map->layer[l->v_source].slot;
        map->slot[l->k_slot].keys = true;
        map->slot[l->v_slot].values = true;
    }
}

static bool keep_all_rows(slot_description *s) {
    bool changed = s->windowed;
    s->windowed = false;
    return changed;
}

/* A slot is windowed if all its readers have windows. The slots of one reader share a page table, so that they are
 * windowed together or not at all: this is repeated until nothing changes. */
static void find_windowed_slots(layer_map *map) {
    for (bool changed = true; changed;) {
        changed = false;
        for (int i = 0; i < map->layers; i++) {
            slot_description *k = &map->slot[map->layer[i].k_slot], *v = &map->slot[map->layer[i].v_slot];
            if (map->layer[i].window && k->windowed && v->windowed) continue;
            changed = keep_all_rows(k) || changed;
            changed = keep_all_rows(v) || changed;
        }
    }
    for (int i = 0; i < map->layers; i++) {
        const layer_description *l = &map->layer[i];
        int read[] = {l->k_slot, l->v_slot};
        for (int j = 0; j < 2; j++)
            if (map->slot[read[j]].max_window < l->window) map->slot[read[j]].max_window = l->window;
    }
}

static void derive(layer_map *map, bool force_nodiag) {
    for (int i = 0; i < map->layers; i++) {
        layer_description *l = &map->layer[i];
        l->looks_up = highest_source(l) > i;
        l->strict = l->looks_up || force_nodiag;
    }
    assign_slots(map);
    find_windowed_slots(map);
    for (int i = 0; i < map->layers; i++) {
        if (!map->layer[i].looks_up) continue;
        map->loops++;
        i = loop_last(map, i);
    }
}

/* ---------------------------------------------------------------- layer_types */

/* An entry as errors quote it. */
typedef struct entry {
    const char *text;
    int length, index;
} entry;

#define ENTRY_FORMAT "entry %d is '%.*s%s'"
#define ENTRY_ARGUMENTS(e)                                                                                             \
    (e).index, (e).length > QUOTED_ENTRY ? QUOTED_ENTRY : (e).length, (e).text, (e).length > QUOTED_ENTRY ? "..." : ""

/* Reads a layer number at *at and moves *at past it. */
static int parse_layer(const entry *e, const layer_map *map, const char **at, int *out) {
    size_t digits = strspn(*at, "0123456789");
    REQUIRE(digits > 0, LCKV_ERROR_FORMAT, "layer_types: " ENTRY_FORMAT ", expected a layer number and an optional 's'",
            ENTRY_ARGUMENTS(*e));
    long layer = digits <= MAX_DIGITS ? strtol(*at, NULL, 10) : map->layers;
    REQUIRE(layer < map->layers, LCKV_ERROR_FORMAT, "layer_types: " ENTRY_FORMAT ", but the layers are 0 to %d",
            ENTRY_ARGUMENTS(*e), map->layers - 1);
    *at += digits;
    *out = (int)layer;
    return LCKV_OK;
}

/* One entry: K or K:V, and an optional 's'. */
static int parse_entry(const entry *e, int64_t window, layer_map *map) {
    layer_description *l = &map->layer[e->index];
    const char *at = e->text, *end = e->text + e->length;
    TRY(parse_layer(e, map, &at, &l->k_source));
    l->v_source = l->k_source;
    if (*at == ':') {
        at++;
        TRY(parse_layer(e, map, &at, &l->v_source));
    }
    bool windowed = at < end && *at == 's';
    REQUIRE(at + windowed == end, LCKV_ERROR_FORMAT,
            "layer_types: " ENTRY_FORMAT ", expected a layer number and an optional 's'", ENTRY_ARGUMENTS(*e));
    REQUIRE(!windowed || window, LCKV_ERROR_FORMAT,
            "layer_types: " ENTRY_FORMAT ", a sliding window, but sliding_window is not given", ENTRY_ARGUMENTS(*e));
    l->window = windowed ? window : 0;
    return LCKV_OK;
}

static int parse_entries(const char *text, int64_t window, layer_map *map) {
    REQUIRE(*text, LCKV_ERROR_FORMAT, "layer_types is '', expected %d %s such as 0_1_2", map->layers,
            map->layers == 1 ? "entry" : "entries");
    entry e = {.text = text};
    for (;; e.text += e.length + 1, e.index++) {
        e.length = (int)strcspn(e.text, "_");
        REQUIRE(e.index < map->layers, LCKV_ERROR_FORMAT, "layer_types: " ENTRY_FORMAT ", but there %s only %d layer%s",
                ENTRY_ARGUMENTS(e), is_or_are(map->layers), map->layers, plural(map->layers));
        TRY(parse_entry(&e, window, map));
        if (!e.text[e.length]) break;
    }
    int count = e.index + 1;
    REQUIRE(count == map->layers, LCKV_ERROR_FORMAT, "layer_types '%.*s%s' has %d %s for %d layer%s", QUOTED_ENTRY,
            text, strlen(text) > QUOTED_ENTRY ? "..." : "", count, count == 1 ? "entry" : "entries", map->layers,
            plural(map->layers));
    return LCKV_OK;
}

int layer_map_parse(const char *text, int layers, int64_t window, bool force_nodiag, layer_map *out) {
    TRY(allocate(out, layers));
    int status = strlen(text) < INT32_MAX ? parse_entries(text, window, out)
                                          : fail(LCKV_ERROR_FORMAT, "layer_types has more than %d bytes", INT32_MAX);
    if (status < 0)
        layer_map_free(out);
    else
        derive(out, force_nodiag);
    return status;
}

int layer_map_plain(const int64_t *windows, int layers, bool force_nodiag, layer_map *out) {
    TRY(allocate(out, layers));
    for (int i = 0; i < layers; i++)
        out->layer[i] = (layer_description){.k_source = i, .v_source = i, .window = windows ? windows[i] : 0};
    derive(out, force_nodiag);
    return LCKV_OK;
}

static int write_entry(const layer_description *l, text_buffer *out) {
    TRY(text_printf(out, "%d", l->k_source));
    if (l->v_source != l->k_source) TRY(text_printf(out, ":%d", l->v_source));
    return text_printf(out, "%s", l->window ? "s" : "");
}

int layer_map_format(const layer_map *map, char **out) {
    *out = NULL;
    text_buffer text = {0};
    int status = LCKV_OK;
    for (int i = 0; i < map->layers && status >= 0; i++) {
        if (i) status = text_printf(&text, "_");
        if (status >= 0) status = write_entry(&map->layer[i], &text);
    }
    if (status >= 0) status = text_take(&text, out);
    text_free(&text);
    return status;
}

bool layer_map_same_sources(const layer_map *a, const layer_map *b) {
    bool same = a->layers == b->layers;
    for (int i = 0; same && i < a->layers; i++)
        same = a->layer[i].k_source == b->layer[i].k_source && a->layer[i].v_source == b->layer[i].v_source;
    return same;
}

/* ---------------------------------------------------------------- sizes and parts */

static int check_source(const layer_map *map, int layer, int source, const char *what) {
    const layer_description *reader = &map->layer[layer], *owner = &map->layer[source];
    REQUIRE(reader->kv_heads == owner->kv_heads && reader->head_dim == owner->head_dim, LCKV_ERROR_FORMAT,
            "layer %d has %d KV heads of %d, but attends to the %s of layer %d, which has %d of %d", layer,
            reader->kv_heads, reader->head_dim, what, source, owner->kv_heads, owner->head_dim);
    return LCKV_OK;
}

int layer_map_describe(layer_map *map, const layer_description *parts) {
    for (int i = 0; i < map->layers; i++) {
        layer_description *l = &map->layer[i];
        l->heads = parts[i].heads;
        l->kv_heads = parts[i].kv_heads;
        l->head_dim = parts[i].head_dim;
        l->intermediate_size = parts[i].intermediate_size;
        l->all_heads = l->heads;
        l->all_kv_heads = l->kv_heads;
        l->all_intermediate = l->intermediate_size;
        l->norms = parts[i].norms;
        l->attention_scale = parts[i].attention_scale;
    }
    for (int i = 0; i < map->layers; i++) {
        TRY(check_source(map, i, map->layer[i].k_source, "keys"));
        TRY(check_source(map, i, map->layer[i].v_source, "values"));
    }
    return LCKV_OK;
}

bool layer_map_stores_keys(const layer_map *map, int layer) {
    int slot = map->layer[layer].slot;
    return slot >= 0 && map->slot[slot].keys;
}

bool layer_map_stores_values(const layer_map *map, int layer) {
    int slot = map->layer[layer].slot;
    return slot >= 0 && map->slot[slot].values;
}

int64_t layer_kv_width(const layer_description *layer) {
    return (int64_t)layer->kv_heads * layer->head_dim;
}

int64_t layer_map_k_width(const layer_map *map, int slot) {
    const slot_description *s = &map->slot[slot];
    return s->keys ? layer_kv_width(&map->layer[s->layer]) : 0;
}

int64_t layer_map_v_width(const layer_map *map, int slot) {
    const slot_description *s = &map->slot[slot];
    return s->values ? layer_kv_width(&map->layer[s->layer]) : 0;
}

/* ---------------------------------------------------------------- the plan */

static void add_step(plan *p, plan_step step) {
    if (p->steps) p->steps[p->count] = step;
    p->count++;
}

/* Fills p->steps; only counts if it is NULL. */
static void lay_out(const layer_map *map, int m, int b, plan *p) {
    for (int first = 0, last; first < map->layers; first = last + 1) {
        if (!map->layer[first].looks_up) {
            last = straight_last(map, first);
            add_step(p, (plan_step){.first = first, .last = last, .with_grad = true, .commit = true});
            continue;
        }
        last = loop_last(map, first);
        for (int iteration = 0; iteration < m + b; iteration++)
            add_step(p, (plan_step){.first = first,
                                    .last = last,
                                    .with_grad = iteration >= m,
                                    .commit = iteration == m + b - 1,
                                    .in_loop = true,
                                    .iteration = iteration});
    }
}

int plan_make(const layer_map *map, int forward_passes, int backward_passes, plan *out) {
    *out = (plan){0};
    REQUIRE(forward_passes >= 0 && backward_passes >= 1 && forward_passes <= PLAN_MAX_STEPS &&
                backward_passes <= PLAN_MAX_STEPS,
            LCKV_ERROR_ARGUMENT, "expected forward_passes >= 0 and backward_passes >= 1, found %d and %d",
            forward_passes, backward_passes);
    int64_t steps = (int64_t)map->loops * (forward_passes + backward_passes) + map->layers;
    REQUIRE(steps <= PLAN_MAX_STEPS, LCKV_ERROR_ARGUMENT,
            "%d loops of %d + %d passes make a plan of more than %d steps", map->loops, forward_passes, backward_passes,
            PLAN_MAX_STEPS);
    plan made = {0};
    lay_out(map, forward_passes, backward_passes, &made);
    made.steps = calloc((size_t)made.count, sizeof *made.steps);
    REQUIRE(made.steps, LCKV_ERROR_MEMORY, "no memory for a plan of %d steps", made.count);
    made.count = 0;
    lay_out(map, forward_passes, backward_passes, &made);
    *out = made;
    return LCKV_OK;
}

void plan_free(plan *p) {
    free(p->steps);
    *p = (plan){0};
}
