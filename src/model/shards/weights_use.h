/* The use of weights in a pass. Weights that are divided between ranks (shards.h) are gathered before it and released
 * after it, and their gradients are summed over the ranks. For other weights these functions do nothing.
 *
 * A use begins and ends in the forward pass. Both leave a call on the tape: the backward pass begins the use again
 * where the forward pass has ended it, and ends it where the forward pass has begun it. When no use of a unit is left
 * in the backward pass, its gradient is complete: each rank receives the sum of its part over the ranks and adds it to
 * the sum over micro-batches. Which calls a pass makes depends on the model and on the form of training alone, so that
 * all ranks make the same ones.
 *
 * Communication overlaps with computation (operations aside, collectives.h). When a layer's attention begins, the next
 * unit is gathered: in the forward pass the one that the caller names, in the backward pass the one that was read
 * before. In the backward pass, the gradient of the unit before is summed as well. Therefore two units have their
 * values and two have gradients at the same time, without units that are held.
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
int weights_of_layer(int layer);
/* The unit of the tensor of an entry of p. */
int weights_of(const params *p, const tensor *t);

/* At the start of a pass: releases what an earlier pass has gathered and not used. */
int weights_begin_pass(params *p, graph *g);

/* `next`: the unit whose use begins after this one, or -1. */
int weights_begin(params *p, graph *g, int unit, int next);
/* `read`: the backward pass reads the values. */
int weights_end(params *p, graph *g, int unit, bool read);

/* Units that are used several times stay gathered from weights_hold() to weights_let_go(), around their uses, and in
 * the backward pass until all uses in between have ended. */
int weights_hold(params *p, graph *g, unit_range units);
int weights_let_go(params *p, graph *g, unit_range units);

/* Memory for the gradient of a unit that is added in the forward pass, before weights_end(). */
int weights_take_gradients(params *p, graph *g, int unit);
/* The same as weights_begin() and weights_end() where an earlier use of the unit is recorded, which the backward pass
 * ends after this one. */
int weights_begin_again(params *p, int unit);
int weights_end_again(params *p, int unit);

/* After the backward pass: the last sum. */
int weights_finish_sums(params *p);

#endif
