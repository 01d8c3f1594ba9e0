/* JSON with jansson; see json.h. */
#include "base/text/json.h"

#include "base/files/content.h"
#include "base/files/file.h"
#include "base/text/text_buffer.h"
#include "base/text/utf8.h"
#include "base/work.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Ignores brackets inside strings. For invalid JSON the depth may be overestimated, never underestimated. */
int lckv_check_json(const char *text, size_t bytes) {
    int depth = 0;
    bool in_string = false;
    work_count(bytes);
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (c == '"') in_string = !in_string;
        if (in_string) {
            i += c == '\\';
        } else if (c == '[' || c == '{') {
            REQUIRE(++depth <= LCKV_JSON_LEVELS, LCKV_ERROR_FORMAT, "JSON nested more than %d levels deep",
                    LCKV_JSON_LEVELS);
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return LCKV_OK;
}

int json_parse_as(const char *text, size_t bytes, const char *name, size_t flags, json_t **out) {
    size_t mark = utf8_mark_bytes(text, bytes);
    json_error_t error;
    *out = NULL;
    text += mark, bytes -= mark;
    if (lckv_check_json(text, bytes) < 0) return fail_within(LCKV_ERROR_FORMAT, "%s", name);
    work_count(bytes);
    *out = json_loadb(text, bytes, flags | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    REQUIRE(*out, LCKV_ERROR_FORMAT, "%s: line %d, column %d: not JSON: %s", name, error.line, error.column,
            error.text);
    return LCKV_OK;
}

int json_parse(const char *text, size_t bytes, const char *name, json_t **out) {
    return json_parse_as(text, bytes, name, JSON_DECODE_ANY, out);
}

int json_read_file(const char *path, json_t **out) {
    char *text;
    size_t bytes;
    *out = NULL;
    TRY(file_read(path, &text, &bytes));
    int status = content_check(path, text, bytes);
    if (status >= 0) status = json_parse(text, bytes, path, out);
    free(text);
    return status;
}

/* The value of a key; NULL if absent or null. */
static const json_t *lookup(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

int json_wrong_type(const char *name, const char *key, const char *expected, const json_t *found) {
    char *text = json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT);
    int status = fail(LCKV_ERROR_FORMAT, "%s: '%s' should be %s, found %.80s", name, key, expected, text ? text : "?");
    free(text);
    return status;
}

int json_get_int(const json_t *object, const char *name, const char *key, int64_t fallback, int64_t *out) {
    const json_t *value = lookup(object, key);
    if (value && !json_is_integer(value)) return json_wrong_type(name, key, "a whole number", value);
    *out = value ? json_integer_value(value) : fallback;
    return LCKV_OK;
}

int json_get_number(const json_t *object, const char *name, const char *key, double fallback, double *out) {
    const json_t *value = lookup(object, key);
    if (value && !json_is_number(value)) return json_wrong_type(name, key, "a number", value);
    *out = value ? json_number_value(value) : fallback;
    return LCKV_OK;
}

int json_get_bool(const json_t *object, const char *name, const char *key, bool fallback, bool *out) {
    const json_t *value = lookup(object, key);
    if (value && !json_is_boolean(value)) return json_wrong_type(name, key, "true or false", value);
    *out = value ? json_is_true(value) : fallback;
    return LCKV_OK;
}

int json_get_string(const json_t *object, const char *name, const char *key, const char *fallback, const char **out) {
    const json_t *value = lookup(object, key);
    if (value && !json_is_string(value)) return json_wrong_type(name, key, "a string", value);
    if (value && memchr(json_string_value(value), 0, json_string_length(value)))
        return json_wrong_type(name, key, "a string without NUL", value);
    *out = value ? json_string_value(value) : fallback;
    return LCKV_OK;
}

json_t *json_number_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *json_text_or_null(const char *text) {
    text_buffer valid = {0};
    size_t used, bytes = text ? strlen(text) : 0;
    if (!text) return json_null();
    int status = utf8_append_replacing(&valid, text, bytes, false, &used);
    json_t *string = status >= 0 ? json_stringn(valid.data ? valid.data : "", valid.length) : NULL;
    text_free(&valid);
    return string;
}

int json_format(const json_t *value, int indent, char **out) {
    size_t flags = JSON_ENCODE_ANY | JSON_INDENT((size_t)indent);
    *out = json_dumps(value, flags);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory to write JSON");
    return LCKV_OK;
}

static int write_text(const char *folder, const char *name, const char *text) {
    char *path;
    new_file file;
    TRY(path_join(folder, name, &path));
    int status = file_begin(path, &file);
    free(path);
    TRY(status);
    status = file_write(&file, text, strlen(text));
    if (status >= 0) status = file_write(&file, "\n", 1);
    if (status >= 0) return file_commit(&file);
    file_abandon(&file);
    return status;
}

int json_write_file(json_t *value, const char *folder, const char *name) {
    char *text;
    REQUIRE(value, LCKV_ERROR_MEMORY, "no memory for %s", name);
    int status = json_format(value, 2, &text);
    json_decref(value);
    TRY(status);
    status = write_text(folder, name, text);
    free(text);
    return status;
}
