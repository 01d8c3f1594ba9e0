/* Products of up to LINEAR_FEW_ROWS rows (linear_few.c). */
#ifndef DEVICE_CPU_LINEAR_H
#define DEVICE_CPU_LINEAR_H

#include "device/cpu/cpu.h"

enum { LINEAR_FEW_ROWS = 8 };

int CPU_ENTRY(linear_few)(device *d, const struct op_linear *a);
int CPU_ENTRY(linear_few_backward)(device *d, const struct op_linear *a); /* dx and dweight */

#endif
