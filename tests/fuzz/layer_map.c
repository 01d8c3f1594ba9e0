/* Fuzz target: a line "8 2 1 w" (number of layers, iterations without and with gradient, "w" for a window, "d" for
 * strict layers), then layer_types. */
#include "fuzz.h"

#include "config/layer_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int use(const layer_map *map, int forward_passes, int backward_passes) {
    layer_map copy;
    char *text;
    plan steps;
    for (int i = 0; i < map->layers; i++) {
        const layer_description *l = &map->layer[i];
        FUZZ_CHECK(l->k_slot >= 0 && l->k_slot < map->slots && map->slot[l->k_slot].layer == l->k_source);
        FUZZ_CHECK(l->v_slot >= 0 && l->v_slot < map->slots && map->slot[l->v_slot].layer == l->v_source);
        FUZZ_CHECK(l->looks_up == (l->k_source > i || l->v_source > i));
        FUZZ_CHECK(map->slot[l->k_slot].windowed == map->slot[l->v_slot].windowed);
    }
    FUZZ_CHECK(layer_map_format(map, &text) >= 0);
    FUZZ_CHECK(layer_map_parse(text, map->layers, 8, false, &copy) >= 0); /* what lckv writes, it can read */
    FUZZ_CHECK(copy.slots == map->slots && copy.loops == map->loops && layer_map_same_sources(&copy, map));
    layer_map_free(&copy);
    free(text);
    int status = plan_make(map, forward_passes, backward_passes, &steps);
    status = fuzz_end(status, !steps.steps && !steps.count);
    for (int i = 0; i < steps.count; i++)
        FUZZ_CHECK(steps.steps[i].first <= steps.steps[i].last && steps.steps[i].last < map->layers);
    plan_free(&steps);
    return status;
}

int fuzz_run(const uint8_t *data, size_t size) {
    fuzz_part rest = fuzz_all(data, size), line = fuzz_line(&rest);
    char *settings = fuzz_string(line), *text = fuzz_string(rest), flags[4] = "";
    int layers = 1, forward_passes = 1, backward_passes = 1;
    sscanf(settings, "%6d %8d %8d %3s", &layers, &forward_passes, &backward_passes, flags);
    layer_map map;
    int status =
        layer_map_parse(text ? text : "", layers, strchr(flags, 'w') ? 8 : 0, strchr(flags, 'd') != NULL, &map);
    status = fuzz_end(status, !map.layers && !map.layer);
    if (status >= 0) status = use(&map, forward_passes, backward_passes);
    layer_map_free(&map);
    free(settings);
    free(text);
    return status;
}
