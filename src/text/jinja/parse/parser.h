/* Interface between the two files of the parser: the tokens and the current position. */
#ifndef TEXT_JINJA_PARSER_H
#define TEXT_JINJA_PARSER_H

#include "text/jinja/parse/ast.h"

typedef struct parser {
    arena *arena;
    const char *name;
    const token *at; /* the last one is TOKEN_END, which is never skipped */
    int depth;
    macro_node *macro;  /* macro whose body is being parsed; NULL: none */
    int loops;          /* enclosing loops in the same macro */
    bool marks_answers; /* a {% generation %} was found */
} parser;

#define PARSER_FAIL(p, code, ...) (fail_message(__VA_ARGS__), parser_fail((p), (code)))
int parser_fail(const parser *p, int code); /* adds name and line to the message */
int parser_unexpected(const parser *p, const char *expected);

int node_new(parser *p, node_kind kind, node **out); /* with the current line */
int node_list_add(parser *p, node_list *list, node *item);

bool at_operator(const parser *p, int operator);
bool at_name(const parser *p, const char *name);
bool skip_operator(parser *p, int operator);
bool skip_name(parser *p, const char *name);
int expect_operator(parser *p, int operator);
int expect_name(parser *p, const char **text, size_t *bytes); /* any name */

/* Nesting is limited. The caller decrements p->depth afterwards. */
int parser_enter(parser *p);

int parse_expression(parser *p, node **out);
/* One expression, or several separated by commas: a tuple. */
int parse_tuple(parser *p, bool conditions, node **out);
int parse_target(parser *p, node **out); /* names, attributes of namespaces, or tuples of them */
int parse_call(parser *p, call_node **out);
int parse_filters(parser *p, bool first_without_bar, node **out); /* `out`: the operand */
int parse_postfix(parser *p, node **out);
int parse_primary(parser *p, node **out);

#endif
