/* The history of a run: what was logged from its first step on, also by earlier processes of a resumed run.
 *
 * A plain list. history_observer.h fills it during a run; trainer_state.h and train_log.h read and write it. */
#ifndef TRAIN_REPORT_HISTORY_H
#define TRAIN_REPORT_HISTORY_H

#include "base/status.h"

typedef struct history_entry {
    int64_t step;
    double epoch;
    bool is_evaluation;
    /* Steps: mean loss since the previous logged step; the others are of this step. NAN if not finite or not known. */
    double loss, grad_norm, learning_rate, tokens_per_second;
    lckv_evaluation evaluation; /* evaluations */
} history_entry;

typedef struct history {
    history_entry *list; /* [count], in the order of time */
    int64_t count, capacity;
} history; /* all zeros is an empty one */

int history_add(history *h, history_entry one);
void history_clear(history *h);

#endif
