/* The filter tojson of transformers: json.dumps(x, ensure_ascii=False, indent, separators, sort_keys), without Jinja's
 * escapes for HTML. */
#include "text/jinja/machine.h"

#include "base/text/utf8.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct json_writer {
    machine *m;
    output *out;
    bool ensure_ascii, sort_keys, lines;
    value indent, item_separator, key_separator; /* strings; indent: of one level, with `lines` */
} json_writer;

static int write_any(json_writer *w, value v, int level);

static int write_unit(json_writer *w, unsigned unit) {
    char text[16];
    TRY(machine_tick(w->m, 1));
    snprintf(text, sizeof text, "\\u%04x", unit);
    return output_word(w->m, w->out, text);
}

static int write_character(json_writer *w, const char *text, size_t bytes, uint32_t c) {
    static const char special[] = "\"\\\n\r\t\b\f", letters[] = "\"\\nrtbf";
    const char *at = c && c < 0x80 ? strchr(special, (int)c) : NULL;
    if (at) {
        char escape[] = {'\\', letters[at - special], 0};
        return output_word(w->m, w->out, escape);
    }
    if (c < 0x20 || (w->ensure_ascii && c >= 0x7F && c < 0x10000)) return write_unit(w, c);
    if (!w->ensure_ascii || c < 0x80) return output_add(w->m, w->out, text, bytes);
    TRY(write_unit(w, 0xD800 + ((c - 0x10000) >> 10)));
    return write_unit(w, 0xDC00 + ((c - 0x10000) & 0x3FF));
}

static int write_string(json_writer *w, value v) {
    TRY(machine_walk(w->m, v.bytes));
    TRY(output_word(w->m, w->out, "\""));
    for (size_t at = 0, bytes; at < v.bytes; at += bytes) {
        uint32_t c;
        bytes = utf8_next(v.text + at, &c);
        TRY(write_character(w, v.text + at, bytes, c));
    }
    return output_word(w->m, w->out, "\"");
}

static int write_line(json_writer *w, int level) {
    if (!w->lines) return LCKV_OK;
    TRY(machine_tick(w->m, (size_t)level / 16));
    TRY(output_word(w->m, w->out, "\n"));
    for (int i = 0; i < level; i++) TRY(print_value(w->m, w->out, w->indent));
    return LCKV_OK;
}

static int write_list(json_writer *w, const value_list *list, int level) {
    if (!list->count) return output_word(w->m, w->out, "[]");
    TRY(output_word(w->m, w->out, "["));
    for (size_t i = 0; i < list->count; i++) {
        if (i) TRY(print_value(w->m, w->out, w->item_separator));
        TRY(write_line(w, level + 1));
        TRY(write_any(w, list->items[i], level + 1));
    }
    TRY(write_line(w, level));
    return output_word(w->m, w->out, "]");
}

static int write_float(json_writer *w, double number) {
    char text[40];
    float_repr(number, text);
    if (isnan(number)) return output_word(w->m, w->out, "NaN");
    if (isinf(number)) return output_word(w->m, w->out, number > 0 ? "Infinity" : "-Infinity");
    return output_word(w->m, w->out, text);
}

static int write_scalar(json_writer *w, value v) {
    if (v.kind == VALUE_NONE) return output_word(w->m, w->out, "null");
    if (v.kind == VALUE_BOOL) return output_word(w->m, w->out, v.boolean ? "true" : "false");
    if (v.kind == VALUE_FLOAT) return write_float(w, v.number);
    return print_value(w->m, w->out, v);
}

static int write_key(json_writer *w, value key) {
    if (is_string(key)) return write_string(w, key);
    if (key.kind > VALUE_FLOAT || key.kind < VALUE_NONE)
        return RAISE(w->m, "keys must be str, int, float, bool or None, not %s", value_type(key));
    TRY(output_word(w->m, w->out, "\""));
    TRY(write_scalar(w, key));
    return output_word(w->m, w->out, "\"");
}

