/* The optimizer's state of whole entries, across the shards of all ranks: what a checkpoint contains. It does not
 * depend on the number of ranks, so that a run can resume with another number.
 *
 * Rank 0 writes checkpoints. Meanwhile the other ranks send the parts that it requests. */
#ifndef TRAIN_CHECKPOINT_OPTIMIZER_STATE_H
#define TRAIN_CHECKPOINT_OPTIMIZER_STATE_H

#include "train/step/optimizer.h"

typedef enum optimizer_tensor {
    OPTIMIZER_VALUE, /* the f32 master weight if there is one, else the value */
    OPTIMIZER_M,
    OPTIMIZER_V
} optimizer_tensor;

/* On rank 0, calls write(user), which may read entries; the other ranks send their parts until it returns. All ranks
 * call this and get the same status. */
int optimizer_while_one_writes(optimizer *o, int (*write)(void *user), void *user);

/* Copies some elements of an entry to host memory, as f32 or as o->state_type, which loses nothing. With several ranks
 * only allowed within write(). */
int optimizer_read(optimizer *o, int entry, optimizer_tensor what, element_range range, dtype type, void *host);

/* Sets an entry from host memory with the whole of it, of `type` (f32, bf16 or f16) and without alignment. Every rank
 * calls it, and reads only the elements that it stores. There is no communication. */
int optimizer_write(optimizer *o, int entry, optimizer_tensor what, const void *host, dtype type);

#endif
