/* Evaluates expressions, see run.h. */
#include "text/jinja/run.h"

#include <string.h>

/* ---- names */

int scope_open(machine *m, scope *outer) {
    scope *fresh;
    TAKE(fresh, &m->arena, sizeof *fresh);
    fresh->outer = outer;
    m->scope = fresh;
    return LCKV_OK;
}

int scope_set(machine *m, const char *name, size_t bytes, value v) {
    return dict_set(m, &m->scope->names, value_text(name, bytes), v);
}

static int bind_global(machine *m, const builtin *code, value *out) {
    function *f;
    TAKE(f, &m->arena, sizeof *f);
    f->code = code;
    *out = (value){.kind = VALUE_FUNCTION, .function = f};
    return LCKV_OK;
}

static int find_name(machine *m, const char *name, size_t bytes, value *out) {
    for (const scope *s = m->scope; s; s = s->outer) {
        value *found;
        TRY(machine_tick(m, 1));
        TRY(dict_find(m, &s->names, value_text(name, bytes), &found));
        if (!found) continue;
        *out = *found;
        return LCKV_OK;
    }
    const builtin *global = global_find(name, bytes);
    if (global) return bind_global(m, global, out);
    return undefined_format(m, out, "'%.*s' is undefined", bytes > 200 ? 200 : (int)bytes, name);
}

/* ---- calls */

static int add_named(machine *m, arguments *to, const char *name, size_t bytes, value v, size_t capacity) {
    if (to->named_count == capacity) return RAISE(m, "too many named arguments");
    TRY(machine_tick(m, to->named_count / 16));
    for (size_t i = 0; i < to->named_count; i++)
        if (to->named[i].bytes == bytes && !memcmp(to->named[i].name, name, bytes))
            return RAISE(m, "got multiple values for keyword argument '%.*s'", (int)bytes, name);
    to->named[to->named_count++] = (named_value){name, bytes, v};
    return LCKV_OK;
}

/* Arguments after * and **. */
static int evaluate_more(machine *m, const call_node *c, value *more, value *more_named) {
    if (c->more) TRY(evaluate(m, c->more, more));
    if (c->more_named) TRY(evaluate(m, c->more_named, more_named));
    if (c->more_named && more_named->kind != VALUE_DICT)
        return RAISE(m, "argument after ** must be a mapping, not %s", value_type(*more_named));
    return LCKV_OK;
}

int evaluate_arguments(machine *m, const call_node *c, arguments *out) {
    value more = {0}, more_named = {0};
    const value_list *list = NULL;
    *out = (arguments){0};
    if (!c) return LCKV_OK;
    TRY(evaluate_more(m, c, &more, &more_named));
    if (c->more) TRY(value_items(m, more, &list));
    size_t positional = c->items.count + (list ? list->count : 0);
    size_t named = c->named_count + (c->more_named ? more_named.dict->count : 0) + 1; /* one for a caller */
    TAKE(out->items, &m->arena, (positional + 1) * sizeof *out->items);
    TAKE(out->named, &m->arena, named * sizeof *out->named);
    for (size_t i = 0; i < c->items.count; i++) TRY(evaluate(m, c->items.items[i], &out->items[out->count++]));
    for (size_t i = 0; list && i < list->count; i++) out->items[out->count++] = list->items[i];
    for (size_t i = 0; i < c->named_count; i++) {
        value v;
        TRY(evaluate(m, c->named[i].value, &v));
        TRY(add_named(m, out, c->named[i].name, c->named[i].bytes, v, named));
    }
    for (size_t i = 0; c->more_named && i < more_named.dict->count; i++) {
        value_pair pair = more_named.dict->pairs[i];
        if (!is_string(pair.key)) return RAISE(m, "keywords must be strings");
        TRY(add_named(m, out, pair.key.text, pair.key.bytes, pair.value, named));
    }
    return LCKV_OK;
}

static int evaluate_call(machine *m, const node *n, value *out) {
    value callee;
    arguments given;
    TRY(evaluate(m, n->left, &callee));
    TRY(evaluate_arguments(m, n->call, &given));
    m->line = n->line;
    return value_call(m, callee, &given, out);
}

