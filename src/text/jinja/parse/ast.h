/* Syntax tree of a template. Nodes of a list are linked by `next`. */
#ifndef TEXT_JINJA_AST_H
#define TEXT_JINJA_AST_H

#include "text/jinja/parse/lexer.h"

typedef enum node_kind {
    /* expressions */
    NODE_CONSTANT,   /* constant */
    NODE_NAME,       /* text */
    NODE_ATTRIBUTE,  /* left.text */
    NODE_ELEMENT,    /* left[right] */
    NODE_SLICE,      /* left[items[0]:items[1]:items[2]], each may be NULL */
    NODE_CALL,       /* left(call) */
    NODE_FILTER,     /* left|text(call); left NULL at the start of a filter block */
    NODE_TEST,       /* left is text(call) */
    NODE_LIST,       /* items */
    NODE_TUPLE,      /* items; also as a target of an assignment */
    NODE_DICT,       /* items: key, value, key, value */
    NODE_NOT,        /* left */
    NODE_NEGATE,     /* left */
    NODE_PLUS,       /* left */
    NODE_AND,        /* left, right */
    NODE_OR,         /* left, right */
    NODE_ARITHMETIC, /* left operator right */
    NODE_COMPARE, /* left operator right, and third: the rest of a chain of comparisons, whose `left` is this right */
    NODE_CONCATENATE, /* items */
    NODE_CONDITION,   /* left if right else third (may be NULL) */
    NODE_MEMBER,      /* a target: attribute `text` of the namespace with the name right->text */
    /* statements */
    NODE_DATA,         /* text */
    NODE_PRINT,        /* left */
    NODE_IF,           /* left; body, otherwise */
    NODE_FOR,          /* left in right if third (may be NULL), recursive; body, otherwise */
    NODE_SET,          /* left = right */
    NODE_SET_BLOCK,    /* left = body, through right: filters (may be NULL) */
    NODE_MACRO,        /* macro */
    NODE_CALL_BLOCK,   /* left: a call, macro: its caller */
    NODE_FILTER_BLOCK, /* right: filters; body */
    NODE_WITH,         /* items: target, value, target, value; body */
    NODE_GENERATION,   /* body */
    NODE_BREAK,
    NODE_CONTINUE
} node_kind;

/* Operators of NODE_COMPARE that are words. */
enum { OPERATOR_IN = 1, OPERATOR_NOT_IN = 2 };

typedef struct node node;

typedef struct node_list {
    node **items;
    size_t count, capacity;
} node_list;

typedef struct keyword {
    const char *name;
    size_t bytes;
    node *value;
} keyword;

typedef struct call_node {
    node_list items;
    keyword *named;
    size_t named_count, named_capacity;
    node *more, *more_named; /* *more, **more_named; NULL: none */
} call_node;

typedef struct macro_node {
    const char *name; /* for a caller: "caller" */
    size_t bytes;
    keyword *parameters; /* value: the default; NULL: none */
    size_t count, capacity;
    bool uses_caller, uses_varargs, uses_kwargs;
    bool is_caller; /* of a {% call %} */
    node *body;
} macro_node;

struct node {
    node_kind kind;
    int line;
    int operator;
    bool recursive;
    const char *text;
    size_t bytes;
    value constant;
    node *left, *right, *third;
    node *body, *otherwise;
    node_list items;
    call_node *call;
    macro_node *macro;
    node *next;
};

/* Parses `source`, which must be valid UTF-8. Errors quote `name` and the line. *marks_answers: whether it has a {%
 * generation %}. */
int template_parse(arena *a, const char *source, size_t bytes, const char *name, node **body, bool *marks_answers);

#endif
