/* The op table of one processor level. While the room is being built, each entry's line comes with its file; when all
 * stand, DEVICE_OPS makes them all. */
#include "device/cpu/level.h"
#include "device/cpu/cpu.h"

#define USE(name) .name = CPU_ENTRY(cpu_##name)

const struct device_ops CPU_ENTRY(cpu_ops) = {
    .linear = NULL,
};
