/* Telling watchers, see watch.h. */
#include "train/watch.h"

#include <stdlib.h>

int watchers_add(watchers *all, watcher one) {
    watcher *list = realloc(all->list, (size_t)(all->count + 1) * sizeof *list);
    if (!list) {
        if (one.release) one.release(one.self);
        return fail(LCKV_ERROR_MEMORY, "no memory for a watcher of the run");
    }
    list[all->count++] = one;
    all->list = list;
    return LCKV_OK;
}

void watchers_free(watchers *all) {
    for (int i = 0; i < all->count; i++)
        if (all->list[i].release) all->list[i].release(all->list[i].self);
    free(all->list);
    *all = (watchers){0};
}

int watchers_begin(const watchers *all, const lckv_trainer *t) {
    for (const watcher *w = all->list; w < all->list + all->count; w++)
        if (w->begin) TRY(w->begin(w->self, t));
    return LCKV_OK;
}

int watchers_step(const watchers *all, const lckv_trainer *t, const lckv_train_progress *p) {
    for (const watcher *w = all->list; w < all->list + all->count; w++)
        if (w->step) TRY(w->step(w->self, t, p));
    return LCKV_OK;
}

int watchers_evaluated(const watchers *all, const lckv_trainer *t, const lckv_evaluation *e) {
    for (const watcher *w = all->list; w < all->list + all->count; w++)
        if (w->evaluated) TRY(w->evaluated(w->self, t, e));
    return LCKV_OK;
}

int watchers_saving(const watchers *all, const lckv_trainer *t, const char *folder) {
    for (const watcher *w = all->list; w < all->list + all->count; w++)
        if (w->saving) TRY(w->saving(w->self, t, folder));
    return LCKV_OK;
}

int watchers_end(const watchers *all, const lckv_trainer *t, const lckv_train_result *result, int status) {
    for (const watcher *w = all->list; w < all->list + all->count; w++)
        if (w->end) TRY(w->end(w->self, t, result, status));
    return LCKV_OK;
}
