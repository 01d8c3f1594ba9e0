/* Executes statements, see run.h. */
#include "text/jinja/run.h"

#include <string.h>

/* ---- assignments */

static int assign_tuple(machine *m, const node *target, value v) {
    const value_list *list;
    size_t expected = target->items.count;
    TRY(value_items(m, v, &list));
    if (list->count < expected)
        return RAISE(m, "not enough values to unpack (expected %zu, got %zu)", expected, list->count);
    if (list->count > expected) return RAISE(m, "too many values to unpack (expected %zu)", expected);
    for (size_t i = 0; i < expected; i++) TRY(assign(m, target->items.items[i], list->items[i]));
    return LCKV_OK;
}

static int assign_member(machine *m, const node *target, value v) {
    value space;
    TRY(evaluate(m, target->right, &space));
    if (space.kind != VALUE_NAMESPACE) return RAISE(m, "cannot assign attribute on non-namespace object");
    TRY(check_member_name(m, value_text(target->text, target->bytes)));
    return dict_set(m, space.dict, value_text(target->text, target->bytes), v);
}

int assign(machine *m, const node *target, value v) {
    if (target->kind == NODE_TUPLE) return assign_tuple(m, target, v);
    if (target->kind == NODE_MEMBER) return assign_member(m, target, v);
    return scope_set(m, target->text, target->bytes, v);
}

int execute_captured(machine *m, const node *body, value *out) {
    output *around = m->text, own = {0};
    m->text = &own;
    TRY(execute(m, body));
    m->text = around;
    *out = output_value(&own);
    return LCKV_OK;
}

/* In a new scope. */
static int execute_inside(machine *m, const node *body) {
    scope *outer = m->scope;
    TRY(scope_open(m, outer));
    TRY(execute(m, body));
    m->scope = outer;
    return LCKV_OK;
}

static int execute_set(machine *m, const node *n) {
    value v;
    if (n->kind == NODE_SET) {
        TRY(evaluate(m, n->right, &v));
    } else {
        scope *outer = m->scope;
        TRY(scope_open(m, outer));
        TRY(execute_captured(m, n->body, &v));
        m->scope = outer;
        if (n->right) TRY(evaluate_filters(m, n->right, v, &v));
    }
    return assign(m, n->left, v);
}

/* ---- branches and blocks */

static int execute_if(machine *m, const node *n) {
    while (n && n->kind == NODE_IF) {
        value condition;
        TRY(evaluate(m, n->left, &condition));
        if (value_truth(condition)) return execute(m, n->body);
        if (!n->otherwise || n->otherwise->kind != NODE_IF || n->otherwise->next) return execute(m, n->otherwise);
        n = n->otherwise; /* elif */
    }
    return LCKV_OK;
}

static int execute_with(machine *m, const node *n) {
    scope *outer = m->scope, *inner;
    TRY(scope_open(m, outer));
    inner = m->scope;
    for (size_t i = 0; i < n->items.count; i += 2) {
        value v;
        m->scope = outer;
        TRY(evaluate(m, n->items.items[i + 1], &v));
        m->scope = inner;
        TRY(assign(m, n->items.items[i], v));
    }
    TRY(execute(m, n->body));
    m->scope = outer;
    return LCKV_OK;
}

static int execute_filter_block(machine *m, const node *n) {
    value v;
    scope *outer = m->scope;
    TRY(scope_open(m, outer));
    TRY(execute_captured(m, n->body, &v));
    m->scope = outer;
    TRY(evaluate_filters(m, n->right, v, &v));
    return print_value(m, m->text, v);
}

static int add_span(machine *m, span s) {
    if (m->span_count == m->span_capacity) {
        size_t capacity = m->span_capacity ? 2 * m->span_capacity : 16;
        span *spans;
        TAKE(spans, &m->arena, capacity * sizeof *spans);
        if (m->span_count) memcpy(spans, m->spans, m->span_count * sizeof *spans);
        m->spans = spans;
        m->span_capacity = capacity;
    }
    m->spans[m->span_count++] = s;
    return LCKV_OK;
}

static int execute_generation(machine *m, const node *n) {
    size_t first = m->text->length;
    TRY(execute_inside(m, n->body));
    if (m->text == &m->root) return add_span(m, (span){first, m->root.length});
    m->nested_generation = true;
    return LCKV_OK;
}

/* ---- macros */

static int define_macro(machine *m, const macro_node *code, value *out) {
    macro *made;
    TAKE(made, &m->arena, sizeof *made);
    *made = (macro){code, m->scope};
    *out = (value){.kind = VALUE_MACRO, .macro = made};
    return LCKV_OK;
}

static int execute_macro(machine *m, const node *n) {
    value v;
    TRY(define_macro(m, n->macro, &v));
    return scope_set(m, n->macro->name, n->macro->bytes, v);
}

static int execute_call_block(machine *m, const node *n) {
    value callee, caller, v;
    arguments given;
    TRY(evaluate(m, n->left->left, &callee));
    TRY(evaluate_arguments(m, n->left->call, &given));
    TRY(define_macro(m, n->macro, &caller));
    given.named[given.named_count++] = (named_value){"caller", strlen("caller"), caller};
    m->line = n->line;
    TRY(value_call(m, callee, &given, &v));
    return print_value(m, m->text, v);
}

static value *find_named(const arguments *given, const keyword *k) {
    for (size_t i = 0; i < given->named_count; i++)
        if (given->named[i].bytes == k->bytes && !memcmp(given->named[i].name, k->name, k->bytes))
            return &given->named[i].value;
    return NULL;
}

