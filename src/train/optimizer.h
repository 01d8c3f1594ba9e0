/* AdamW over the table of weights: its two moments a weight, the clipping of the global gradient norm, and the numbers
 * that a step needs, all in device memory.
 *
 * Where several processes train together (collectives.h), each owns a contiguous part of the weights' elements: it
 * alone keeps their moments and f32 masters, and updates them with the sum of all gradients; then the parts are
 * gathered. One process owns everything.
 *
 * Weights in bf16 without f32 masters have moments in bf16 too: 6 bytes an element, and 4 of its gradient.
 *
 * Matrices decay, vectors (norms, biases) do not: transformers' Trainer.get_decay_parameter_names. Gradients are zero
 * again after a step. Leaves out: schedules (schedule.h), the formulas themselves (device.h), and the state of an entry
 * as a whole (optimizer_state.h). */
#ifndef TRAIN_OPTIMIZER_H
#define TRAIN_OPTIMIZER_H

#include "collectives/collectives.h"
#include "model/params.h"

typedef struct optimizer_options {
    double beta1, beta2, epsilon, weight_decay;
    double max_grad_norm;           /* 0: no clipping */
    uint64_t seed;                  /* of stochastic rounding, where weights are bf16 without masters */
    double skip_grad_norm;          /* a step with a longer gradient changes no weight; 0: none is skipped for that */
    const collectives *collectives; /* the processes that share the work, which outlive it; NULL: this one alone */
} optimizer_options;

/* What this process owns of one entry: `count` elements from element `first` on. All views are [1, count]. */
typedef struct shard_slice {
    int entry;
    int64_t first, count;
    view value, grad; /* of the weight's own */
    view master;      /* f32: where value is a rounded copy of it; else absent */
    view m, v;        /* of optimizer.kept: the moments */
} shard_slice;

typedef struct optimizer {
    params *params; /* the caller's */
    device *device;
    const collectives *collectives;
    optimizer_options options;
    shard_slice *slices; /* in the table's order, at most one an entry */
    int slice_count;
    int64_t *shard_begin; /* [ranks + 1]: where each process's part begins in the memory of gradients, in elements */
    int64_t *shard_value_begin; /* the same in the memory of values */
    int64_t steps;              /* taken */
    dtype state_type; /* of moments and of the weights that steps update: bf16 for bf16 weights without master weights
                       * (see op_adamw), else f32 */
    view state;       /* step_state: what op_clip found is read from here */
    view sum_squares; /* f64 [1, 1] */
    void *memory;     /* all of it */
} optimizer;

/* `p` has values and gradients (params_enable_gradients) and outlives the optimizer. Among several processes its
 * masters go: the optimizer takes those of its part. */
int optimizer_create(params *p, const optimizer_options *options, optimizer **out);
void optimizer_free(optimizer *o); /* NULL is fine */

/* What of an entry lies in the part of process `rank`: the elements that are returned, from element *first on. */
int64_t optimizer_shard_of_entry(const optimizer *o, int entry, int rank, int64_t *first);

/* One step with the gradients of the whole step, in two parts: what the step needs is sent, then it is done. The second
 * copies nothing, so that it can be part of a recorded step of one process alone. `loss` (f64 [1, 1]) is looked at for
 * being finite: where it or the norm is not, or the norm is above skip_grad_norm, no weight and no moment
 * changes. All processes call this, none having failed since they
 * last agreed; gradients and loss are then sums over all of them. */
int optimizer_send(optimizer *o, double learning_rate);
int optimizer_update(optimizer *o, view loss);

#endif
