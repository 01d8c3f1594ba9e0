/* oneDNN's products in place of plain ones (onednn.c). */
#ifndef DEVICE_CPU_ONEDNN_H
#define DEVICE_CPU_ONEDNN_H

#include "device/device.h"

/* Replaces entries of d->ops by oneDNN's, which call the former ones for cases that oneDNN does not support. */
int onednn_open(device *d);
void onednn_close(device *d);

#endif
