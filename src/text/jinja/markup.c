/* Markup: strings that are HTML, as made by `safe` and `escape` (markupsafe, as used by Jinja). Strings that are joined
 * with Markup are escaped, and its methods return Markup. */
#include "text/jinja/strings.h"

#include <string.h>

int text_escape(machine *m, value v, value *out) {
    static const char special[] = "&<>'\"";
    static const char *const names[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    output o = {0};
    if (is_markup(v)) {
        *out = v;
        return LCKV_OK;
    }
    TRY(value_string(m, v, &v));
    TRY(machine_walk(m, v.bytes));
    for (size_t i = 0; i < v.bytes; i++) {
        const char *at = memchr(special, v.text[i], sizeof special - 1);
        TRY(at ? output_word(m, &o, names[at - special]) : output_add(m, &o, v.text + i, 1));
    }
    *out = as_markup(output_value(&o));
    return LCKV_OK;
}

/* Of a string, or of the strings of a list. */
static value mark(value v) {
    if (is_string(v)) return as_markup(v);
    if (v.kind != VALUE_LIST && v.kind != VALUE_TUPLE) return v;
    for (size_t i = 0; i < v.list->count; i++)
        if (is_string(v.list->items[i])) v.list->items[i].markup = true;
    return v;
}

/* Arguments that the method escapes: those from index `first` on; for join, the items. */
static int escape_arguments(machine *m, const arguments *given, size_t first, bool items, arguments *out) {
    *out = *given;
    TAKE(out->items, &m->arena, (given->count + 1) * sizeof *out->items);
    for (size_t i = 0; i < given->count; i++) {
        out->items[i] = given->items[i];
        if (i >= first && !items) TRY(text_escape(m, given->items[i], &out->items[i]));
    }
    if (!items || !given->count) return LCKV_OK;
    const value_list *all;
    value_list *escaped;
    TRY(value_items(m, given->items[0], &all));
    TRY(list_new(&m->arena, all->count, &escaped));
    for (size_t i = 0; i < all->count; i++) {
        value item;
        TRY(text_escape(m, all->items[i], &item));
        TRY(list_add(&m->arena, escaped, item));
    }
    out->items[0] = value_of_list(VALUE_LIST, escaped);
    return LCKV_OK;
}

int markup_method(machine *m, const builtin *method, value self, const arguments *given, value *out) {
    bool joins = !strcmp(method->name, "join");
    bool fills = !strcmp(method->name, "ljust") || !strcmp(method->name, "rjust") || !strcmp(method->name, "center");
    arguments escaped = *given;
    if (joins)
        TRY(escape_arguments(m, given, 0, true, &escaped));
    else if (fills)
        TRY(escape_arguments(m, given, 1, false, &escaped));
    else if (!strcmp(method->name, "replace") && given->count > 1) {
        TRY(escape_arguments(m, given, given->count, false, &escaped));
        TRY(text_escape(m, given->items[1], &escaped.items[1]));
    }
    TRY(builtin_call(m, method, self, &escaped, out));
    *out = mark(*out);
    return LCKV_OK;
}
