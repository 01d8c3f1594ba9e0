/* Means by place, see curve.h. */
#include "eval/curve.h"

static void halve(curve *c) {
    for (int i = 0; i < CURVE_BINS / 2; i++) c->sums[i] = c->sums[2 * i] + c->sums[2 * i + 1];
    for (int i = CURVE_BINS / 2; i < CURVE_BINS; i++) c->sums[i] = 0;
    c->width *= 2;
}

void curve_add(curve *c, double value) {
    if (!c->width) c->width = 1;
    if (c->count == c->width * CURVE_BINS) halve(c);
    c->sums[c->count++ / c->width] += value;
}

int curve_points(const curve *c, lckv_curve_point out[CURVE_BINS]) {
    int bins = c->count ? (int)((c->count - 1) / c->width) + 1 : 0;
    for (int i = 0; i < bins; i++) {
        int64_t first = i * c->width, left = c->count - first, tokens = left < c->width ? left : c->width;
        out[i] = (lckv_curve_point){.first = first, .tokens = tokens, .nll = c->sums[i] / (double)tokens};
    }
    return bins;
}