static int apply_filter(machine *m, const node *n, value self, value *out) {
    arguments given;
    TRY(evaluate_arguments(m, n->call, &given));
    m->line = n->line;
    return filter_call(m, n->text, n->bytes, self, &given, out);
}

static int evaluate_filter(machine *m, const node *n, value *out) {
    value self;
    TRY(evaluate(m, n->left, &self));
    return apply_filter(m, n, self, out);
}

int evaluate_filters(machine *m, const node *filters, value self, value *out) {
    TRY(machine_enter(m));
    if (filters->left) TRY(evaluate_filters(m, filters->left, self, &self));
    m->depth--;
    return apply_filter(m, filters, self, out);
}

static int evaluate_test(machine *m, const node *n, value *out) {
    value self;
    arguments given;
    bool truth;
    TRY(evaluate(m, n->left, &self));
    TRY(evaluate_arguments(m, n->call, &given));
    m->line = n->line;
    TRY(test_call(m, n->text, n->bytes, self, &given, &truth));
    *out = value_bool(truth);
    return LCKV_OK;
}

/* ---- literals */

static int evaluate_list(machine *m, const node *n, value *out) {
    value_list *list;
    TRY(list_new(&m->arena, n->items.count, &list));
    for (size_t i = 0; i < n->items.count; i++) {
        value item;
        TRY(evaluate(m, n->items.items[i], &item));
        TRY(list_add(&m->arena, list, item));
    }
    *out = value_of_list(n->kind == NODE_LIST ? VALUE_LIST : VALUE_TUPLE, list);
    return LCKV_OK;
}

static int evaluate_dict(machine *m, const node *n, value *out) {
    value_dict *dict;
    TRY(dict_new(&m->arena, n->items.count / 2, &dict));
    for (size_t i = 0; i < n->items.count; i += 2) {
        value key, item;
        TRY(evaluate(m, n->items.items[i], &key));
        TRY(evaluate(m, n->items.items[i + 1], &item));
        TRY(key_check(m, key));
        TRY(dict_set(m, dict, key, item));
    }
    *out = value_of_dict(dict);
    return LCKV_OK;
}

/* ---- operators */

static int compare_pair(machine *m, int operator, value a, value b, bool *out) {
    int order;
    if (operator== OPERATOR_IN || operator== OPERATOR_NOT_IN) {
        TRY(value_contains(m, b, a, out));
        if (operator== OPERATOR_NOT_IN) *out = !*out;
        return LCKV_OK;
    }
    if (operator== OPERATOR2('=', '=') || operator== OPERATOR2('!', '=')) {
        TRY(value_equal(m, a, b, out));
        if (operator== OPERATOR2('!', '=')) *out = !*out;
        return LCKV_OK;
    }
    bool or_equal = operator== OPERATOR2('<', '=') || operator== OPERATOR2('>', '=');
    bool less = operator== '<' || operator== OPERATOR2('<', '=');
    TRY(value_compare(m, a, b, less ? or_equal ? "<=" : "<" : or_equal ? ">=" : ">", &order));
    *out = (or_equal && order == 0) || (less ? order < 0 : order > 0);
    return LCKV_OK;
}

/* a < b < c: evaluates each part once, up to the first comparison that is false. */
static int evaluate_comparison(machine *m, const node *n, value *out) {
    value left, right;
    bool truth = true;
    TRY(evaluate(m, n->left, &left));
    for (; n && truth; n = n->third) {
        TRY(evaluate(m, n->right, &right));
        m->line = n->line;
        TRY(compare_pair(m, n->operator, left, right, &truth));
        left = right;
    }
    *out = value_bool(truth);
    return LCKV_OK;
}

static int evaluate_arithmetic(machine *m, const node *n, value *out) {
    value left, right;
    TRY(evaluate(m, n->left, &left));
    TRY(evaluate(m, n->right, &right));
    m->line = n->line;
    return value_arithmetic(m, n->operator, left, right, out);
}

