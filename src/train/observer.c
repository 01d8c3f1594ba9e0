/* Notifying observers, see observer.h. */
#include "train/observer.h"

#include "base/log.h"

#include <stdlib.h>

int observers_add(observers *all, observer one) {
    observer *list = realloc(all->list, (size_t)(all->count + 1) * sizeof *list);
    if (!list) {
        if (one.release) one.release(one.self);
        return fail(LCKV_ERROR_MEMORY, "no memory for an observer of the run");
    }
    list[all->count++] = one;
    all->list = list;
    return LCKV_OK;
}

void observers_free(observers *all) {
    for (int i = 0; i < all->count; i++)
        if (all->list[i].release) all->list[i].release(all->list[i].self);
    free(all->list);
    *all = (observers){0};
}

/* A full disk does not end the run. */
static int or_warn(int status) {
    if (status == LCKV_ERROR_FILE) log_message(LCKV_LOG_WARNING, "%s; training continues", lckv_last_error());
    return status == LCKV_ERROR_FILE ? LCKV_OK : status;
}

int observers_begin(const observers *all, const run_view *run) {
    for (int i = 0; i < all->count; i++)
        if (all->list[i].begin) TRY(all->list[i].begin(all->list[i].self, run));
    return LCKV_OK;
}

int observers_step(const observers *all, const run_view *run, const lckv_train_progress *p) {
    for (int i = 0; i < all->count; i++)
        if (all->list[i].step) TRY(or_warn(all->list[i].step(all->list[i].self, run, p)));
    return LCKV_OK;
}

int observers_evaluated(const observers *all, const run_view *run, const lckv_evaluation *e) {
    for (int i = 0; i < all->count; i++)
        if (all->list[i].evaluated) TRY(or_warn(all->list[i].evaluated(all->list[i].self, run, e)));
    return LCKV_OK;
}

int observers_saving(const observers *all, const run_view *run, const char *folder) {
    for (int i = 0; i < all->count; i++)
        if (all->list[i].saving) TRY(all->list[i].saving(all->list[i].self, run, folder));
    return LCKV_OK;
}

int observers_end(const observers *all, const run_view *run, const lckv_train_result *result, int status) {
    for (int i = 0; i < all->count; i++)
        if (all->list[i].end) TRY(all->list[i].end(all->list[i].self, run, result, status));
    return LCKV_OK;
}
