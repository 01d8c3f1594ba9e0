/* Methods of dicts and lists that do not change them. The others are rejected (access.c). */
#include "text/jinja/machine.h"

static int run_get(machine *m, const call *c, value *out) {
    value *found;
    TRY(key_check(m, c->at[0]));
    TRY(dict_find(m, c->self.dict, c->at[0], &found));
    *out = found ? *found : c->at[1].kind == VALUE_UNSET ? value_none() : c->at[1];
    return LCKV_OK;
}

static int view(machine *m, const value_dict *dict, const char *name, value *out) {
    value_list *list;
    TRY(machine_tick(m, dict->count));
    TRY(list_new(&m->arena, dict->count, &list));
    for (size_t i = 0; i < dict->count; i++) {
        value item = name[5] == 'k' ? dict->pairs[i].key : dict->pairs[i].value;
        if (name[5] == 'i') {
            value_list *pair;
            TRY(list_new(&m->arena, 2, &pair));
            TRY(list_add(&m->arena, pair, dict->pairs[i].key));
            TRY(list_add(&m->arena, pair, dict->pairs[i].value));
            item = value_of_list(VALUE_TUPLE, pair);
        }
        TRY(list_add(&m->arena, list, item));
    }
    list->name = name;
    *out = value_of_list(VALUE_VIEW, list);
    return LCKV_OK;
}
static int run_keys(machine *m, const call *c, value *out) {
    return view(m, c->self.dict, "dict_keys", out);
}
static int run_values(machine *m, const call *c, value *out) {
    return view(m, c->self.dict, "dict_values", out);
}
static int run_items(machine *m, const call *c, value *out) {
    return view(m, c->self.dict, "dict_items", out);
}

/* Dicts and lists never change, so a copy is the same object. */
static int run_copy(machine *m, const call *c, value *out) {
    (void)m;
    *out = c->self;
    return LCKV_OK;
}

static int run_count(machine *m, const call *c, value *out) {
    int64_t count = 0;
    for (size_t i = 0; i < c->self.list->count; i++) {
        bool same;
        TRY(value_equal(m, c->self.list->items[i], c->at[0], &same));
        count += same;
    }
    *out = value_int(count);
    return LCKV_OK;
}

static int run_index(machine *m, const call *c, value *out) {
    for (size_t i = 0; i < c->self.list->count; i++) {
        bool same;
        TRY(value_equal(m, c->self.list->items[i], c->at[0], &same));
        *out = value_int((int64_t)i);
        if (same) return LCKV_OK;
    }
    return RAISE(m, "the value is not in the list");
}

const builtin dict_methods[] = {{"get", "key default?", run_get}, {"keys", "", run_keys}, {"values", "", run_values},
                                {"items", "", run_items},         {"copy", "", run_copy}, {NULL}};

const builtin list_methods[] = {
    {"count", "value", run_count}, {"index", "value", run_index}, {"copy", "", run_copy}, {NULL}};
