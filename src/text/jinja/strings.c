/* Helpers for string methods, see strings.h. */
#define _GNU_SOURCE /* memmem */
#include "text/jinja/strings.h"

#include "base/text/utf8.h"

#include <string.h>
#include <utf8proc.h>

bool is_space(uint32_t c) {
    return utf8_is_white_space(c) || (c >= 0x1C && c <= 0x1F);
}

bool is_letter(uint32_t c) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool is_cased(uint32_t c) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LT;
}

static int add_code_point(machine *m, output *o, uint32_t c) {
    char bytes[4];
    return output_add(m, o, bytes, utf8_write(c, bytes));
}

static int add_in_case(machine *m, output *o, uint32_t c, text_case how, bool in_word) {
    bool upper = how == CASE_UPPER || ((how == CASE_TITLE || how == CASE_CAPITALIZE) && !in_word) ||
                 (how == CASE_SWAP && utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_LL);
    if (!upper) return add_code_point(m, o, utf8_to_lower(c));
    if (c == 0xDF) return output_word(m, o, how == CASE_UPPER || how == CASE_SWAP ? "SS" : "Ss");
    if (how == CASE_TITLE || how == CASE_CAPITALIZE) return add_code_point(m, o, utf8_to_title(c));
    return add_code_point(m, o, (uint32_t)utf8proc_toupper((utf8proc_int32_t)c));
}

int text_to_case(machine *m, value v, text_case how, value *out) {
    output o = {0};
    bool in_word = false;
    TRY(machine_walk(m, v.bytes));
    for (size_t at = 0, bytes; at < v.bytes; at += bytes) {
        uint32_t c;
        bytes = utf8_next(v.text + at, &c);
        TRY(add_in_case(m, &o, c, how, in_word));
        in_word = how == CASE_CAPITALIZE || is_cased(c);
    }
    *out = output_value(&o);
    return LCKV_OK;
}

/* Whether strip() removes the character at `text`. */
static bool is_stripped(const char *text, size_t bytes, uint32_t c, value chars) {
    if (!is_string(chars)) return is_space(c);
    return chars.bytes && memmem(chars.text, chars.bytes, text, bytes);
}

int text_strip(machine *m, value v, value chars, bool left, bool right, value *out) {
    size_t first = 0, end = v.bytes, set = is_string(chars) ? chars.bytes : 0;
    uint32_t c;
    if (chars.kind != VALUE_UNSET && chars.kind != VALUE_NONE && !is_string(chars))
        return RAISE(m, "strip arg must be None or str");
    while (left && first < end) {
        TRY(machine_tick(m, 1 + set / 64));
        size_t bytes = utf8_next(v.text + first, &c);
        if (!is_stripped(v.text + first, bytes, c, chars)) break;
        first += bytes;
    }
    while (right && end > first) {
        TRY(machine_tick(m, 1 + set / 64));
        size_t last = utf8_last(v.text, end);
        utf8_next(v.text + last, &c);
        if (!is_stripped(v.text + last, end - last, c, chars)) break;
        end = last;
    }
    *out = value_text(v.text + first, end - first);
    return LCKV_OK;
}

int64_t text_find(value v, size_t from, value what) {
    if (what.bytes == 0) return (int64_t)from;
    if (from >= v.bytes) return -1;
    const char *found = memmem(v.text + from, v.bytes - from, what.text, what.bytes);
    return found ? found - v.text : -1;
}

/* An empty search string matches before each character and at the end. */
static int replace_nothing(machine *m, value v, value to, int64_t count, output *o) {
    size_t at = 0;
    while (count-- != 0) {
        uint32_t c;
        TRY(output_add(m, o, to.text, to.bytes));
        if (at == v.bytes) break;
        size_t bytes = utf8_next(v.text + at, &c);
        TRY(output_add(m, o, v.text + at, bytes));
        TRY(machine_tick(m, 1));
        at += bytes;
    }
    return output_add(m, o, v.text + at, v.bytes - at);
}

int text_replace(machine *m, value v, value from, value to, int64_t count, value *out) {
    output o = {0};
    size_t at = 0;
    TRY(machine_scan(m, v.bytes));
    if (from.bytes == 0) {
        TRY(replace_nothing(m, v, to, count, &o));
        *out = output_value(&o);
        return LCKV_OK;
    }
    while (count-- != 0) {
        int64_t found = text_find(v, at, from);
        if (found < 0) break;
        TRY(machine_tick(m, 1));
        TRY(output_add(m, &o, v.text + at, (size_t)found - at));
        TRY(output_add(m, &o, to.text, to.bytes));
        at = (size_t)found + from.bytes;
    }
    TRY(output_add(m, &o, v.text + at, v.bytes - at));
    *out = output_value(&o);
    return LCKV_OK;
}

/* Length of the line break at `text`; 0 if there is none. */
static size_t line_break(const char *text, size_t bytes, size_t *character) {
    uint32_t c;
    *character = utf8_next(text, &c);
    if (c == '\r' && bytes > 1 && text[1] == '\n') return 2;
    bool breaks = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    return breaks ? *character : 0;
}

int text_splitlines(machine *m, value v, bool keep_ends, value_list **out) {
    size_t first = 0, step;
    TRY(machine_walk(m, v.bytes));
    TRY(list_new(&m->arena, 0, out));
    for (size_t at = 0; at < v.bytes; at += step) {
        size_t ending = line_break(v.text + at, v.bytes - at, &step);
        if (!ending) continue;
        size_t end = keep_ends ? at + ending : at;
        TRY(list_add(&m->arena, *out, value_text(v.text + first, end - first)));
        first = at + ending;
        step = ending;
    }
    if (first < v.bytes) TRY(list_add(&m->arena, *out, value_text(v.text + first, v.bytes - first)));
    return LCKV_OK;
}

int text_join(machine *m, value separator, value items, bool any_values, value *out) {
    const value_list *list;
    output o = {0};
    TRY(value_items(m, items, &list));
    for (size_t i = 0; i < list->count; i++) {
        value item = list->items[i];
        if (!any_values && !is_string(item))
            return RAISE(m, "sequence item %zu: expected str instance, %s found", i, value_type(item));
        if (i) TRY(output_add(m, &o, separator.text, separator.bytes));
        TRY(print_value(m, &o, item));
    }
    *out = output_value(&o);
    return LCKV_OK;
}
