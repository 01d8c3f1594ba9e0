/* A read-only view of a training run, for observers (observer.h) and for what they write.
 *
 * The trainer fills it anew for each notification, so that its progress is that of the moment. The pointers belong to
 * the trainer and stay valid as long as it does. */
#ifndef TRAIN_RUN_VIEW_H
#define TRAIN_RUN_VIEW_H

#include "base/status.h"

typedef struct run_view {
    /* Setup. */
    const char *output_dir;
    const char *resumed_from; /* folder of the checkpoint that the run resumed from; NULL: a new run */
    const char *device;       /* name and features, such as "cpu avx2" */
    int threads, ranks;
    int64_t parameters;       /* of the model without adapter */
    bool do_train, evaluates; /* evaluates: do_eval is set and there are validation examples */

    /* Data and batches. An example is a block or a row of instruction data (data/examples.h). */
    int64_t train_examples;
    int32_t block_size; /* tokens of the longest example */
    double tokens_per_example;
    int64_t examples_per_step; /* of all ranks and micro-batches together */
    int batch_size;            /* examples per micro-batch and rank */
    int eval_batch_size;       /* examples per evaluation batch, of all ranks together */
    int64_t steps, steps_per_epoch;
    int64_t logging_steps, eval_steps, save_steps;

    /* Progress. */
    int64_t first_step; /* step at which this process began */
    int64_t step, tokens, skipped;
    double begin;               /* time of the first step of this process, as clock_seconds() */
    double flops;               /* of all steps so far, estimated by the counting device */
    bool finished;              /* no step is left, or early stopping applies */
    int64_t best_step;          /* checkpoint of the best evaluation; -1: none, or load_best_model_at_end is not set */
    double best_loss;           /* evaluation loss at best_step */
    lckv_evaluation evaluation; /* the latest one of this process */
} run_view;

/* Epochs completed after `step`, as a fraction. Counted in examples, because the last step of an epoch may have fewer.
 * 0 if the run does not train. */
double run_view_epoch(const run_view *run, int64_t step);

/* Whether output_dir has a file of this name. */
bool run_view_has_output(const run_view *run, const char *name);

#endif
