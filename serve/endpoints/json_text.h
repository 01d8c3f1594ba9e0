/* Strings for JSON: always valid UTF-8, truncated between characters. */
#ifndef SERVE_JSON_TEXT_H
#define SERVE_JSON_TEXT_H

#include <jansson.h>
#include <stddef.h>

enum { STRING_SHORT_BYTES = 96 };

/* Length of the longest prefix of text [length] that has at most `limit` bytes and ends with a whole character. */
size_t string_cut(const char *text, size_t length, size_t limit);

/* Copies `from` into `to` [size] and truncates it if it is too long. */
void string_copy(char *to, size_t size, const char *from);

/* Shortens a client's text for an error message: a prefix of it, with "..." if something was cut. Returns `out`. */
const char *string_short(char out[STRING_SHORT_BYTES], const char *text);

/* Creates a JSON string. Bytes that are not UTF-8 become U+FFFD. Returns NULL if memory runs out. */
json_t *string_json(const char *text, size_t length);

#endif
