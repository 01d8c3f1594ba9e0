/* Values of the template language, with Python's types: numbers, strings, lists, dicts, and callables. They are
 * allocated in the arena of a rendering and immutable, except namespaces and iterators.
 *
 * Integers of more than 64 bits (an error) and sets are not supported. */
#ifndef TEXT_JINJA_VALUE_H
#define TEXT_JINJA_VALUE_H

#include "text/jinja/arena.h"

#include <jansson.h>

typedef enum value_kind {
    VALUE_UNSET, /* no value: an argument that was not given */
    VALUE_UNDEFINED,
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_FLOAT,
    VALUE_STRING,
    VALUE_LIST,
    VALUE_TUPLE,
    VALUE_RANGE,
    VALUE_VIEW,     /* dict.items() etc.: has a length, but no elements by number */
    VALUE_ITERATOR, /* result of map and select: can be iterated once */
    VALUE_DICT,
    VALUE_NAMESPACE,
    VALUE_FUNCTION, /* a function, or a method bound to its object */
    VALUE_MACRO,
    VALUE_LOOP,
    VALUE_JOINER, /* joiner(): items: the separator; `next`: it was called */
    VALUE_CYCLER  /* cycler(): `next`: index of the current item */
} value_kind;

typedef struct value_list value_list;
typedef struct value_dict value_dict;
typedef struct function function;
typedef struct macro macro;
typedef struct loop loop;

typedef struct value {
    value_kind kind;
    bool markup; /* a string that is HTML: markup.c */
    union {
        bool boolean;
        int64_t integer;
        double number;
        struct {
            const char *text; /* VALUE_STRING: UTF-8, not NUL-terminated; VALUE_UNDEFINED: Jinja's message */
            size_t bytes;
        };
        value_list *list; /* LIST, TUPLE, RANGE, VIEW, ITERATOR, JOINER, CYCLER */
        value_dict *dict; /* DICT, NAMESPACE */
        function *function;
        macro *macro;
        loop *loop;
    };
} value;

struct value_list {
    value *items;
    size_t count, capacity;
    size_t next;      /* of an iterator: number of elements taken */
    const char *name; /* RANGE: its text; VIEW, ITERATOR: Python type; TUPLE: "group" for groupby, or NULL */
};

typedef struct value_pair {
    value key, value;
} value_pair;

struct value_dict {
    value_pair *pairs; /* in order of creation */
    size_t count, capacity;
};

static inline value value_none(void) {
    return (value){.kind = VALUE_NONE};
}
static inline value value_bool(bool b) {
    return (value){.kind = VALUE_BOOL, .boolean = b};
}
static inline value value_int(int64_t i) {
    return (value){.kind = VALUE_INT, .integer = i};
}
static inline value value_float(double number) {
    return (value){.kind = VALUE_FLOAT, .number = number};
}
static inline value value_text(const char *text, size_t bytes) {
    return (value){.kind = VALUE_STRING, .text = text, .bytes = bytes};
}
static inline value value_of_list(value_kind kind, value_list *list) {
    return (value){.kind = kind, .list = list};
}
static inline value value_of_dict(value_dict *dict) {
    return (value){.kind = VALUE_DICT, .dict = dict};
}
/* From a string that outlives the value: a constant of the program. */
value value_word(const char *word);

static inline bool is_string(value v) {
    return v.kind == VALUE_STRING;
}
static inline bool is_markup(value v) {
    return v.kind == VALUE_STRING && v.markup;
}
static inline value as_markup(value v) {
    v.markup = true;
    return v;
}
static inline bool is_number(value v) {
    return v.kind == VALUE_BOOL || v.kind == VALUE_INT || v.kind == VALUE_FLOAT;
}
/* bool is an int, as in Python. */
static inline bool is_whole(value v) {
    return v.kind == VALUE_BOOL || v.kind == VALUE_INT;
}
static inline int64_t whole(value v) {
    return v.kind == VALUE_BOOL ? v.boolean : v.integer;
}
static inline double real(value v) {
    return v.kind == VALUE_FLOAT ? v.number : (double)whole(v);
}
static inline bool has_list(value v) {
    return v.kind >= VALUE_LIST && v.kind <= VALUE_ITERATOR;
}
/* Whether a string equals `word`. */
bool text_is(const char *text, size_t bytes, const char *word);

/* Python's name of the type, such as "str" or "NoneType". */
const char *value_type(value v);

bool value_truth(value v);

int list_new(arena *a, size_t capacity, value_list **out);
int list_add(arena *a, value_list *list, value item);
int dict_new(arena *a, size_t capacity, value_dict **out);
/* Appends a pair whose key the dict does not have. */
int dict_append(arena *a, value_dict *dict, value key, value item);

/* Converts a JSON value; strings are copied. */
int value_from_json(arena *a, const json_t *json, value *out);

#endif