static int evaluate_concatenation(machine *m, const node *n, value *out) {
    value sum = value_text("", 0);
    for (size_t i = 0; i < n->items.count; i++) {
        value item;
        TRY(evaluate(m, n->items.items[i], &item));
        TRY(value_string(m, item, &item));
        TRY(value_arithmetic(m, '+', sum, item, &sum));
    }
    *out = sum;
    return LCKV_OK;
}

/* `and` and `or` return one of their operands. */
static int evaluate_logic(machine *m, const node *n, value *out) {
    TRY(evaluate(m, n->left, out));
    if (value_truth(*out) == (n->kind == NODE_AND)) return evaluate(m, n->right, out);
    return LCKV_OK;
}

static int evaluate_condition(machine *m, const node *n, value *out) {
    value condition;
    TRY(evaluate(m, n->right, &condition));
    if (value_truth(condition)) return evaluate(m, n->left, out);
    if (n->third) return evaluate(m, n->third, out);
    return undefined_format(
        m, out, "the inline if-expression on line %d evaluated to false and no else section was defined.", n->line);
}

static int evaluate_sign(machine *m, const node *n, value *out) {
    value v;
    TRY(evaluate(m, n->left, &v));
    if (n->kind == NODE_NOT) {
        *out = value_bool(!value_truth(v));
        return LCKV_OK;
    }
    if (n->kind == NODE_NEGATE || !is_number(v))
        return value_negate(m, v, out); /* sets the error for a value without a sign */
    *out = is_whole(v) ? value_int(whole(v)) : v;
    return LCKV_OK;
}

/* ---- parts of values */

static int evaluate_attribute(machine *m, const node *n, value *out) {
    value v;
    TRY(evaluate(m, n->left, &v));
    m->line = n->line;
    return value_attribute(m, v, n->text, n->bytes, out);
}

static int evaluate_element(machine *m, const node *n, value *out) {
    value v, key;
    TRY(evaluate(m, n->left, &v));
    TRY(evaluate(m, n->right, &key));
    m->line = n->line;
    return value_element(m, v, key, out);
}

static int evaluate_slice(machine *m, const node *n, value *out) {
    value v, part[3] = {{0}};
    TRY(evaluate(m, n->left, &v));
    for (int i = 0; i < 3; i++)
        if (n->items.items[i]) TRY(evaluate(m, n->items.items[i], &part[i]));
    m->line = n->line;
    return value_slice(m, v, part[0], part[1], part[2], out);
}

static int evaluate_any(machine *m, const node *n, value *out) {
    switch (n->kind) {
    case NODE_CONSTANT:
        *out = n->constant;
        return LCKV_OK;
    case NODE_NAME:
        return find_name(m, n->text, n->bytes, out);
    case NODE_ATTRIBUTE:
        return evaluate_attribute(m, n, out);
    case NODE_ELEMENT:
        return evaluate_element(m, n, out);
    case NODE_SLICE:
        return evaluate_slice(m, n, out);
    case NODE_CALL:
        return evaluate_call(m, n, out);
    case NODE_FILTER:
        return evaluate_filter(m, n, out);
    case NODE_TEST:
        return evaluate_test(m, n, out);
    case NODE_LIST:
    case NODE_TUPLE:
        return evaluate_list(m, n, out);
    case NODE_DICT:
        return evaluate_dict(m, n, out);
    case NODE_NOT:
    case NODE_NEGATE:
    case NODE_PLUS:
        return evaluate_sign(m, n, out);
    case NODE_AND:
    case NODE_OR:
        return evaluate_logic(m, n, out);
    case NODE_ARITHMETIC:
        return evaluate_arithmetic(m, n, out);
    case NODE_COMPARE:
        return evaluate_comparison(m, n, out);
    case NODE_CONCATENATE:
        return evaluate_concatenation(m, n, out);
    case NODE_CONDITION:
        return evaluate_condition(m, n, out);
    default:
        return RAISE(m, "found a statement, expected an expression");
    }
}

int evaluate(machine *m, const node *n, value *out) {
    m->line = n->line;
    TRY(machine_enter(m));
    TRY(evaluate_any(m, n, out));
    m->depth--;
    return LCKV_OK;
}
