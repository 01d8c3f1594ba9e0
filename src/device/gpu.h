/* What NCCL needs of a GPU (src/collectives/nccl): its number and the stream of its ops. Work of others on the stream
 * is followed by cuda_device_separate() if the next op depends on it. */
#ifndef DEVICE_GPU_H
#define DEVICE_GPU_H

#include "device/device.h"

/* Of a device that is a GPU. The stream is a cudaStream_t, and the device's until it is closed. */
int cuda_device_number(const device *d);
void *cuda_device_stream(const device *d);
/* The next op does not start before everything on the stream has ended. */
void cuda_device_separate(device *d);

#endif
