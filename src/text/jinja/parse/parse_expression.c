/* Parser for expressions, with Jinja's precedence: if, or, and, not, comparisons, + -, ~, * / // %, **, signs, then
 * calls, attributes, filters and tests. See parser.h. */
#include "text/jinja/parse/parser.h"

#include <string.h>

enum { MAX_NESTING = 100 }; /* nested parentheses, nested blocks */

int parser_fail(const parser *p, int code) {
    return fail_within(code, "%s: line %d", p->name, p->at->line);
}

int parser_unexpected(const parser *p, const char *expected) {
    int bytes = p->at->bytes > 40 ? 40 : (int)p->at->bytes;
    return PARSER_FAIL(p, LCKV_ERROR_FORMAT, "expected %s, found '%.*s'", expected, bytes, p->at->text);
}

int node_new(parser *p, node_kind kind, node **out) {
    TAKE(*out, p->arena, sizeof **out);
    (*out)->kind = kind;
    (*out)->line = p->at->line;
    return LCKV_OK;
}

/* Like node_new(), with the line of the left operand. */
static int node_around(parser *p, node_kind kind, node *left, node **out) {
    TRY(node_new(p, kind, out));
    (*out)->line = left->line;
    (*out)->left = left;
    return LCKV_OK;
}

int node_list_add(parser *p, node_list *list, node *item) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 4;
        node **items;
        TAKE(items, p->arena, capacity * sizeof *items);
        if (list->count) memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
    return LCKV_OK;
}

bool at_operator(const parser *p, int operator) {
    return p->at->kind == TOKEN_OPERATOR && p->at->operator== operator;
}

bool at_name(const parser *p, const char *name) {
    return p->at->kind == TOKEN_NAME && text_is(p->at->text, p->at->bytes, name);
}

bool skip_operator(parser *p, int operator) {
    bool there = at_operator(p, operator);
    p->at += there;
    return there;
}

bool skip_name(parser *p, const char *name) {
    bool there = at_name(p, name);
    p->at += there;
    return there;
}

int expect_operator(parser *p, int operator) {
    char expected[] = {'\'', (char)operator, '\'', 0};
    return skip_operator(p, operator) ? LCKV_OK : parser_unexpected(p, expected);
}

int expect_name(parser *p, const char **text, size_t *bytes) {
    if (p->at->kind != TOKEN_NAME) return parser_unexpected(p, "a name");
    *text = p->at->text;
    *bytes = p->at->bytes;
    p->at++;
    return LCKV_OK;
}

int parser_enter(parser *p) {
    if (++p->depth <= MAX_NESTING) return LCKV_OK;
    return PARSER_FAIL(p, LCKV_ERROR_UNSUPPORTED, "nested more than %d levels deep", MAX_NESTING);
}

/* ---- primary expressions */

static int parse_list(parser *p, node **out) {
    TRY(node_new(p, NODE_LIST, out));
    p->at++;
    while (!at_operator(p, ']')) {
        node *item;
        if ((*out)->items.count) TRY(expect_operator(p, ','));
        if (at_operator(p, ']')) break;
        TRY(parse_expression(p, &item));
        TRY(node_list_add(p, &(*out)->items, item));
    }
    p->at++;
    return LCKV_OK;
}

static int parse_dict(parser *p, node **out) {
    TRY(node_new(p, NODE_DICT, out));
    p->at++;
    while (!at_operator(p, '}')) {
        node *key, *item;
        if ((*out)->items.count) TRY(expect_operator(p, ','));
        if (at_operator(p, '}')) break;
        TRY(parse_expression(p, &key));
        TRY(expect_operator(p, ':'));
        TRY(parse_expression(p, &item));
        TRY(node_list_add(p, &(*out)->items, key));
        TRY(node_list_add(p, &(*out)->items, item));
    }
    p->at++;
    return LCKV_OK;
}

