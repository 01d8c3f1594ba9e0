/* AdamW over the table of weights: the two moments of each weight, clipping of the global gradient norm, and the
 * scalars of a step, all in device memory.
 *
 * With several ranks (collectives.h), each rank owns a part of the elements of all weights (model/shards/shards.h). It
 * alone stores their moments and f32 master weights (weight.master), and updates them with the sum of all ranks'
 * gradients. Then all ranks gather the new weights (ZeRO stage 1), unless the weights and gradients themselves are
 * divided (stage 3). In stage 1, the sums overlap with the step's last backward pass, and gathering with the update of
 * other units.
 *
 * Weights in bf16 without f32 master weights have moments in bf16 too: 6 bytes per element, and 4 for its gradient.
 *
 * Weight decay applies to matrices only, not to vectors (norms, biases), as in transformers'
 * Trainer.get_decay_parameter_names. Gradients are zero again after a step. Leaves out: schedules (schedule.h), the
 * formulas (device.h), and the state of entries across ranks (checkpoint/optimizer_state.h). */
#ifndef TRAIN_OPTIMIZER_H
#define TRAIN_OPTIMIZER_H

#include "collectives/collectives.h"
#include "train/step/gradient_points.h"

typedef struct optimizer_options {
    double beta1, beta2, epsilon, weight_decay;
    double max_grad_norm;           /* 0: no clipping */
    uint64_t seed;                  /* of stochastic rounding, for bf16 weights without master weights */
    double skip_grad_norm;          /* steps with a larger gradient norm change no weight; 0: no limit */
    const collectives *collectives; /* between the ranks, must outlive the optimizer; NULL: a single rank */
} optimizer_options;

/* The part of one entry that is in this rank's shard: elements first .. first + count - 1. All views are [1, count]. */
typedef struct shard_slice {
    int entry;
    int64_t first, count;
    view value, grad; /* views of the weight's memory, or of its part if the weights are divided */
    view master;      /* f32, if `value` is a rounded copy of it; else absent */
    view m, v;        /* moments, of optimizer.state_type */
} shard_slice;

typedef struct optimizer {
    params *params; /* the caller's */
    device *device;
    const collectives *collectives;
    optimizer_options options;
    shard_slice *slices; /* [slice_count] in the table's order, at most one per entry */
    int slice_count;
    const shards *shards; /* those of the params if their weights are divided, else own_shards */
    struct shards *own_shards;
    gradient_points points; /* of the backward passes of a step; the sums over ranks begin there */
    int64_t steps;          /* so far */
    dtype state_type; /* of moments and of the weights that steps update: bf16 for bf16 weights without master weights
                       * (see op_adamw), else f32 */
    view state;       /* step_state: inputs of a step, and the results of op_clip */
    view sum_squares; /* f64 [1, 1] */
    void *memory;     /* all of it */
} optimizer;

/* `p` has values and gradients (params_enable_gradients) and must outlive the optimizer. Master weights are those of
 * the same ranks. */
int optimizer_create(params *p, const optimizer_options *options, optimizer **out);
void optimizer_free(optimizer *o); /* NULL is fine */

/* One step, in two functions: optimizer_send() copies the step's scalars to the device, optimizer_update() updates the
 * weights with the accumulated gradients. The latter copies nothing from or to the host, so that a single rank can
 * record it. If `loss` (f64 [1, 1]) or the gradient norm is not finite, or the norm is above skip_grad_norm, no weight
 * and no moment changes. All ranks call both; none may have failed since they last agreed. Gradients and loss are
 * summed over the ranks. */
int optimizer_send(optimizer *o, double learning_rate);
int optimizer_update(optimizer *o, view loss);

#endif
