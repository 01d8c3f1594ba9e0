/* What a control group leaves a process to take: containers and schedulers such as Slurm bound memory so, and whoever
 * takes more is killed. Leaves out: limits of a process on itself (ulimit). */
#ifndef BASE_MEMORY_LIMIT_H
#define BASE_MEMORY_LIMIT_H

#include "base/status.h"

/* Bytes that this process may still take before the tightest of its control groups is full; SIZE_MAX: none has a limit.
 * What a group holds of files counts as free where the kernel can drop it (inactive_file). `root` is "" but for tests;
 * both versions of control groups are read, see cgroups(7). */
size_t memory_limit_left(const char *root);

#endif
