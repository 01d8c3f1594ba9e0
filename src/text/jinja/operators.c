/* Arithmetic, comparisons, lengths and elements, as in Python. */
#define _GNU_SOURCE /* memmem */
#include "text/jinja/strings.h"

#include "base/text/utf8.h"

#include <math.h>
#include <string.h>

/* Only printing, iterating and testing are allowed for an undefined value; other operations fail. */
static int check_defined(machine *m, value v) {
    if (v.kind != VALUE_UNDEFINED) return LCKV_OK;
    return RAISE(m, "%.*s", (int)v.bytes, v.text);
}

/* ---- equality and order */

static int equal_lists(machine *m, const value_list *a, const value_list *b, bool *out) {
    *out = a->count == b->count;
    for (size_t i = 0; i < a->count && *out; i++) TRY(value_equal(m, a->items[i], b->items[i], out));
    return LCKV_OK;
}

static int equal_dicts(machine *m, const value_dict *a, const value_dict *b, bool *out) {
    *out = a->count == b->count;
    for (size_t i = 0; i < a->count && *out; i++) {
        value *other;
        TRY(dict_find(m, b, a->pairs[i].key, &other));
        *out = other != NULL;
        if (other) TRY(value_equal(m, a->pairs[i].value, *other, out));
    }
    return LCKV_OK;
}

static int equal_any(machine *m, value a, value b, bool *out) {
    *out = false;
    if (is_number(a) && is_number(b)) return key_equal(m, a, b, out);
    if (a.kind != b.kind) return LCKV_OK;
    switch (a.kind) {
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        *out = true;
        return LCKV_OK;
    case VALUE_STRING:
        return key_equal(m, a, b, out);
    case VALUE_LIST:
    case VALUE_TUPLE:
    case VALUE_RANGE:
        return equal_lists(m, a.list, b.list, out);
    case VALUE_DICT:
        return equal_dicts(m, a.dict, b.dict, out);
    case VALUE_FUNCTION:
        *out = a.function == b.function;
        return LCKV_OK;
    case VALUE_NAMESPACE:
        *out = a.dict == b.dict;
        return LCKV_OK;
    case VALUE_MACRO:
        *out = a.macro == b.macro;
        return LCKV_OK;
    case VALUE_LOOP:
        *out = a.loop == b.loop;
        return LCKV_OK;
    default:
        *out = a.list == b.list;
        return LCKV_OK;
    }
}

int value_equal(machine *m, value a, value b, bool *out) {
    TRY(machine_enter(m));
    TRY(equal_any(m, a, b, out));
    m->depth--;
    return LCKV_OK;
}

/* By code points, which is the order of the bytes. */
static int compare_texts(machine *m, value a, value b, int *order) {
    size_t shorter = a.bytes < b.bytes ? a.bytes : b.bytes;
    TRY(machine_scan(m, shorter));
    *order = shorter ? memcmp(a.text, b.text, shorter) : 0;
    if (*order == 0) *order = (a.bytes > b.bytes) - (a.bytes < b.bytes);
    return LCKV_OK;
}

static int compare_lists(machine *m, const value_list *a, const value_list *b, const char *operator, int * order) {
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        bool same;
        TRY(value_equal(m, a->items[i], b->items[i], &same));
        if (!same) return value_compare(m, a->items[i], b->items[i], operator, order);
    }
    *order = (a->count > b->count) - (a->count < b->count);
    return LCKV_OK;
}

int value_compare(machine *m, value a, value b, const char *operator, int * order) {
    TRY(check_defined(m, a));
    TRY(check_defined(m, b));
    TRY(machine_enter(m));
    if (is_whole(a) && is_whole(b))
        *order = (whole(a) > whole(b)) - (whole(a) < whole(b));
    else if (is_number(a) && is_number(b))
        *order = (real(a) > real(b)) - (real(a) < real(b));
    else if (is_string(a) && is_string(b))
        TRY(compare_texts(m, a, b, order));
    else if (a.kind == b.kind && (a.kind == VALUE_LIST || a.kind == VALUE_TUPLE))
        TRY(compare_lists(m, a.list, b.list, operator, order));
    else
        return RAISE(m, "'%s' not supported between instances of '%s' and '%s'", operator, value_type(a),
                     value_type(b));
    m->depth--;
    return LCKV_OK;
}

