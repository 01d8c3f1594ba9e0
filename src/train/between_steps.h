/* What happens between steps: evaluations, checkpoints, which one is best, and when a run has seen enough.
 *
 * As transformers' Trainer (4.45) does it: evaluation before saving, the last step is saved too, the best checkpoint is
 * the one whose evaluation was best. Leaves out: what a checkpoint holds (checkpoint.h). */
#ifndef TRAIN_BETWEEN_STEPS_H
#define TRAIN_BETWEEN_STEPS_H

#include "train/trainer.h"

/* Runs through the validation blocks. The caller's callback may stop it: LCKV_ERROR_INTERRUPTED. */
int milestones_evaluate(lckv_trainer *t, lckv_evaluation *out);

/* The evaluation and the checkpoint that are due after step t->step and not there yet. A checkpoint that the disk does
 * not take is warned about, and the run goes on. */
int milestones_reach(lckv_trainer *t);

/* Whether something is due after `step`, or it is the last one: whatever comes of it, the next one waits for it. */
bool milestones_at(const lckv_trainer *t, int64_t step);

/* Whether there is no step left to do. */
bool milestones_finished(const lckv_trainer *t);

/* A checkpoint now, unless there is one of this step, whatever the disk says. */
int milestones_save(lckv_trainer *t);

#endif
