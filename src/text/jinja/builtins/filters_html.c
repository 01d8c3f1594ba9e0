/* Filters for HTML and URLs, and the names of filters that are not supported. */
#include "text/jinja/strings.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static int run_escape(machine *m, const call *c, value *out) {
    return text_escape(m, c->self, out);
}

static int run_forceescape(machine *m, const call *c, value *out) {
    value v;
    TRY(value_string(m, c->self, &v));
    return text_escape(m, v, out);
}

static int run_safe(machine *m, const call *c, value *out) {
    TRY(value_string(m, c->self, out));
    *out = as_markup(*out);
    return LCKV_OK;
}

/* ---- xmlattr(autospace=True) */

static bool is_attribute_name(value name) {
    for (size_t i = 0; i < name.bytes; i++)
        if (isspace((unsigned char)name.text[i]) || memchr("/>=", name.text[i], 3)) return false;
    return true;
}

static int add_attribute(machine *m, output *o, const value_pair *pair) {
    value name, text;
    TRY(value_string(m, pair->key, &name));
    TRY(machine_walk(m, name.bytes));
    if (!is_attribute_name(name))
        return RAISE(m, "Invalid character in attribute name: '%.*s'", name.bytes > 100 ? 100 : (int)name.bytes,
                     name.text);
    TRY(text_escape(m, pair->key, &name));
    TRY(text_escape(m, pair->value, &text));
    if (o->length) TRY(output_word(m, o, " "));
    TRY(output_add(m, o, name.text, name.bytes));
    TRY(output_word(m, o, "=\""));
    TRY(output_add(m, o, text.text, text.bytes));
    return output_word(m, o, "\"");
}

static int run_xmlattr(machine *m, const call *c, value *out) {
    output o = {0};
    if (c->self.kind != VALUE_DICT) return RAISE(m, "xmlattr takes a mapping, not %s", value_type(c->self));
    for (size_t i = 0; i < c->self.dict->count; i++) {
        const value_pair *pair = &c->self.dict->pairs[i];
        if (pair->value.kind != VALUE_NONE && pair->value.kind != VALUE_UNDEFINED) TRY(add_attribute(m, &o, pair));
    }
    bool spaced = c->at[0].kind == VALUE_UNSET || value_truth(c->at[0]);
    if (!spaced || !o.length) {
        *out = output_value(&o);
        return LCKV_OK;
    }
    return value_arithmetic(m, '+', value_word(" "), output_value(&o), out);
}

/* ---- urlencode */

static int quote(machine *m, output *o, value v, bool in_query) {
    char escape[8];
    TRY(value_string(m, v, &v));
    TRY(machine_walk(m, v.bytes));
    for (size_t i = 0; i < v.bytes; i++) {
        unsigned char c = (unsigned char)v.text[i];
        bool plain = c < 0x80 && (isalnum(c) || (c && strchr("_.-~", c)) || (c == '/' && !in_query));
        if (plain || (c == ' ' && in_query)) {
            TRY(output_add(m, o, plain ? v.text + i : "+", 1));
            continue;
        }
        TRY(machine_tick(m, 1));
        snprintf(escape, sizeof escape, "%%%02X", c);
        TRY(output_word(m, o, escape));
    }
    return LCKV_OK;
}

/* Encodes a string; a mapping or a list of pairs becomes a query. */
static int run_urlencode(machine *m, const call *c, value *out) {
    output o = {0};
    value pairs = c->self;
    const value_list *items;
    if (is_string(pairs) || (pairs.kind != VALUE_DICT && !has_list(pairs) && pairs.kind != VALUE_UNDEFINED)) {
        TRY(quote(m, &o, pairs, false));
        *out = output_value(&o);
        return LCKV_OK;
    }
    arguments none = {0};
    if (pairs.kind == VALUE_DICT) TRY(builtin_call(m, builtin_find(dict_methods, "items", 5), pairs, &none, &pairs));
    TRY(value_items(m, pairs, &items));
    for (size_t i = 0; i < items->count; i++) {
        const value_list *pair;
        TRY(value_items(m, items->items[i], &pair));
        if (pair->count != 2) return RAISE(m, "urlencode takes pairs, found %zu values", pair->count);
        if (i) TRY(output_word(m, &o, "&"));
        TRY(quote(m, &o, pair->items[0], true));
        TRY(output_word(m, &o, "="));
        TRY(quote(m, &o, pair->items[1], true));
    }
    *out = output_value(&o);
    return LCKV_OK;
}

/* ---- unsupported: useless in a prompt, or with random results */

#define NOT_SUPPORTED(name)                                                                                            \
    static int refuse_##name(machine *m, const call *c, value *out) {                                                  \
        (void)c, (void)out;                                                                                            \
        return RAISE_CODE(m, LCKV_ERROR_UNSUPPORTED, "the filter '" #name "' is not supported");                       \
    }

NOT_SUPPORTED(pprint)
NOT_SUPPORTED(random)
NOT_SUPPORTED(striptags)
NOT_SUPPORTED(urlize)
NOT_SUPPORTED(wordwrap)

const builtin html_filters[] = {{"escape", "", run_escape},
                                {"e", "", run_escape},
                                {"forceescape", "", run_forceescape},
                                {"safe", "", run_safe},
                                {"xmlattr", "autospace?", run_xmlattr},
                                {"urlencode", "", run_urlencode},
                                {"pprint", NULL, refuse_pprint},
                                {"random", NULL, refuse_random},
                                {"striptags", NULL, refuse_striptags},
                                {"urlize", NULL, refuse_urlize},
                                {"wordwrap", NULL, refuse_wordwrap},
                                {NULL}};