/* Adjacent string literals are concatenated. */
static int parse_constant(parser *p, node **out) {
    TRY(node_new(p, NODE_CONSTANT, out));
    value whole_text = (p->at++)->constant;
    while (is_string(whole_text) && p->at->kind == TOKEN_CONSTANT && is_string(p->at->constant)) {
        value more = (p->at++)->constant;
        char *text = arena_extend(p->arena, whole_text.text, whole_text.bytes, more.bytes);
        if (!text) return status_of_failure(LCKV_ERROR_MEMORY);
        memcpy(text + whole_text.bytes, more.text, more.bytes);
        whole_text = value_text(text, whole_text.bytes + more.bytes);
    }
    (*out)->constant = whole_text;
    return LCKV_OK;
}

static void note_special_name(parser *p, const node *name) {
    if (!p->macro) return;
    if (text_is(name->text, name->bytes, "caller")) p->macro->uses_caller = true;
    if (text_is(name->text, name->bytes, "varargs")) p->macro->uses_varargs = true;
    if (text_is(name->text, name->bytes, "kwargs")) p->macro->uses_kwargs = true;
}

static int parse_name(parser *p, node **out) {
    static const struct {
        const char *name;
        value_kind kind;
        bool truth;
    } words[] = {{"true", VALUE_BOOL, true},   {"True", VALUE_BOOL, true},  {"false", VALUE_BOOL, false},
                 {"False", VALUE_BOOL, false}, {"none", VALUE_NONE, false}, {"None", VALUE_NONE, false}};
    TRY(node_new(p, NODE_NAME, out));
    TRY(expect_name(p, &(*out)->text, &(*out)->bytes));
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!text_is((*out)->text, (*out)->bytes, words[i].name)) continue;
        (*out)->kind = NODE_CONSTANT;
        (*out)->constant = (value){.kind = words[i].kind, .boolean = words[i].truth};
        return LCKV_OK;
    }
    note_special_name(p, *out);
    return LCKV_OK;
}

static int parse_parentheses(parser *p, node **out) {
    p->at++;
    if (at_operator(p, ')'))
        TRY(node_new(p, NODE_TUPLE, out));
    else
        TRY(parse_tuple(p, true, out));
    return expect_operator(p, ')');
}

int parse_primary(parser *p, node **out) {
    if (p->at->kind == TOKEN_NAME) return parse_name(p, out);
    if (p->at->kind == TOKEN_CONSTANT) return parse_constant(p, out);
    if (at_operator(p, '(')) return parse_parentheses(p, out);
    if (at_operator(p, '[')) return parse_list(p, out);
    if (at_operator(p, '{')) return parse_dict(p, out);
    return parser_unexpected(p, "an expression");
}

/* ---- postfix operators */

static int add_keyword(parser *p, call_node *call) {
    keyword k = {.name = p->at->text, .bytes = p->at->bytes};
    p->at += 2;
    TRY(parse_expression(p, &k.value));
    if (call->named_count == call->named_capacity) {
        size_t capacity = call->named_capacity ? 2 * call->named_capacity : 4;
        keyword *named;
        TAKE(named, p->arena, capacity * sizeof *named);
        if (call->named_count) memcpy(named, call->named, call->named_count * sizeof *named);
        call->named = named;
        call->named_capacity = capacity;
    }
    call->named[call->named_count++] = k;
    return LCKV_OK;
}

static int parse_argument(parser *p, call_node *call) {
    node *item;
    if (skip_operator(p, OPERATOR2('*', '*'))) return parse_expression(p, &call->more_named);
    if (skip_operator(p, '*')) return parse_expression(p, &call->more);
    if (p->at->kind == TOKEN_NAME && p->at[1].kind == TOKEN_OPERATOR && p->at[1].operator== '=')
        return add_keyword(p, call);
    if (call->more || call->more_named || call->named_count)
        return PARSER_FAIL(p, LCKV_ERROR_FORMAT, "invalid syntax for function call expression");
    TRY(parse_expression(p, &item));
    return node_list_add(p, &call->items, item);
}

