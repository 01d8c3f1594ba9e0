/* The devices of device_open(). Each function fills the tables, the memory functions and `own` of a zeroed device. */
#ifndef DEVICE_OPEN_H
#define DEVICE_OPEN_H

#include "device/device.h"

int cpu_open(device *d, int threads);
int count_open(device *d);

/* Only if DEVICE_CUDA is defined. */
int cuda_open(device *d, int number); /* by number, from 0 */
bool cuda_usable(void);               /* whether the first GPU exists and has the features that lckv needs */
int cuda_count(void);                 /* GPUs that this process sees */

#endif
