/* The op table of one CPU feature level. */
#include "device/cpu/level.h"
#include "device/cpu/cpu.h"

#define ENTRY(name, arguments) .name = CPU_ENTRY(cpu_##name),

const struct device_ops CPU_ENTRY(cpu_ops) = {DEVICE_OPS(ENTRY)};
