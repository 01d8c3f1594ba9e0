/* layer_types read into slots, loops and the plan; see layer_map.h. */
#include "config/layer_map.h"

#include "base/text_buffer.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_DIGITS = 9, QUOTED_ENTRY = 60 };

/* ---------------------------------------------------------------- storage: one block of ints, one of bools */

static int allocate(layer_map *map, int layers) {
    *map = (layer_map){0};
    REQUIRE(layers >= 1 && layers <= LAYER_MAP_MAX_LAYERS, LCKV_ERROR_ARGUMENT, "expected 1 to %d layers, found %d",
            LAYER_MAP_MAX_LAYERS, layers);
    size_t n = (size_t)layers;
    int *numbers = calloc(n * 4, sizeof *numbers);
    bool *flags = calloc(n * 3, sizeof *flags);
    if (!numbers || !flags) {
        free(numbers);
        free(flags);
        return fail(LCKV_ERROR_MEMORY, "no memory for a map of %d layers", layers);
    }
    map->layers = layers;
    map->source = numbers;
    map->slot_of_layer = numbers + n;
    map->slot_of_source = numbers + 2 * n;
    map->layer_of_slot = numbers + 3 * n;
    map->windowed = flags;
    map->strict = flags + n;
    map->looks_up = flags + 2 * n;
    return LCKV_OK;
}

void layer_map_free(layer_map *map) {
    free(map->source);
    free(map->windowed);
    *map = (layer_map){0};
}

