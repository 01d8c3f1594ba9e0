/* One training step on the device: the gradients of all its blocks, batch by batch, then the optimizer.
 *
 * Nothing waits inside a step. Its results may be read when the next step has begun, so that the device always has
 * work; where the device records (device.h), a batch and the optimizer's part are recorded once and replayed. Leaves
 * out: which blocks, how many steps, and what is told to whom (trainer.c). */
#ifndef TRAIN_STEP_H
#define TRAIN_STEP_H

#include "data/examples.h"
#include "graph/replay.h"
#include "model/decoder.h"
#include "train/optimizer.h"

typedef struct step_result {
    double loss;      /* mean over the labels of the step */
    double grad_norm; /* before clipping */
    bool finite;      /* both are; else no weight has changed */
} step_result;

/* What evaluating some blocks has found, all processes together. */
typedef struct step_evaluation {
    double loss;             /* mean over `labels` */
    int64_t labels, correct; /* correct: the label has the largest logit, the first of equals */
} step_evaluation;

enum { STEPPER_AHEAD = 2 }; /* steps that may have begun and not ended */

/* What a step leaves on the host. */
typedef struct step_pending {
    double loss;
    step_state state;
    int64_t mark;
} step_pending;

typedef struct stepper {
    model *model; /* the caller's */
    graph *graph;
    batch *batch;
    optimizer *optimizer;
    int batch_size;      /* examples run at a time */
    int eval_batch_size; /* the same, without learning */
    int32_t block_size;
    example *examples;    /* [the larger of the two] of the batch */
    int32_t *rows;        /* [the larger of the two, block_size, 3] their ids, labels and lengths */
    view correct;         /* i32 [the larger of the two times block_size, 1]: on the device */
    batch_entry *entries; /* [entry_room] of the batch's sequences */
    int entry_room;
    void *scalars;      /* device memory of the next three */
    view sums;          /* f64 [1, 2]: the loss of the step so far; labels that an evaluation got right */
    view scale;         /* f32: 1 / labels of the step */
    view seed;          /* i64: of the batch's dropout masks */
    replay_set batches; /* whole ones, and what is left at a step's end */
    replay update;
    step_pending pending[STEPPER_AHEAD];
    int64_t begun, ended; /* steps */
} stepper;

typedef struct stepper_options {
    dtype compute;               /* f32, or bf16 with f32 masters */
    bool bf16_weights;           /* with bf16: weights and moments in bf16 too, without masters */
    int batch_size;              /* examples run at a time */
    int32_t block_size;          /* tokens of the longest one */
    bool gradient_checkpointing; /* layers keep their inputs alone and run again in the backward pass */
    optimizer_options optimizer;
} stepper_options;

/* Makes the weights of `m` trainable: writable values of type `compute`, gradients. Those of its adapter where it has
 * one; its own, frozen, become values of type `compute`. */
int stepper_create(model *m, const stepper_options *options, stepper **out);
void stepper_free(stepper *s); /* NULL is fine */

/* Evaluations run so many examples at a time, instead of batch_size. To be said before the first step. */
int stepper_set_eval_batch(stepper *s, int eval_batch_size);

/* Puts one step on the device, over examples chosen[0 .. count - 1], of which each process takes its share, batch_size
 * at a time. The loss is the sum over all labels of the step divided by their number, so that it does not matter how a
 * step is cut into batches and shares. What comes out is the same in all processes, a failure included. At most
 * STEPPER_AHEAD steps may have begun and not ended. */
int stepper_begin(stepper *s, const examples *data, const int64_t *chosen, int64_t count, double learning_rate);
/* Waits for the earliest step that has not ended. */
int stepper_end(stepper *s, step_result *out);
/* Both, for those who want one step alone. */
int stepper_step(stepper *s, const examples *data, const int64_t *chosen, int64_t count, double learning_rate,
                 step_result *out);

/* Examples that all processes together can evaluate at once. */
int stepper_eval_examples(const stepper *s);
/* Runs examples first .. first + count - 1, at most as many as that, without learning from them. */
int stepper_evaluate(stepper *s, const examples *data, int64_t first, int count, step_evaluation *out);

#endif