/* The pairs, sorted by key. */
static int sorted_pairs(json_writer *w, const value_dict *dict, value_dict *out) {
    machine *m = w->m;
    value *items, *keys;
    TAKE(items, &m->arena, (dict->count + 1) * sizeof *items);
    TAKE(keys, &m->arena, (dict->count + 1) * sizeof *keys);
    TAKE(out->pairs, &m->arena, (dict->count + 1) * sizeof *out->pairs);
    for (size_t i = 0; i < dict->count; i++) {
        items[i] = value_int((int64_t)i);
        keys[i] = dict->pairs[i].key;
    }
    TRY(sort_items(m, items, keys, dict->count, false));
    for (size_t i = 0; i < dict->count; i++) out->pairs[i] = dict->pairs[items[i].integer];
    out->count = dict->count;
    return LCKV_OK;
}

static int write_dict(json_writer *w, const value_dict *dict, int level) {
    value_dict sorted = *dict;
    if (!dict->count) return output_word(w->m, w->out, "{}");
    if (w->sort_keys) TRY(sorted_pairs(w, dict, &sorted));
    TRY(output_word(w->m, w->out, "{"));
    for (size_t i = 0; i < sorted.count; i++) {
        if (i) TRY(print_value(w->m, w->out, w->item_separator));
        TRY(write_line(w, level + 1));
        TRY(write_key(w, sorted.pairs[i].key));
        TRY(print_value(w->m, w->out, w->key_separator));
        TRY(write_any(w, sorted.pairs[i].value, level + 1));
    }
    TRY(write_line(w, level));
    return output_word(w->m, w->out, "}");
}

static int write_any(json_writer *w, value v, int level) {
    TRY(machine_enter(w->m));
    if (v.kind == VALUE_STRING)
        TRY(write_string(w, v));
    else if (v.kind >= VALUE_NONE && v.kind <= VALUE_FLOAT)
        TRY(write_scalar(w, v));
    else if (v.kind == VALUE_LIST || v.kind == VALUE_TUPLE)
        TRY(write_list(w, v.list, level));
    else if (v.kind == VALUE_DICT)
        TRY(write_dict(w, v.dict, level));
    else
        return RAISE(w->m, "Object of type %s is not JSON serializable", value_type(v));
    w->m->depth--;
    return LCKV_OK;
}

/* indent: a number of spaces, or a string. */
static int read_indent(json_writer *w, value given) {
    int64_t spaces;
    w->lines = given.kind != VALUE_UNSET && given.kind != VALUE_NONE;
    if (!w->lines) return LCKV_OK;
    w->item_separator = value_word(",");
    w->indent = given;
    if (is_string(given)) return LCKV_OK;
    TRY(argument_whole(w->m, given, 0, "indent", &spaces));
    if (spaces > 64) return RAISE(w->m, "tojson: expected an indent of at most 64 spaces");
    return text_format(w->m, &w->indent, "%*s", spaces > 0 ? (int)spaces : 0, "");
}

static int read_separators(json_writer *w, value given) {
    if (given.kind == VALUE_UNSET || given.kind == VALUE_NONE) return LCKV_OK;
    bool pair = (given.kind == VALUE_LIST || given.kind == VALUE_TUPLE) && given.list->count == 2 &&
                is_string(given.list->items[0]) && is_string(given.list->items[1]);
    if (!pair) return RAISE(w->m, "tojson: expected separators as two strings");
    w->item_separator = given.list->items[0];
    w->key_separator = given.list->items[1];
    return LCKV_OK;
}

/* tojson(ensure_ascii, indent, separators, sort_keys) */
int tojson(machine *m, const call *c, value *out) {
    output text = {0};
    json_writer w = {.m = m,
                     .out = &text,
                     .ensure_ascii = value_truth(c->at[0]),
                     .sort_keys = value_truth(c->at[3]),
                     .item_separator = value_word(", "),
                     .key_separator = value_word(": ")};
    TRY(read_indent(&w, c->at[1]));
    TRY(read_separators(&w, c->at[2]));
    TRY(write_any(&w, c->self, 0));
    *out = output_value(&text);
    return LCKV_OK;
}