static int bind_parameters(machine *m, const macro_node *code, const arguments *given) {
    for (size_t i = 0; i < code->count; i++) {
        const keyword *k = &code->parameters[i];
        TRY(machine_tick(m, given->named_count / 16));
        const value *named = find_named(given, k);
        value v;
        if (named && i < given->count)
            return RAISE(m, "macro '%.*s' got multiple values for argument '%.*s'", (int)code->bytes, code->name,
                         (int)k->bytes, k->name);
        if (i < given->count)
            v = given->items[i];
        else if (named)
            v = *named;
        else if (k->value)
            TRY(evaluate(m, k->value, &v));
        else
            TRY(undefined_format(m, &v, "parameter '%.*s' was not provided", (int)k->bytes, k->name));
        TRY(scope_set(m, k->name, k->bytes, v));
    }
    return LCKV_OK;
}

static bool is_parameter(const macro_node *code, const named_value *given) {
    for (size_t i = 0; i < code->count; i++)
        if (code->parameters[i].bytes == given->bytes && !memcmp(code->parameters[i].name, given->name, given->bytes))
            return true;
    return false;
}

/* Arguments beyond the parameters: varargs, kwargs and caller of a macro that uses them, otherwise an error. */
static int bind_the_rest(machine *m, const macro_node *code, const arguments *given) {
    value_list *more;
    value_dict *named;
    value caller;
    TRY(list_new(&m->arena, 0, &more));
    TRY(dict_new(&m->arena, 0, &named));
    TRY(undefined_format(m, &caller, "No caller defined"));
    for (size_t i = code->count; i < given->count; i++) TRY(list_add(&m->arena, more, given->items[i]));
    if (more->count && !code->uses_varargs)
        return RAISE(m, "macro '%.*s' takes not more than %zu argument(s)", (int)code->bytes, code->name, code->count);
    for (size_t i = 0; i < given->named_count; i++) {
        const named_value *n = &given->named[i];
        TRY(machine_tick(m, code->count / 16));
        if (is_parameter(code, n)) continue;
        if (code->uses_caller && text_is(n->name, n->bytes, "caller"))
            caller = n->value;
        else if (code->uses_kwargs)
            TRY(dict_set(m, named, value_text(n->name, n->bytes), n->value));
        else
            return RAISE(m, "macro '%.*s' takes no keyword argument '%.*s'", (int)code->bytes, code->name,
                         (int)n->bytes, n->name);
    }
    if (code->uses_varargs) TRY(scope_set(m, "varargs", 7, value_of_list(VALUE_TUPLE, more)));
    if (code->uses_kwargs) TRY(scope_set(m, "kwargs", 6, value_of_dict(named)));
    if (code->uses_caller) TRY(scope_set(m, "caller", 6, caller));
    return LCKV_OK;
}

int macro_call(machine *m, const macro *called, const arguments *given, value *out) {
    scope *outer = m->scope;
    TRY(machine_enter(m));
    TRY(scope_open(m, called->scope));
    TRY(bind_the_rest(m, called->code, given));
    TRY(bind_parameters(m, called->code, given));
    TRY(execute_captured(m, called->code->body, out));
    m->scope = outer;
    m->depth--;
    return LCKV_OK;
}

/* Names of the parameters. */
static int parameter_names(machine *m, const macro_node *code, value *out) {
    value_list *names;
    TRY(list_new(&m->arena, code->count, &names));
    for (size_t i = 0; i < code->count; i++)
        TRY(list_add(&m->arena, names, value_text(code->parameters[i].name, code->parameters[i].bytes)));
    *out = value_of_list(VALUE_TUPLE, names);
    return LCKV_OK;
}

int macro_attribute(machine *m, value v, const char *name, size_t bytes, value *out, bool *found) {
    const macro_node *code = v.macro->code;
    *found = true;
    if (text_is(name, bytes, "arguments")) return parameter_names(m, code, out);
    if (text_is(name, bytes, "name"))
        *out = code->is_caller ? value_none() : value_text(code->name, code->bytes);
    else if (text_is(name, bytes, "catch_kwargs"))
        *out = value_bool(code->uses_kwargs);
    else if (text_is(name, bytes, "catch_varargs"))
        *out = value_bool(code->uses_varargs);
    else if (text_is(name, bytes, "caller"))
        *out = value_bool(code->uses_caller);
    else
        *found = false;
    return LCKV_OK;
}

/* ---- all of them */

static int execute_statement(machine *m, const node *n) {
    value v;
    switch (n->kind) {
    case NODE_DATA:
        return output_add(m, m->text, n->text, n->bytes);
    case NODE_PRINT:
        TRY(evaluate(m, n->left, &v));
        return print_value(m, m->text, v);
    case NODE_IF:
        return execute_if(m, n);
    case NODE_FOR:
        TRY(evaluate(m, n->right, &v));
        return loop_run(m, n, m->scope, v, 0);
    case NODE_SET:
    case NODE_SET_BLOCK:
        return execute_set(m, n);
    case NODE_MACRO:
        return execute_macro(m, n);
    case NODE_CALL_BLOCK:
        return execute_call_block(m, n);
    case NODE_FILTER_BLOCK:
        return execute_filter_block(m, n);
    case NODE_WITH:
        return execute_with(m, n);
    case NODE_GENERATION:
        return execute_generation(m, n);
    case NODE_BREAK:
    case NODE_CONTINUE:
        m->flow = n->kind == NODE_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
        return LCKV_OK;
    default:
        return RAISE(m, "found an expression, expected a statement");
    }
}

int execute(machine *m, const node *body) {
    TRY(machine_enter(m));
    for (const node *n = body; n && m->flow == FLOW_ON; n = n->next) {
        m->line = n->line;
        TRY(machine_tick(m, 1));
        TRY(execute_statement(m, n));
    }
    m->depth--;
    return LCKV_OK;
}
