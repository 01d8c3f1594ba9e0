/* Measurements of a device: the speed that training is compared with, and the memory in use. */
#ifndef TRAIN_DEVICE_MEASURE_H
#define TRAIN_DEVICE_MEASURE_H

#include "device/device.h"

/* FLOP/s of a square matrix product in `compute`, large enough to be near the device's peak. Takes some tens of
 * milliseconds, and memory for three matrices. */
int device_measure_product(device *d, dtype compute, double *flops_per_second);

/* Memory in use in bytes: on a GPU by all processes, else by this one. 0 if unknown. */
int64_t device_memory_in_use(device *d);

/* Resident memory of this process in bytes, now and at most so far; 0 if unknown (on systems other than Linux). */
int64_t process_resident_bytes(void);
int64_t process_peak_bytes(void);

#endif
