/* Mean negative log-likelihood by position, see nll_curve.h. */
#include "eval/nll_curve.h"

static void merge_bins(nll_curve *c) {
    for (int i = 0; i < NLL_CURVE_BINS / 2; i++) c->sums[i] = c->sums[2 * i] + c->sums[2 * i + 1];
    for (int i = NLL_CURVE_BINS / 2; i < NLL_CURVE_BINS; i++) c->sums[i] = 0;
    c->width *= 2;
}

void nll_curve_add(nll_curve *c, double value) {
    if (!c->width) c->width = 1;
    if (c->count == c->width * NLL_CURVE_BINS) merge_bins(c);
    c->sums[c->count++ / c->width] += value;
}

int nll_curve_points(const nll_curve *c, lckv_curve_point out[NLL_CURVE_BINS]) {
    int bins = c->count ? (int)((c->count - 1) / c->width) + 1 : 0;
    for (int i = 0; i < bins; i++) {
        int64_t first = i * c->width, left = c->count - first, tokens = left < c->width ? left : c->width;
        out[i] = (lckv_curve_point){.first = first, .tokens = tokens, .nll = c->sums[i] / (double)tokens};
    }
    return bins;
}
