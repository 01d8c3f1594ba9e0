/* What NCCL needs of a GPU (src/collectives/nccl): its number and the stream of its ops. */
#ifndef DEVICE_GPU_H
#define DEVICE_GPU_H

#include "device/device.h"

/* Of a device that is a GPU. The stream is a cudaStream_t, and the device's until it is closed. */
int cuda_device_number(const device *d);
void *cuda_device_stream(const device *d);

#endif
