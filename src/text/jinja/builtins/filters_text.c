/* Filters for strings and numbers. */
#include "text/jinja/strings.h"

#include "base/text/utf8.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- strings: a filtered value is converted by str(value) */

/* str(v), but Markup stays Markup. */
static int soft_string(machine *m, value v, value *out) {
    *out = v;
    return is_string(v) ? LCKV_OK : value_string(m, v, out);
}

static value like(value v, value original) {
    v.markup = is_markup(original);
    return v;
}

static int in_case(machine *m, const call *c, text_case how, value *out) {
    value v;
    TRY(soft_string(m, c->self, &v));
    TRY(text_to_case(m, v, how, out));
    *out = like(*out, v);
    return LCKV_OK;
}
static int run_upper(machine *m, const call *c, value *out) {
    return in_case(m, c, CASE_UPPER, out);
}
static int run_lower(machine *m, const call *c, value *out) {
    return in_case(m, c, CASE_LOWER, out);
}
static int run_capitalize(machine *m, const call *c, value *out) {
    return in_case(m, c, CASE_CAPITALIZE, out);
}

/* Jinja's title(): words start only after white space and - ( { [ < */
static int run_title(machine *m, const call *c, value *out) {
    value v;
    output o = {0};
    size_t first = 0;
    TRY(value_string(m, c->self, &v));
    TRY(machine_walk(m, v.bytes));
    for (size_t at = 0, bytes; at < v.bytes; at += bytes) {
        uint32_t code_point;
        bytes = utf8_next(v.text + at, &code_point);
        bool between = is_space(code_point) || (code_point < 0x80 && code_point && strchr("-({[<", (int)code_point));
        if (!between && at + bytes < v.bytes) continue;
        size_t head = utf8_next(v.text + first, &code_point);
        value word = value_text(v.text + first, head),
              rest = value_text(v.text + first + head, at + bytes - first - head);
        TRY(text_to_case(m, word, CASE_UPPER, &word));
        TRY(text_to_case(m, rest, CASE_LOWER, &rest));
        TRY(output_add(m, &o, word.text, word.bytes));
        TRY(output_add(m, &o, rest.text, rest.bytes));
        first = at + bytes;
    }
    *out = output_value(&o);
    return LCKV_OK;
}

static int run_trim(machine *m, const call *c, value *out) {
    value v;
    TRY(soft_string(m, c->self, &v));
    TRY(text_strip(m, v, c->at[0], true, true, out));
    *out = like(*out, v);
    return LCKV_OK;
}

static int run_replace(machine *m, const call *c, value *out) {
    value v, from, to;
    int64_t count;
    TRY(value_string(m, c->self, &v));
    TRY(value_string(m, c->at[0], &from));
    TRY(value_string(m, c->at[1], &to));
    TRY(argument_whole(m, c->at[2], -1, "count", &count));
    return text_replace(m, v, from, to, count, out);
}

static int run_center(machine *m, const call *c, value *out) {
    value v;
    int64_t width;
    TRY(soft_string(m, c->self, &v));
    TRY(argument_whole(m, c->at[0], 80, "width", &width));
    TRY(text_pad(m, v, width, 'c', value_word(" "), out));
    *out = like(*out, v);
    return LCKV_OK;
}

static int run_string(machine *m, const call *c, value *out) {
    return soft_string(m, c->self, out);
}

/* indent(width=4, first=False, blank=False); width may be a string. */
static int run_indent(machine *m, const call *c, value *out) {
    value v, by = c->at[0];
    value_list *lines;
    output o = {0};
    int64_t width = 4;
    TRY(value_arithmetic(m, '+', c->self, value_word("\n"), &v));
    if (!is_string(by)) {
        TRY(argument_whole(m, by, 4, "width", &width));
        TRY(text_pad(m, value_text("", 0), width, '<', value_word(" "), &by));
    }
    TRY(text_splitlines(m, v, false, &lines));
    for (size_t i = 0; i < lines->count; i++) {
        bool indented = i == 0 ? value_truth(c->at[1]) : lines->items[i].bytes || value_truth(c->at[2]);
        if (i) TRY(output_word(m, &o, "\n"));
        if (indented) TRY(output_add(m, &o, by.text, by.bytes));
        TRY(output_add(m, &o, lines->items[i].text, lines->items[i].bytes));
    }
    *out = like(output_value(&o), c->self);
    return LCKV_OK;
}

