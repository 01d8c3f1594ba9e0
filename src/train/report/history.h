/* What has been logged of a run, from its first step on: a watcher (observer.h) that remembers it, for whoever tells
 * the whole story of a run that was stopped and went on. Its checkpoints carry it (trainer_state.h), without the
 * speeds, which are of a clock: those of earlier processes come from train_log.jsonl, where that is there. */
#ifndef TRAIN_REPORT_HISTORY_H
#define TRAIN_REPORT_HISTORY_H

#include "train/observer.h"

typedef struct history_entry {
    int64_t step;
    double epoch;
    bool is_evaluation;
    /* of the steps since the logged one before; a number that was not finite or is not known is NAN */
    double loss, grad_norm, learning_rate, tokens_per_second;
    lckv_evaluation evaluation;
} history_entry;

typedef struct history {
    history_entry *list; /* in the order in which it happened */
    int64_t count, capacity;
} history;

/* *out is what the watchers who are added after it may read, until they are freed. */
int history_watch(watchers *all, history **out);

int history_add(history *h, history_entry one);

/* How often a run has gone through its data after `step`. */
double history_epoch(const lckv_trainer *t, int64_t step);

#endif
