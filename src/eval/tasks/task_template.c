/* Task templates, see task_template.h: a parser for expressions. */
#include "eval/tasks/task_template.h"

#include "eval/tasks/task_template_filters.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 64 };

/* State of the parser. */
typedef struct expression {
    const char *whole, *at;
} expression;

static int malformed(const expression *e, const char *expected) {
    return fail(LCKV_ERROR_FORMAT, "{{%.80s}}: expected %s at '%.40s'", e->whole, expected, e->at);
}

static void skip_spaces(expression *e) {
    while (*e->at == ' ') e->at++;
}

static bool take(expression *e, char c) {
    skip_spaces(e);
    if (*e->at != c) return false;
    e->at++;
    skip_spaces(e);
    return true;
}

static int read_name(expression *e, char name[NAME_BYTES]) {
    size_t length = 0;
    skip_spaces(e);
    while ((isalnum((unsigned char)e->at[length]) || e->at[length] == '_') && length < NAME_BYTES - 1) length++;
    if (!length) return malformed(e, "a name");
    memcpy(name, e->at, length);
    name[length] = '\0';
    e->at += length;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- fields */

static int read_field(expression *e, const json_t *object, const json_t **out) {
    char name[NAME_BYTES];
    TRY(read_name(e, name));
    *out = json_object_get(object, name);
    REQUIRE(*out, LCKV_ERROR_FORMAT, "{{%.80s}}: the document has no field '%s'", e->whole, name);
    return LCKV_OK;
}

static int read_index(expression *e, const json_t *array, const json_t **out) {
    char *end;
    unsigned long index = strtoul(e->at, &end, 10);
    if (end == e->at) return malformed(e, "an integer");
    e->at = end;
    if (!take(e, ']')) return malformed(e, "]");
    *out = json_array_get(array, index);
    REQUIRE(*out, LCKV_ERROR_FORMAT, "{{%.80s}}: the list has no item %lu", e->whole, index);
    return LCKV_OK;
}

static int read_path(expression *e, const json_t *document, const json_t **out) {
    TRY(read_field(e, document, out));
    for (;;) {
        if (take(e, '.'))
            TRY(read_field(e, *out, out));
        else if (take(e, '['))
            TRY(read_index(e, *out, out));
        else
            return LCKV_OK;
    }
}

/* ---------------------------------------------------------------- filters */

/* A string in single quotes. There are no escape sequences. */
static int read_argument(expression *e, char argument[NAME_BYTES]) {
    if (*e->at != '\'') return malformed(e, "a string in single quotes");
    const char *end = strchr(++e->at, '\'');
    if (!end || end - e->at >= NAME_BYTES) return malformed(e, "a short string that ends in a single quote");
    memcpy(argument, e->at, (size_t)(end - e->at));
    argument[end - e->at] = '\0';
    e->at = end + 1;
    return LCKV_OK;
}

/* name or name('a') or name('a', 'b'). */
static int read_filter(expression *e, const task_filter **filter, char arguments[2][NAME_BYTES]) {
    char name[NAME_BYTES];
    TRY(read_name(e, name));
    *filter = task_filter_find(name);
    REQUIRE(*filter, LCKV_ERROR_FORMAT, "{{%.80s}}: unknown filter '%s'", e->whole, name);
    for (int i = 0; i < (*filter)->arguments; i++) {
        if (!take(e, i ? ',' : '(')) return malformed(e, i ? "," : "(");
        TRY(read_argument(e, arguments[i]));
    }
    if ((*filter)->arguments && !take(e, ')')) return malformed(e, ")");
    return LCKV_OK;
}

static int filter_text(const task_filter *filter, char arguments[2][NAME_BYTES], json_t *value, json_t **out) {
    text_buffer result = {0};
    const char *words[2] = {arguments[0], arguments[1]};
    if (!json_is_string(value)) {
        json_decref(value);
        return fail(LCKV_ERROR_FORMAT, "filter %s: expected a string", filter->name);
    }
    int status = filter->apply(json_string_value(value), json_string_length(value), words, &result);
    json_decref(value);
    *out = status < 0 ? NULL : json_stringn(result.data ? result.data : "", result.length);
    text_free(&result);
    TRY(status);
    REQUIRE(*out, LCKV_ERROR_FORMAT, "filter %s: the result is not UTF-8", filter->name);
    return LCKV_OK;
}

/* Replaces *value by the filtered value. On failure *value is NULL. */
static int apply_filter(const task_filter *filter, char arguments[2][NAME_BYTES], json_t **value) {
    json_t *whole = *value, *result, *item;
    size_t i;
    *value = NULL;
    if (!json_is_array(whole)) return filter_text(filter, arguments, whole, value);
    result = json_array();
    int status = result ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory for a list");
    json_array_foreach(whole, i, item) {
        if (status >= 0) status = filter_text(filter, arguments, json_incref(item), &item);
        if (status >= 0) json_array_append_new(result, item);
    }
    json_decref(whole);
    if (status >= 0)
        *value = result;
    else
        json_decref(result);
    return status;
}

static int read_filters(expression *e, json_t **value) {
    const task_filter *filter;
    char arguments[2][NAME_BYTES];
    while (take(e, '|')) {
        TRY(read_filter(e, &filter, arguments));
        TRY(apply_filter(filter, arguments, value));
    }
    return *e->at ? malformed(e, "the end of the expression") : LCKV_OK;
}

/* ---------------------------------------------------------------- rendering */

int task_template_value(const char *text, const json_t *document, json_t **out) {
    expression e = {text, text};
    const json_t *value;
    *out = NULL;
    TRY(read_path(&e, document, &value));
    *out = json_incref((json_t *)(uintptr_t)value);
    int status = read_filters(&e, out);
    if (status < 0) {
        json_decref(*out);
        *out = NULL;
    }
    return status;
}

int task_template_filter(const char *filters, char **text) {
    json_t *object = json_pack("{ss}", "text", *text), *value = NULL;
    text_buffer filtered = {0};
    free(*text);
    *text = NULL;
    int status = object ? text_printf(&filtered, "text|%s", filters) : fail(LCKV_ERROR_FORMAT, "text is not UTF-8");
    if (status >= 0) status = task_template_value(filtered.data, object, &value);
    if (status >= 0) *text = strdup(json_string_value(value));
    if (status >= 0 && !*text) status = fail(LCKV_ERROR_MEMORY, "no memory for a document's text");
    text_free(&filtered);
    json_decref(object);
    json_decref(value);
    return status;
}

static int append_value(const char *name, const json_t *value, text_buffer *out) {
    if (json_is_string(value)) return text_append(out, json_string_value(value), json_string_length(value));
    if (json_is_integer(value)) return text_printf(out, "%lld", (long long)json_integer_value(value));
    return fail(LCKV_ERROR_FORMAT, "{{%.80s}}: expected a string or an integer", name);
}

static int append_expression(const char *begin, size_t length, const json_t *document, text_buffer *out) {
    json_t *value;
    char *text = strndup(begin, length);
    REQUIRE(text, LCKV_ERROR_MEMORY, "no memory for a template");
    int status = task_template_value(text, document, &value);
    if (status >= 0) status = append_value(text, value, out);
    json_decref(value);
    free(text);
    return status;
}

int task_template_render(const char *source, const json_t *document, text_buffer *out) {
    const char *open;
    while ((open = strstr(source, "{{"))) {
        const char *close = strstr(open, "}}");
        REQUIRE(close, LCKV_ERROR_FORMAT, "'%.80s': {{ without }}", open);
        TRY(text_append(out, source, (size_t)(open - source)));
        TRY(append_expression(open + 2, (size_t)(close - open - 2), document, out));
        source = close + 2;
    }
    return text_append(out, source, strlen(source));
}