int layer_map_copy(const layer_map *map, layer_map *out) {
    TRY(allocate(out, map->layers));
    size_t n = (size_t)map->layers;
    memcpy(out->source, map->source, n * 4 * sizeof *out->source);
    memcpy(out->windowed, map->windowed, n * 3 * sizeof *out->windowed);
    out->slots = map->slots;
    out->loops = map->loops;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- what follows from source and windowed */

/* The last layer of the loop that starts at `first`: the smallest range closed under "reads from above". */
static int loop_last(const layer_map *map, int first) {
    int last = map->source[first];
    for (int i = first; i <= last; i++)
        if (map->source[i] > last) last = map->source[i];
    return last;
}

/* The last layer of the range without loops that starts at `first`. */
static int straight_last(const layer_map *map, int first) {
    int last = first;
    while (last + 1 < map->layers && !map->looks_up[last + 1]) last++;
    return last;
}

static void assign_slots(layer_map *map) {
    for (int i = 0; i < map->layers; i++) map->slot_of_layer[i] = -1;
    for (int i = 0; i < map->layers; i++) map->slot_of_layer[map->source[i]] = 0; /* owned; numbered below */
    for (int i = 0; i < map->layers; i++) {
        if (map->slot_of_layer[i] < 0) continue;
        map->slot_of_layer[i] = map->slots;
        map->layer_of_slot[map->slots++] = i;
    }
    for (int i = 0; i < map->layers; i++) map->slot_of_source[i] = map->slot_of_layer[map->source[i]];
}

static void derive(layer_map *map, bool force_nodiag) {
    for (int i = 0; i < map->layers; i++) {
        map->looks_up[i] = map->source[i] > i;
        map->strict[i] = map->looks_up[i] || force_nodiag;
    }
    assign_slots(map);
    for (int i = 0; i < map->layers; i++) {
        if (!map->looks_up[i]) continue;
        map->loops++;
        i = loop_last(map, i);
    }
}

/* ---------------------------------------------------------------- layer_types */

/* One entry of `length` bytes: digits and an optional 's'. */
static int parse_entry(const char *entry, size_t length, int index, bool has_window, layer_map *map) {
    int quoted = length > QUOTED_ENTRY ? QUOTED_ENTRY : (int)length;
    const char *cut = length > QUOTED_ENTRY ? "..." : "";
    size_t digits = strspn(entry, "0123456789");
    bool windowed = digits + 1 == length && entry[digits] == 's';
    REQUIRE(digits > 0 && (digits == length || windowed), LCKV_ERROR_FORMAT,
            "layer_types: entry %d is '%.*s%s', expected a layer number and an optional 's'", index, quoted, entry,
            cut);
    long source = digits <= MAX_DIGITS ? strtol(entry, NULL, 10) : map->layers;
    REQUIRE(source < map->layers, LCKV_ERROR_FORMAT, "layer_types: entry %d is '%.*s%s', but the layers are 0 to %d",
            index, quoted, entry, cut, map->layers - 1);
    REQUIRE(!windowed || has_window, LCKV_ERROR_FORMAT,
            "layer_types: entry %d is '%.*s', a sliding window, but sliding_window is not given", index, quoted, entry);
    map->source[index] = (int)source;
    map->windowed[index] = windowed;
    return LCKV_OK;
}

static int parse_entries(const char *text, bool has_window, layer_map *map) {
    REQUIRE(*text, LCKV_ERROR_FORMAT, "layer_types is '', expected %d entries such as 0_1_2", map->layers);
    int count = 0;
    for (const char *entry = text;; entry++) {
        size_t length = strcspn(entry, "_");
        REQUIRE(count<map->layers, LCKV_ERROR_FORMAT, "layer_types: entry %d is '%.*s', but there are only %d layers",
                      count, length>
                        QUOTED_ENTRY
                    ? QUOTED_ENTRY
                    : (int)length,
                entry, map->layers);
        TRY(parse_entry(entry, length, count++, has_window, map));
        entry += length;
        if (!*entry) break;
    }
    REQUIRE(count == map->layers, LCKV_ERROR_FORMAT, "layer_types '%.*s%s' has %d %s for %d layers", QUOTED_ENTRY, text,
            strlen(text) > QUOTED_ENTRY ? "..." : "", count, count == 1 ? "entry" : "entries", map->layers);
    return LCKV_OK;
}

int layer_map_parse(const char *text, int layers, bool has_window, bool force_nodiag, layer_map *out) {
    TRY(allocate(out, layers));
    int status = parse_entries(text, has_window, out);
    if (status < 0)
        layer_map_free(out);
    else
        derive(out, force_nodiag);
    return status;
}

int layer_map_plain(const bool *windowed, int layers, bool force_nodiag, layer_map *out) {
    TRY(allocate(out, layers));
    for (int i = 0; i < layers; i++) {
        out->source[i] = i;
        out->windowed[i] = windowed && windowed[i];
    }
    derive(out, force_nodiag);
    return LCKV_OK;
}

bool layer_map_slot_is_windowed(const layer_map *map, int slot) {
    for (int i = 0; i < map->layers; i++)
        if (map->slot_of_source[i] == slot && !map->windowed[i]) return false;
    return true;
}

int layer_map_format(const layer_map *map, char **out) {
    *out = NULL;
    text_buffer text = {0};
    int status = LCKV_OK;
    for (int i = 0; i < map->layers && status >= 0; i++)
        status = text_printf(&text, "%s%d%s", i ? "_" : "", map->source[i], map->windowed[i] ? "s" : "");
    if (status >= 0) status = text_take(&text, out);
    text_free(&text);
    return status;
}

/* ---------------------------------------------------------------- the plan */

static void add_step(plan *p, plan_step step) {
    if (p->steps) p->steps[p->count] = step;
    p->count++;
}

/* Fills p->steps, or only counts where it is NULL. */
static void lay_out(const layer_map *map, int m, int b, plan *p) {
    for (int first = 0, last; first < map->layers; first = last + 1) {
        if (!map->looks_up[first]) {
            last = straight_last(map, first);
            add_step(p, (plan_step){.first = first, .last = last, .with_grad = true, .commit = true});
            continue;
        }
        last = loop_last(map, first);
        for (int run = 0; run < m + b; run++)
            add_step(p, (plan_step){.first = first,
                                    .last = last,
                                    .with_grad = run >= m,
                                    .commit = run == m + b - 1,
                                    .in_loop = true,
                                    .run = run});
    }
}

int plan_make(const layer_map *map, int forward_passes, int backward_passes, plan *out) {
    *out = (plan){0};
    REQUIRE(forward_passes >= 0 && backward_passes >= 1 && forward_passes <= PLAN_MAX_STEPS &&
                backward_passes <= PLAN_MAX_STEPS,
            LCKV_ERROR_ARGUMENT, "expected forward_passes >= 0 and backward_passes >= 1, found %d and %d",
            forward_passes, backward_passes);
    int64_t most = (int64_t)map->loops * (forward_passes + backward_passes) + map->layers;
    REQUIRE(most <= PLAN_MAX_STEPS, LCKV_ERROR_ARGUMENT, "%d loops of %d + %d passes make a plan of more than %d steps",
            map->loops, forward_passes, backward_passes, PLAN_MAX_STEPS);
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
