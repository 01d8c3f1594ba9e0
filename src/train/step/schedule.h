/* Learning-rate schedules of transformers' get_scheduler() (optimization.py, 4.45). */
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H

#include "base/status.h"

typedef struct schedule {
    lckv_schedule_type type;
    double learning_rate; /* maximum */
    int64_t warmup_steps, steps;
    double min_lr_rate;  /* COSINE_WITH_MIN_LR, WARMUP_STABLE_DECAY: final rate as a fraction of the maximum */
    int64_t decay_steps; /* WARMUP_STABLE_DECAY: number of final steps with decay */
} schedule;

/* warmup_steps if above 0, else warmup_ratio of `steps`, rounded up (TrainingArguments.get_warmup_steps). */
int64_t schedule_warmup_steps(int64_t warmup_steps, double warmup_ratio, int64_t steps);

/* num_decay_steps if above 0, else a tenth of `steps`, rounded up; at most the steps after the warm-up. */
int64_t schedule_decay_steps(int64_t num_decay_steps, int64_t warmup_steps, int64_t steps);

/* The learning rate of the step after `done` steps. The warm-up starts at 0. */
double schedule_learning_rate(const schedule *s, int64_t done);

#endif
