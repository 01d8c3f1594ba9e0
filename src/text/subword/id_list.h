/* A growing list of token ids. */
#ifndef TEXT_SUBWORD_ID_LIST_H
#define TEXT_SUBWORD_ID_LIST_H

#include "base/status.h"

typedef struct id_list {
    int32_t *ids;
    size_t count, capacity;
    size_t limit; /* Longest list allowed; 0: no limit. */
} id_list;        /* all zeros: empty */

/* LCKV_ERROR_TOO_LONG if `count` more ids exceed the limit. */
int id_list_check(const id_list *list, size_t count);

int id_list_append(id_list *list, const int32_t *ids, size_t count);
void id_list_free(id_list *list);

#endif
