/* What device_open() may choose from. Each fills the table, the memory functions and `own` of a zeroed device. */
#ifndef DEVICE_OPEN_H
#define DEVICE_OPEN_H

#include "device/device.h"

int cpu_open(device *d, int threads);
int count_open(device *d);

/* Only where DEVICE_CUDA is defined. */
int cuda_open(device *d, int number); /* the GPU of that number, from 0 */
bool cuda_usable(void);               /* whether the first GPU is there and can do what lckv asks of one */

#endif
