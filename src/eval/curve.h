/* The mean of a long row of numbers, place by place: bins of equal width, which doubles whenever they would become too
 * many, so that it takes the same memory however long the row is. */
#ifndef EVAL_CURVE_H
#define EVAL_CURVE_H

#include "base/status.h"

enum { CURVE_BINS = 256 };

typedef struct curve {
    double sums[CURVE_BINS];
    int64_t width, count; /* numbers a bin; numbers so far */
} curve;                  /* begins as zeros */

void curve_add(curve *c, double value);

/* The bins that have something in them; the last one may be a part. */
int curve_points(const curve *c, lckv_curve_point out[CURVE_BINS]);

#endif
