/* The micro-batch size of a run, checked against the memory that is free before any work starts. */
#ifndef TRAIN_CHOOSE_BATCH_SIZE_H
#define TRAIN_CHOOSE_BATCH_SIZE_H

#include "train/trainer.h"

/* Sets t->batch_size, the number of examples that a rank runs at a time. It is per_device_train_batch_size; with
 * auto_find_batch_size it is the largest number that fits into memory and divides the examples of a step, so that the
 * step stays the same. t->config, t->device and t->block_size are set. LCKV_ERROR_MEMORY if it does not fit (with
 * auto_find_batch_size: if not even one example fits); the message says by how much. Ranks that share a machine's
 * memory have equal parts of it; all ranks get the same result.
 *
 * Also sets t->regather_loops, for zero 3: whether layers of loops are gathered in each iteration. If it is not given,
 * that is so only if training does not fit otherwise. */
int trainer_choose_batch_size(lckv_trainer *t, const lckv_train_options *o);

#endif
