/* Those who watch a run: logs, reports, whoever wants to know how it goes.
 *
 * The loop tells each watcher what happens, in the order in which they were added, on its own thread; a watcher reads
 * the trainer and never changes it. A function may be NULL: not interested. A failure of one ends the run with its
 * message, except that a file which cannot be written between steps (LCKV_ERROR_FILE) is only warned about. Leaves out:
 * the caller's own callback (lckv.h), which may also stop a run. */
#ifndef TRAIN_OBSERVER_H
#define TRAIN_OBSERVER_H

#include "base/status.h"

typedef struct watcher {
    void *self;
    /* Before the first step. A run that goes on from a checkpoint has t->step > 0 and its folder in t->resumed_from. */
    int (*begin)(void *self, const lckv_trainer *t);
    /* A step has ended; p->logged: it is the turn of a line in logs. */
    int (*step)(void *self, const lckv_trainer *t, const lckv_train_progress *p);
    /* The validation blocks have been run through, after step t->step. */
    int (*evaluated)(void *self, const lckv_trainer *t, const lckv_evaluation *e);
    /* A checkpoint of step t->step is being written to `folder`, which gets its own name afterwards. Files that are put
     * there belong to it; what a resumed run must end with bit for bit holds no clock. */
    int (*saving)(void *self, const lckv_trainer *t, const char *folder);
    /* The run is over and the model, if there is one, in t->output_dir. `status` says how it ended; nobody is told what
     * comes after a watcher's failure, or when a trainer is freed without having run. */
    int (*end)(void *self, const lckv_trainer *t, const lckv_train_result *result, int status);
    /* Once, when the trainer is freed. */
    void (*release)(void *self);
} watcher;

typedef struct watchers {
    watcher *list;
    int count;
} watchers;

/* The watcher is released also when there is no memory to add it. */
int watchers_add(watchers *all, watcher one);
void watchers_free(watchers *all);

int watchers_begin(const watchers *all, const lckv_trainer *t);
int watchers_step(const watchers *all, const lckv_trainer *t, const lckv_train_progress *p);
int watchers_evaluated(const watchers *all, const lckv_trainer *t, const lckv_evaluation *e);
int watchers_saving(const watchers *all, const lckv_trainer *t, const char *folder);
int watchers_end(const watchers *all, const lckv_trainer *t, const lckv_train_result *result, int status);

#endif
