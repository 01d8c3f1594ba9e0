/* The history of a run, see history.h. */
#include "train/report/history.h"

#include <stdlib.h>

int history_add(history *h, history_entry one) {
    if (h->count == h->capacity) {
        int64_t capacity = h->capacity ? 2 * h->capacity : 64;
        history_entry *list = realloc(h->list, (size_t)capacity * sizeof *list);
        REQUIRE(list, LCKV_ERROR_MEMORY, "no memory for %lld logged steps", (long long)capacity);
        h->list = list;
        h->capacity = capacity;
    }
    h->list[h->count++] = one;
    return LCKV_OK;
}

void history_clear(history *h) {
    free(h->list);
    *h = (history){0};
}
