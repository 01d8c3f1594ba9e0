/* The work counter; see work.h. */
#include "base/work.h"

_Thread_local uint64_t work_steps;