int parse_call(parser *p, call_node **out) {
    TAKE(*out, p->arena, sizeof **out);
    TRY(expect_operator(p, '('));
    for (bool first = true; !at_operator(p, ')'); first = false) {
        if (!first) TRY(expect_operator(p, ','));
        if (at_operator(p, ')')) break;
        TRY(parse_argument(p, *out));
    }
    p->at++;
    return LCKV_OK;
}

static int parse_attribute(parser *p, node **out) {
    node *left = *out;
    p->at++;
    if (p->at->kind == TOKEN_CONSTANT && p->at->constant.kind == VALUE_INT) {
        TRY(node_around(p, NODE_ELEMENT, left, out));
        return parse_constant(p, &(*out)->right);
    }
    TRY(node_around(p, NODE_ATTRIBUTE, left, out));
    return expect_name(p, &(*out)->text, &(*out)->bytes);
}

/* One part of start:stop:step; may be absent. */
static int parse_slice_part(parser *p, node *slice) {
    node *part = NULL;
    if (!at_operator(p, ':') && !at_operator(p, ']')) TRY(parse_expression(p, &part));
    return node_list_add(p, &slice->items, part);
}

static int parse_subscript(parser *p, node **out) {
    node *left = *out, *key = NULL;
    p->at++;
    if (!at_operator(p, ':')) TRY(parse_tuple(p, true, &key));
    if (!at_operator(p, ':')) {
        TRY(node_around(p, NODE_ELEMENT, left, out));
        (*out)->right = key;
        return expect_operator(p, ']');
    }
    TRY(node_around(p, NODE_SLICE, left, out));
    TRY(node_list_add(p, &(*out)->items, key));
    p->at++;
    TRY(parse_slice_part(p, *out));
    if (skip_operator(p, ':'))
        TRY(parse_slice_part(p, *out));
    else
        TRY(node_list_add(p, &(*out)->items, NULL));
    return expect_operator(p, ']');
}

static int parse_call_of(parser *p, node **out) {
    node *left = *out;
    TRY(node_around(p, NODE_CALL, left, out));
    (*out)->line = p->at->line;
    return parse_call(p, &(*out)->call);
}

int parse_postfix(parser *p, node **out) {
    while (true) {
        if (at_operator(p, '.'))
            TRY(parse_attribute(p, out));
        else if (at_operator(p, '['))
            TRY(parse_subscript(p, out));
        else if (at_operator(p, '('))
            TRY(parse_call_of(p, out));
        else
            return LCKV_OK;
    }
}

static int parse_filter(parser *p, node **out) {
    node *left = *out;
    TRY(node_new(p, NODE_FILTER, out));
    (*out)->left = left;
    TRY(expect_name(p, &(*out)->text, &(*out)->bytes));
    return at_operator(p, '(') ? parse_call(p, &(*out)->call) : LCKV_OK;
}

/* Argument of a test without parentheses: `is divisibleby 3`. */
static int parse_bare_argument(parser *p, node *test) {
    bool begins = p->at->kind == TOKEN_CONSTANT || at_operator(p, '[') || at_operator(p, '{') ||
                  (p->at->kind == TOKEN_NAME && !at_name(p, "else") && !at_name(p, "or") && !at_name(p, "and"));
    node *item;
    if (!begins) return LCKV_OK;
    if (at_name(p, "is")) return PARSER_FAIL(p, LCKV_ERROR_FORMAT, "tests cannot be chained with 'is'");
    TAKE(test->call, p->arena, sizeof *test->call);
    TRY(parse_primary(p, &item));
    TRY(parse_postfix(p, &item));
    return node_list_add(p, &test->call->items, item);
}

static int parse_test(parser *p, node **out) {
    node *test;
    p->at++;
    bool negated = skip_name(p, "not");
    TRY(node_around(p, NODE_TEST, *out, &test));
    test->line = p->at->line;
    TRY(expect_name(p, &test->text, &test->bytes));
    if (at_operator(p, '('))
        TRY(parse_call(p, &test->call));
    else
        TRY(parse_bare_argument(p, test));
    *out = test;
    return negated ? node_around(p, NODE_NOT, test, out) : LCKV_OK;
}