/* truncate(length=255, killwords=False, end='...', leeway=5) */
static int run_truncate(machine *m, const call *c, value *out) {
    int64_t length, count, leeway, end_length;
    value end = c->at[2].kind == VALUE_UNSET ? value_word("...") : c->at[2], none = {0};
    TRY(argument_whole(m, c->at[0], 255, "length", &length));
    TRY(argument_whole(m, c->at[3], 5, "leeway", &leeway));
    TRY(argument_text(m, end, "end", &end));
    TRY(value_length(m, end, &end_length));
    if (length < end_length) return RAISE(m, "expected length >= %lld", (long long)end_length);
    *out = c->self;
    TRY(value_length(m, c->self, &count));
    if (count <= length + leeway) return LCKV_OK;
    TRY(argument_text(m, c->self, "what is cut", out));
    TRY(value_slice(m, c->self, none, value_int(length - end_length), none, out));
    if (!value_truth(c->at[1])) {
        size_t word = out->bytes;
        while (word > 0 && out->text[word - 1] != ' ') word--;
        if (word > 0) out->bytes = word - 1;
    }
    return value_arithmetic(m, '+', *out, end, out);
}

static int run_wordcount(machine *m, const call *c, value *out) {
    value v;
    int64_t words = 0;
    bool inside = false;
    TRY(value_string(m, c->self, &v));
    TRY(machine_walk(m, v.bytes));
    for (size_t at = 0, bytes; at < v.bytes; at += bytes) {
        uint32_t code_point;
        bytes = utf8_next(v.text + at, &code_point);
        bool word = utf8_is_word(code_point);
        words += word && !inside;
        inside = word;
    }
    *out = value_int(words);
    return LCKV_OK;
}

/* 'FORMAT'|format(a, b) or format(name=a) */
static int run_format(machine *m, const call *c, value *out) {
    value v, items;
    value_list *list;
    value_dict *dict;
    TRY(soft_string(m, c->self, &v));
    if (c->given->count && c->given->named_count)
        return RAISE(m, "can't handle positional and keyword arguments at the same time");
    TRY(list_new(&m->arena, c->given->count, &list));
    TRY(dict_new(&m->arena, c->given->named_count, &dict));
    for (size_t i = 0; i < c->given->count; i++) TRY(list_add(&m->arena, list, c->given->items[i]));
    for (size_t i = 0; i < c->given->named_count; i++) {
        const named_value *n = &c->given->named[i];
        TRY(dict_set(m, dict, value_text(n->name, n->bytes), n->value));
    }
    items = c->given->named_count ? value_of_dict(dict) : value_of_list(VALUE_TUPLE, list);
    return format_percent(m, v, items, out);
}

/* ---- numbers */

/* The string in the form that C's number functions expect: without surrounding white space and underscores; false if it
 * is too long. */
static bool plain_number(value v, char out[100]) {
    value none = {0};
    machine unused = {.name = ""};
    size_t length = 0;
    if (text_strip(&unused, v, none, true, true, &v) < 0) return false;
    for (size_t i = 0; i < v.bytes; i++) {
        bool between = v.text[i] == '_' && i && i + 1 < v.bytes && isalnum((unsigned char)v.text[i - 1]) &&
                       isalnum((unsigned char)v.text[i + 1]);
        if (between) continue;
        if (length + 1 == 100 || !v.text[i]) return false;
        out[length++] = v.text[i];
    }
    out[length] = 0;
    return length > 0;
}

static bool parse_float(value v, double *out) {
    char text[100], *end;
    if (is_number(v)) {
        *out = real(v);
        return true;
    }
    if (!is_string(v) || !plain_number(v, text) || strpbrk(text, "xXpP(")) return false;
    *out = strtod(text, &end);
    return !*end;
}

static bool parse_int(value v, int64_t base, int64_t *out) {
    char text[100], *end;
    if (is_whole(v)) {
        *out = whole(v);
        return true;
    }
    if (!is_string(v) || !plain_number(v, text)) return false;
    const char *digits = text + (*text == '-' || *text == '+');
    if (base == 16 && digits[0] == '0' && tolower((unsigned char)digits[1]) == 'x') digits += 2;
    if (!isalnum((unsigned char)*digits)) return false;
    *out = strtoll(digits, &end, (int)base);
    if (*text == '-') *out = -*out;
    return !*end && *out != INT64_MAX && *out != -INT64_MAX;
}

static int run_int(machine *m, const call *c, value *out) {
    int64_t base, number;
    double fraction;
    TRY(argument_whole(m, c->at[1], 10, "base", &base));
    if (base < 2 || base > 36) return RAISE(m, "int() base must be >= 2 and <= 36");
    if (c->self.kind == VALUE_UNDEFINED) return RAISE(m, "%.*s", (int)c->self.bytes, c->self.text);
    if (parse_int(c->self, base, &number))
        *out = value_int(number);
    else if (parse_float(c->self, &fraction) && isfinite(fraction)) {
        if (!(fraction > -9.2e18 && fraction < 9.2e18)) return RAISE(m, "a number that does not fit in 64 bits");
        *out = value_int((int64_t)fraction);
    } else
        *out = c->at[0].kind == VALUE_UNSET ? value_int(0) : c->at[0];
    return LCKV_OK;
}

