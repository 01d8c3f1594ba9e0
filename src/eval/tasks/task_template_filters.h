/* The filters of task templates, documented in task_template.h. */
#ifndef EVAL_TASK_TEMPLATE_FILTERS_H
#define EVAL_TASK_TEMPLATE_FILTERS_H

#include "base/text/text_buffer.h"

typedef struct task_filter {
    const char *name;
    int arguments;
    /* Appends the result. text [bytes] is NUL-terminated, valid UTF-8. */
    int (*apply)(const char *text, size_t bytes, const char *const *arguments, text_buffer *out);
} task_filter;

/* NULL if there is no filter of this name. */
const task_filter *task_filter_find(const char *name);

/* Bytes of white space at the start and at the end of valid UTF-8, as defined by Python's str.strip(). */
size_t white_space_before(const char *text, size_t bytes);
size_t white_space_after(const char *text, size_t bytes);

#endif
