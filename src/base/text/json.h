/* JSON with jansson; errors name the file and the key.
 *
 * Getters take an object, its name for errors, a key and a default. An absent or null key gives the default; a value of
 * another type is LCKV_ERROR_FORMAT. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/status.h"

#include <jansson.h>

/* Parses JSON. Duplicate keys, invalid UTF-8 and nesting deeper than LCKV_JSON_LEVELS are errors; because of the last,
 * functions may recurse over a tree. Errors quote `name`. Release with json_decref(). */
int json_parse(const char *text, size_t bytes, const char *name, json_t **out);
/* The same with decoding `flags` of jansson; JSON_REJECT_DUPLICATES and JSON_ALLOW_NUL are always set. */
int json_parse_as(const char *text, size_t bytes, const char *name, size_t flags, json_t **out);
int json_read_file(const char *path, json_t **out);

int json_get_int(const json_t *object, const char *name, const char *key, int64_t fallback, int64_t *out);
int json_get_number(const json_t *object, const char *name, const char *key, double fallback, double *out);
int json_get_bool(const json_t *object, const char *name, const char *key, bool fallback, bool *out);
/* The result points into the tree; `fallback` may be NULL. A string with an embedded NUL is an error, because it would
 * be truncated. */
int json_get_string(const json_t *object, const char *name, const char *key, const char *fallback, const char **out);

/* A number, or null if it is not finite, which JSON cannot express. Returns a new reference; NULL if out of memory. */
json_t *json_number_or_null(double value);

/* Serializes with `indent` spaces (0: one line), without a final newline; release with free(). */
int json_format(const json_t *value, int indent, char **out);
/* Writes folder/name atomically, with indent 2 and a final newline. Takes ownership of `value`, also on failure; NULL
 * is reported as out of memory. */
int json_write_file(json_t *value, const char *folder, const char *name);

#endif
