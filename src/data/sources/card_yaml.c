/* A subset of YAML, see card_yaml.h. Blocks are parsed by lines: a line is a column and a text, and the text after "- "
 * is parsed as a line with a larger column. */
#include "data/sources/card_yaml.h"

#include "base/text/json.h"
#include "base/text/text_buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 32, MAX_BYTES = 1 << 24 };

typedef struct line {
    char *text; /* without comments and surrounding blanks; not empty */
    int column, number;
} line;

typedef struct yaml {
    const char *name;
    char *text;  /* owned; the lines point into it */
    line *lines; /* [count] */
    int count, at, depth;
} yaml;

static int refuse(const yaml *y, int number, const char *what) {
    return fail(LCKV_ERROR_FORMAT, "%s, line %d: %s; the README's 'configs' should be a plain YAML list", y->name,
                number, what);
}

static int no_memory(const yaml *y) {
    return fail(LCKV_ERROR_MEMORY, "%s: no memory for its configs", y->name);
}

/* ---------------------------------------------------------------- lines */

/* Length of the text before a comment: '#' after a blank, outside quotes. */
static size_t end_of_content(const char *text) {
    char quote = 0;
    size_t i = 0;
    for (; text[i]; i++) {
        bool behind_blank = i == 0 || text[i - 1] == ' ' || text[i - 1] == '\t';
        if (quote == '"' && text[i] == '\\' && text[i + 1])
            i++;
        else if (quote == '\'' && text[i] == '\'' && text[i + 1] == '\'')
            i++;
        else if (quote)
            quote = text[i] == quote ? 0 : quote;
        else if ((text[i] == '"' || text[i] == '\'') && (behind_blank || strchr("[{,", text[i - 1])))
            quote = text[i];
        else if (text[i] == '#' && behind_blank)
            break;
    }
    while (i && strchr(" \t\r", text[i - 1])) i--;
    return i;
}

static void add_line(yaml *y, char *text, int number) {
    int column = (int)strspn(text, " ");
    text[end_of_content(text)] = '\0';
    if (text[column]) y->lines[y->count++] = (line){text + column, column, number};
}

/* Splits the text between the first two lines "---" into lines. */
static int cut_lines(yaml *y) {
    int number = 1, room = 2;
    char *end, *at = y->text;
    if (!strncmp(at, "\xEF\xBB\xBF", 3)) at += 3;
    if (strncmp(at, "---", 3) != 0 || at[3 + strspn(at + 3, " \t\r")] != '\n') return LCKV_OK;
    for (const char *c = at; (c = strchr(c, '\n')); c++) room++;
    y->lines = malloc((size_t)room * sizeof *y->lines);
    if (!y->lines) return no_memory(y);
    for (at = strchr(at, '\n') + 1; at; at = end ? end + 1 : NULL) {
        number++;
        end = strchr(at, '\n');
        if (end) *end = '\0';
        if (!strncmp(at, "---", 3) && !at[3 + strspn(at + 3, " \t\r")]) return LCKV_OK;
        add_line(y, at, number);
    }
    y->count = 0; /* not closed: not a YAML header */
    return LCKV_OK;
}

/* ---------------------------------------------------------------- scalars */

static int quoted_double(const yaml *y, int number, const char *text, size_t bytes, json_t **out) {
    *out = json_loadb(text, bytes, JSON_DECODE_ANY, NULL); /* the escapes of JSON, which YAML has too */
    return *out ? LCKV_OK : refuse(y, number, "a string in double quotes is not valid");
}

static int quoted_single(const yaml *y, int number, const char *text, size_t bytes, json_t **out) {
    text_buffer b = {0};
    for (size_t i = 1; i + 1 < bytes; i++) {
        TRY(text_append(&b, text + i, 1));
        if (text[i] == '\'') i++; /* '' is an escaped quote */
    }
    *out = json_stringn(b.data ? b.data : "", b.length);
    text_free(&b);
    return *out ? LCKV_OK : refuse(y, number, "text that is not UTF-8");
}

/* Length of a quoted string with its quotes; 0 if it is not closed. */
static size_t quoted_length(const char *text) {
    char quote = *text;
    for (size_t i = 1; text[i]; i++) {
        if (quote == '"' && text[i] == '\\' && text[i + 1])
            i++;
        else if (text[i] == quote && quote == '\'' && text[i + 1] == quote)
            i++;
        else if (text[i] == quote)
            return i + 1;
    }
    return 0;
}

static int plain(const yaml *y, int number, const char *text, size_t bytes, json_t **out) {
    while (bytes && strchr(" \t", text[bytes - 1])) bytes--;
    if (bytes && strchr("&*!|>%@`", *text)) {
        char what[80];
        snprintf(what, sizeof what, "a value that begins with '%c' should be in quotes", *text);
        return refuse(y, number, what);
    }
    bool none = !bytes || (bytes == 1 && *text == '~') || (bytes == 4 && !strncmp(text, "null", 4));
    *out = none ? json_null() : json_stringn(text, bytes);
    return *out ? LCKV_OK : refuse(y, number, "text that is not UTF-8");
}