/* ---- containers */

int value_length(machine *m, value v, int64_t *out) {
    if (is_string(v)) {
        *out = 0;
        TRY(machine_scan(m, v.bytes));
        for (size_t i = 0; i < v.bytes; i++) *out += ((unsigned char)v.text[i] & 0xC0) != 0x80;
        return LCKV_OK;
    }
    *out = 0;
    if (v.kind == VALUE_UNDEFINED) return LCKV_OK;
    if (has_list(v) && v.kind != VALUE_ITERATOR)
        *out = (int64_t)v.list->count;
    else if (v.kind == VALUE_DICT)
        *out = (int64_t)v.dict->count;
    else
        return RAISE(m, "object of type '%s' has no len()", value_type(v));
    return LCKV_OK;
}

static int characters(machine *m, value v, value_list **list) {
    TRY(machine_tick(m, v.bytes));
    TRY(list_new(&m->arena, v.bytes, list));
    for (size_t at = 0, bytes; at < v.bytes; at += bytes) {
        uint32_t c;
        bytes = utf8_next(v.text + at, &c);
        TRY(list_add(&m->arena, *list, value_text(v.text + at, bytes)));
    }
    return LCKV_OK;
}

static int keys_of(machine *m, const value_dict *dict, value_list **list) {
    TRY(list_new(&m->arena, dict->count, list));
    for (size_t i = 0; i < dict->count; i++) TRY(list_add(&m->arena, *list, dict->pairs[i].key));
    return LCKV_OK;
}

/* The remaining elements of an iterator. */
static int rest_of(machine *m, value_list *source, value_list **list) {
    size_t first = source->next;
    source->next = source->count;
    TRY(list_new(&m->arena, source->count - first, list));
    for (size_t i = first; i < source->count; i++) TRY(list_add(&m->arena, *list, source->items[i]));
    return LCKV_OK;
}

int value_items(machine *m, value v, const value_list **out) {
    value_list *list;
    if (v.kind == VALUE_ITERATOR)
        TRY(rest_of(m, v.list, &list));
    else if (has_list(v))
        list = v.list;
    else if (is_string(v))
        TRY(characters(m, v, &list));
    else if (v.kind == VALUE_DICT)
        TRY(keys_of(m, v.dict, &list));
    else if (v.kind == VALUE_UNDEFINED)
        TRY(list_new(&m->arena, 0, &list));
    else
        return RAISE(m, "'%s' object is not iterable", value_type(v));
    *out = list;
    return machine_tick(m, list->count);
}

static int contains_key(machine *m, const value_dict *dict, value key, bool *out) {
    value *found;
    TRY(key_check(m, key));
    TRY(dict_find(m, dict, key, &found));
    *out = found != NULL;
    return LCKV_OK;
}

int value_contains(machine *m, value container, value item, bool *out) {
    const value_list *list;
    *out = false;
    if (container.kind == VALUE_DICT) return contains_key(m, container.dict, item, out);
    if (is_string(container)) {
        TRY(check_defined(m, item));
        if (!is_string(item))
            return RAISE(m, "'in <string>' requires string as left operand, not %s", value_type(item));
        TRY(machine_scan(m, container.bytes));
        *out = !item.bytes || (container.bytes && memmem(container.text, container.bytes, item.text, item.bytes));
        return LCKV_OK;
    }
    if (!has_list(container) && container.kind != VALUE_UNDEFINED)
        return RAISE(m, "argument of type '%s' is not iterable", value_type(container));
    TRY(value_items(m, container, &list));
    for (size_t i = 0; i < list->count && !*out; i++) TRY(value_equal(m, list->items[i], item, out));
    return LCKV_OK;
}

