/* oneDNN's products in place of plain ones: onednn.c. */
#ifndef DEVICE_CPU_ONEDNN_H
#define DEVICE_CPU_ONEDNN_H

#include "device/device.h"

/* Puts oneDNN's entries over those of d->ops, which stay in use for what oneDNN does not take. */
int onednn_open(device *d);
void onednn_close(device *d);

#endif
