/* Global functions: Jinja's range, dict, namespace, joiner and cycler; raise_exception and strftime_now of
 * transformers. */
#include "text/jinja/machine.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int range_name(machine *m, int64_t start, int64_t stop, int64_t step, const char **name) {
    value text;
    if (step == 1)
        TRY(text_format(m, &text, "range(%" PRId64 ", %" PRId64 ")", start, stop));
    else
        TRY(text_format(m, &text, "range(%" PRId64 ", %" PRId64 ", %" PRId64 ")", start, stop, step));
    *name = text.text; /* text_format() terminates it with NUL */
    return LCKV_OK;
}

static int run_range(machine *m, const call *c, value *out) {
    int64_t first, second, step;
    value_list *list;
    bool one = c->at[1].kind == VALUE_UNSET;
    TRY(argument_whole(m, c->at[0], 0, "the start of range()", &first));
    TRY(argument_whole(m, c->at[1], 0, "the end of range()", &second));
    TRY(argument_whole(m, c->at[2], 1, "the step of range()", &step));
    int64_t start = one ? 0 : first, stop = one ? first : second;
    if (step == 0) return RAISE(m, "range() arg 3 must not be zero");
    double count = ((double)stop - (double)start) / (double)step;
    if (count > MAX_RANGE)
        return RAISE(m, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", MAX_RANGE);
    TRY(list_new(&m->arena, count > 0 ? (size_t)count + 1 : 0, &list));
    for (int64_t i = 0, at = start; step > 0 ? at < stop : at > stop; i++) {
        TRY(list_add(&m->arena, list, value_int(at)));
        if (__builtin_add_overflow(at, step, &at)) break;
    }
    TRY(range_name(m, start, stop, step, &list->name));
    *out = value_of_list(VALUE_RANGE, list);
    return machine_tick(m, list->count);
}

/* A dict made from another dict or from pairs. */
static int add_pairs(machine *m, value from, value_dict *to) {
    const value_list *items;
    if (from.kind == VALUE_DICT || from.kind == VALUE_NAMESPACE) {
        for (size_t i = 0; i < from.dict->count; i++) {
            TRY(machine_tick(m, 1));
            TRY(dict_set(m, to, from.dict->pairs[i].key, from.dict->pairs[i].value));
        }
        return LCKV_OK;
    }
    TRY(value_items(m, from, &items));
    for (size_t i = 0; i < items->count; i++) {
        const value_list *pair;
        TRY(value_items(m, items->items[i], &pair));
        if (pair->count != 2)
            return RAISE(m, "dictionary update sequence element #%zu has length %zu; 2 is required", i, pair->count);
        TRY(key_check(m, pair->items[0]));
        TRY(dict_set(m, to, pair->items[0], pair->items[1]));
    }
    return LCKV_OK;
}

int check_member_name(machine *m, value name) {
    if (!is_string(name) || !name.bytes || *name.text != '_') return LCKV_OK;
    return RAISE(m,
                 "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '%.*s'. Please "
                 "rename the attribute.",
                 name.bytes > 100 ? 100 : (int)name.bytes, name.text);
}

/* dict(mapping or pairs, name=value, ...), and namespace() likewise */
static int make_dict(machine *m, const call *c, value_kind kind, value *out) {
    value_dict *dict;
    if (c->given->count > 1) return RAISE(m, "dict expected at most 1 argument, got %zu", c->given->count);
    TRY(dict_new(&m->arena, c->given->named_count, &dict));
    if (c->given->count) TRY(add_pairs(m, c->given->items[0], dict));
    for (size_t i = 0; i < c->given->named_count; i++) {
        const named_value *n = &c->given->named[i];
        TRY(dict_set(m, dict, value_text(n->name, n->bytes), n->value));
    }
    for (size_t i = 0; kind == VALUE_NAMESPACE && i < dict->count; i++) TRY(check_member_name(m, dict->pairs[i].key));
    *out = (value){.kind = kind, .dict = dict};
    return LCKV_OK;
}
static int run_dict(machine *m, const call *c, value *out) {
    return make_dict(m, c, VALUE_DICT, out);
}
static int run_namespace(machine *m, const call *c, value *out) {
    return make_dict(m, c, VALUE_NAMESPACE, out);
}

/* dict.fromkeys(keys, value=None) */
static int run_fromkeys(machine *m, const call *c, value *out) {
    const value_list *keys;
    value_dict *dict;
    TRY(value_items(m, c->at[0], &keys));
    TRY(dict_new(&m->arena, keys->count, &dict));
    for (size_t i = 0; i < keys->count; i++) {
        TRY(key_check(m, keys->items[i]));
        TRY(dict_set(m, dict, keys->items[i], c->at[1].kind == VALUE_UNSET ? value_none() : c->at[1]));
    }
    *out = value_of_dict(dict);
    return LCKV_OK;
}

static const builtin dict_functions[] = {{"fromkeys", "iterable value?", run_fromkeys}, {NULL}};

const builtin *global_method_find(const builtin *global, const char *name, size_t bytes) {
    return global->run == run_dict ? builtin_find(dict_functions, name, bytes) : NULL;
}

/* ---- joiner(sep=", ") and cycler(a, b, ...) */

static int run_joiner(machine *m, const call *c, value *out) {
    value_list *list;
    TRY(list_new(&m->arena, 1, &list));
    TRY(list_add(&m->arena, list, c->at[0].kind == VALUE_UNSET ? value_word(", ") : c->at[0]));
    *out = value_of_list(VALUE_JOINER, list);
    return LCKV_OK;
}

/* Nothing at the first call, then the separator. */
int joiner_call(machine *m, value_list *joiner, const arguments *given, value *out) {
    if (given->count || given->named_count) return RAISE(m, "a joiner takes no arguments");
    *out = joiner->next ? joiner->items[0] : value_text("", 0);
    joiner->next = 1;
    return LCKV_OK;
}

int joiner_attribute(machine *m, value v, const char *name, size_t bytes, value *out, bool *found) {
    bool used = text_is(name, bytes, "used");
    (void)m;
    *found = used || text_is(name, bytes, "sep");
    if (*found) *out = used ? value_bool(v.list->next != 0) : v.list->items[0];
    return LCKV_OK;
}

static int run_cycler(machine *m, const call *c, value *out) {
    value_list *list;
    if (!c->given->count) return RAISE(m, "at least one item has to be provided");
    if (c->given->named_count) return RAISE(m, "cycler() takes no keyword arguments");
    TRY(list_new(&m->arena, c->given->count, &list));
    for (size_t i = 0; i < c->given->count; i++) TRY(list_add(&m->arena, list, c->given->items[i]));
    *out = value_of_list(VALUE_CYCLER, list);
    return LCKV_OK;
}

static int run_next(machine *m, const call *c, value *out) {
    value_list *cycler = c->self.list;
    (void)m;
    *out = cycler->items[cycler->next];
    cycler->next = (cycler->next + 1) % cycler->count;
    return LCKV_OK;
}

static int run_reset(machine *m, const call *c, value *out) {
    (void)m;
    c->self.list->next = 0;
    *out = value_none();
    return LCKV_OK;
}

const builtin cycler_methods[] = {{"next", "", run_next}, {"reset", "", run_reset}, {NULL}};

int cycler_attribute(machine *m, value v, const char *name, size_t bytes, value *out, bool *found) {
    (void)m;
    *found = true;
    if (text_is(name, bytes, "current"))
        *out = v.list->items[v.list->next];
    else if (text_is(name, bytes, "items"))
        *out = value_of_list(VALUE_TUPLE, v.list);
    else if (text_is(name, bytes, "pos"))
        *out = value_int((int64_t)v.list->next);
    else
        *found = false;
    return LCKV_OK;
}

/* Random words are useless in a prompt. */
static int run_lipsum(machine *m, const call *c, value *out) {
    (void)c, (void)out;
    return RAISE_CODE(m, LCKV_ERROR_UNSUPPORTED, "the function 'lipsum' is not supported");
}

/* The template rejects the conversation. */
static int run_raise_exception(machine *m, const call *c, value *out) {
    (void)out;
    value message;
    TRY(value_string(m, c->at[0], &message));
    return RAISE_CODE(m, LCKV_ERROR_ARGUMENT, "%.*s", message.bytes > 500 ? 500 : (int)message.bytes, message.text);
}

static const builtin globals[] = {{"range", "start stop? step?", run_range},
                                  {"dict", NULL, run_dict},
                                  {"namespace", NULL, run_namespace},
                                  {"raise_exception", "message", run_raise_exception},
                                  {"strftime_now", "format", strftime_now},
                                  {"joiner", "sep?", run_joiner},
                                  {"cycler", NULL, run_cycler},
                                  {"lipsum", NULL, run_lipsum},
                                  {NULL}};

const builtin *global_find(const char *name, size_t bytes) {
    return builtin_find(globals, name, bytes);
}
