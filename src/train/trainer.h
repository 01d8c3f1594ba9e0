/* The inside of lckv_trainer: setup.c makes it, trainer.c runs it. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "train/blocks.h"
#include "train/schedule.h"
#include "train/stepper.h"
#include "train/watch.h"

/* Sums over the steps since the last logged one. */
typedef struct log_window {
    double loss;
    int64_t steps, tokens;
    double begin; /* seconds on the clock */
} log_window;

struct lckv_trainer {
    /* what it trains, and on what */
    const exchange *exchange; /* the processes that train together, the caller's */
    device *device;
    model_config *config; /* until there is a model */
    model *model;
    stepper *stepper;
    lckv_tokenizer *tokenizer; /* NULL where the data is ids alone */
    blocks train, validation;

    /* how it goes through the data */
    schedule schedule;
    int64_t steps, steps_per_epoch;
    int64_t blocks_per_step; /* accumulated batches of all processes together */
    bool shuffle;
    uint64_t seed;
    int64_t *chosen; /* [blocks_per_step] */

    /* where it writes, whom it tells */
    char *output_dir;
    char *source_folder;    /* of the config or checkpoint: files that travel along */
    char *tokenizer_folder; /* NULL where there is none */
    int64_t logging_steps;
    watchers watchers;
    lckv_train_callback callback;
    void *user;

    /* how far it is */
    bool ran;
    char *resumed_from; /* checkpoint folder that this run goes on from; NULL: none */
    int64_t step, tokens;
    double loss_sum, begin;
    log_window window;
};

#endif
