/* The optimizer's moments as a safetensors file: NAME.exp_avg and NAME.exp_avg_sq (torch's names) of each weight,
 * whole, wherever its parts are. */
#ifndef TRAIN_CHECKPOINT_OPTIMIZER_FILE_H
#define TRAIN_CHECKPOINT_OPTIMIZER_FILE_H

#include "train/optimizer.h"

/* At process 0 alone, while the others serve (optimizer_state.h). */
int optimizer_save(optimizer *o, const char *path);

/* The moments of an optimizer of the same weights, at each process. On failure they are undefined: the run cannot go
 * on. */
int optimizer_load(optimizer *o, const char *path);

#endif
