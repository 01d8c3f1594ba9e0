/* Memory limits of control groups. Containers and schedulers such as Slurm set them, and the kernel kills processes
 * that exceed them. Per-process limits (ulimit) are not considered. */
#ifndef BASE_MEMORY_LIMIT_H
#define BASE_MEMORY_LIMIT_H

#include "base/status.h"

/* Bytes that this process can allocate before it reaches the tightest limit of its control groups; SIZE_MAX: no limit.
 * File cache that the kernel can drop (inactive_file) counts as free. `root` is "" except in tests. Supports both
 * versions of control groups, see cgroups(7). */
size_t memory_limit_left(const char *root);

#endif