int parse_filters(parser *p, bool first_without_bar, node **out) {
    if (first_without_bar) TRY(parse_filter(p, out));
    while (skip_operator(p, '|')) TRY(parse_filter(p, out));
    return LCKV_OK;
}

static int parse_filters_and_tests(parser *p, node **out) {
    while (true) {
        if (at_operator(p, '|'))
            TRY(parse_filters(p, false, out));
        else if (at_name(p, "is"))
            TRY(parse_test(p, out));
        else if (at_operator(p, '('))
            TRY(parse_call_of(p, out));
        else
            return LCKV_OK;
    }
}

/* ---- operators, in order of decreasing precedence */

static int parse_unary(parser *p, bool filters, node **out) {
    if (at_operator(p, '-') || at_operator(p, '+')) {
        TRY(node_new(p, at_operator(p, '-') ? NODE_NEGATE : NODE_PLUS, out));
        p->at++;
        TRY(parser_enter(p));
        TRY(parse_unary(p, false, &(*out)->left));
        p->depth--;
    } else {
        TRY(parse_primary(p, out));
    }
    TRY(parse_postfix(p, out));
    return filters ? parse_filters_and_tests(p, out) : LCKV_OK;
}

/* Combines *out with the operand after the current operator. */
static int parse_operand(parser *p, node_kind kind, int (*operand)(parser *, node **), node **out) {
    node *around;
    TRY(node_around(p, kind, *out, &around));
    around->operator= p->at->operator;
    p->at++;
    TRY(operand(p, &around->right));
    *out = around;
    return LCKV_OK;
}

static int parse_signed(parser *p, node **out) {
    return parse_unary(p, true, out);
}

static int parse_power(parser *p, node **out) {
    TRY(parse_signed(p, out));
    while (at_operator(p, OPERATOR2('*', '*'))) TRY(parse_operand(p, NODE_ARITHMETIC, parse_signed, out));
    return LCKV_OK;
}

static int parse_product(parser *p, node **out) {
    TRY(parse_power(p, out));
    while (at_operator(p, '*') || at_operator(p, '/') || at_operator(p, '%') || at_operator(p, OPERATOR2('/', '/')))
        TRY(parse_operand(p, NODE_ARITHMETIC, parse_power, out));
    return LCKV_OK;
}

static int parse_concatenation(parser *p, node **out) {
    node *item, *around;
    TRY(parse_product(p, out));
    if (!at_operator(p, '~')) return LCKV_OK;
    TRY(node_around(p, NODE_CONCATENATE, *out, &around));
    TRY(node_list_add(p, &around->items, *out));
    while (skip_operator(p, '~')) {
        TRY(parse_product(p, &item));
        TRY(node_list_add(p, &around->items, item));
    }
    *out = around;
    return LCKV_OK;
}

static int parse_sum(parser *p, node **out) {
    TRY(parse_concatenation(p, out));
    while (at_operator(p, '+') || at_operator(p, '-')) TRY(parse_operand(p, NODE_ARITHMETIC, parse_concatenation, out));
    return LCKV_OK;
}

/* Reads a comparison operator; 0 if there is none. */
static int skip_comparison(parser *p) {
    static const int operators[] = {
        OPERATOR2('=', '='), OPERATOR2('!', '='), OPERATOR2('<', '='), OPERATOR2('>', '='), '<', '>'};
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (skip_operator(p, operators[i])) return operators[i];
    if (skip_name(p, "in")) return OPERATOR_IN;
    if (at_name(p, "not") && p->at[1].kind == TOKEN_NAME && text_is(p->at[1].text, p->at[1].bytes, "in")) {
        p->at += 2;
        return OPERATOR_NOT_IN;
    }
    return 0;
}

static int parse_comparison(parser *p, node **out) {
    TRY(parse_sum(p, out));
    node **end = NULL, *left = *out;
    for (int operator; (operator= skip_comparison(p)) != 0;) {
        node *link;
        TRY(node_around(p, NODE_COMPARE, left, &link));
        link->operator= operator;
        TRY(parse_sum(p, &link->right));
        *(end ? end : out) = link;
        end = &link->third;
        left = link->right;
    }
    return LCKV_OK;
}

