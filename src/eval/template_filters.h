/* The filters of templates: text in, text out. What each does is in template.h. */
#ifndef EVAL_TEMPLATE_FILTERS_H
#define EVAL_TEMPLATE_FILTERS_H

#include "base/text_buffer.h"

typedef struct template_filter {
    const char *name;
    int arguments;
    /* Appends. text [bytes] ends in NUL and is well-formed UTF-8. */
    int (*apply)(const char *text, size_t bytes, const char *const *arguments, text_buffer *out);
} template_filter;

/* NULL where there is none of that name. */
const template_filter *template_find_filter(const char *name);

/* Bytes of white space at the beginning and at the end of well-formed UTF-8, as Python's str.strip() sees it. */
size_t white_space_before(const char *text, size_t bytes);
size_t white_space_after(const char *text, size_t bytes);

#endif
