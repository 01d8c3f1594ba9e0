/* '%s and %d' % values, and '{} and {name:>5}'.format(values), for the types that templates have.
 *
 * Nested format specifications and grouping by '_' are not supported. */
#include "text/jinja/strings.h"

#include "base/text/utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WIDTH = 1000 };

/* Format of one value. */
typedef struct form {
    char align, sign, type; /* 0: not given */
    bool alternate, zero, comma;
    int width, precision; /* -1: not given */
    value fill;
} form;

int text_pad(machine *m, value v, int64_t width, char align, value fill, value *out) {
    int64_t length;
    output o = {0};
    TRY(value_length(m, v, &length));
    *out = v;
    if (width <= length) return LCKV_OK;
    if (width > MAX_TEXT / 4) return RAISE(m, "the text exceeds %d bytes", MAX_TEXT);
    TRY(machine_tick(m, (size_t)(width - length)));
    int64_t room = width - length, left = align == '<' ? 0 : align == '>' ? room : room / 2;
    if (align == 'c') left += room & width & 1; /* Python's center() pads differently from the format ^ */
    for (int64_t i = 0; i < left; i++) TRY(output_add(m, &o, fill.text, fill.bytes));
    TRY(output_add(m, &o, v.text, v.bytes));
    for (int64_t i = left; i < room; i++) TRY(output_add(m, &o, fill.text, fill.bytes));
    *out = output_value(&o);
    return LCKV_OK;
}

/* ---- one value */

static void put_commas(char *text) {
    char copy[400];
    size_t digits = strspn(text, "0123456789"), length = strlen(text), to = 0;
    if (length + digits / 3 >= sizeof copy) return;
    for (size_t i = 0; i < length; i++) {
        if (i && i < digits && (digits - i) % 3 == 0) copy[to++] = ',';
        copy[to++] = text[i];
    }
    copy[to] = 0;
    strcpy(text, copy);
}

/* Digits of the number without its sign. */
static int write_whole(machine *m, const form *f, int64_t number, char text[400]) {
    uint64_t size = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    const char *prefix = !f->alternate    ? ""
                         : f->type == 'x' ? "0x"
                         : f->type == 'X' ? "0X"
                         : f->type == 'o' ? "0o"
                                          : "";
    if (f->type == 'b') return RAISE(m, "binary numbers in formats are not supported");
    int precision = f->precision < 0 ? 1 : f->precision > 100 ? 100 : f->precision;
    if (f->type == 'x')
        snprintf(text, 400, "%s%.*" PRIx64, prefix, precision, size);
    else if (f->type == 'X')
        snprintf(text, 400, "%s%.*" PRIX64, prefix, precision, size);
    else if (f->type == 'o')
        snprintf(text, 400, "%s%.*" PRIo64, prefix, precision, size);
    else
        snprintf(text, 400, "%.*" PRIu64, precision, size);
    if (f->comma) put_commas(text);
    return LCKV_OK;
}

static int write_real(machine *m, const form *f, double number, char text[400]) {
    char pattern[] = {'%', '.', '*', f->type, 0};
    int precision = f->precision < 0 ? 6 : f->precision;
    double size = number < 0 ? -number : number;
    if (f->type == '%') {
        pattern[3] = 'f';
        size *= 100;
    }
    if (precision > 60) return RAISE(m, "a format with more than 60 decimal places is not supported");
    snprintf(text, 400, pattern, precision, size);
    if (f->type == '%') strncat(text, "%", 400 - strlen(text) - 1);
    if (f->comma) put_commas(text);
    return LCKV_OK;
}

