/* How a training run goes, for people: on a terminal one line that is written over, with the loss, its smoothed value,
 * speed, memory and the time left; elsewhere a plain line for each logged step. A line for each evaluation in both. */
#ifndef CLI_TRAIN_PROGRESS_H
#define CLI_TRAIN_PROGRESS_H

#include "lckv.h"

typedef struct train_progress {
    lckv_trainer *trainer;  /* NULL while it is being made */
    double flops_per_token; /* that a step needs */
    double peak;            /* FLOP/s of plain products; 0: not measured, no share of it is shown */
    double smoothed, mass;  /* the sum of losses, each weighing less than the one after it, and their weight */
} train_progress;

/* What the line needs to know, once there is a trainer. Measures the peak where there is a terminal to show it on. */
void train_progress_begin(train_progress *s, lckv_trainer *trainer, bool speaks);

/* An lckv_train_callback; `user` is a train_progress. */
bool train_progress_show(void *user, const lckv_train_progress *p);

#endif
