/* JSON with jansson; errors name the file and the key.
 *
 * Getters take an object, its name for errors, a key and a default. An absent or null key gives the default; a value of
 * another type is LCKV_ERROR_FORMAT. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/status.h"

#include <jansson.h>

/* Parses JSON, after a byte order mark if there is one. Duplicate keys, invalid UTF-8 and nesting deeper than
 * LCKV_JSON_LEVELS are errors; because of the last, functions may recurse over a tree. Errors quote `name`. Release
 * with json_decref(). */
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

/* Fails with LCKV_ERROR_FORMAT and the message "NAME: 'KEY' should be EXPECTED, found VALUE". */
int json_wrong_type(const char *name, const char *key, const char *expected, const json_t *found);

/* A number, or null if it is not finite, which JSON cannot express. Returns a new reference; NULL if out of memory. */
json_t *json_number_or_null(double value);

/* A string, or null if `text` is NULL. Paths and arguments of a command line may be other than UTF-8, which JSON cannot
 * express: ill-formed parts become U+FFFD. Returns a new reference; NULL if out of memory. */
json_t *json_text_or_null(const char *text);

/* Serializes with `indent` spaces (0: one line), without a final newline; release with free(). */
int json_format(const json_t *value, int indent, char **out);
/* Writes folder/name atomically, with indent 2 and a final newline. Takes ownership of `value`, also on failure; NULL
 * is reported as out of memory. */
int json_write_file(json_t *value, const char *folder, const char *name);

#endif