/* ---------------------------------------------------------------- [...] and {...} */

static const char *skip_blanks(const char *at) {
    return at + strspn(at, " \t");
}

static int flow(yaml *y, int number, const char **at, json_t **out);

static int flow_scalar(const yaml *y, int number, const char **at, bool is_key, json_t **out) {
    const char *text = *at;
    size_t bytes = *text == '"' || *text == '\'' ? quoted_length(text) : 0;
    if (bytes) {
        *at = text + bytes;
        return (*text == '"' ? quoted_double : quoted_single)(y, number, text, bytes, out);
    }
    while (text[bytes] && !strchr(",[]{}", text[bytes]) &&
           !(is_key && text[bytes] == ':' && (!text[bytes + 1] || strchr(" \t,[]{}", text[bytes + 1]))))
        bytes++;
    *at = text + bytes;
    return plain(y, number, text, bytes, out);
}

/* Parses ':' and the value of a key. */
static int flow_value(yaml *y, int number, const char **at, json_t *map, const json_t *key) {
    json_t *value;
    *at = skip_blanks(*at);
    if (**at != ':' || !json_is_string(key)) return refuse(y, number, "expected 'key: value' in {...}");
    *at = skip_blanks(*at + 1);
    TRY(flow(y, number, at, &value));
    return json_object_set_new(map, json_string_value(key), value) ? no_memory(y) : LCKV_OK;
}

static int flow_entry(yaml *y, int number, const char **at, json_t *into) {
    json_t *item;
    if (json_is_array(into)) {
        TRY(flow(y, number, at, &item));
        return json_array_append_new(into, item) ? no_memory(y) : LCKV_OK;
    }
    TRY(flow_scalar(y, number, at, true, &item));
    int status = flow_value(y, number, at, into, item);
    json_decref(item);
    return status;
}

static int flow_entries(yaml *y, int number, const char **at, json_t *into) {
    char close = json_is_array(into) ? ']' : '}';
    *at = skip_blanks(*at + 1);
    while (**at != close) {
        TRY(flow_entry(y, number, at, into));
        *at = skip_blanks(*at);
        if (**at == ',')
            *at = skip_blanks(*at + 1);
        else if (**at != close)
            return refuse(y, number, "brackets that do not close");
    }
    ++*at;
    return LCKV_OK;
}

/* Parses a list, a mapping, or a scalar that ends at a comma or bracket. */
static int flow(yaml *y, int number, const char **at, json_t **out) {
    *out = NULL;
    if (**at != '[' && **at != '{') return flow_scalar(y, number, at, false, out);
    if (++y->depth > MAX_DEPTH) return refuse(y, number, "too many levels");
    json_t *into = **at == '[' ? json_array() : json_object();
    int status = into ? flow_entries(y, number, at, into) : no_memory(y);
    y->depth--;
    if (status < 0)
        json_decref(into);
    else
        *out = into;
    return status;
}

/* Whether all brackets are closed at the end of the text. */
static bool is_closed(const char *text) {
    int open = 0;
    for (size_t i = 0; text[i]; i++) {
        size_t quoted = text[i] == '"' || text[i] == '\'' ? quoted_length(text + i) : 0;
        if (quoted) i += quoted - 1;
        open += !quoted && strchr("[{", text[i]) ? 1 : 0;
        open -= !quoted && strchr("]}", text[i]) ? 1 : 0;
    }
    return open <= 0;
}

/* Parses a value in brackets, which may continue in the next lines. */
static int bracketed(yaml *y, const char *text, int number, json_t **out) {
    text_buffer whole = {.limit = MAX_BYTES};
    const char *at = NULL;
    int status = text_append(&whole, text, strlen(text));
    while (status >= 0 && !is_closed(whole.data) && y->at < y->count)
        status = text_printf(&whole, " %s", y->lines[y->at++].text);
    if (status >= 0) {
        at = whole.data;
        status = flow(y, number, &at, out);
    }
    if (status >= 0 && *skip_blanks(at)) {
        json_decref(*out);
        *out = NULL;
        status = refuse(y, number, "text after the brackets");
    }
    text_free(&whole);
    return status;
}

/* ---------------------------------------------------------------- blocks */

/* Parses the value of a key or an entry in the same line. */
static int inline_value(yaml *y, const char *text, int number, json_t **out) {
    if (*text == '[' || *text == '{') return bracketed(y, text, number, out);
    if (*text != '"' && *text != '\'') return plain(y, number, text, strlen(text), out);
    size_t bytes = quoted_length(text);
    if (!bytes || text[bytes]) return refuse(y, number, "a quoted value that does not end with its line");
    return (*text == '"' ? quoted_double : quoted_single)(y, number, text, bytes, out);
}

