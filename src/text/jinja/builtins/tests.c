/* Tests: the operators after `is`. */
#include "text/jinja/strings.h"

#include <string.h>

#define KIND_TEST(name, condition)                                                                                     \
    static int run_##name(machine *m, const call *c, value *out) {                                                     \
        (void)m;                                                                                                       \
        value v = c->self;                                                                                             \
        *out = value_bool(condition);                                                                                  \
        return LCKV_OK;                                                                                                \
    }

KIND_TEST(defined, v.kind != VALUE_UNDEFINED)
KIND_TEST(undefined, v.kind == VALUE_UNDEFINED)
KIND_TEST(none, v.kind == VALUE_NONE)
KIND_TEST(boolean, v.kind == VALUE_BOOL)
KIND_TEST(true, v.kind == VALUE_BOOL && v.boolean)
KIND_TEST(false, v.kind == VALUE_BOOL && !v.boolean)
KIND_TEST(integer, v.kind == VALUE_INT)
KIND_TEST(float, v.kind == VALUE_FLOAT)
KIND_TEST(number, is_number(v))
KIND_TEST(string, is_string(v))
KIND_TEST(mapping, v.kind == VALUE_DICT)
KIND_TEST(sequence, is_string(v) || v.kind == VALUE_DICT || v.kind == VALUE_LIST || v.kind == VALUE_TUPLE ||
                        v.kind == VALUE_RANGE || v.kind == VALUE_UNDEFINED)
KIND_TEST(iterable, is_string(v) || v.kind == VALUE_DICT || has_list(v) || v.kind == VALUE_UNDEFINED)
KIND_TEST(callable, v.kind == VALUE_FUNCTION || v.kind == VALUE_MACRO || v.kind == VALUE_LOOP ||
                        v.kind == VALUE_JOINER || v.kind == VALUE_UNDEFINED)
KIND_TEST(escaped, is_markup(v))

static int is_known(machine *m, const call *c, const builtin *(*find)(const char *, size_t), value *out) {
    value v = c->self;
    if (v.kind == VALUE_LIST || v.kind == VALUE_DICT) return RAISE(m, "unhashable type: '%s'", value_type(v));
    *out = value_bool(is_string(v) && find(v.text, v.bytes));
    return LCKV_OK;
}
static int run_filter(machine *m, const call *c, value *out) {
    return is_known(m, c, filter_find, out);
}
static int run_test(machine *m, const call *c, value *out) {
    return is_known(m, c, test_find, out);
}

static int run_divisibleby(machine *m, const call *c, value *out) {
    value rest;
    TRY(value_arithmetic(m, '%', c->self, c->at[0], &rest));
    *out = value_bool(is_number(rest) && real(rest) == 0);
    return LCKV_OK;
}

static int parity(machine *m, const call *c, int64_t wanted, value *out) {
    value rest;
    TRY(value_arithmetic(m, '%', c->self, value_int(2), &rest));
    *out = value_bool(is_number(rest) && real(rest) == (double)wanted);
    return LCKV_OK;
}
static int run_odd(machine *m, const call *c, value *out) {
    return parity(m, c, 1, out);
}
static int run_even(machine *m, const call *c, value *out) {
    return parity(m, c, 0, out);
}

static int case_of(machine *m, const call *c, const char *method, value *out) {
    value v;
    arguments none = {0};
    TRY(value_string(m, c->self, &v));
    return builtin_call(m, builtin_find(string_methods, method, strlen(method)), v, &none, out);
}
static int run_lower(machine *m, const call *c, value *out) {
    return case_of(m, c, "islower", out);
}
static int run_upper(machine *m, const call *c, value *out) {
    return case_of(m, c, "isupper", out);
}

static int run_equal(machine *m, const call *c, value *out) {
    bool equal;
    TRY(value_equal(m, c->self, c->at[0], &equal));
    *out = value_bool(equal);
    return LCKV_OK;
}
static int run_unequal(machine *m, const call *c, value *out) {
    bool equal;
    TRY(value_equal(m, c->self, c->at[0], &equal));
    *out = value_bool(!equal);
    return LCKV_OK;
}

static int run_less(machine *m, const call *c, value *out) {
    int order;
    TRY(value_compare(m, c->self, c->at[0], "<", &order));
    *out = value_bool(order < 0);
    return LCKV_OK;
}
static int run_at_most(machine *m, const call *c, value *out) {
    int order;
    TRY(value_compare(m, c->self, c->at[0], "<=", &order));
    *out = value_bool(order <= 0);
    return LCKV_OK;
}
static int run_greater(machine *m, const call *c, value *out) {
    int order;
    TRY(value_compare(m, c->self, c->at[0], ">", &order));
    *out = value_bool(order > 0);
    return LCKV_OK;
}
static int run_at_least(machine *m, const call *c, value *out) {
    int order;
    TRY(value_compare(m, c->self, c->at[0], ">=", &order));
    *out = value_bool(order >= 0);
    return LCKV_OK;
}

static int run_in(machine *m, const call *c, value *out) {
    bool found;
    TRY(value_contains(m, c->at[0], c->self, &found));
    *out = value_bool(found);
    return LCKV_OK;
}

/* Whether both are the same object. Scalars have no identity here; they are compared by type and value. */
static int run_sameas(machine *m, const call *c, value *out) {
    value a = c->self, b = c->at[0];
    bool same = a.kind == b.kind;
    if (same && (has_list(a) || a.kind == VALUE_DICT))
        same = has_list(a) ? a.list == b.list : a.dict == b.dict;
    else if (same)
        TRY(value_equal(m, a, b, &same));
    *out = value_bool(same);
    return LCKV_OK;
}

static const builtin tests[] = {{"defined", "", run_defined},
                                {"undefined", "", run_undefined},
                                {"none", "", run_none},
                                {"boolean", "", run_boolean},
                                {"true", "", run_true},
                                {"false", "", run_false},
                                {"integer", "", run_integer},
                                {"float", "", run_float},
                                {"number", "", run_number},
                                {"string", "", run_string},
                                {"mapping", "", run_mapping},
                                {"sequence", "", run_sequence},
                                {"iterable", "", run_iterable},
                                {"callable", "", run_callable},
                                {"escaped", "", run_escaped},
                                {"filter", "", run_filter},
                                {"test", "", run_test},
                                {"divisibleby", "num", run_divisibleby},
                                {"odd", "", run_odd},
                                {"even", "", run_even},
                                {"lower", "", run_lower},
                                {"upper", "", run_upper},
                                {"eq", "b", run_equal},
                                {"==", "b", run_equal},
                                {"equalto", "b", run_equal},
                                {"ne", "b", run_unequal},
                                {"!=", "b", run_unequal},
                                {"lt", "b", run_less},
                                {"<", "b", run_less},
                                {"lessthan", "b", run_less},
                                {"le", "b", run_at_most},
                                {"<=", "b", run_at_most},
                                {"gt", "b", run_greater},
                                {">", "b", run_greater},
                                {"greaterthan", "b", run_greater},
                                {"ge", "b", run_at_least},
                                {">=", "b", run_at_least},
                                {"in", "seq", run_in},
                                {"sameas", "other", run_sameas},
                                {NULL}};

const builtin *test_find(const char *name, size_t bytes) {
    return builtin_find(tests, name, bytes);
}
