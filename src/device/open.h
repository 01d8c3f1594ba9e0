/* What device_open() may choose from. Each fills the table, the memory functions and `own` of a zeroed device. */
#ifndef DEVICE_OPEN_H
#define DEVICE_OPEN_H

#include "device/device.h"

int cpu_open(device *d, int threads);
int count_open(device *d);

#endif
