/* The machine that renders a template: its memory, limits, scopes and output. Also the interface of builtin functions,
 * filters, tests and methods. */
#ifndef TEXT_JINJA_MACHINE_H
#define TEXT_JINJA_MACHINE_H

#include "text/jinja/value.h"

#include <time.h>

/* Limits, so that a hostile template ends in an error. Conversations stay far below all of them. */
enum {
    MAX_STEPS = 20000000, /* evaluated nodes, elements, and blocks of strings */
    MAX_DEPTH = 400,      /* nested evaluations; nested values */
    MAX_RANGE = 100000,   /* elements of range(); the limit of Jinja's sandbox */
    MAX_TEXT = 1 << 26,   /* bytes of one string */
    MAX_MEMORY = 1 << 28  /* bytes of one rendering */
};

/* Visible names: those of this scope, then those of the outer ones. */
typedef struct scope {
    struct scope *outer;
    value_dict names;
} scope;

/* A string under construction. */
typedef struct output {
    char *data;
    size_t length, capacity;
} output;

typedef enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;

typedef struct span {
    size_t first, end; /* byte offsets in the text */
} span;

typedef struct machine {
    arena arena;
    const char *name;     /* of the template, for errors */
    const struct tm *now; /* NULL: the current time */
    int line;             /* line of the current node, for errors */
    int depth;
    int64_t steps;
    scope *scope;
    output *text; /* output of statements */
    output root;  /* output of the rendering */
    flow flow;    /* set by break and continue, until their loop handles it */
    span *spans;  /* of {% generation %} */
    size_t span_count, span_capacity;
    bool nested_generation; /* one was in a macro or set block, where its position in the text is unknown */
} machine;

/* Sets the message "NAME: line N: ..." and returns the code. */
#define RAISE_CODE(m, code, ...) (machine_message((m), __VA_ARGS__), status_of_failure(code))
#define RAISE(m, ...) RAISE_CODE(m, LCKV_ERROR_FORMAT, __VA_ARGS__)
void machine_message(const machine *m, const char *format, ...) PRINTF_LIKE(2, 3);

/* Counts steps; an error if the limit is exceeded. */
int machine_tick(machine *m, size_t steps);
/* Counts the steps of a string that is searched or compared as a whole, such as by memchr(). */
int machine_scan(machine *m, size_t bytes);
/* Counts the steps of a string that is read character by character. */
int machine_walk(machine *m, size_t bytes);
/* Enters a level of nesting. The caller decrements m->depth afterwards, except on errors, which end the rendering. */
int machine_enter(machine *m);

int output_add(machine *m, output *o, const char *bytes, size_t count);
int output_word(machine *m, output *o, const char *word);
static inline value output_value(const output *o) {
    return value_text(o->length ? o->data : "", o->length);
}
/* A formatted string as a value; only for short strings. */
int text_format(machine *m, value *out, const char *format, ...) PRINTF_LIKE(3, 4);
/* An undefined value with a message that is used when it is accessed. */
int undefined_format(machine *m, value *out, const char *format, ...) PRINTF_LIKE(3, 4);

/* ---- print.c, tojson.c */

int print_value(machine *m, output *o, value v); /* as str() */
int print_repr(machine *m, output *o, value v);
int value_string(machine *m, value v, value *out); /* str(v) */
void float_repr(double number, char out[40]);

/* ---- keys.c */

/* Whether the value can be a key: a scalar, or a tuple of scalars, nested a few levels deep. */
int value_hashable(machine *m, value v, bool *out);
/* An error unless it can. */
int key_check(machine *m, value v);
/* == of keys. */
int key_equal(machine *m, value a, value b, bool *out);
/* The value of a key; NULL if the dict does not have it. */
int dict_find(machine *m, const value_dict *dict, value key, value **out);
/* Replaces the value of the key, or appends a pair. */
int dict_set(machine *m, value_dict *dict, value key, value item);

/* ---- operators.c */

#define OPERATOR_POWER ('*' << 8 | '*')
#define OPERATOR_FLOOR_DIVIDE ('/' << 8 | '/')

