/* Telling watchers, see observer.h. */
#include "train/observer.h"

#include "base/log.h"

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

/* A disk that is full takes no lines, but ends no run. */
static int or_warn(int status) {
    if (status == LCKV_ERROR_FILE) log_message(LCKV_LOG_WARNING, "%s; training goes on", lckv_last_error());
    return status == LCKV_ERROR_FILE ? LCKV_OK : status;
}

int watchers_begin(const watchers *all, const lckv_trainer *t) {
    for (int i = 0; i < all->count; i++)
        if (all->list[i].begin) TRY(all->list[i].begin(all->list[i].self, t));
    return LCKV_OK;
}

int watchers_step(const watchers *all, const lckv_trainer *t, const lckv_train_progress *p) {
    for (int i = 0; i < all->count; i++)
        if (all->list[i].step) TRY(or_warn(all->list[i].step(all->list[i].self, t, p)));
    return LCKV_OK;
}

int watchers_evaluated(const watchers *all, const lckv_trainer *t, const lckv_evaluation *e) {
    for (int i = 0; i < all->count; i++)
        if (all->list[i].evaluated) TRY(or_warn(all->list[i].evaluated(all->list[i].self, t, e)));
    return LCKV_OK;
}

int watchers_saving(const watchers *all, const lckv_trainer *t, const char *folder) {
    for (int i = 0; i < all->count; i++)
        if (all->list[i].saving) TRY(all->list[i].saving(all->list[i].self, t, folder));
    return LCKV_OK;
}

int watchers_end(const watchers *all, const lckv_trainer *t, const lckv_train_result *result, int status) {
    for (int i = 0; i < all->count; i++)
        if (all->list[i].end) TRY(all->list[i].end(all->list[i].self, t, result, status));
    return LCKV_OK;
}
