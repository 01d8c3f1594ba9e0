/* Products of a few rows (linear_few.c, linear_few_backward.c). */
#ifndef DEVICE_CPU_LINEAR_H
#define DEVICE_CPU_LINEAR_H

#include "device/cpu/cpu.h"

/* With at most this many rows, reading the weight in place is faster than packing it. oneDNN takes less (onednn.c). */
enum { LINEAR_FEW_ROWS = 32 };

int CPU_ENTRY(linear_few)(device *d, const struct op_linear *a);
int CPU_ENTRY(linear_few_backward)(device *d, const struct op_linear *a); /* dx and dweight */

/* The composed ops of device.h. */
int CPU_ENTRY(cpu_project)(device *d, const struct op_project *a);
int CPU_ENTRY(cpu_linear_add)(device *d, const struct op_linear_add *a);

#endif
