/* Running the tree: evaluates expressions, executes statements, and implements macros and loops. */
#ifndef TEXT_JINJA_RUN_H
#define TEXT_JINJA_RUN_H

#include "text/jinja/machine.h"
#include "text/jinja/parse/ast.h"

struct macro {
    const macro_node *code;
    scope *scope; /* scope of the definition, where the body looks up names */
};

/* The variable `loop`. */
struct loop {
    const value_list *items;
    size_t index; /* from 0 */
    int depth;    /* from 0 */
    const node *code;
    scope *scope;  /* its statement; loop(items) of a recursive loop runs it again */
    value changed; /* last argument of loop.changed() */
};

int evaluate(machine *m, const node *n, value *out);
int execute(machine *m, const node *body);
/* Applies the filters of a filter block or a block set to its text. */
int evaluate_filters(machine *m, const node *filters, value self, value *out);
int evaluate_arguments(machine *m, const call_node *c, arguments *out);

int scope_open(machine *m, scope *outer); /* m->scope becomes a new scope inside of `outer` */
int scope_set(machine *m, const char *name, size_t bytes, value v);
int assign(machine *m, const node *target, value v);

/* Renders a body to a string. */
int execute_captured(machine *m, const node *body, value *out);
int macro_call(machine *m, const macro *called, const arguments *given, value *out);
int macro_attribute(machine *m, value v, const char *name, size_t bytes, value *out, bool *found);
int loop_run(machine *m, const node *n, scope *outer, value items, int depth);
int loop_call(machine *m, const loop *called, const arguments *given, value *out);
int loop_attribute(machine *m, value v, const char *name, size_t bytes, value *out, bool *found);

#endif