static int show_number(machine *m, const form *f, value v, value *out) {
    char text[400];
    bool as_real = strchr("eEfFgG%", f->type) != NULL;
    if (!is_number(v)) return RAISE(m, "%%%c format: a real number is required, not %s", f->type, value_type(v));
    if (!as_real && v.kind == VALUE_FLOAT && (v.number >= 9.2e18 || v.number <= -9.2e18 || v.number != v.number))
        return RAISE(m, "a number that does not fit in 64 bits");
    if (as_real)
        TRY(write_real(m, f, real(v), text));
    else
        TRY(write_whole(m, f, v.kind == VALUE_FLOAT ? (int64_t)v.number : whole(v), text));
    const char *sign = real(v) < 0 ? "-" : f->sign == '+' ? "+" : f->sign == ' ' ? " " : "";
    value digits;
    TRY(text_format(m, &digits, "%s", text));
    if (f->zero && f->align != '<')
        TRY(text_pad(m, digits, f->width - (int64_t)strlen(sign), '>', value_word("0"), &digits));
    TRY(value_arithmetic(m, '+', value_word(sign), digits, &digits));
    return text_pad(m, digits, f->width, f->align ? f->align : '>', f->fill, out);
}

static int show_text(machine *m, const form *f, value v, value *out) {
    if (f->precision >= 0) TRY(value_slice(m, v, (value){0}, value_int(f->precision), (value){0}, &v));
    return text_pad(m, v, f->width, f->align ? f->align : '<', f->fill, out);
}

/* ---- percent */

static int read_number(const char *text, size_t bytes, size_t *at, int *out) {
    int number = 0;
    while (*at < bytes && text[*at] >= '0' && text[*at] <= '9' && number <= MAX_WIDTH)
        number = number * 10 + (text[(*at)++] - '0');
    *out = number;
    REQUIRE(number <= MAX_WIDTH, LCKV_ERROR_UNSUPPORTED, "the width of a format exceeds %d", MAX_WIDTH);
    return LCKV_OK;
}

typedef struct percent {
    machine *m;
    value format, items;
    size_t at, next; /* position in the format; index of the next item, if the items are a tuple */
} percent;

static int next_item(percent *p, value *out) {
    bool tuple = p->items.kind == VALUE_TUPLE;
    size_t count = tuple ? p->items.list->count : 1;
    if (p->next >= count) return RAISE(p->m, "not enough arguments for format string");
    *out = tuple ? p->items.list->items[p->next] : p->items;
    p->next++;
    return LCKV_OK;
}

/* Parses (name) of %(name)s. */
static int named_item(percent *p, value *out) {
    const char *open = p->format.text + p->at + 1;
    const char *close = memchr(open, ')', p->format.bytes - p->at - 1);
    if (!close) return RAISE(p->m, "incomplete format key");
    if (p->items.kind != VALUE_DICT) return RAISE(p->m, "format requires a mapping");
    value *found;
    TRY(dict_find(p->m, p->items.dict, value_text(open, (size_t)(close - open)), &found));
    if (!found) return RAISE(p->m, "the format's key '%.*s' is missing", (int)(close - open) & 0xFF, open);
    p->at = (size_t)(close - p->format.text) + 1;
    p->next = 1;
    *out = *found;
    return LCKV_OK;
}

static int read_percent_form(percent *p, form *f) {
    const char *text = p->format.text;
    size_t bytes = p->format.bytes;
    *f = (form){.precision = -1, .fill = value_word(" ")};
    for (; p->at < bytes && strchr("-+ #0", text[p->at]); p->at++) {
        if (text[p->at] == '-') f->align = '<';
        if (text[p->at] == '+' || (text[p->at] == ' ' && !f->sign)) f->sign = text[p->at];
        if (text[p->at] == '#') f->alternate = true;
        if (text[p->at] == '0') f->zero = true;
    }
    TRY(read_number(text, bytes, &p->at, &f->width));
    if (p->at < bytes && text[p->at] == '.') {
        p->at++;
        TRY(read_number(text, bytes, &p->at, &f->precision));
    }
    if (p->at >= bytes) return RAISE(p->m, "incomplete format");
    f->type = text[p->at++];
    return LCKV_OK;
}

static int show_percent(percent *p, const form *f, value v, value *out) {
    output o = {0};
    if (v.kind == VALUE_UNDEFINED && f->type != 's' && f->type != 'r') return RAISE(p->m, "%.*s", (int)v.bytes, v.text);
    form as_text = *f;
    as_text.align = f->align ? f->align : '>';
    if (f->type == 's' || f->type == 'r') {
        TRY(f->type == 's' ? print_value(p->m, &o, v) : print_repr(p->m, &o, v));
        value shown = output_value(&o);
        if (p->format.markup && !(f->type == 's' && is_markup(v))) TRY(text_escape(p->m, shown, &shown));
        return show_text(p->m, &as_text, shown, out);
    }
    if (f->type == 'c' && is_string(v)) return show_text(p->m, &as_text, v, out);
    if (!f->type || !strchr("diuxXoeEfFgG", f->type))
        return RAISE(p->m, "unsupported format character '%c' (0x%x)", f->type, (unsigned)(unsigned char)f->type);
    return show_number(p->m, f, v, out);
}

