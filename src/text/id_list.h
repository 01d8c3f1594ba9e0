/* A growing list of token ids. */
#ifndef TEXT_ID_LIST_H
#define TEXT_ID_LIST_H

#include "base/status.h"

typedef struct id_list {
    int32_t *ids;
    size_t count, capacity;
} id_list; /* all zeros is an empty list */

int id_list_append(id_list *list, const int32_t *ids, size_t count);
void id_list_free(id_list *list);

#endif
