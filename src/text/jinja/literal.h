/* Strings and numbers as they are written in a template. */
#ifndef TEXT_JINJA_LITERAL_H
#define TEXT_JINJA_LITERAL_H

#include "text/jinja/value.h"

/* `text` begins with a quote. Escapes are Python's but \N{...}. *used: bytes, both quotes included. */
int literal_string(arena *a, const char *text, size_t bytes, value *out, size_t *used);

/* `text` begins with a digit: 42, 0x2A, 4_200, and where `fractions` are allowed 4.2, 1e3. */
int literal_number(const char *text, size_t bytes, bool fractions, value *out, size_t *used);

#endif
