/* The op table of one CPU feature level. */
#include "device/cpu/level.h"
#include "device/cpu/cpu.h"
#include "device/cpu/linear.h"

#define ENTRY(name, arguments) .name = CPU_ENTRY(cpu_##name),

const struct device_ops CPU_ENTRY(cpu_ops) = {DEVICE_OPS(ENTRY).project = CPU_ENTRY(cpu_project),
                                              .linear_add = CPU_ENTRY(cpu_linear_add)};
