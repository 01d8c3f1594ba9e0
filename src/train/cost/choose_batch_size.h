/* The micro-batch size of a run, checked against the memory that is free before any work starts. */
#ifndef TRAIN_CHOOSE_BATCH_SIZE_H
#define TRAIN_CHOOSE_BATCH_SIZE_H

#include "train/trainer.h"

/* Sets t->batch_size, the number of examples that a rank runs at a time. It is per_device_train_batch_size; with
 * auto_find_batch_size it is the largest number that fits into memory and divides the examples of a step, so that the
 * step stays the same. t->config, t->device and t->block_size are set. LCKV_ERROR_MEMORY if it does not fit (with
 * auto_find_batch_size: if not even one example fits); the message says by how much. With several ranks nothing is
 * checked, because it is not known how many of them share a machine's memory. */
int trainer_choose_batch_size(lckv_trainer *t, const lckv_train_options *o);

#endif
