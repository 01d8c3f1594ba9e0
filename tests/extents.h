/* Checks of one op at given extents (test_device_extents.c): what they have in common. */
#ifndef TESTS_EXTENTS_H
#define TESTS_EXTENTS_H

#include "device_check.h"

static dtype compute, weight_type; /* of the current check */

static inline double near(double size) {
    return (rounding(compute) + 64 * F32_EPSILON) * (fabs(size) + 1);
}

static inline view integers(int64_t rows, dtype type, int64_t below) {
    view v = tensor(rows, 1, type);
    for (int64_t r = 0; r < rows; r++) {
        int64_t x = random_below(below + 2) - 1; /* one of them too low and one too high */
        if (type == DTYPE_I64)
            ((int64_t *)v.data)[r] = x;
        else
            ((int32_t *)v.data)[r] = (int32_t)x;
    }
    return v;
}

/* Element c of row `index` of a table; 0 for a row outside of it. */
static inline double of_row(view table, int64_t index, int64_t c) {
    return index >= 0 && index < table.rows ? element(table, index * table.cols + c) : 0;
}

static inline view gradient(int64_t rows, int64_t cols) {
    return random_tensor(rows, cols, DTYPE_F32, 1.0);
}

#endif
