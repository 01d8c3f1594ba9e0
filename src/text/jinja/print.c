/* Values as text: Python's str() and repr(). */
#include "text/jinja/machine.h"

#include "base/text/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* The shortest digits that represent the number, in Python's format. */
void float_repr(double number, char out[40]) {
    char digits[32], *e;
    if (isnan(number) || isinf(number)) {
        snprintf(out, 40, "%s", isnan(number) ? "nan" : number > 0 ? "inf" : "-inf");
        return;
    }
    for (int precision = 0; precision < 17; precision++) {
        snprintf(digits, sizeof digits, "%.*e", precision, number);
        if (strtod(digits, NULL) == number) break;
    }
    e = strchr(digits, 'e');
    int exponent = atoi(e + 1), places = (int)(e - digits) - (digits[0] == '-') - 2;
    if (places < 0) places = 0;
    if (exponent < -4 || exponent >= 16)
        snprintf(out, 40, "%.*se%c%02d", (int)(e - digits), digits, exponent < 0 ? '-' : '+', abs(exponent));
    else
        snprintf(out, 40, "%.*f", places - exponent > 1 ? places - exponent : 1, number);
}

/* Whether Python's repr() prints the character itself. */
static bool is_printable(uint32_t c) {
    if (c == ' ') return true;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

static int repr_character(machine *m, output *o, const char *text, size_t bytes, uint32_t c, char quote) {
    static const char controls[] = "\n\r\t", letters[] = "nrt";
    if (is_printable(c) && c != (uint32_t)quote && c != '\\') return output_add(m, o, text, bytes);
    TRY(machine_tick(m, 1));
    const char *control = c && c < 0x80 ? strchr(controls, (int)c) : NULL;
    char escape[16] = {'\\', control ? letters[control - controls] : (char)c};
    if (!control && !is_printable(c))
        snprintf(escape, sizeof escape, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
    return output_word(m, o, escape);
}

static int repr_string(machine *m, output *o, value v) {
    bool single = v.bytes && memchr(v.text, '\'', v.bytes), twice = v.bytes && memchr(v.text, '"', v.bytes);
    char quote = single && !twice ? '"' : '\'';
    TRY(machine_walk(m, v.bytes));
    if (v.markup) TRY(output_word(m, o, "Markup("));
    TRY(output_add(m, o, &quote, 1));
    for (size_t at = 0, bytes; at < v.bytes; at += bytes) {
        uint32_t c;
        bytes = utf8_next(v.text + at, &c);
        TRY(repr_character(m, o, v.text + at, bytes, c, quote));
    }
    TRY(output_add(m, o, &quote, 1));
    return v.markup ? output_word(m, o, ")") : LCKV_OK;
}

static int repr_items(machine *m, output *o, const value_list *list, const char *open, const char *close) {
    TRY(output_word(m, o, open));
    for (size_t i = 0; i < list->count; i++) {
        if (i) TRY(output_word(m, o, ", "));
        TRY(print_repr(m, o, list->items[i]));
    }
    return output_word(m, o, close);
}

static int repr_dict(machine *m, output *o, const value_dict *dict) {
    TRY(output_word(m, o, "{"));
    for (size_t i = 0; i < dict->count; i++) {
        if (i) TRY(output_word(m, o, ", "));
        TRY(print_repr(m, o, dict->pairs[i].key));
        TRY(output_word(m, o, ": "));
        TRY(print_repr(m, o, dict->pairs[i].value));
    }
    return output_word(m, o, "}");
}

static int repr_number(machine *m, output *o, value v) {
    char text[40];
    if (v.kind == VALUE_INT)
        snprintf(text, sizeof text, "%" PRId64, v.integer);
    else
        float_repr(v.number, text);
    return output_word(m, o, text);
}

static int repr_named(machine *m, output *o, const char *before, const char *name, size_t bytes, const char *after) {
    TRY(output_word(m, o, before));
    TRY(output_add(m, o, name, bytes));
    return output_word(m, o, after);
}

static int repr_any(machine *m, output *o, value v) {
    switch (v.kind) {
    case VALUE_NONE:
        return output_word(m, o, "None");
    case VALUE_BOOL:
        return output_word(m, o, v.boolean ? "True" : "False");
    case VALUE_INT:
    case VALUE_FLOAT:
        return repr_number(m, o, v);
    case VALUE_STRING:
        return repr_string(m, o, v);
    case VALUE_LIST:
        return repr_items(m, o, v.list, "[", "]");
    case VALUE_TUPLE:
        return repr_items(m, o, v.list, "(", v.list->count == 1 ? ",)" : ")");
    case VALUE_RANGE:
        return output_word(m, o, v.list->name);
    case VALUE_VIEW:
        TRY(output_word(m, o, v.list->name));
        return repr_items(m, o, v.list, "([", "])");
    case VALUE_DICT:
        return repr_dict(m, o, v.dict);
    case VALUE_NAMESPACE:
        TRY(output_word(m, o, "<Namespace "));
        TRY(repr_dict(m, o, v.dict));
        return output_word(m, o, ">");
    case VALUE_UNSET:
    case VALUE_UNDEFINED:
        return output_word(m, o, "Undefined");
    default: { /* Python prints an address for these */
        const char *type = value_type(v);
        return repr_named(m, o, "<", type, strlen(type), " object>");
    }
    }
}

int print_repr(machine *m, output *o, value v) {
    TRY(machine_enter(m));
    TRY(repr_any(m, o, v));
    m->depth--;
    return LCKV_OK;
}

int print_value(machine *m, output *o, value v) {
    if (v.kind == VALUE_STRING) return output_add(m, o, v.text, v.bytes);
    if (v.kind == VALUE_UNDEFINED || v.kind == VALUE_UNSET) return LCKV_OK;
    return print_repr(m, o, v);
}

int value_string(machine *m, value v, value *out) {
    output o = {0};
    *out = v;
    out->markup = false;
    if (v.kind == VALUE_STRING) return LCKV_OK;
    TRY(print_value(m, &o, v));
    *out = output_value(&o);
    return LCKV_OK;
}
