/* AdamW over the table of weights: its two moments a weight, the clipping of the global gradient norm, and the numbers
 * that a step needs, all in device memory.
 *
 * Matrices decay, vectors (norms, biases) do not: transformers' Trainer.get_decay_parameter_names. Gradients are zero
 * again after a step. Leaves out: schedules (schedule.h), the formulas themselves (device.h). */
#ifndef TRAIN_OPTIMIZER_H
#define TRAIN_OPTIMIZER_H

#include "model/params.h"

typedef struct optimizer_options {
    double beta1, beta2, epsilon, weight_decay;
    double max_grad_norm; /* 0: no clipping */
} optimizer_options;

/* The two moments of one weight, f32 in its shape. */
typedef struct moments {
    view m, v;
} moments;

typedef struct optimizer {
    params *params; /* the caller's */
    device *device;
    optimizer_options options;
    moments *table;   /* [params->count] */
    int64_t steps;    /* taken */
    view state;       /* step_state: what op_clip found is read from here */
    view sum_squares; /* f64 [1, 1] */
    void *memory;     /* all of it */
} optimizer;

/* `p` has values and gradients (params_enable_gradients) and outlives the optimizer. */
int optimizer_create(params *p, const optimizer_options *options, optimizer **out);
void optimizer_free(optimizer *o); /* NULL is fine */

/* One step with the gradients of the whole step. `loss` (f64 [1, 1]) is looked at for being finite: where it or the
 * norm is not, no weight changes. */
int optimizer_step(optimizer *o, double learning_rate, view loss);

#endif
