/* Quantizing matrices to the grouped formats (dtype.h) and back, in host memory.
 *
 * int8: the scale is the smallest f16 with which the largest magnitude of the group is at most 127; integers are
 * rounded to nearest even, so that a value changes by at most half the scale. int4: the scale is signed and is
 * found by a search for the least squared error, among scales with which the value of the largest magnitude maps to
 * -5.5 .. -9.5; the group may then have values beyond -8 .. 7, which become the nearest of these. A group of zeros
 * has the scale 0. The same values give the same bits with any number of threads. */
#ifndef DEVICE_QUANTIZE_H
#define DEVICE_QUANTIZE_H

#include "base/status.h"
#include "device/dtype.h"

/* Quantizes from [rows, cols] to `type`, int8 or int4: `data` and `scales` have the sizes of dtype.h.
 * LCKV_ERROR_ARGUMENT if a value is infinite, NaN, or so large that no f16 is its scale. */
int quantize_rows(dtype type, int64_t rows, int64_t cols, const float *from, void *data, void *scales, int threads);

/* The values, exact in f32: to [rows, cols]. */
void dequantize_rows(dtype type, int64_t rows, int64_t cols, const void *data, const void *scales, float *to,
                     int threads);

#endif