/* ---- arithmetic */

static const char *operator_name(int operator) {
    return operator== '+' ? "+" :
           operator== '-' ? "-"
           :
           operator== '*' ? "*"
           :
           operator== '/' ? "/"
           :
           operator== '%' ? "%"
           :
           operator== OPERATOR_FLOOR_DIVIDE ? "//"
                                            : "** or pow()";
}

static int not_supported(machine *m, int operator, value a, value b) {
    if (operator== '+' && is_string(a) && !a.markup)
        return RAISE(m, "can only concatenate str (not \"%s\") to str", value_type(b));
    return RAISE(m, "unsupported operand type(s) for %s: '%s' and '%s'", operator_name(operator), value_type(a),
                 value_type(b));
}

static int add_texts(machine *m, value a, value b, value *out) {
    if (b.bytes > MAX_TEXT - a.bytes) return RAISE(m, "the text exceeds %d bytes", MAX_TEXT);
    TRY(machine_scan(m, b.bytes));
    *out = a.bytes ? a : b;
    if (!a.bytes || !b.bytes) return LCKV_OK;
    char *text = arena_extend(&m->arena, a.text, a.bytes, b.bytes);
    if (!text) return status_of_failure(LCKV_ERROR_MEMORY);
    memcpy(text + a.bytes, b.text, b.bytes);
    *out = value_text(text, a.bytes + b.bytes);
    return LCKV_OK;
}

/* Markup and a string: the string is escaped. */
static int add_markup(machine *m, value a, value b, value *out) {
    TRY(text_escape(m, a, &a));
    TRY(text_escape(m, b, &b));
    TRY(add_texts(m, a, b, out));
    *out = as_markup(*out);
    return LCKV_OK;
}

static int add_lists(machine *m, value a, value b, value *out) {
    value_list *list;
    TRY(machine_tick(m, a.list->count + b.list->count));
    TRY(list_new(&m->arena, a.list->count + b.list->count, &list));
    for (size_t i = 0; i < a.list->count; i++) TRY(list_add(&m->arena, list, a.list->items[i]));
    for (size_t i = 0; i < b.list->count; i++) TRY(list_add(&m->arena, list, b.list->items[i]));
    *out = value_of_list(a.kind, list);
    return LCKV_OK;
}

static int repeat_text(machine *m, value v, int64_t times, value *out) {
    output o = {0};
    if (times > 0 && v.bytes && (uint64_t)times > MAX_TEXT / v.bytes)
        return RAISE(m, "the text exceeds %d bytes", MAX_TEXT);
    for (int64_t i = 0; i < times && v.bytes; i++) {
        TRY(machine_tick(m, 1 + v.bytes / 64));
        TRY(output_add(m, &o, v.text, v.bytes));
    }
    *out = output_value(&o);
    out->markup = v.markup;
    return LCKV_OK;
}

static int repeat_list(machine *m, value v, int64_t times, value *out) {
    value_list *list;
    TRY(list_new(&m->arena, 0, &list));
    for (int64_t i = 0; i < times && v.list->count; i++) {
        TRY(machine_tick(m, v.list->count));
        for (size_t k = 0; k < v.list->count; k++) TRY(list_add(&m->arena, list, v.list->items[k]));
    }
    *out = value_of_list(v.kind, list);
    return LCKV_OK;
}

static int repeat(machine *m, value v, int64_t times, value *out) {
    return is_string(v) ? repeat_text(m, v, times, out) : repeat_list(m, v, times, out);
}

static bool is_repeatable(value v) {
    return is_string(v) || v.kind == VALUE_LIST || v.kind == VALUE_TUPLE;
}

static int power(machine *m, int64_t base, int64_t exponent, value *out) {
    int64_t product = 1;
    if (exponent < 0) {
        if (base == 0) return RAISE(m, "0.0 cannot be raised to a negative power");
        *out = value_float(pow((double)base, (double)exponent));
        return LCKV_OK;
    }
    if (base == 0 || base == 1 || base == -1) exponent = exponent > 1 ? 2 - exponent % 2 : exponent;
    for (int64_t i = 0; i < exponent; i++)
        if (__builtin_mul_overflow(product, base, &product)) return RAISE(m, "a number that does not fit in 64 bits");
    *out = value_int(product);
    return LCKV_OK;
}

