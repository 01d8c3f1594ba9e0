/* JSON through jansson, with errors that say where: the file and the key.
 *
 * Getters take an object, the name that errors quote, a key and a default; a key that is absent or null gives the
 * default, a value of another type is LCKV_ERROR_FORMAT. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/status.h"

#include <jansson.h>

/* Parses; duplicate keys are refused, invalid UTF-8 too, and nesting of more than LCKV_JSON_LEVELS levels, so that
 * walks over a tree may be recursive. `name` is quoted in errors. Release with json_decref(). */
int json_parse(const char *text, size_t bytes, const char *name, json_t **out);
/* The same with jansson's `flags` for decoding, of which JSON_REJECT_DUPLICATES and JSON_ALLOW_NUL are always set. */
int json_parse_as(const char *text, size_t bytes, const char *name, size_t flags, json_t **out);
int json_read_file(const char *path, json_t **out);

int json_get_int(const json_t *object, const char *name, const char *key, int64_t fallback, int64_t *out);
int json_get_number(const json_t *object, const char *name, const char *key, double fallback, double *out);
int json_get_bool(const json_t *object, const char *name, const char *key, bool fallback, bool *out);
/* Points into the tree; `fallback` may be NULL. A string with a NUL inside is refused: it would be read in part. */
int json_get_string(const json_t *object, const char *name, const char *key, const char *fallback, const char **out);

/* JSON has no word for numbers that are not finite. A new reference, NULL where there is no memory. */
json_t *json_number_or_null(double value);

/* Serialized with `indent` spaces (0: one line), ends in no newline; release with free(). */
int json_format(const json_t *value, int indent, char **out);
/* Into folder/name, with indent 2 and a newline at its end; written beside it and renamed. `value` (NULL: there was no
 * memory for it) is the function's, also on failure. */
int json_write_file(json_t *value, const char *folder, const char *name);

#endif
