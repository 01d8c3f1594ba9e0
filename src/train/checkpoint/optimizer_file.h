/* The optimizer's moments as a safetensors file: NAME.exp_avg and NAME.exp_avg_sq (the names of torch) for each weight,
 * over all ranks. */
#ifndef TRAIN_CHECKPOINT_OPTIMIZER_FILE_H
#define TRAIN_CHECKPOINT_OPTIMIZER_FILE_H

#include "train/step/optimizer.h"

/* Called on rank 0 within optimizer_while_one_writes(). */
int optimizer_save(optimizer *o, const char *path);

/* Reads the moments of an optimizer of the same weights, on each rank. On failure they are undefined, and the run has
 * to end. */
int optimizer_load(optimizer *o, const char *path);

#endif
