/* Fuzz target: the README.md of a data set. The result is a tree of lists, mappings, strings and nulls; its strings are
 * used as patterns on some paths. */
#include "fuzz.h"

#include "data/sources/card_yaml.h"
#include "data/sources/dataset_card.h"

static void walk(const json_t *value) {
    static const char *const PATHS[] = {"a", "a/b.txt", "data/train-00000-of-00001.parquet", "__a/__b/c"};
    size_t index;
    const char *key;
    json_t *item;
    for (size_t i = 0; json_is_string(value) && i < sizeof PATHS / sizeof *PATHS; i++)
        dataset_path_matches(json_string_value(value), PATHS[i]);
    FUZZ_CHECK(json_is_string(value) || json_is_null(value) || json_is_array(value) || json_is_object(value));
    json_array_foreach((json_t *)(uintptr_t)value, index, item) walk(item);
    json_object_foreach((json_t *)(uintptr_t)value, key, item) walk(item);
}

int fuzz_run(const uint8_t *data, size_t size) {
    json_t *configs;
    int status = card_yaml_configs(size ? (const char *)data : "", size, "README.md", &configs);
    status = fuzz_end(status, !configs);
    if (configs) walk(configs);
    json_decref(configs);
    return status;
}
