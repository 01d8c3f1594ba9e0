/* The for statement and its variable `loop`, see run.h. */
#include "text/jinja/run.h"

#include <string.h>

/* The elements that fulfil the loop's condition, which sees the target, but no `loop`. */
static int filter_items(machine *m, const node *n, const value_list *all, const value_list **out) {
    scope *outer = m->scope;
    value_list *kept;
    TRY(list_new(&m->arena, 0, &kept));
    for (size_t i = 0; i < all->count; i++) {
        value condition;
        TRY(scope_open(m, outer));
        TRY(assign(m, n->left, all->items[i]));
        TRY(evaluate(m, n->third, &condition));
        if (value_truth(condition)) TRY(list_add(&m->arena, kept, all->items[i]));
    }
    m->scope = outer;
    *out = kept;
    return LCKV_OK;
}

/* *through: an iteration reached the end of the body. As in Jinja, the else part also runs if every iteration was cut
 * short. */
static int run_turns(machine *m, const node *n, scope *outer, loop *state, bool *through) {
    for (; state->index < state->items->count && m->flow != FLOW_BREAK; state->index++) {
        m->flow = FLOW_ON;
        TRY(machine_tick(m, 1));
        TRY(scope_open(m, outer));
        TRY(scope_set(m, "loop", 4, (value){.kind = VALUE_LOOP, .loop = state}));
        TRY(assign(m, n->left, state->items->items[state->index]));
        TRY(execute(m, n->body));
        *through |= m->flow == FLOW_ON;
    }
    m->flow = FLOW_ON;
    return LCKV_OK;
}

int loop_run(machine *m, const node *n, scope *outer, value items, int depth) {
    scope *around = m->scope;
    bool through = false;
    loop *state;
    TAKE(state, &m->arena, sizeof *state);
    *state = (loop){.depth = depth, .code = n, .scope = outer};
    TRY(value_items(m, items, &state->items));
    m->scope = outer;
    if (n->third) TRY(filter_items(m, n, state->items, &state->items));
    TRY(run_turns(m, n, outer, state, &through));
    if (!through && n->otherwise) {
        TRY(scope_open(m, outer));
        TRY(execute(m, n->otherwise));
    }
    m->scope = around;
    return LCKV_OK;
}

/* loop(items): runs the body for these items and returns the text. */
int loop_call(machine *m, const loop *called, const arguments *given, value *out) {
    output *around = m->text, own = {0};
    if (!called->code->recursive)
        return RAISE(m, "the loop must have the 'recursive' marker to be called recursively.");
    if (given->count != 1) return RAISE(m, "a recursive loop takes one argument");
    TRY(machine_enter(m));
    m->text = &own;
    TRY(loop_run(m, called->code, called->scope, given->items[0], called->depth + 1));
    m->text = around;
    m->depth--;
    *out = output_value(&own);
    return LCKV_OK;
}

int loop_attribute(machine *m, value v, const char *name, size_t bytes, value *out, bool *found) {
    const loop *l = v.loop;
    int64_t index = (int64_t)l->index, count = (int64_t)l->items->count;
    const struct {
        const char *name;
        value value;
    } attributes[] = {{"index", value_int(index + 1)},        {"index0", value_int(index)},
                      {"revindex", value_int(count - index)}, {"revindex0", value_int(count - index - 1)},
                      {"first", value_bool(index == 0)},      {"last", value_bool(index + 1 == count)},
                      {"length", value_int(count)},           {"depth", value_int(l->depth + 1)},
                      {"depth0", value_int(l->depth)}};
    *found = true;
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++) {
        if (!text_is(name, bytes, attributes[i].name)) continue;
        *out = attributes[i].value;
        return LCKV_OK;
    }
    bool previous = text_is(name, bytes, "previtem"), next = text_is(name, bytes, "nextitem");
    *found = previous || next;
    if (!*found) return LCKV_OK;
    if (previous && index == 0) return undefined_format(m, out, "there is no previous item");
    if (next && index + 1 >= count) return undefined_format(m, out, "there is no next item");
    *out = l->items->items[previous ? index - 1 : index + 1];
    return LCKV_OK;
}

/* cycle(a, b, ...): returns its arguments in turn. */
static int run_cycle(machine *m, const call *c, value *out) {
    if (!c->given->count) return RAISE(m, "no items for cycling given");
    *out = c->given->items[c->self.loop->index % c->given->count];
    return LCKV_OK;
}

/* changed(v): whether the previous call had another value, or there was none. */
static int run_changed(machine *m, const call *c, value *out) {
    loop *l = c->self.loop;
    value_list *list;
    bool same = false;
    TRY(list_new(&m->arena, c->given->count, &list));
    for (size_t i = 0; i < c->given->count; i++) TRY(list_add(&m->arena, list, c->given->items[i]));
    value now = value_of_list(VALUE_TUPLE, list);
    if (l->changed.kind != VALUE_UNSET) TRY(value_equal(m, l->changed, now, &same));
    l->changed = now;
    *out = value_bool(!same);
    return LCKV_OK;
}

const builtin loop_methods[] = {{"cycle", NULL, run_cycle}, {"changed", NULL, run_changed}, {NULL}};
