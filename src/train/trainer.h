/* The inside of lckv_trainer: setup.c makes it, trainer.c runs it. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "data/mixture.h"
#include "data/row_set.h"
#include "train/checkpoint/run_folder.h"
#include "train/observer.h"
#include "train/schedule.h"
#include "train/step.h"

/* Sums over the steps since the last logged one. */
typedef struct log_window {
    double loss;
    int64_t steps, tokens;
    double begin; /* seconds on the clock */
} log_window;

/* What happens every so often. */
typedef struct rhythm {
    lckv_interval_strategy strategy;
    int64_t steps; /* for LCKV_INTERVAL_STEPS */
} rhythm;

/* Of those whose evaluation is known. */
typedef struct best_checkpoint {
    double metric;
    int64_t step;  /* -1: there is none */
    int64_t since; /* evaluations that were not better than it */
} best_checkpoint;

struct lckv_trainer {
    /* what it trains, and on what */
    const collectives *collectives; /* the processes that train together, the caller's */
    device *device;
    model_config *config; /* until there is a model */
    model *model;
    stepper *stepper;
    lckv_tokenizer *tokenizer;             /* NULL where the data is ids alone */
    token_store train_ids, validation_ids; /* the latter empty where the validation blocks are a part of the former */
    blocks train_blocks, validation_blocks;
    mixture mixture;                         /* of weighted sources, instead of train_ids and train_blocks */
    tuning_rows train_rows, validation_rows; /* of instruction tuning, instead of all these, and its examples */
    tuning_set train_set, validation_set;
    lckv_chat_template *chat_template;  /* of such rows; NULL: none */
    const examples *train, *validation; /* what of these it learns from; of no examples where there are none */
    int64_t train_tokens;               /* that were cut into them, dropped ones included */

    /* how it goes through the data */
    schedule schedule;
    int64_t steps, steps_per_epoch;
    int64_t batch_size;      /* blocks that this process runs at a time, at most */
    int64_t blocks_per_step; /* accumulated batches of all processes together */
    bool shuffle;
    uint64_t seed;
    int64_t *chosen;       /* [blocks_per_step] */
    double flops_of_block; /* flops.h */

    /* when it evaluates and saves, and when it stops */
    rhythm evaluating, saving;
    int64_t save_total_limit;        /* 0: all are kept */
    int64_t early_stopping_patience; /* evaluations; 0: never */
    int64_t max_skipped_steps;
    bool do_train, do_eval, load_best_model_at_end;

    /* where it writes, whom it tells */
    char *output_dir;
    run_folder folder;
    char *model_name;       /* of the checkpoint, as it was asked for; NULL: none */
    char *source_folder;    /* of the checkpoint, or config: generation_config.json travels along */
    char *code_folder;      /* of the config: *.py do */
    char *tokenizer_folder; /* NULL where there is none */
    char *template_text;    /* the chat template of what is written; NULL: the tokenizer's */
    int64_t logging_steps;
    watchers watchers;
    lckv_train_callback callback;
    void *user;

    /* how far it is: what a checkpoint keeps (run_state.h) */
    int64_t step, tokens;
    double loss_sum; /* of `learned` steps */
    int64_t learned; /* steps that were not skipped, for whatever reason */
    log_window window;
    int64_t skipped;        /* steps whose loss or gradient was not finite */
    double usual_grad_norm; /* smoothed; 0: not known yet */
    int64_t evaluated_at;   /* the step of the last evaluation; 0: none */
    best_checkpoint best;

    /* and what it does not */
    bool ran, finished;
    char *resumed_from;               /* checkpoint folder that this run goes on from; NULL: none */
    int64_t first_step, first_tokens; /* that this process began with */
    int64_t begun;                    /* steps, those included that have not ended */
    bool run_ahead;   /* a step begins before the one before it has ended: where the device works on its own */
    int64_t saved_at; /* the step of the newest checkpoint of this run; 0: none */
    lckv_evaluation evaluation; /* of evaluated_at, where this process made it */
    double begin;               /* seconds on the clock */
};

/* Tells the caller's callback; LCKV_ERROR_INTERRUPTED when that asks to stop. `status` is what the watchers said, who
 * are with one process: all processes stop where one is to. */
int trainer_tell(const lckv_trainer *t, const lckv_train_progress *progress, int status);

/* Tokens of an example to train on: a block's, or the mean of rows. */
double trainer_tokens_of_example(const lckv_trainer *t);

/* FLOPs that the steps so far have needed. */
double trainer_flops(const lckv_trainer *t);
bool trainer_has_output(const lckv_trainer *t, const char *name); /* a file in output_dir */

#endif
