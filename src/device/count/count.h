/* The counting device runs the whole decoder and tape, but its ops only add up bytes and FLOPs, and its memory
 * cannot be accessed. `inspect`, memory plans and the FLOPs of benchmarks are based on it. */
#ifndef DEVICE_COUNT_COUNT_H
#define DEVICE_COUNT_COUNT_H

#include "device/device.h"

/* One entry per op (count_ops.c). */
extern const struct device_ops count_ops;
extern const struct device_formats count_formats; /* all of them, because only sizes matter */

#endif