static int one_percent(percent *p, output *o) {
    form f;
    value v = {0}, shown;
    if (p->at >= p->format.bytes) return RAISE(p->m, "incomplete format");
    if (p->format.text[p->at] == '%') {
        p->at++;
        return output_word(p->m, o, "%");
    }
    if (p->format.text[p->at] == '(') TRY(named_item(p, &v));
    TRY(read_percent_form(p, &f));
    if (v.kind == VALUE_UNSET) TRY(next_item(p, &v));
    TRY(show_percent(p, &f, v, &shown));
    return output_add(p->m, o, shown.text, shown.bytes);
}

int format_percent(machine *m, value format, value items, value *out) {
    percent p = {.m = m, .format = format, .items = items};
    output o = {0};
    while (p.at < format.bytes) {
        const char *from = format.text + p.at, *found = memchr(from, '%', format.bytes - p.at);
        size_t plain = found ? (size_t)(found - from) : format.bytes - p.at;
        TRY(output_add(m, &o, from, plain));
        p.at += plain + (found != NULL);
        TRY(machine_tick(m, 1));
        if (found) TRY(one_percent(&p, &o));
    }
    bool has_elements = items.kind == VALUE_DICT || items.kind == VALUE_LIST || items.kind == VALUE_RANGE ||
                        items.kind == VALUE_UNDEFINED; /* Python requires no argument to be used for these */
    bool all = items.kind == VALUE_TUPLE ? p.next >= items.list->count : p.next || has_elements;
    if (!all) return RAISE(m, "not all arguments converted during string formatting");
    *out = output_value(&o);
    out->markup = format.markup;
    return LCKV_OK;
}

/* ---- braces */

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static int read_brace_form(machine *m, value spec, form *f) {
    size_t at = 0, fill = 0;
    uint32_t c;
    *f = (form){.precision = -1, .fill = value_word(" ")};
    if (spec.bytes) fill = utf8_next(spec.text, &c);
    if (fill < spec.bytes && strchr("<>^", spec.text[fill])) {
        f->fill = value_text(spec.text, fill);
        f->align = spec.text[fill];
        at = fill + 1;
    } else if (spec.bytes && strchr("<>^", spec.text[0])) {
        f->align = spec.text[at++];
    }
    if (at < spec.bytes && strchr("+- ", spec.text[at])) f->sign = spec.text[at++];
    if (at < spec.bytes && spec.text[at] == '#') f->alternate = spec.text[at++];
    if (at < spec.bytes && spec.text[at] == '0') f->zero = spec.text[at++];
    TRY(read_number(spec.text, spec.bytes, &at, &f->width));
    if (at < spec.bytes && spec.text[at] == ',') f->comma = spec.text[at++];
    if (at < spec.bytes && spec.text[at] == '.') {
        at++;
        TRY(read_number(spec.text, spec.bytes, &at, &f->precision));
    }
    if (at < spec.bytes) f->type = spec.text[at++];
    if (at < spec.bytes || (f->type && !strchr("sdxXoeEfFgG%", f->type)))
        return RAISE(m, "the format specification '%.*s' is not supported", (int)spec.bytes & 0xFF, spec.text);
    return LCKV_OK;
}

static int show_brace(machine *m, value v, value spec, value *out) {
    form f;
    TRY(read_brace_form(m, spec, &f));
    if (f.type && f.type != 's') return show_number(m, &f, v, out);
    if (is_whole(v) && v.kind != VALUE_BOOL && spec.bytes) {
        f.type = 'd';
        return show_number(m, &f, v, out);
    }
    if (v.kind == VALUE_FLOAT && f.precision >= 0) {
        f.type = 'g';
        return show_number(m, &f, v, out);
    }
    if (is_number(v) && !f.align) f.align = spec.bytes ? '>' : '<';
    TRY(value_string(m, v, &v));
    return show_text(m, &f, v, out);
}

