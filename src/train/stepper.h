/* One training step on the device: the gradients of all its blocks, batch by batch, then the optimizer.
 *
 * Nothing waits inside a step; its results are read once at its end. Leaves out: which blocks, how many steps, and what
 * is told to whom (trainer.c). */
#ifndef TRAIN_STEPPER_H
#define TRAIN_STEPPER_H

#include "model/decoder.h"
#include "train/blocks.h"
#include "train/optimizer.h"

typedef struct stepper {
    model *model; /* the caller's */
    graph *graph;
    batch *batch;
    optimizer *optimizer;
    int batch_size; /* blocks run at a time */
    int32_t block_size;
    int32_t *labels;      /* [batch_size, block_size] */
    batch_entry *entries; /* [batch_size] */
    void *scalars;        /* device memory of the next two */
    view loss;            /* f64: of the step so far */
    view scale;           /* f32: 1 / labels of the step */
} stepper;

typedef struct step_result {
    double loss;      /* mean over the labels of the step */
    double grad_norm; /* before clipping */
    bool finite;      /* both are; else no weight has changed */
} step_result;

/* Makes the weights of `m` trainable: writable values of type `compute` (f32, or bf16 with f32 masters), gradients. */
int stepper_create(model *m, dtype compute, int batch_size, int32_t block_size, const optimizer_options *options,
                   stepper **out);
void stepper_free(stepper *s); /* NULL is fine */

/* One step over blocks chosen[0 .. count - 1], of which each process takes its share, batch_size at a time. The loss is
 * the sum over all labels of the step divided by their number, so that it does not matter how a step is cut into
 * batches and shares. What comes out is the same in all processes, a failure included. */
int stepper_step(stepper *s, const blocks *data, const int64_t *chosen, int64_t count, double learning_rate,
                 step_result *out);

/* Blocks that all processes together can evaluate at once. */
int stepper_blocks_at_once(const stepper *s);
/* The mean loss of blocks first .. first + count - 1, at most as many as that, without learning from them. */
int stepper_evaluate(stepper *s, const blocks *data, int64_t first, int count, double *loss);

#endif
