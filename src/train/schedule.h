/* Learning rate schedules, as transformers' get_scheduler() has them (optimization.py, 4.45). */
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H

#include "base/status.h"

typedef struct schedule {
    lckv_schedule_type type;
    double learning_rate; /* the highest */
    int64_t warmup_steps, steps;
    double min_lr_rate;  /* what COSINE_WITH_MIN_LR and WARMUP_STABLE_DECAY fall to, as a share of the highest */
    int64_t decay_steps; /* WARMUP_STABLE_DECAY: the last steps, in which it falls */
} schedule;

/* warmup_steps where it is not 0, else warmup_ratio of `steps`, rounded up (TrainingArguments.get_warmup_steps). */
int64_t schedule_warmup_steps(int64_t warmup_steps, double warmup_ratio, int64_t steps);

/* num_decay_steps where it is not 0, else a tenth of `steps`, rounded up; never more than warming up leaves. */
int64_t schedule_decay_steps(int64_t num_decay_steps, int64_t warmup_steps, int64_t steps);

/* The learning rate of the step that `done` steps came before. Warming up begins at 0. */
double schedule_learning_rate(const schedule *s, int64_t done);

#endif
