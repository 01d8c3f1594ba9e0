/* Lists of files, see source_list.h. */
#include "data/sources/source_list.h"

#include "base/files/file.h"

#include <stdlib.h>
#include <string.h>

void source_list_free(source_list *list) {
    for (int i = 0; i < list->count; i++) free(list->paths[i]);
    free(list->paths);
    *list = (source_list){0};
}

int source_list_add(source_list *list, const char *path) {
    if (list->count == list->capacity) {
        int capacity = list->capacity ? 2 * list->capacity : 16;
        char **paths = realloc(list->paths, (size_t)capacity * sizeof *paths);
        REQUIRE(paths, LCKV_ERROR_MEMORY, "no memory for the names of %d files", capacity);
        list->paths = paths;
        list->capacity = capacity;
    }
    char *copy = strdup(path);
    REQUIRE(copy, LCKV_ERROR_MEMORY, "no memory for a path");
    list->paths[list->count++] = copy;
    return LCKV_OK;
}

bool source_is_description(const char *path) {
    const char *name = path_base(path);
    static const char *const NAMES[] = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "config.json",
                                        "state.json"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (!strcmp(name, NAMES[i])) return true;
    return false;
}
