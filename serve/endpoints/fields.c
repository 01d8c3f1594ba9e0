/* Fields of a JSON request, see fields.h. */
#include "fields.h"

#include "json_text.h"
#include "lckv.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool fields_error(fields *f, const char *param, const char *format, ...) {
    va_list arguments;
    if (f->failed) return false;
    f->failed = true;
    char message[2048];
    string_copy(f->param, sizeof f->param, param);
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    string_copy(f->message, sizeof f->message, message);
    return false;
}

bool fields_no_memory(fields *f, const char *param) {
    f->no_memory = !f->failed;
    return fields_error(f, param, "not enough memory for the request: try again later");
}

bool fields_library_error(fields *f, const char *param, int status) {
    if (status == LCKV_ERROR_MEMORY) return fields_no_memory(f, param);
    f->too_long = !f->failed && status == LCKV_ERROR_TOO_LONG;
    return fields_error(f, param, "%s", lckv_last_error());
}

bool fields_parse(fields *f, const char *text, size_t length, json_t **out) {
    json_error_t error;
    *f = (fields){0};
    *out = NULL;
    if (lckv_check_json(text, length) < 0) return fields_error(f, "", "the body: %s", lckv_last_error());
    *out = json_loadb(length ? text : "", length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!*out)
        return fields_error(f, "", "the body is not valid JSON: %s (line %d, column %d)", error.text, error.line,
                            error.column);
    if (json_is_object(*out)) {
        f->object = *out;
        return true;
    }
    json_decref(*out);
    *out = NULL;
    return fields_error(f, "", "the body must be a JSON object");
}

bool fields_finish(fields *f) {
    const char *key;
    char given[STRING_SHORT_BYTES];
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)f->object, key, value) {
        int i = 0;
        if (json_is_null(value)) continue; /* null means absent */
        while (i < f->known_count && strcmp(f->known[i], key)) i++;
        if (i == f->known_count) fields_error(f, key, "unknown field '%s'", string_short(given, key));
    }
    return !f->failed;
}

/* NULL if it is absent or null. */
static const json_t *find(fields *f, const char *name) {
    if (f->known_count < FIELDS_MAX) f->known[f->known_count++] = name;
    const json_t *value = json_object_get(f->object, name);
    return json_is_null(value) ? NULL : value;
}

/* Fails with "'NAME' must be EXPECTED, found VALUE". */
static void wrong_value(fields *f, const char *name, const json_t *value, const char *expected) {
    char found[STRING_SHORT_BYTES];
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    fields_error(f, name, "'%s' must be %s, found %s", name, expected, string_short(found, text ? text : "?"));
    free(text);
}

bool field_present(fields *f, const char *name) {
    return find(f, name) != NULL;
}

const json_t *field_value(fields *f, const char *name) {
    return find(f, name);
}

double field_number(fields *f, const char *name, double fallback, double min, double max) {
    const json_t *value = find(f, name);
    if (!value) return fallback;
    double number = json_number_value(value);
    if (json_is_number(value) && isfinite(number) && number >= min && number <= max) return number;
    char expected[96];
    snprintf(expected, sizeof expected, "a number from %g to %g", min, max);
    wrong_value(f, name, value, expected);
    return fallback;
}

int64_t field_int(fields *f, const char *name, int64_t fallback, int64_t min, int64_t max) {
    const json_t *value = find(f, name);
    if (!value) return fallback;
    int64_t number = json_integer_value(value);
    if (json_is_integer(value) && number >= min && number <= max) return number;
    char expected[96];
    snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)min, (long long)max);
    wrong_value(f, name, value, expected);
    return fallback;
}

bool field_bool(fields *f, const char *name, bool fallback) {
    const json_t *value = find(f, name);
    if (!value) return fallback;
    if (!json_is_boolean(value)) wrong_value(f, name, value, "true or false");
    return json_is_true(value);
}

const char *field_string(fields *f, const char *name) {
    const json_t *value = find(f, name);
    if (!value) return NULL;
    const char *text = json_string_value(value);
    if (text && strlen(text) == json_string_length(value)) return text;
    if (text)
        fields_error(f, name, "'%s' must not contain NUL (\\u0000)", name);
    else
        wrong_value(f, name, value, "a string");
    return NULL;
}

bool ids_read(const json_t *list, int32_t **out, size_t *count) {
    size_t all = json_array_size(list);
    *out = malloc((all + 1) * sizeof **out);
    for (*count = 0; *out && *count < all; ++*count) {
        const json_t *id = json_array_get(list, *count);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX) break;
        (*out)[*count] = (int32_t)json_integer_value(id);
    }
    if (*out && *count == all) return true;
    free(*out);
    *out = NULL;
    return false;
}

void field_reject(fields *f, const char *name, const char *neutral) {
    const json_t *value = find(f, name);
    if (!value) return;
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    size_t length = text ? strlen(text) : 0;
    bool asks = true;
    for (const char *at = neutral; text && asks && *at;) {
        size_t part = strcspn(at, "|");
        asks = part != length || memcmp(at, text, part);
        at += part + (at[part] == '|');
    }
    free(text);
    if (asks) fields_error(f, name, "'%s' is not supported", name);
}

void field_ignore(fields *f, const char *name) {
    find(f, name);
}