static int parse_not(parser *p, node **out) {
    if (!at_name(p, "not")) return parse_comparison(p, out);
    TRY(node_new(p, NODE_NOT, out));
    p->at++;
    TRY(parser_enter(p));
    TRY(parse_not(p, &(*out)->left));
    p->depth--;
    return LCKV_OK;
}

static int parse_and(parser *p, node **out) {
    TRY(parse_not(p, out));
    while (at_name(p, "and")) TRY(parse_operand(p, NODE_AND, parse_not, out));
    return LCKV_OK;
}

static int parse_or(parser *p, node **out) {
    TRY(parse_and(p, out));
    while (at_name(p, "or")) TRY(parse_operand(p, NODE_OR, parse_and, out));
    return LCKV_OK;
}

static int parse_condition(parser *p, node **out) {
    TRY(parse_or(p, out));
    while (skip_name(p, "if")) {
        node *around;
        TRY(node_around(p, NODE_CONDITION, *out, &around));
        TRY(parse_or(p, &around->right));
        if (skip_name(p, "else")) TRY(parse_expression(p, &around->third));
        *out = around;
    }
    return LCKV_OK;
}

int parse_expression(parser *p, node **out) {
    TRY(parser_enter(p));
    TRY(parse_condition(p, out));
    p->depth--;
    return LCKV_OK;
}

/* Tokens that end a tuple without parentheses. */
static bool tuple_ends(const parser *p) {
    return p->at->kind == TOKEN_VARIABLE_END || p->at->kind == TOKEN_BLOCK_END || at_operator(p, ')') ||
           at_operator(p, ']') || at_operator(p, ':') || at_name(p, "in") || at_name(p, "recursive");
}

int parse_tuple(parser *p, bool conditions, node **out) {
    int (*element)(parser *, node **) = conditions ? parse_expression : parse_or;
    node *item, *tuple;
    TRY(element(p, out));
    if (!at_operator(p, ',')) return LCKV_OK;
    TRY(node_around(p, NODE_TUPLE, *out, &tuple));
    TRY(node_list_add(p, &tuple->items, *out));
    while (skip_operator(p, ',')) {
        if (tuple_ends(p)) break;
        TRY(element(p, &item));
        TRY(node_list_add(p, &tuple->items, item));
    }
    *out = tuple;
    return LCKV_OK;
}

/* ---- assignment targets */

static int parse_single_target(parser *p, node **out) {
    if (skip_operator(p, '(')) {
        TRY(parser_enter(p));
        TRY(parse_target(p, out));
        p->depth--;
        return expect_operator(p, ')');
    }
    if (p->at->kind != TOKEN_NAME) return parser_unexpected(p, "a name to assign to");
    TRY(parse_name(p, out));
    if ((*out)->kind == NODE_CONSTANT)
        return PARSER_FAIL(p, LCKV_ERROR_FORMAT, "can't assign to '%.*s'", (int)(*out)->bytes, (*out)->text);
    if (!skip_operator(p, '.')) return LCKV_OK;
    node *member;
    TRY(node_new(p, NODE_MEMBER, &member));
    member->right = *out;
    *out = member;
    return expect_name(p, &member->text, &member->bytes);
}

int parse_target(parser *p, node **out) {
    node *item, *tuple;
    TRY(parse_single_target(p, out));
    if (!at_operator(p, ',')) return LCKV_OK;
    TRY(node_around(p, NODE_TUPLE, *out, &tuple));
    TRY(node_list_add(p, &tuple->items, *out));
    while (skip_operator(p, ',')) {
        if (tuple_ends(p) || at_operator(p, '=')) break;
        TRY(parse_single_target(p, &item));
        TRY(node_list_add(p, &tuple->items, item));
    }
    *out = tuple;
    return LCKV_OK;
}
