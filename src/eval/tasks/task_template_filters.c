/* Filters of task templates, see task_template_filters.h. */
#include "eval/tasks/task_template_filters.h"

#include "base/text/utf8.h"

#include <string.h>

/* Python treats the four information separators as white space; Unicode's White_Space property does not. */
static bool is_space(uint32_t code_point) {
    return utf8_is_white_space(code_point) || (code_point >= 0x1c && code_point <= 0x1f);
}

size_t white_space_before(const char *text, size_t bytes) {
    uint32_t code_point;
    size_t at = 0;
    while (at < bytes) {
        size_t length = utf8_next(text + at, &code_point);
        if (!is_space(code_point)) break;
        at += length;
    }
    return at;
}

size_t white_space_after(const char *text, size_t bytes) {
    uint32_t code_point;
    size_t end = bytes;
    while (end > 0) {
        size_t last = utf8_last(text, end);
        utf8_next(text + last, &code_point);
        if (!is_space(code_point)) break;
        end = last;
    }
    return bytes - end;
}

static int ltrim(const char *text, size_t bytes, const char *const *arguments, text_buffer *out) {
    (void)arguments;
    size_t before = white_space_before(text, bytes);
    return text_append(out, text + before, bytes - before);
}

static int trim(const char *text, size_t bytes, const char *const *arguments, text_buffer *out) {
    return ltrim(text, bytes - white_space_after(text, bytes), arguments, out);
}

static int capitalize(const char *text, size_t bytes, const char *const *arguments, text_buffer *out) {
    (void)arguments;
    char character[4];
    uint32_t code_point;
    for (size_t at = 0; at < bytes;) {
        bool first = at == 0;
        at += utf8_next(text + at, &code_point);
        code_point = first ? utf8_to_title(code_point) : utf8_to_lower(code_point);
        TRY(text_append(out, character, utf8_write(code_point, character)));
    }
    return LCKV_OK;
}

static int replace(const char *text, size_t bytes, const char *const *arguments, text_buffer *out) {
    const char *at = text, *end = text + bytes, *found;
    size_t length = strlen(arguments[0]);
    while (length && (found = strstr(at, arguments[0]))) {
        TRY(text_append(out, at, (size_t)(found - at)));
        TRY(text_append(out, arguments[1], strlen(arguments[1])));
        at = found + length;
    }
    return text_append(out, at, (size_t)(end - at));
}

/* Finds the next pair of marks on one line. *after: the end of the closing mark. */
static const char *find_pair(const char *at, const char *const *marks, const char **after) {
    size_t opening = strlen(marks[0]), closing = strlen(marks[1]);
    while (opening && closing && (at = strstr(at, marks[0]))) {
        const char *inside = at + opening, *close = strstr(inside, marks[1]), *feed = strchr(inside, '\n');
        bool closes = close && (!feed || close < feed);
        *after = closes ? close + closing : NULL;
        if (closes) return at;
        at = inside;
    }
    return NULL;
}

static int without(const char *text, size_t bytes, const char *const *arguments, text_buffer *out) {
    const char *at = text, *end = text + bytes, *found, *after;
    while ((found = find_pair(at, arguments, &after))) {
        TRY(text_append(out, at, (size_t)(found - at)));
        at = after;
    }
    return text_append(out, at, (size_t)(end - at));
}

/* The first or the last occurrence of `mark` in the text; NULL if there is none. */
static const char *find_mark(const char *text, const char *mark, bool last) {
    const char *found = NULL, *next = text;
    while (*mark && (next = strstr(next, mark))) {
        found = next++;
        if (!last) break;
    }
    return found;
}

static int append_before(const char *text, const char *mark, bool last, text_buffer *out) {
    const char *found = find_mark(text, mark, last);
    return text_append(out, text, found ? (size_t)(found - text) : 0);
}

static int append_after(const char *text, size_t bytes, const char *mark, bool last, text_buffer *out) {
    const char *found = find_mark(text, mark, last), *from = found ? found + strlen(mark) : text;
    return text_append(out, from, (size_t)(text + bytes - from));
}

static int before(const char *text, size_t bytes, const char *const *arguments, text_buffer *out) {
    (void)bytes;
    return append_before(text, arguments[0], false, out);
}

static int before_last(const char *text, size_t bytes, const char *const *arguments, text_buffer *out) {
    (void)bytes;
    return append_before(text, arguments[0], true, out);
}

static int after(const char *text, size_t bytes, const char *const *arguments, text_buffer *out) {
    return append_after(text, bytes, arguments[0], false, out);
}

static int after_last(const char *text, size_t bytes, const char *const *arguments, text_buffer *out) {
    return append_after(text, bytes, arguments[0], true, out);
}

static const task_filter FILTERS[] = {
    {"trim", 0, trim},
    {"ltrim", 0, ltrim},
    {"capitalize", 0, capitalize},
    {"replace", 2, replace},
    {"without", 2, without},
    {"before", 1, before},
    {"before_last", 1, before_last},
    {"after", 1, after},
    {"after_last", 1, after_last},
};

const task_filter *task_filter_find(const char *name) {
    for (size_t i = 0; i < sizeof FILTERS / sizeof *FILTERS; i++)
        if (!strcmp(FILTERS[i].name, name)) return &FILTERS[i];
    return NULL;
}
