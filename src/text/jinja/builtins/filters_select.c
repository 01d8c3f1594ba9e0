/* Filters for individual elements: map, select, reject, selectattr, rejectattr, sum. */
#include "text/jinja/machine.h"

#include <string.h>

/* Arguments after the first `from` positional ones. */
static arguments arguments_from(const arguments *given, size_t from) {
    arguments rest = *given;
    rest.items += from;
    rest.count -= from;
    return rest;
}

/* The elements; none if the value is false, even if it has no elements. */
static int items_if_true(machine *m, value v, const value_list **out) {
    value nothing = {.kind = VALUE_UNDEFINED};
    return value_items(m, value_truth(v) ? v : nothing, out);
}

static const value *find_named(const arguments *given, const char *name) {
    for (size_t i = 0; i < given->named_count; i++)
        if (text_is(given->named[i].name, given->named[i].bytes, name)) return &given->named[i].value;
    return NULL;
}

static int map_attribute(machine *m, value item, const arguments *given, value *out) {
    const value *path = find_named(given, "attribute"), *fallback = find_named(given, "default");
    TRY(value_at_path(m, item, *path, out));
    if (out->kind == VALUE_UNDEFINED && fallback) *out = *fallback;
    return LCKV_OK;
}

/* map(attribute=PATH, default=V) or map('filter', its arguments) */
static int run_map(machine *m, const call *c, value *out) {
    const value_list *items;
    value_list *mapped;
    const arguments *given = c->given;
    bool by_attribute = !given->count && find_named(given, "attribute");
    value filter = {0};
    if (!by_attribute) {
        if (!given->count) return RAISE(m, "map requires a filter argument");
        TRY(argument_text(m, given->items[0], "the filter of map", &filter));
    }
    TRY(items_if_true(m, c->self, &items));
    TRY(list_new(&m->arena, items->count, &mapped));
    for (size_t i = 0; i < items->count; i++) {
        arguments rest = arguments_from(given, !by_attribute);
        value item;
        TRY(by_attribute ? map_attribute(m, items->items[i], given, &item)
                         : filter_call(m, filter.text, filter.bytes, items->items[i], &rest, &item));
        TRY(list_add(&m->arena, mapped, item));
    }
    mapped->name = "generator";
    *out = value_of_list(VALUE_ITERATOR, mapped);
    return LCKV_OK;
}

/* Whether an element passes the test in the arguments from index `at` on; without a test: whether it is true. */
static int passes(machine *m, value item, const arguments *given, size_t at, bool *out) {
    value name;
    *out = value_truth(item);
    if (given->count <= at) return LCKV_OK;
    TRY(argument_text(m, given->items[at], "the name of a test", &name));
    arguments rest = arguments_from(given, at + 1);
    return test_call(m, name.text, name.bytes, item, &rest, out);
}

static int select_items(machine *m, const call *c, bool by_attribute, bool wanted, value *out) {
    const value_list *items;
    value_list *kept;
    if (by_attribute && !c->given->count) return RAISE(m, "Missing parameter for attribute name");
    TRY(items_if_true(m, c->self, &items));
    TRY(list_new(&m->arena, 0, &kept));
    for (size_t i = 0; i < items->count; i++) {
        value seen = items->items[i];
        bool truth;
        if (by_attribute) TRY(value_at_path(m, seen, c->given->items[0], &seen));
        TRY(passes(m, seen, c->given, by_attribute, &truth));
        if (truth == wanted) TRY(list_add(&m->arena, kept, items->items[i]));
    }
    kept->name = "generator";
    *out = value_of_list(VALUE_ITERATOR, kept);
    return LCKV_OK;
}
static int run_select(machine *m, const call *c, value *out) {
    return select_items(m, c, false, true, out);
}
static int run_reject(machine *m, const call *c, value *out) {
    return select_items(m, c, false, false, out);
}
static int run_selectattr(machine *m, const call *c, value *out) {
    return select_items(m, c, true, true, out);
}
static int run_rejectattr(machine *m, const call *c, value *out) {
    return select_items(m, c, true, false, out);
}

/* sum(attribute=None, start=0) */
static int run_sum(machine *m, const call *c, value *out) {
    const value_list *items;
    *out = c->at[1].kind == VALUE_UNSET ? value_int(0) : c->at[1];
    if (is_string(*out)) return RAISE(m, "sum() can't sum strings [use ''.join(seq) instead]");
    TRY(value_items(m, c->self, &items));
    for (size_t i = 0; i < items->count; i++) {
        value item;
        TRY(value_at_path(m, items->items[i], c->at[0], &item));
        TRY(value_arithmetic(m, '+', *out, item, out));
    }
    return LCKV_OK;
}

const builtin select_filters[] = {{"map", NULL, run_map},
                                  {"select", NULL, run_select},
                                  {"reject", NULL, run_reject},
                                  {"selectattr", NULL, run_selectattr},
                                  {"rejectattr", NULL, run_rejectattr},
                                  {"sum", "attribute? start?", run_sum},
                                  {NULL}};