/* Floor division, as in Python. */
static int divide_whole(machine *m, int operator, int64_t a, int64_t b, value *out) {
    if (b == 0) return RAISE(m, "integer division or modulo by zero");
    if (a == INT64_MIN && b == -1) return RAISE(m, "a number that does not fit in 64 bits");
    int64_t quotient = a / b, rest = a % b;
    if (rest && (rest < 0) != (b < 0)) {
        quotient--;
        rest += b;
    }
    *out = value_int(operator== '%' ? rest : quotient);
    return LCKV_OK;
}

static int whole_arithmetic(machine *m, int operator, int64_t a, int64_t b, value *out) {
    int64_t result;
    bool over;
    if (operator== OPERATOR_POWER) return power(m, a, b, out);
    if (operator== '%' || operator== OPERATOR_FLOOR_DIVIDE) return divide_whole(m, operator, a, b, out);
    if (operator== '/') {
        if (b == 0) return RAISE(m, "division by zero");
        *out = value_float((double)a / (double)b);
        return LCKV_OK;
    }
    over = operator== '+' ? __builtin_add_overflow(a, b, &result) :
           operator== '-' ? __builtin_sub_overflow(a, b, &result)
                          : __builtin_mul_overflow(a, b, &result);
    if (over) return RAISE(m, "a number that does not fit in 64 bits");
    *out = value_int(result);
    return LCKV_OK;
}

static double floor_modulo(double a, double b) {
    double rest = fmod(a, b);
    if (rest != 0) return (rest < 0) != (b < 0) ? rest + b : rest;
    return copysign(0.0, b);
}

static int real_arithmetic(machine *m, int operator, double a, double b, value *out) {
    bool divides = operator== '/' || operator== '%' || operator== OPERATOR_FLOOR_DIVIDE;
    if (divides && b == 0) return RAISE(m, "float division by zero");
    double result = operator== '+' ? a + b :
                    operator== '-' ? a - b
                    :
                    operator== '*' ? a * b
                    :
                    operator== '/' ? a / b
                    :
                    operator== '%' ? floor_modulo(a, b)
                    :
                    operator== OPERATOR_FLOOR_DIVIDE ? floor(a / b)
                                                     : pow(a, b);
    *out = value_float(result);
    return LCKV_OK;
}

int value_arithmetic(machine *m, int operator, value a, value b, value *out) {
    TRY(check_defined(m, a));
    if (operator== '%' && is_string(a)) return format_percent(m, a, b, out);
    TRY(check_defined(m, b));
    if (is_whole(a) && is_whole(b)) return whole_arithmetic(m, operator, whole(a), whole(b), out);
    if (is_number(a) && is_number(b)) return real_arithmetic(m, operator, real(a), real(b), out);
    if (operator== '+' && is_string(a) && is_string(b))
        return a.markup || b.markup ? add_markup(m, a, b, out) : add_texts(m, a, b, out);
    if (operator== '+' && a.kind == b.kind && is_repeatable(a)) return add_lists(m, a, b, out);
    if (operator== '*' && is_repeatable(a) && is_whole(b)) return repeat(m, a, whole(b), out);
    if (operator== '*' && is_whole(a) && is_repeatable(b)) return repeat(m, b, whole(a), out);
    return not_supported(m, operator, a, b);
}

int value_negate(machine *m, value v, value *out) {
    TRY(check_defined(m, v));
    if (is_whole(v)) return whole_arithmetic(m, '-', 0, whole(v), out);
    if (v.kind != VALUE_FLOAT) return RAISE(m, "bad operand type for unary -: '%s'", value_type(v));
    *out = value_float(-v.number);
    return LCKV_OK;
}
