/* Progress of training on standard error. On a terminal, prints a status line with the loss, the smoothed loss,
 * throughput, remaining time and memory; elsewhere, one line per logged step. Both print one line per evaluation. */
#ifndef CLI_TRAIN_PROGRESS_H
#define CLI_TRAIN_PROGRESS_H

#include "lckv.h"

typedef struct train_progress {
    lckv_trainer *trainer;   /* NULL until it is created */
    double flops_per_token;  /* FLOPs per trained token */
    double peak;             /* peak FLOP/s of matrix products; 0: not measured and not shown */
    double smoothed, weight; /* exponential moving average of the loss, not yet divided by its total weight */
} train_progress;

/* Call once after the trainer is created. Measures the peak FLOP/s if this process prints and standard error is a
 * terminal. */
void train_progress_begin(train_progress *s, lckv_trainer *trainer, bool prints);

/* An lckv_train_callback; `user` is a train_progress. */
bool train_progress_show(void *user, const lckv_train_progress *p);

#endif
