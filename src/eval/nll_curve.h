/* Mean negative log-likelihood by position: bins of equal width. When a text exceeds the bins, neighbouring bins are
 * merged and the width doubles, so the memory is constant. */
#ifndef EVAL_NLL_CURVE_H
#define EVAL_NLL_CURVE_H

#include "base/status.h"

enum { NLL_CURVE_BINS = 256 };

typedef struct nll_curve {
    double sums[NLL_CURVE_BINS];
    int64_t width, count; /* values per bin; values so far */
} nll_curve;              /* all zeros: empty */

void nll_curve_add(nll_curve *c, double value);

/* Returns the number of bins that have values; the last bin may be incomplete. */
int nll_curve_points(const nll_curve *c, lckv_curve_point out[NLL_CURVE_BINS]);

#endif
