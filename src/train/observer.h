/* Observers of a training run: logs, reports, event files.
 *
 * The trainer notifies its observers in the order in which they were added, on its own thread. An observer reads the
 * view of the run and never changes the run. Each function may be NULL. If one fails, the run ends with its message,
 * except that a file which cannot be written between steps (LCKV_ERROR_FILE) only causes a warning. Leaves out: the
 * caller's callback (callback.h), which can stop a run. */
#ifndef TRAIN_OBSERVER_H
#define TRAIN_OBSERVER_H

#include "train/run_view.h"

typedef struct observer {
    void *self;
    /* Before the first step. A resumed run has run->step > 0 and run->resumed_from. */
    int (*begin)(void *self, const run_view *run);
    /* After a step; p->logged: logs should write a line. */
    int (*step)(void *self, const run_view *run, const lckv_train_progress *p);
    /* After an evaluation at step run->step. */
    int (*evaluated)(void *self, const run_view *run, const lckv_evaluation *e);
    /* While the checkpoint of step run->step is written to `folder`, which is renamed afterwards. Files written there
     * become part of the checkpoint. They must not contain times, because the checkpoints of a resumed run equal those
     * of an uninterrupted one. */
    int (*saving)(void *self, const run_view *run, const char *folder);
    /* After the run, when the model (if any) is in output_dir. `status` is the run's result. Not called after an
     * observer has failed, or if the trainer is freed without having run. */
    int (*end)(void *self, const run_view *run, const lckv_train_result *result, int status);
    /* Once, when the trainer is freed. */
    void (*release)(void *self);
} observer;

typedef struct observers {
    observer *list;
    int count;
} observers;

/* Takes ownership of the observer, also on failure. */
int observers_add(observers *all, observer one);
void observers_free(observers *all);

int observers_begin(const observers *all, const run_view *run);
int observers_step(const observers *all, const run_view *run, const lckv_train_progress *p);
int observers_evaluated(const observers *all, const run_view *run, const lckv_evaluation *e);
int observers_saving(const observers *all, const run_view *run, const char *folder);
int observers_end(const observers *all, const run_view *run, const lckv_train_result *result, int status);

#endif
