/* The KL divergence of a model's plan from its exact form, by iterations, from zeros and from its learned start. */
#ifndef TRAIN_LOOP_START_KL_H
#define TRAIN_LOOP_START_KL_H

#include "data/examples.h"
#include "model/model.h"

typedef struct kl_options {
    dtype compute;
    bool (*go_on)(void *user, double fraction); /* progress; false stops */
    void *user;
} kl_options;

/* Measures forward_passes + backward_passes iterations (at most LOOP_START_COLUMNS) on the examples chosen[count] and
 * sets the `kl` of the model's start. */
int measure_loop_start(model *m, const examples *data, const int64_t *chosen, int count, const kl_options *options);

#endif
