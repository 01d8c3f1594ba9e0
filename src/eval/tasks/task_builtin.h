/* The task descriptions of data/tasks, embedded by the build (scripts/cmake/embed.cmake). */
#ifndef EVAL_TASK_BUILTIN_H
#define EVAL_TASK_BUILTIN_H

#include <stddef.h>

typedef struct builtin_task {
    const char *name;
    const unsigned char *text; /* [bytes] */
    size_t bytes;
} builtin_task;

extern const builtin_task builtin_tasks[];
extern const int builtin_task_count;

#endif
