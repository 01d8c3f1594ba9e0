/* A list of files. */
#ifndef DATA_SOURCES_SOURCE_LIST_H
#define DATA_SOURCES_SOURCE_LIST_H

#include "base/status.h"

typedef struct source_list {
    char **paths; /* [count] owned */
    int count, capacity;
} source_list; /* all zeros is an empty one */

int source_list_add(source_list *list, const char *path); /* a copy of `path` */
void source_list_free(source_list *list);

/* Whether a file with this name describes a data set and is not data, such as dataset_infos.json. */
bool source_is_description(const char *path);

#endif
