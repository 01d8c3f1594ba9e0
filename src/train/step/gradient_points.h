/* The points of a backward pass at which the gradient of a unit of weights is complete (model/shards/shards.h). From
 * there on, the sum of the gradient over the ranks overlaps with the rest of the backward pass (operations aside,
 * collectives.h).
 *
 * A weight may have several uses on the tape (loops, tied embeddings), some of which are walked several times. Its
 * gradient is complete when the last use has been walked for the last time. The points are always passed in the order
 * of shards_backward_unit(), because all ranks have to begin the sums in the same order: a unit that is complete
 * earlier waits for those before it. They are passed before the attention of a layer below (graph.attention_begins).
 *
 * Every backward pass passes all points, also when it is recorded and replayed. The sums begin after the last one of a
 * step. Leaves out: the sums (optimizer.h), and divided weights, whose gradients are summed in the backward pass
 * (model/shards/weights_use.h). */
#ifndef TRAIN_GRADIENT_POINTS_H
#define TRAIN_GRADIENT_POINTS_H

#include "model/shards/shards.h"

typedef struct gradient_points {
    const shards *shards; /* NULL: there is a single rank, or the weights are divided; the functions do nothing */
    int *open;            /* [shards.count] weights of the unit whose gradient is not complete */
    int next;             /* number of units, in the order above, whose points have been passed */
    bool passed;          /* a backward pass of this step has run */
} gradient_points;

int gradient_points_create(const shards *s, gradient_points *out);
void gradient_points_free(gradient_points *p); /* zeros are fine */

/* Around the backward pass, when everything has been recorded. */
int gradient_points_begin(gradient_points *p, graph *g);
int gradient_points_end(gradient_points *p, graph *g);

/* Before the sums: passes the points if this rank's step had no backward pass. */
int gradient_points_finish(gradient_points *p);

#endif
