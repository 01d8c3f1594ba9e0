/* What happens between steps: evaluations, checkpoints, the best checkpoint, and early stopping.
 *
 * Follows transformers' Trainer (4.45): a step is evaluated before it is saved, the last step is saved, and the best
 * checkpoint is the one with the best evaluation. Leaves out: what a checkpoint contains (checkpoint/checkpoint.h). */
#ifndef TRAIN_EVALUATE_AND_SAVE_H
#define TRAIN_EVALUATE_AND_SAVE_H

#include "train/trainer.h"

/* Evaluates the validation examples into t->evaluation. LCKV_ERROR_INTERRUPTED if the callback stops it. */
int trainer_evaluate(lckv_trainer *t);

/* Evaluates and saves if that is due after the current step and not done yet. If a checkpoint cannot be written, logs a
 * warning and continues. */
int trainer_evaluate_and_save(lckv_trainer *t);

/* Whether an evaluation or a checkpoint is due after `step`, or `step` is the last one: the next step has to wait. */
bool trainer_pauses_after(const lckv_trainer *t, int64_t step);

/* Writes a checkpoint unless there is one of this step. Unlike trainer_evaluate_and_save(), fails if it cannot be
 * written. */
int trainer_save(lckv_trainer *t);

#endif
