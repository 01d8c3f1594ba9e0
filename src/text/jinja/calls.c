/* Calls of builtins and of what a template defines: binds arguments to parameters. */
#include "text/jinja/run.h"

#include <string.h>

const builtin *builtin_find(const builtin *table, const char *name, size_t bytes) {
    for (; table->name; table++)
        if (text_is(name, bytes, table->name)) return table;
    return NULL;
}

/* Index of a parameter in "a b? c?"; -1 if it has another name. */
static int parameter_number(const char *parameters, const char *name, size_t bytes) {
    int number = 0;
    for (const char *at = parameters; *at; number++) {
        size_t length = strcspn(at, " ?");
        if (length == bytes && !memcmp(at, name, bytes)) return number;
        at += length;
        at += strspn(at, " ?");
    }
    return -1;
}

static int check_all_given(machine *m, const builtin *b, const call *c) {
    int number = 0;
    for (const char *at = b->parameters; *at; number++) {
        size_t length = strcspn(at, " ?");
        if (at[length] != '?' && c->at[number].kind == VALUE_UNSET)
            return RAISE(m, "%s() misses its argument '%.*s'", b->name, (int)length, at);
        at += length;
        at += strspn(at, " ?");
    }
    return LCKV_OK;
}

static int bind_arguments(machine *m, const builtin *b, call *c) {
    size_t count = 0;
    for (const char *at = b->parameters; *at; count++) {
        at += strcspn(at, " ");
        at += strspn(at, " ");
    }
    if (c->given->count > count) return RAISE(m, "%s() takes at most %zu argument(s)", b->name, count);
    for (size_t i = 0; i < c->given->count; i++) c->at[i] = c->given->items[i];
    for (size_t i = 0; i < c->given->named_count; i++) {
        const named_value *n = &c->given->named[i];
        int number = parameter_number(b->parameters, n->name, n->bytes);
        if (number < 0) return RAISE(m, "%s() has no argument '%.*s'", b->name, (int)n->bytes, n->name);
        if (c->at[number].kind != VALUE_UNSET)
            return RAISE(m, "%s() got multiple values for argument '%.*s'", b->name, (int)n->bytes, n->name);
        c->at[number] = n->value;
    }
    return check_all_given(m, b, c);
}

int builtin_call(machine *m, const builtin *b, value self, const arguments *given, value *out) {
    call c = {.self = self, .given = given};
    if (b->parameters) TRY(bind_arguments(m, b, &c));
    return b->run(m, &c, out);
}

int value_call(machine *m, value callee, const arguments *given, value *out) {
    TRY(machine_tick(m, 1));
    switch (callee.kind) {
    case VALUE_FUNCTION:
        if (is_markup(callee.function->self))
            return markup_method(m, callee.function->code, callee.function->self, given, out);
        return builtin_call(m, callee.function->code, callee.function->self, given, out);
    case VALUE_MACRO:
        return macro_call(m, callee.macro, given, out);
    case VALUE_LOOP:
        return loop_call(m, callee.loop, given, out);
    case VALUE_JOINER:
        return joiner_call(m, callee.list, given, out);
    case VALUE_UNDEFINED:
        return RAISE(m, "%.*s", (int)callee.bytes, callee.text);
    default:
        return RAISE(m, "'%s' object is not callable", value_type(callee));
    }
}

const builtin *filter_find(const char *name, size_t bytes) {
    const builtin *const tables[] = {text_filters, html_filters, sequence_filters, select_filters};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        const builtin *found = builtin_find(tables[i], name, bytes);
        if (found) return found;
    }
    return NULL;
}

int filter_call(machine *m, const char *name, size_t bytes, value self, const arguments *given, value *out) {
    const builtin *filter = filter_find(name, bytes);
    int length = bytes > 100 ? 100 : (int)bytes;
    if (!filter) return RAISE_CODE(m, LCKV_ERROR_UNSUPPORTED, "No filter named '%.*s'.", length, name);
    TRY(machine_tick(m, 1));
    return builtin_call(m, filter, self, given, out);
}

int test_call(machine *m, const char *name, size_t bytes, value self, const arguments *given, bool *out) {
    const builtin *test = test_find(name, bytes);
    int length = bytes > 100 ? 100 : (int)bytes;
    value truth;
    if (!test) return RAISE_CODE(m, LCKV_ERROR_UNSUPPORTED, "No test named '%.*s'.", length, name);
    TRY(machine_tick(m, 1));
    TRY(builtin_call(m, test, self, given, &truth));
    *out = value_truth(truth);
    return LCKV_OK;
}

int argument_text(machine *m, value v, const char *what, value *out) {
    if (!is_string(v)) return RAISE(m, "%s should be a string, not %s", what, value_type(v));
    *out = v;
    return LCKV_OK;
}

int argument_whole(machine *m, value v, int64_t fallback, const char *what, int64_t *out) {
    *out = fallback;
    if (v.kind == VALUE_UNSET || v.kind == VALUE_NONE) return LCKV_OK;
    if (!is_whole(v)) return RAISE(m, "%s should be an integer, not %s", what, value_type(v));
    *out = whole(v);
    return LCKV_OK;
}
