/* The definition of lckv_trainer. trainer_setup.c creates it, train_loop.c runs it.
 *
 * Private to this folder: observers and checkpoints get a run_view and the parts that they need. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "data/mixture.h"
#include "data/tuning/tuning_set.h"
#include "train/checkpoint/checkpoint.h"
#include "train/step/schedule.h"
#include "train/step/step.h"

/* How often an action runs. */
typedef struct interval {
    lckv_interval_strategy strategy;
    int64_t steps; /* for LCKV_INTERVAL_STEPS */
} interval;

struct lckv_trainer {
    /* Model and data. */
    const collectives *collectives;  /* between the ranks: the caller's, or device_collectives */
    collectives *device_collectives; /* NULL: the caller's serve the device */
    const collectives *divide;       /* ranks that weights and gradients are divided between (zero 3); NULL: none */
    device *device;
    model_config *config; /* from the options; the model has its own copy */
    model *model;
    stepper *stepper;
    lckv_tokenizer *tokenizer;             /* NULL if all data is token ids */
    token_store train_ids, validation_ids; /* validation_ids is empty if validation blocks are split off train_ids */
    blocks train_blocks, validation_blocks;
    mixture mixture;                         /* with weighted sources: replaces train_ids and train_blocks */
    tuning_rows train_rows, validation_rows; /* with instruction data: rows and sets replace stores and blocks */
    tuning_set train_set, validation_set;
    lckv_chat_template *chat_template;  /* for instruction data; NULL: none */
    const examples *train, *validation; /* point to one of the above; count is 0 if there are none */
    int64_t train_tokens;               /* read for training, those that no block has included */
    int32_t block_size;                 /* tokens of an example at most */

    /* Steps. An epoch's last step may have fewer examples. */
    schedule schedule;
    int64_t steps, steps_per_epoch;
    int64_t batch_size;        /* examples per micro-batch and rank, at most */
    bool regather_loops;       /* with zero 3: see shards.h */
    int64_t loop_group_size;   /* exact form: examples whose slots are filled together */
    int64_t examples_per_step; /* of all micro-batches and ranks together */
    bool shuffle;
    uint64_t seed;
    int64_t *chosen;          /* [examples_per_step] */
    double flops_per_example; /* training_cost.h */

    /* Evaluations, checkpoints and the end of the run. */
    interval eval_interval, save_interval;
    int64_t save_total_limit;        /* 0: no checkpoint is deleted */
    int64_t early_stopping_patience; /* evaluations; 0: no early stopping */
    int64_t max_skipped_steps;
    bool do_train, do_eval, load_best_model_at_end;

    /* Output. */
    char *output_dir;
    run_folder folder;
    model_origin origin;
    int64_t logging_steps;
    observers observers;
    lckv_train_callback callback;
    void *user;

    /* Progress that checkpoints save. */
    training_state state;

    /* Progress of this process alone. */
    bool ran, finished;
    char *resumed_from;                 /* checkpoint folder; NULL: a new run */
    int64_t first_step, first_tokens;   /* state.step and state.tokens when this process began */
    int64_t launched;                   /* steps launched on the device, those included that are not complete */
    bool run_ahead;                     /* launch a step before the previous one is complete: on asynchronous devices */
    int64_t saved_at;                   /* step of the newest checkpoint of this run; 0: none, -1: write it again */
    lckv_evaluation evaluation;         /* of step state.evaluated_at, if this process made it */
    double begin_seconds, window_begin; /* clock_seconds() at the first step, and at the end of the last logged one */
    int64_t window_first;               /* step of the last logged one */
    double waited, window_waited;       /* communication_wait (step/step.h) of all steps, and since the logged one */
};

/* Whether no step is left, or early stopping applies. */
bool trainer_finished(const lckv_trainer *t);

/* The view that observers get. */
run_view trainer_view(const lckv_trainer *t);

/* What checkpoints are written from; valid until the trainer changes. */
checkpoint_contents trainer_checkpoint(const lckv_trainer *t);

/* The conditions of this run for training_state.json. */
run_conditions trainer_conditions(const lckv_trainer *t);

#endif