int value_equal(machine *m, value a, value b, bool *out);
/* Three-way comparison: *order is negative, 0 or positive. `operator` is its name in errors. */
int value_compare(machine *m, value a, value b, const char *operator, int * order);
int value_contains(machine *m, value container, value item, bool *out);
int value_arithmetic(machine *m, int operator, value a, value b, value *out);
int value_negate(machine *m, value v, value *out);
int value_length(machine *m, value v, int64_t *out);
/* The elements as a list; an iterator is consumed. The list may be the value's own; it is not modified. */
int value_items(machine *m, value v, const value_list **out);

/* ---- access.c */

int value_attribute(machine *m, value v, const char *name, size_t bytes, value *out); /* v.name */
/* The same without the keys of dicts. */
int value_own_attribute(machine *m, value v, const char *name, size_t bytes, value *out);
int value_element(machine *m, value v, value key, value *out); /* v[key] */
int value_slice(machine *m, value v, value start, value stop, value step, value *out);

/* ---- functions, filters, tests, methods */

typedef struct named_value {
    const char *name;
    size_t bytes;
    value value;
} named_value;

typedef struct arguments {
    value *items;
    size_t count;
    named_value *named;
    size_t named_count;
} arguments;

enum { MAX_PARAMETERS = 5 };

typedef struct call {
    value self;               /* the filtered or tested value; the object of a method */
    value at[MAX_PARAMETERS]; /* the arguments; VALUE_UNSET if an optional one is absent */
    const arguments *given;   /* as written in the template */
} call;

/* A builtin. `parameters`: names, optional ones with a '?'; NULL: it parses its arguments itself. */
typedef struct builtin {
    const char *name, *parameters;
    int (*run)(machine *m, const call *c, value *out);
} builtin;

struct function {
    const builtin *code;
    value self;
};

/* A table ends with a builtin without a name. */
const builtin *builtin_find(const builtin *table, const char *name, size_t bytes);
int builtin_call(machine *m, const builtin *b, value self, const arguments *given, value *out);
const builtin *filter_find(const char *name, size_t bytes);
const builtin *test_find(const char *name, size_t bytes);
const builtin *global_find(const char *name, size_t bytes);
int filter_call(machine *m, const char *name, size_t bytes, value self, const arguments *given, value *out);
int test_call(machine *m, const char *name, size_t bytes, value self, const arguments *given, bool *out);

extern const builtin text_filters[], html_filters[], sequence_filters[], select_filters[], string_methods[],
    dict_methods[], list_methods[], loop_methods[], cycler_methods[];

/* globals.c: joiner(), cycler(), and methods of functions, such as dict.fromkeys. */
int joiner_call(machine *m, value_list *joiner, const arguments *given, value *out);
int joiner_attribute(machine *m, value v, const char *name, size_t bytes, value *out, bool *found);
int cycler_attribute(machine *m, value v, const char *name, size_t bytes, value *out, bool *found);
/* Rejects names with a leading underscore for namespaces. */
int check_member_name(machine *m, value name);
const builtin *global_method_find(const builtin *global, const char *name, size_t bytes);

/* calls.c: calls any callable value. */
int value_call(machine *m, value callee, const arguments *given, value *out);

/* markup.c: a string method of Markup. */
int markup_method(machine *m, const builtin *method, value self, const arguments *given, value *out);

int tojson(machine *m, const call *c, value *out);
int strftime_now(machine *m, const call *c, value *out);
int format_percent(machine *m, value format, value items, value *out); /* '%s' % items */
int format_braces(machine *m, value format, const arguments *given, value *out);

/* Checks the type of an argument; `what` is its name in errors. */
int argument_text(machine *m, value v, const char *what, value *out);
int argument_whole(machine *m, value v, int64_t fallback, const char *what, int64_t *out);

/* How `sort` accesses elements: attribute "a.b" or a number; NONE/UNSET: the element itself. */
int value_at_path(machine *m, value v, value path, value *out);
int value_without_case(machine *m, value v, value *out);
/* Stable sort. Sorts keys [count] along with the items. */
int sort_items(machine *m, value *items, value *keys, size_t count, bool reverse);

#endif
