/* training_state.json of a checkpoint: the progress of a run, and the conditions under which a resumed run repeats it
 * bit for bit.
 *
 * The file contains no time and no path, so that the checkpoints of a resumed run equal those of an uninterrupted one.
 */
#ifndef TRAIN_CHECKPOINT_TRAINING_STATE_H
#define TRAIN_CHECKPOINT_TRAINING_STATE_H

#include "base/status.h"

/* Sums over the steps since the last logged one. */
typedef struct log_window {
    double loss;
    int64_t steps, tokens;
} log_window;

/* The best checkpoint so far, among those that were evaluated. */
typedef struct best_checkpoint {
    double metric; /* evaluation loss */
    int64_t step;  /* -1: none */
    int64_t since; /* evaluations since then, for early stopping */
} best_checkpoint;

/* The progress of a run. Random numbers are a function of seed, stream and counter (base/rng.h), so that the seed and
 * the step are their whole state. */
typedef struct training_state {
    int64_t step, tokens;
    int64_t applied_steps;  /* steps that changed the weights */
    double loss_sum;        /* over applied_steps */
    int64_t skipped;        /* steps with a loss or gradient that was not finite */
    double usual_grad_norm; /* moving average of the gradient norm; 0: not known yet */
    log_window window;
    int64_t evaluated_at; /* step of the last evaluation; 0: none */
    best_checkpoint best;
} training_state;

/* What the bits of a run depend on, besides weights, moments and options. */
typedef struct run_conditions {
    const char *device; /* name and features */
    int ranks, threads;
    uint64_t seed;
    bool shuffle;
    int32_t block_size;
    int64_t examples; /* per epoch */
    int batch_size;
    int64_t examples_per_step;
} run_conditions;

int training_state_write(const training_state *state, const run_conditions *now, const char *folder);

/* Reads the state from a checkpoint. If its conditions differ from `now`, logs a warning that lists them. */
int training_state_read(const char *folder, const run_conditions *now, training_state *out);

#endif
