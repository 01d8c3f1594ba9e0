/* One training step on the device: forward and backward passes over micro-batches (gradient accumulation), then the
 * optimizer.
 *
 * A step does not wait for the device. Its results may be read after the next step is launched, so that the device
 * always has work. On devices that record (device.h), a micro-batch and the optimizer's update are recorded once and
 * replayed, unless they contain collectives.
 *
 * If the weights are divided between ranks (model/shards/shards.h), ranks communicate within a micro-batch, and all of
 * them run equally many. A rank that has fewer runs idle ones: without labels, so that they add zeros. Leaves out:
 * which examples a step has, how many steps there are, and reporting (train_loop.c). */
#ifndef TRAIN_STEP_H
#define TRAIN_STEP_H

#include "data/examples.h"
#include "graph/replay.h"
#include "model/exact.h"
#include "train/step/example_batch.h"
#include "train/step/optimizer.h"

typedef struct step_result {
    double loss;             /* mean over the labels of the step */
    double grad_norm;        /* before clipping */
    bool finite;             /* both are finite; else no weight has changed */
    double loop_residual;    /* exact form: |F(s*) - s*| / |s*| over the looked-up slots of this rank's share; 0 without
                           * rounding; NAN in the other forms, also of a step by the plan */
    double loop_start_error; /* with a learned start: its squared error over the squares of keys and values, mean over
                              * both and over slots, of this rank's share; NAN without */
    double communication_wait; /* seconds in which the computation waited for other ranks, see collectives_waited() */
    double ended;              /* clock_seconds() at its end on the device, which may be long before stepper_end() */
} step_result;

/* The result of an evaluation batch, over all ranks. */
typedef struct step_evaluation {
    double loss;             /* mean over `labels` */
    int64_t labels, correct; /* correct: the label has the largest logit (the first one, if several are equal) */
} step_evaluation;

enum { STEPPER_AHEAD = COLLECTIVES_SLOTS }; /* maximum number of steps that were begun and not ended */

/* Results of a step that are copied to the host. */
typedef struct step_pending {
    double loss, residual[2], ended;
    double *start; /* [2 * slots, 2] sums of the learned start's loss */
    step_state state;
    int64_t mark;
} step_pending;

typedef struct stepper {
    model *model; /* the caller's */
    graph *graph;
    example_batch *batch; /* of the larger of batch_size and eval_batch_size */
    optimizer *optimizer;
    int batch_size;      /* examples per micro-batch */
    int eval_batch_size; /* examples per evaluation batch and rank */
    int32_t block_size;
    view correct;               /* i32 [larger batch size * block_size, 1], on the device */
    bool exact;                 /* loops are trained in the exact form (model/exact.h), which needs the next three */
    example_batch *group;       /* examples whose slots are computed together */
    exact_slots *slots;         /* of the group */
    int64_t group_row;          /* first row of the micro-batch within the group */
    loop_start_loss start_loss; /* of the model's learned start; its sums are in `scalars` */
    float *start_scales;        /* [6 * slots]: of start_loss, of idle_start_loss (zeros), of iteration_loss */
    loop_start_loss idle_start_loss;
    loop_start_loss iteration_loss; /* of one iteration from the start; its sums are not used */
    double iteration_weight;        /* 0: there is no such loss */
    double plan_share;              /* exact form: fraction of the steps that run by the plan */
    bool by_plan;                   /* the step that is being begun is one of them */
    void *scalars;                  /* device memory of the sums above and of the next five */
    view sums;                      /* f64 [1, 2]: loss of the step so far; number of correct labels of an evaluation */
    view residual;                  /* f64 [1, 2]: of the step so far, see decoder_forward_exact() */
    view idle_residual;             /* the same of an idle micro-batch; not used */
    view scale;                     /* f32: 1 / labels of the step */
    view seed;                      /* i64: of the micro-batch's dropout masks */
    replay_set batches;             /* recorded micro-batches: whole ones, and the last one of a step */
    replay update;
    step_pending pending[STEPPER_AHEAD];
    int64_t begun, ended; /* steps */
} stepper;

typedef struct stepper_options {
    dtype compute;             /* f32, or bf16 with f32 masters */
    bool bf16_weights;         /* with bf16: weights and moments in bf16, without master weights */
    int batch_size;            /* examples per micro-batch */
    int32_t block_size;        /* tokens of the longest example */
    bool exact;                /* train loops in the exact form (model/exact.h) instead of by the plan */
    int fill_size;             /* with exact: examples whose slots are computed together, at least batch_size */
    double plan_share;         /* with exact: fraction of the steps that run by the plan, 0 to 1 */
    double iteration_weight;   /* with exact: of the loss of one iteration from the start (batch.h); 0: none */
    double loop_start_weight;  /* of the loss of the model's learned start, if it has one */
    int64_t examples_per_step; /* of all ranks; the loss of a start is divided by their tokens; 0: batch_size */
    /* For weights that are divided between ranks (shards.h): */
    bool regather_loops, bf16_gradients;
    bool gradient_checkpointing; /* store only the inputs of layers, and recompute layers in the backward pass */
    optimizer_options optimizer;
} stepper_options;

/* Makes the weights of `m` trainable: writable values of type `compute`, and gradients. If it has an adapter, only the
 * adapter is trainable, and the frozen weights are converted to `compute`. */
int stepper_create(model *m, const stepper_options *options, stepper **out);
void stepper_free(stepper *s); /* NULL is fine */

/* Sets the number of examples per evaluation batch and rank (default: batch_size). Call it before the first step. */
int stepper_set_eval_batch(stepper *s, int eval_batch_size);

/* Launches one step over the examples chosen[count]. Each rank takes its share, in micro-batches of batch_size. The
 * loss is the sum over all labels of the step divided by their number, so that it does not depend on micro-batches and
 * ranks. All ranks get the same result, also in case of a failure. At most STEPPER_AHEAD steps may be begun and not
 * ended. */
int stepper_begin(stepper *s, const examples *data, const int64_t *chosen, int64_t count, double learning_rate);
/* Waits for the earliest step that was begun and not ended. */
int stepper_end(stepper *s, step_result *out);
/* Begins and ends one step. */
int stepper_step(stepper *s, const examples *data, const int64_t *chosen, int64_t count, double learning_rate,
                 step_result *out);

/* Examples per evaluation batch of all ranks together. */
int stepper_eval_examples(const stepper *s);
/* Evaluates examples first .. first + count - 1; count is at most stepper_eval_examples(). */
int stepper_evaluate(stepper *s, const examples *data, int64_t first, int count, step_evaluation *out);

#endif