typedef struct braces {
    machine *m;
    const arguments *given;
    size_t next;
    bool escapes; /* the format is Markup */
} braces;

/* The first part of a field: empty, a number, or a name. */
static int brace_item(braces *b, const char *name, size_t bytes, value *out) {
    size_t at = 0;
    int number = 0;
    TRY(read_number(name, bytes, &at, &number));
    if (at == bytes) {
        size_t index = bytes ? (size_t)number : b->next++;
        if (index >= b->given->count)
            return RAISE(b->m, "Replacement index %zu out of range for positional args tuple", index);
        *out = b->given->items[index];
        return LCKV_OK;
    }
    TRY(machine_tick(b->m, b->given->named_count / 16));
    for (size_t i = 0; i < b->given->named_count; i++) {
        const named_value *n = &b->given->named[i];
        if (n->bytes != bytes || memcmp(n->name, name, bytes) != 0) continue;
        *out = n->value;
        return LCKV_OK;
    }
    return RAISE(b->m, "the format's key '%.*s' is missing", (int)bytes & 0xFF, name);
}

/* NAME(.ATTRIBUTE | [KEY])* */
static int brace_path(braces *b, const char *text, size_t bytes, value *out) {
    size_t at = 0;
    while (at < bytes && text[at] != '.' && text[at] != '[') at++;
    TRY(brace_item(b, text, at, out));
    while (at < bytes) {
        bool element = text[at] == '[';
        size_t first = ++at, number_end = first;
        int number;
        while (at < bytes && (element ? text[at] != ']' : text[at] != '.' && text[at] != '[')) at++;
        if (!element) {
            TRY(value_attribute(b->m, *out, text + first, at - first, out));
            continue;
        }
        TRY(read_number(text, at, &number_end, &number));
        value key = number_end == at && at > first ? value_int(number) : value_text(text + first, at - first);
        TRY(value_element(b->m, *out, key, out));
        at++;
    }
    return LCKV_OK;
}

/* The content of { and }. */
static int one_brace(braces *b, const char *text, size_t bytes, output *o) {
    const char *colon = memchr(text, ':', bytes);
    size_t path = colon ? (size_t)(colon - text) : bytes;
    value spec = colon ? value_text(colon + 1, bytes - path - 1) : value_text("", 0), v, shown;
    bool repr = path >= 2 && text[path - 2] == '!' && text[path - 1] == 'r';
    if (path >= 2 && text[path - 2] == '!') path -= 2;
    if (memchr(text, '{', bytes)) return RAISE(b->m, "a nested format specification is not supported");
    TRY(brace_path(b, text, path, &v));
    if (repr) {
        output written = {0};
        TRY(print_repr(b->m, &written, v));
        v = output_value(&written);
    }
    TRY(show_brace(b->m, v, spec, &shown));
    if (b->escapes && !is_markup(v)) TRY(text_escape(b->m, shown, &shown));
    return output_add(b->m, o, shown.text, shown.bytes);
}

int format_braces(machine *m, value format, const arguments *given, value *out) {
    braces b = {.m = m, .given = given, .escapes = format.markup};
    output o = {0};
    for (size_t at = 0; at < format.bytes;) {
        const char *here = format.text + at;
        TRY(machine_tick(m, 1));
        if (at + 1 < format.bytes && (*here == '{' || *here == '}') && here[1] == *here) {
            TRY(output_add(m, &o, here, 1));
            at += 2;
        } else if (*here == '{') {
            const char *close = memchr(here, '}', format.bytes - at);
            if (!close) return RAISE(m, "expected '}' before end of string");
            TRY(one_brace(&b, here + 1, (size_t)(close - here) - 1, &o));
            at = (size_t)(close - format.text) + 1;
        } else if (*here == '}') {
            return RAISE(m, "Single '}' encountered in format string");
        } else {
            TRY(output_add(m, &o, here, 1));
            at++;
        }
    }
    *out = output_value(&o);
    return LCKV_OK;
}
