/* layer_types, behind a line with the number of layers, passes without and with gradient, and "w" where there is a
 * window, "d" where every layer is strict: "8 2 1 w". */
#include "fuzz.h"

#include "config/layer_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int use(const layer_map *map, int forward_passes, int backward_passes) {
    layer_map copy;
    char *text;
    plan steps;
    for (int i = 0; i < map->layers; i++)
        FUZZ_CHECK(map->slot_of_source[i] >= 0 && map->slot_of_source[i] < map->slots &&
                   map->looks_up[i] == (map->source[i] > i));
    FUZZ_CHECK(layer_map_format(map, &text) >= 0);
    FUZZ_CHECK(layer_map_parse(text, map->layers, true, false, &copy) >= 0); /* what we write, we read */
    FUZZ_CHECK(copy.slots == map->slots && copy.loops == map->loops &&
               !memcmp(copy.source, map->source, (size_t)map->layers * sizeof *map->source));
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
        layer_map_parse(text ? text : "", layers, strchr(flags, 'w') != NULL, strchr(flags, 'd') != NULL, &map);
    status = fuzz_end(status, !map.layers && !map.source);
    if (status >= 0) status = use(&map, forward_passes, backward_passes);
    layer_map_free(&map);
    free(settings);
    free(text);
    return status;
}
