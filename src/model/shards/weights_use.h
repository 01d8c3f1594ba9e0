/* The use of weights in a pass. Weights that are divided between ranks (shards.h) are gathered before it and released
 * after it, and their gradients are summed over the ranks. For other weights these functions do nothing.
 *
 * A use begins and ends in the forward pass. Both leave a call on the tape: the backward pass begins the use again
 * where the forward pass has ended it, and ends it where the forward pass has begun it. Uses may be nested. When no use
 * of a unit is left in the backward pass, its gradient is complete: each rank receives the sum of its part over the
 * ranks and adds it to the sum over micro-batches. Which calls a pass makes depends on the model and on the form of
 * training alone, so that all ranks make the same ones.
 *
 * After a failure no other pass may run. */
#ifndef MODEL_WEIGHTS_USE_H
#define MODEL_WEIGHTS_USE_H

#include "model/shards/shards.h"

/* Consecutive units. */
typedef struct unit_range {
    int first, last;
} unit_range;

unit_range weights_of_layers(int first_layer, int last_layer);
/* The unit of the tensor of an entry of p. */
unit_range weights_of(const params *p, const tensor *t);

int weights_begin(params *p, graph *g, unit_range units);
/* `read`: the backward pass reads the values. */
int weights_end(params *p, graph *g, unit_range units, bool read);

/* Memory for the gradients of units that are added in the forward pass, before weights_end(). */
int weights_take_gradients(params *p, graph *g, unit_range units);
/* The same as weights_begin() and weights_end() where an earlier use of the units is recorded, which the backward pass
 * ends after this one. */
int weights_begin_again(params *p, unit_range units);
void weights_end_again(params *p, unit_range units);

#endif
