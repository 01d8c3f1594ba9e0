/* The CPU device that converts and merges weights in host memory, whatever device the model is on. */
#ifndef IO_HOST_DEVICE_H
#define IO_HOST_DEVICE_H

#include "device/device.h"

/* Opens it with all processors. The caller closes it with device_close(). */
static inline int host_device_open(device **out) {
    return device_open("cpu", 0, out);
}

#endif
