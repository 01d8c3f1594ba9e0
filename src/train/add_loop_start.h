/* Adds a learned start (model/loop_start.h) to the model of a run that trains one. */
#ifndef TRAIN_ADD_LOOP_START_H
#define TRAIN_ADD_LOOP_START_H

#include "train/trainer.h"

/* Does nothing unless the options say so. The values are those of the checkpoint that the run resumes from or starts
 * from, or new ones. LCKV_ERROR_ARGUMENT if the run resumes from a checkpoint of a run that differs in this. */
int trainer_add_loop_start(lckv_trainer *t, const lckv_train_options *o);

#endif
