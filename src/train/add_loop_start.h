/* Adds a learned start (model/loop_start.h) to the model of a run that trains one, and measures it in the end. */
#ifndef TRAIN_ADD_LOOP_START_H
#define TRAIN_ADD_LOOP_START_H

#include "train/trainer.h"

/* Does nothing unless the options say so. The values are those of the checkpoint that the run resumes from or starts
 * from, or new ones. LCKV_ERROR_ARGUMENT if the run resumes from a checkpoint of a run that differs in this. */
int trainer_add_loop_start(lckv_trainer *t, const lckv_train_options *o);

/* Measures the start on validation examples of 4,096 tokens, at least one, for loop_start.safetensors. Does nothing
 * without a start or examples. After a failure, or with a warning if the divergence is not finite, the start has no
 * measurement. All ranks call it. */
int trainer_measure_loop_start(lckv_trainer *t);

#endif
