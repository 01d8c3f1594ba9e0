/* Parser for statements, {% %}, and the text between them. See parser.h.
 *
 * Statements that need other templates or extensions (include, import, extends, block, do, trans, autoescape) are not
 * supported; the error names them. */
#include "text/jinja/parse/parser.h"

#include <string.h>

static int parse_body(parser *p, const char *const *ends, node **out);

static int expect_block_end(parser *p) {
    if (p->at->kind != TOKEN_BLOCK_END) return parser_unexpected(p, "the end of the statement, %}");
    p->at++;
    return LCKV_OK;
}

/* End of a statement with a body; a colon is allowed, as in Python. */
static int expect_body(parser *p) {
    skip_operator(p, ':');
    return expect_block_end(p);
}

/* Reads up to and including {% END %}. */
static int parse_body_to(parser *p, const char *end, node **out) {
    const char *const ends[] = {end, NULL};
    TRY(expect_body(p));
    TRY(parse_body(p, ends, out));
    p->at++; /* the name, which parse_body() has checked */
    return expect_block_end(p);
}

static int parse_if(parser *p, node **out) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    TRY(node_new(p, NODE_IF, out));
    node *branch = *out;
    TRY(parse_tuple(p, false, &branch->left));
    while (true) {
        TRY(expect_body(p));
        TRY(parse_body(p, ends, &branch->body));
        if (!skip_name(p, "elif")) break;
        TRY(node_new(p, NODE_IF, &branch->otherwise));
        branch = branch->otherwise;
        TRY(parse_tuple(p, false, &branch->left));
    }
    if (skip_name(p, "else")) return parse_body_to(p, "endif", &branch->otherwise);
    p->at++;
    return expect_block_end(p);
}

static int parse_for(parser *p, node **out) {
    static const char *const ends[] = {"else", "endfor", NULL};
    TRY(node_new(p, NODE_FOR, out));
    TRY(parse_target(p, &(*out)->left));
    if (!skip_name(p, "in")) return parser_unexpected(p, "'in'");
    TRY(parse_tuple(p, false, &(*out)->right));
    if (skip_name(p, "if")) TRY(parse_expression(p, &(*out)->third));
    (*out)->recursive = skip_name(p, "recursive");
    TRY(expect_body(p));
    p->loops++;
    TRY(parse_body(p, ends, &(*out)->body));
    p->loops--;
    if (skip_name(p, "else")) return parse_body_to(p, "endfor", &(*out)->otherwise);
    p->at++;
    return expect_block_end(p);
}

static int parse_set(parser *p, node **out) {
    TRY(node_new(p, NODE_SET, out));
    TRY(parse_target(p, &(*out)->left));
    if (skip_operator(p, '=')) {
        TRY(parse_tuple(p, true, &(*out)->right));
        return expect_block_end(p);
    }
    (*out)->kind = NODE_SET_BLOCK;
    TRY(parse_filters(p, false, &(*out)->right));
    return parse_body_to(p, "endset", &(*out)->body);
}

/* Parameters of a macro or a caller: (a, b=1). */
static int parse_parameters(parser *p, macro_node *m) {
    TRY(expect_operator(p, '('));
    while (!at_operator(p, ')')) {
        keyword k = {0};
        if (m->count) TRY(expect_operator(p, ','));
        TRY(expect_name(p, &k.name, &k.bytes));
        if (skip_operator(p, '='))
            TRY(parse_expression(p, &k.value));
        else if (m->count && m->parameters[m->count - 1].value)
            return PARSER_FAIL(p, LCKV_ERROR_FORMAT, "a parameter without a default follows one with a default");
        if (m->count == m->capacity) {
            size_t capacity = m->capacity ? 2 * m->capacity : 4;
            keyword *parameters;
            TAKE(parameters, p->arena, capacity * sizeof *parameters);
            if (m->count) memcpy(parameters, m->parameters, m->count * sizeof *parameters);
            m->parameters = parameters;
            m->capacity = capacity;
        }
        m->parameters[m->count++] = k;
    }
    p->at++;
    return LCKV_OK;
}

/* The body of a macro or caller: outer loops are not visible in it. */
static int parse_macro_body(parser *p, const char *end, macro_node *m) {
    macro_node *outer = p->macro;
    int loops = p->loops;
    p->macro = m;
    p->loops = 0;
    TRY(parse_body_to(p, end, &m->body));
    p->macro = outer;
    p->loops = loops;
    return LCKV_OK;
}

static int parse_macro(parser *p, node **out) {
    TRY(node_new(p, NODE_MACRO, out));
    TAKE((*out)->macro, p->arena, sizeof *(*out)->macro);
    TRY(expect_name(p, &(*out)->macro->name, &(*out)->macro->bytes));
    TRY(parse_parameters(p, (*out)->macro));
    return parse_macro_body(p, "endmacro", (*out)->macro);
}

static int parse_call_block(parser *p, node **out) {
    TRY(node_new(p, NODE_CALL_BLOCK, out));
    TAKE((*out)->macro, p->arena, sizeof *(*out)->macro);
    (*out)->macro->is_caller = true;
    (*out)->macro->name = "caller";
    (*out)->macro->bytes = strlen("caller");
    if (at_operator(p, '(')) TRY(parse_parameters(p, (*out)->macro));
    TRY(parse_expression(p, &(*out)->left));
    if ((*out)->left->kind != NODE_CALL) return PARSER_FAIL(p, LCKV_ERROR_FORMAT, "expected a call after 'call'");
    return parse_macro_body(p, "endcall", (*out)->macro);
}

