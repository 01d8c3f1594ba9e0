/* Strings for JSON from text that may be other than UTF-8: paths, arguments, what a client sent. */
#ifndef CLI_STRING_JSON_H
#define CLI_STRING_JSON_H

#include <jansson.h>
#include <stddef.h>

/* Creates a JSON string. Bytes that are not UTF-8 become U+FFFD. Returns NULL if memory runs out. */
json_t *string_json(const char *text, size_t length);

#endif
