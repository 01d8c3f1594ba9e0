/* The curve of nll over position as a picture. */
#ifndef EVAL_CURVE_SVG_H
#define EVAL_CURVE_SVG_H

#include "eval/curve.h"

/* *svg stands alone and suits light and dark pages; released with free(). `mean` is of all tokens. */
int curve_svg(const lckv_curve_point *points, int count, int64_t tokens, double mean, char **svg);

#endif
