/* The optimizer's state of an entry as a whole, wherever its parts are: what a checkpoint holds. It does not depend on
 * how many processes there are, so that a run may go on with another number of them.
 *
 * Process 0 writes checkpoints: it reads entries in whatever order, as often as it likes, while the others hand over
 * what it asks for. */
#ifndef TRAIN_CHECKPOINT_OPTIMIZER_STATE_H
#define TRAIN_CHECKPOINT_OPTIMIZER_STATE_H

#include "train/optimizer.h"

typedef enum optimizer_tensor {
    OPTIMIZER_VALUE, /* the f32 master where there is one, else what the ops read */
    OPTIMIZER_M,
    OPTIMIZER_V
} optimizer_tensor;

/* Process 0 calls write(user), which may read; the others hand over their parts until it returns. All processes call
 * this and get the same status. */
int optimizer_while_one_writes(optimizer *o, int (*write)(void *user), void *user);

/* Whole entry `entry` as f32 into host memory [rows * cols]. Among several processes only within write(). */
int optimizer_read(optimizer *o, int entry, optimizer_tensor what, float *host);

/* The same as o->state_type, which is what it is, or as f32. */
int optimizer_read_as(optimizer *o, int entry, optimizer_tensor what, dtype type, void *host);

/* Whole entry from host memory, f32 [rows * cols]: every process calls it and takes what it keeps of that. No
 * collectives.
 */
int optimizer_write(optimizer *o, int entry, optimizer_tensor what, const float *host);

#endif
