/* Text for JSON: always valid UTF-8, cut between characters. */
#ifndef SERVE_JSON_TEXT_H
#define SERVE_JSON_TEXT_H

#include <jansson.h>
#include <stddef.h>

enum { STRING_SHORT_BYTES = 96 };

/* Bytes of the longest beginning of text [length] that has at most `most` bytes and ends with a whole character. */
size_t string_cut(const char *text, size_t length, size_t most);

/* Copies `from` into `to` [size], cut where it is too long. */
void string_copy(char *to, size_t size, const char *from);

/* A text of a client for a message: the beginning of it, with "..." if it is longer. Returns `out`. */
const char *string_short(char out[STRING_SHORT_BYTES], const char *text);

/* A JSON string; bytes that are no UTF-8 become U+FFFD. NULL without memory. */
json_t *string_json(const char *text, size_t length);

#endif
