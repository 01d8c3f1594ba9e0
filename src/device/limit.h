/* The limit of a device's memory (device_memory.limit), the same for all devices that have one. */
#ifndef DEVICE_LIMIT_H
#define DEVICE_LIMIT_H

#include "device/device.h"

/* Fails with LCKV_ERROR_MEMORY if `bytes` more than the `held` ones are more than `limit`; limit 0: none. */
int device_check_limit(const device *d, size_t bytes, size_t held, size_t limit);

#endif
