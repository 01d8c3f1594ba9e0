/* The op tables of level.c, one per CPU feature level of this build. */
#ifndef DEVICE_CPU_LEVEL_H
#define DEVICE_CPU_LEVEL_H

#include "device/device.h"

extern const struct device_ops cpu_ops_base;
extern const struct device_ops cpu_ops_avx2;
extern const struct device_ops cpu_ops_avx512;

#endif
