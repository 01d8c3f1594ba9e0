/* The optimizer's state of an entry as a whole, wherever its parts are: what a checkpoint holds. It does not depend on
 * how many processes there are, so that a run may go on with another number of them.
 *
 * Process 0 writes checkpoints: it reads entries in whatever order, as often as it likes, while the others stand in
 * optimizer_serve() and hand over what it asks for. */
#ifndef TRAIN_OPTIMIZER_STATE_H
#define TRAIN_OPTIMIZER_STATE_H

#include "train/optimizer.h"

typedef enum optimizer_what {
    OPTIMIZER_VALUE, /* the f32 master where there is one, else what the ops read */
    OPTIMIZER_M,
    OPTIMIZER_V
} optimizer_what;

/* Whole entry `entry` as f32 into host memory [rows * cols]. At process 0 alone. */
int optimizer_read(optimizer *o, int entry, optimizer_what what, float *host);
/* Process 0 is done with reading, well or not: the others return. */
int optimizer_read_end(optimizer *o);
/* The other processes' side, until optimizer_read_end(). */
int optimizer_serve(optimizer *o);

/* Whole moments of an entry from host memory, f32 [rows * cols]: every process calls it and takes its part. No
 * exchange. (Values are the weights', which a model is loaded with before it gets an optimizer.) */
int optimizer_write(optimizer *o, int entry, optimizer_what what, const float *host);

#endif