static int run_float(machine *m, const call *c, value *out) {
    double number;
    if (c->self.kind == VALUE_UNDEFINED) return RAISE(m, "%.*s", (int)c->self.bytes, c->self.text);
    if (parse_float(c->self, &number))
        *out = value_float(number);
    else
        *out = c->at[0].kind == VALUE_UNSET ? value_float(0) : c->at[0];
    return LCKV_OK;
}

static int run_abs(machine *m, const call *c, value *out) {
    *out = c->self;
    if (c->self.kind == VALUE_UNDEFINED) return RAISE(m, "%.*s", (int)c->self.bytes, c->self.text);
    if (!is_number(c->self)) return RAISE(m, "bad operand type for abs(): '%s'", value_type(c->self));
    if (c->self.kind == VALUE_BOOL) *out = value_int(c->self.boolean);
    return real(c->self) < 0 ? value_negate(m, c->self, out) : LCKV_OK;
}

/* filesizeformat(binary=False) */
static int run_filesizeformat(machine *m, const call *c, value *out) {
    static const char prefixes[] = "kMGTPEZY";
    bool binary = value_truth(c->at[0]);
    double base = binary ? 1024 : 1000, number = 0;
    output shown = {0};
    if (is_string(c->self) && !parse_float(c->self, &number)) {
        TRY(print_repr(m, &shown, c->self));
        return RAISE(m, "could not convert string to float: %.*s", shown.length > 100 ? 100 : (int)shown.length,
                     shown.data);
    }
    if (!parse_float(c->self, &number)) return RAISE(m, "filesizeformat takes a number, not %s", value_type(c->self));
    if (number == 1) return text_format(m, out, "1 Byte");
    if (number < base) return text_format(m, out, "%.0f Bytes", trunc(number));
    size_t at = 0;
    double unit = base * base;
    while (number >= unit && prefixes[at + 1]) at++, unit *= base;
    return text_format(m, out, "%.1f %c%sB", base * number / unit,
                       binary ? toupper((unsigned char)prefixes[at]) : prefixes[at], binary ? "i" : "");
}

/* round(precision=0, method='common') */
static int run_round(machine *m, const call *c, value *out) {
    int64_t precision;
    value method = c->at[1].kind == VALUE_UNSET ? value_word("common") : c->at[1];
    TRY(argument_whole(m, c->at[0], 0, "precision", &precision));
    TRY(argument_text(m, method, "method", &method));
    if (!is_number(c->self)) return RAISE(m, "round() takes a number, not %s", value_type(c->self));
    if (precision < -18 || precision > 18) return RAISE(m, "round() to more than 18 places");
    double scale = pow(10, (double)precision), number = real(c->self);
    if (text_is(method.text, method.bytes, "ceil") || text_is(method.text, method.bytes, "floor")) {
        *out = value_float((*method.text == 'c' ? ceil(number * scale) : floor(number * scale)) / scale);
        return LCKV_OK;
    }
    if (!text_is(method.text, method.bytes, "common")) return RAISE(m, "method must be common, ceil or floor");
    if (is_whole(c->self)) {
        *out = value_int(precision >= 0 ? whole(c->self) : (int64_t)(nearbyint(number * scale) / scale));
        return LCKV_OK;
    }
    char text[400];
    snprintf(text, sizeof text, "%.*f", precision < 0 ? 0 : (int)precision, number);
    *out = value_float(precision < 0 ? nearbyint(number * scale) / scale : strtod(text, NULL));
    return LCKV_OK;
}

const builtin text_filters[] = {{"upper", "", run_upper},
                                {"lower", "", run_lower},
                                {"capitalize", "", run_capitalize},
                                {"title", "", run_title},
                                {"trim", "chars?", run_trim},
                                {"replace", "old new count?", run_replace},
                                {"center", "width?", run_center},
                                {"string", "", run_string},
                                {"indent", "width? first? blank?", run_indent},
                                {"truncate", "length? killwords? end? leeway?", run_truncate},
                                {"wordcount", "", run_wordcount},
                                {"format", NULL, run_format},
                                {"tojson", "ensure_ascii? indent? separators? sort_keys?", tojson},
                                {"filesizeformat", "binary?", run_filesizeformat},
                                {"int", "default? base?", run_int},
                                {"float", "default?", run_float},
                                {"abs", "", run_abs},
                                {"round", "precision? method?", run_round},
                                {NULL}};
