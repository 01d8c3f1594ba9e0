/* Whether a run fits into memory, found out before any work. */
#ifndef TRAIN_FIT_H
#define TRAIN_FIT_H

#include "train/trainer.h"

/* t->batch_size: the blocks that a process runs at a time. They are what was asked for or, with auto_find_batch_size,
 * as many as fit while a step stays the same. Config and device are known by then. Where not even one fits, or not what
 * was asked for: LCKV_ERROR_MEMORY, and the message says by how much. Of several processes none is looked at: they
 * share a machine's memory, and how many do is not known here. */
int fit_batch(lckv_trainer *t, const lckv_train_options *o, int64_t block_size);

#endif
