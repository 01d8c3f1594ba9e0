/* What the speed of a run is compared with, and the memory that it takes: for whoever shows how it goes. */
#ifndef TRAIN_MEASURE_H
#define TRAIN_MEASURE_H

#include "device/device.h"

/* FLOP/s of a plain matrix product in `compute`, large enough to be near the most that the device does. Takes some tens
 * of milliseconds and three matrices of memory. */
int vitals_product(device *d, dtype compute, double *flops_per_second);

/* Bytes: of a GPU, what is taken by all; else what this process has in memory. 0 where nobody tells. */
int64_t vitals_memory(device *d);

#endif
