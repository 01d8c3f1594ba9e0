/* String and number literals of templates. */
#ifndef TEXT_JINJA_LITERAL_H
#define TEXT_JINJA_LITERAL_H

#include "text/jinja/value.h"

/* `text` starts with a quote. Supports Python's escapes except \N{...}. *used: length, including both quotes. */
int literal_string(arena *a, const char *text, size_t bytes, value *out, size_t *used);

/* `text` starts with a digit: 42, 0x2A, 4_200, and, if `fractions` are allowed, 4.2, 1e3. */
int literal_number(const char *text, size_t bytes, bool fractions, value *out, size_t *used);

#endif
