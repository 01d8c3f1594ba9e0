/* A growing list of token ids. */
#include "text/subword/id_list.h"

#include <stdlib.h>
#include <string.h>

int id_list_check(const id_list *list, size_t count) {
    REQUIRE(!list->limit || (list->count <= list->limit && count <= list->limit - list->count), LCKV_ERROR_TOO_LONG,
            "the text has more than %zu tokens, the limit", list->limit);
    return LCKV_OK;
}

int id_list_append(id_list *list, const int32_t *ids, size_t count) {
    TRY(id_list_check(list, count));
    if (list->capacity - list->count < count) {
        size_t capacity = list->capacity ? list->capacity * 2 : 64;
        while (capacity < list->count + count) capacity *= 2;
        int32_t *grown = realloc(list->ids, capacity * sizeof *grown);
        REQUIRE(grown, LCKV_ERROR_MEMORY, "no memory for %zu token ids", capacity);
        list->ids = grown;
        list->capacity = capacity;
    }
    if (count) memcpy(list->ids + list->count, ids, count * sizeof *ids);
    list->count += count;
    return LCKV_OK;
}

void id_list_free(id_list *list) {
    free(list->ids);
    *list = (id_list){0};
}