/* Length of the key in "key: value" or "key:"; 0 if the text has another form. */
static size_t key_length(const char *text) {
    size_t i = *text == '"' || *text == '\'' ? quoted_length(text) : 0;
    if (i) return text[i] == ':' && (!text[i + 1] || text[i + 1] == ' ') ? i : 0;
    if (strchr("[{\"'", *text)) return 0;
    for (; text[i]; i++)
        if (text[i] == ':' && (!text[i + 1] || text[i + 1] == ' ' || text[i + 1] == '\t')) return i;
    return 0;
}

static bool is_entry(const char *text) {
    return *text == '-' && (!text[1] || text[1] == ' ' || text[1] == '\t');
}

static int block(yaml *y, json_t **out);

/* Parses the block below a line of this column. It has a larger column; a sequence may also have the column of its key.
 */
static int block_below(yaml *y, int column, bool of_key, json_t **out) {
    const line *next = y->at < y->count ? &y->lines[y->at] : NULL;
    bool below = next && (next->column > column || (of_key && next->column == column && is_entry(next->text)));
    if (next && *next->text == '\t') return refuse(y, next->number, "a tab at the beginning of a line");
    if (below) return block(y, out);
    *out = json_null();
    return LCKV_OK;
}

static int sequence_entry(yaml *y, json_t *list) {
    line *l = &y->lines[y->at];
    int column = l->column;
    json_t *item;
    size_t blanks = 1 + strspn(l->text + 1, " \t");
    if (l->text[blanks]) { /* parse the entry as a line with a larger column */
        l->column += (int)blanks;
        l->text += blanks;
        TRY(block(y, &item));
    } else {
        y->at++;
        TRY(block_below(y, column, false, &item));
    }
    return json_array_append_new(list, item) ? no_memory(y) : LCKV_OK;
}

static int mapping_entry(yaml *y, json_t *map) {
    const line *l = &y->lines[y->at];
    size_t length = key_length(l->text);
    const char *rest = skip_blanks(l->text + length + 1), *start = l->text;
    json_t *key, *value;
    l->text[length] = '\0';
    TRY(inline_value(y, start, l->number, &key));
    y->at++;
    int status = *rest ? inline_value(y, rest, l->number, &value) : block_below(y, l->column, true, &value);
    if (status >= 0 && !json_is_string(key)) {
        json_decref(value);
        status = refuse(y, l->number, "a key that is no text");
    } else if (status >= 0 && json_object_set_new(map, json_string_value(key), value)) {
        status = no_memory(y);
    }
    json_decref(key);
    return status;
}

/* Parses all lines of a column, up to a line with a smaller column. */
static int block_entries(yaml *y, json_t *into, int column) {
    while (y->at < y->count && y->lines[y->at].column >= column) {
        const line *l = &y->lines[y->at];
        bool list = json_is_array(into), fits = list ? is_entry(l->text) : !is_entry(l->text) && key_length(l->text);
        if (list && !fits && l->column == column) return LCKV_OK; /* the key after a list that is not indented */
        if (l->column > column || !fits) return refuse(y, l->number, "a line that does not fit those above it");
        TRY((list ? sequence_entry : mapping_entry)(y, into));
    }
    return LCKV_OK;
}

static int block_scalar(yaml *y, json_t **out) {
    const line *l = &y->lines[y->at++];
    return inline_value(y, l->text, l->number, out);
}

static int block(yaml *y, json_t **out) {
    const line *l = &y->lines[y->at];
    *out = NULL;
    if (!is_entry(l->text) && !key_length(l->text)) return block_scalar(y, out);
    if (++y->depth > MAX_DEPTH) return refuse(y, l->number, "too many levels");
    json_t *into = is_entry(l->text) ? json_array() : json_object();
    int status = into ? block_entries(y, into, l->column) : no_memory(y);
    y->depth--;
    if (status < 0)
        json_decref(into);
    else
        *out = into;
    return status;
}

/* ---------------------------------------------------------------- the key `configs` */

/* Moves to the line `configs:`; false if there is none. */
static bool find_configs(yaml *y) {
    static const char KEY[] = "configs:";
    for (y->at = 0; y->at < y->count; y->at++) {
        const line *l = &y->lines[y->at];
        char after = l->column == 0 && !strncmp(l->text, KEY, sizeof KEY - 1) ? l->text[sizeof KEY - 1] : 'x';
        if (!after || after == ' ' || after == '\t') return true;
    }
    return false;
}

static int read_configs(yaml *y, json_t **out) {
    TRY(cut_lines(y));
    if (!find_configs(y)) return LCKV_OK;
    json_t *map = json_object();
    int status = map ? mapping_entry(y, map) : no_memory(y);
    if (status >= 0) *out = json_incref(json_object_get(map, "configs"));
    json_decref(map);
    return status;
}

int card_yaml_configs(const char *text, size_t bytes, const char *name, json_t **out) {
    *out = NULL;
    if (bytes > MAX_BYTES || memchr(text, '\0', bytes)) return LCKV_OK; /* not a README */
    yaml y = {.name = name, .text = strndup(text, bytes)};
    if (!y.text) return no_memory(&y);
    int status = read_configs(&y, out);
    free(y.lines);
    free(y.text);
    return status;
}
