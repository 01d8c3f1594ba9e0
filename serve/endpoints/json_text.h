/* Strings for JSON: always valid UTF-8, truncated between characters. */
#ifndef SERVE_JSON_TEXT_H
#define SERVE_JSON_TEXT_H

#include "cli/output/string_json.h"

#include <stdbool.h>
#include <stddef.h>

enum { STRING_SHORT_BYTES = 96 };

/* Length of the longest prefix of text [length] that has at most `limit` bytes and ends with a whole character. */
size_t string_cut(const char *text, size_t length, size_t limit);

/* Copies `from` into `to` [size] and truncates it if it is too long. */
void string_copy(char *to, size_t size, const char *from);

/* Shortens a client's text for an error message: a prefix of it, with "..." if something was cut. Returns `out`. */
const char *string_short(char out[STRING_SHORT_BYTES], const char *text);

#endif