static int parse_filter_block(parser *p, node **out) {
    TRY(node_new(p, NODE_FILTER_BLOCK, out));
    TRY(parse_filters(p, true, &(*out)->right));
    return parse_body_to(p, "endfilter", &(*out)->body);
}

static int parse_with(parser *p, node **out) {
    TRY(node_new(p, NODE_WITH, out));
    while (p->at->kind != TOKEN_BLOCK_END) {
        node *target, *item;
        if ((*out)->items.count) TRY(expect_operator(p, ','));
        TRY(parse_target(p, &target));
        TRY(expect_operator(p, '='));
        TRY(parse_expression(p, &item));
        TRY(node_list_add(p, &(*out)->items, target));
        TRY(node_list_add(p, &(*out)->items, item));
    }
    return parse_body_to(p, "endwith", &(*out)->body);
}

static int parse_generation(parser *p, node **out) {
    TRY(node_new(p, NODE_GENERATION, out));
    p->marks_answers = true;
    return parse_body_to(p, "endgeneration", &(*out)->body);
}

static int parse_loop_control(parser *p, node_kind kind, node **out) {
    if (!p->loops) return PARSER_FAIL(p, LCKV_ERROR_FORMAT, "break or continue outside of a loop");
    TRY(node_new(p, kind, out));
    return expect_block_end(p);
}

static int parse_break(parser *p, node **out) {
    return parse_loop_control(p, NODE_BREAK, out);
}

static int parse_continue(parser *p, node **out) {
    return parse_loop_control(p, NODE_CONTINUE, out);
}

static int parse_statement(parser *p, node **out) {
    static const struct {
        const char *name;
        int (*parse)(parser *, node **);
    } statements[] = {{"if", parse_if},           {"for", parse_for},
                      {"set", parse_set},         {"macro", parse_macro},
                      {"call", parse_call_block}, {"filter", parse_filter_block},
                      {"with", parse_with},       {"generation", parse_generation},
                      {"break", parse_break},     {"continue", parse_continue}};
    if (p->at->kind != TOKEN_NAME) return parser_unexpected(p, "the name of a statement");
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (!skip_name(p, statements[i].name)) continue;
        TRY(parser_enter(p));
        TRY(statements[i].parse(p, out));
        p->depth--;
        return LCKV_OK;
    }
    int bytes = p->at->bytes > 40 ? 40 : (int)p->at->bytes;
    bool closes = (bytes > 3 && !memcmp(p->at->text, "end", 3)) || at_name(p, "else") || at_name(p, "elif");
    if (closes) return PARSER_FAIL(p, LCKV_ERROR_FORMAT, "unexpected {%% %.*s %%}", bytes, p->at->text);
    return PARSER_FAIL(p, LCKV_ERROR_UNSUPPORTED, "the statement {%% %.*s %%} is not supported in chat templates",
                       bytes, p->at->text);
}

static int parse_print(parser *p, node **out) {
    TRY(node_new(p, NODE_PRINT, out));
    p->at++;
    TRY(parse_tuple(p, true, &(*out)->left));
    if (p->at->kind != TOKEN_VARIABLE_END) return parser_unexpected(p, "the end of the expression, }}");
    p->at++;
    return LCKV_OK;
}

static int parse_data(parser *p, node **out) {
    TRY(node_new(p, NODE_DATA, out));
    (*out)->text = p->at->text;
    (*out)->bytes = p->at->bytes;
    p->at++;
    return LCKV_OK;
}

/* Whether the current token starts a statement with one of these names; if so, advances to the name. */
static bool at_end(parser *p, const char *const *ends) {
    if (p->at->kind != TOKEN_BLOCK_BEGIN) return false;
    p->at++;
    for (; *ends; ends++)
        if (at_name(p, *ends)) return true;
    return false;
}

/* Nodes up to a statement whose name is one of `ends` (which becomes the current token), or up to the end of the
 * template if `ends` is empty. */
static int parse_body(parser *p, const char *const *ends, node **out) {
    *out = NULL;
    for (node **end = out; p->at->kind != TOKEN_END; end = &(*end)->next) {
        if (p->at->kind == TOKEN_DATA) {
            TRY(parse_data(p, end));
        } else if (p->at->kind == TOKEN_VARIABLE_BEGIN) {
            TRY(parse_print(p, end));
        } else {
            if (at_end(p, ends)) return LCKV_OK;
            TRY(parse_statement(p, end));
        }
    }
    if (!*ends) return LCKV_OK;
    while (ends[1]) ends++;
    return PARSER_FAIL(p, LCKV_ERROR_FORMAT, "unexpected end of template: a {%% %s %%} is missing", *ends);
}

int template_parse(arena *a, const char *source, size_t bytes, const char *name, node **body, bool *marks_answers) {
    static const char *const none[] = {NULL};
    token_list tokens;
    TRY(tokens_read(a, source, bytes, name, &tokens));
    parser p = {.arena = a, .name = name, .at = tokens.items};
    TRY(parse_body(&p, none, body));
    *marks_answers = p.marks_answers;
    return LCKV_OK;
}
