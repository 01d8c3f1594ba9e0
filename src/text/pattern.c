/* Compiling and matching through PCRE2: see pattern.h. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pattern.h"

#include "text/utf8.h"

#include <pcre2.h>
#include <stdlib.h>

/* Backtracking state of the compiled code grows with the text for some expressions; this much of a stack may be used
 * before a match is given up. It is reserved, not touched, until needed. */
enum { STACK_START_BYTES = 32 << 10, STACK_LIMIT_BYTES = 64 << 20 };

/* Steps that a match may take: some for each byte of the text (a run of white space is walked to its end and back), and
 * no more, so that an expression whose time explodes ends in an error. */
static uint32_t step_limit(size_t bytes) {
    const uint32_t least = 10000000, per_byte = 8;
    return bytes < (UINT32_MAX - least) / per_byte ? least + per_byte * (uint32_t)bytes : UINT32_MAX;
}

struct pattern {
    pcre2_code *code;
    pcre2_match_data *found;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static int library_fail(int code, const char *name, const char *what) {
    char message[160];
    pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
    return fail(LCKV_ERROR_UNSUPPORTED, "%s: %s: %s", name, what, message);
}

/* Ruby's anchors match at every line, whose end is \n alone; \R is any line break of Unicode. NULL with PCRE2's code on
 * failure. */
static pcre2_code *compile_code(const text_buffer *expression, bool literal, int *code) {
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) {
        *code = PCRE2_ERROR_NOMEMORY;
        return NULL;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_bsr(context, PCRE2_BSR_UNICODE);
    uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
    PCRE2_SIZE offset;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)(expression->data ? expression->data : ""), expression->length,
                                         options, code, &offset, context);
    pcre2_compile_context_free(context);
    return compiled;
}

static int prepare_match(pattern *p, const char *name) {
    p->found = pcre2_match_data_create(1, NULL); /* the whole match alone: groups are not asked for */
    p->context = pcre2_match_context_create(NULL);
    REQUIRE(p->found && p->context, LCKV_ERROR_MEMORY, "%s: no memory for a regular expression", name);
    if (pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) != 0) return LCKV_OK; /* then the interpreter runs it */
    p->stack = pcre2_jit_stack_create(STACK_START_BYTES, STACK_LIMIT_BYTES, NULL);
    REQUIRE(p->stack, LCKV_ERROR_MEMORY, "%s: no memory for a regular expression", name);
    pcre2_jit_stack_assign(p->context, NULL, p->stack);
    return LCKV_OK;
}

static int compile_into(pattern *p, const char *expression, size_t bytes, bool literal, const char *name) {
    text_buffer translated = {0};
    int code, status = literal ? text_append(&translated, expression, bytes)
                               : pattern_translate(expression, bytes, name, &translated);
    if (status >= 0) p->code = compile_code(&translated, literal, &code);
    text_free(&translated);
    if (status >= 0 && !p->code) {
        char what[240];
        snprintf(what, sizeof what, "the regular expression '%.160s' does not compile", expression);
        status = library_fail(code, name, what);
    }
    return status < 0 ? status : prepare_match(p, name);
}

int pattern_compile(const char *expression, size_t bytes, bool literal, const char *name, pattern **out) {
    *out = NULL;
    pattern *p = calloc(1, sizeof *p);
    REQUIRE(p, LCKV_ERROR_MEMORY, "%s: no memory for a regular expression", name);
    int status = compile_into(p, expression, bytes, literal, name);
    if (status < 0)
        pattern_free(p);
    else
        *out = p;
    return status;
}

int pattern_read(const json_t *value, const char *name, pattern **out) {
    *out = NULL;
    const json_t *literal = json_object_get(value, "String"), *regex = json_object_get(value, "Regex");
    const json_t *chosen = literal ? literal : regex;
    REQUIRE(json_object_size(value) == 1 && json_is_string(chosen), LCKV_ERROR_FORMAT,
            "%s: 'pattern' should be {\"String\": ...} or {\"Regex\": ...}", name);
    return pattern_compile(json_string_value(chosen), json_string_length(chosen), chosen == literal, name, out);
}

void pattern_free(pattern *p) {
    if (!p) return;
    pcre2_code_free(p->code);
    pcre2_match_data_free(p->found);
    pcre2_match_context_free(p->context);
    pcre2_jit_stack_free(p->stack);
    free(p);
}

pattern_scan pattern_scan_start(const char *text, size_t bytes) {
    return (pattern_scan){.text = text ? text : "", .bytes = bytes, .from = bytes ? 0 : 1, .last_end = SIZE_MAX};
}

int pattern_scan_next(pattern *p, pattern_scan *scan) {
    pcre2_set_match_limit(p->context, step_limit(scan->bytes));
    while (scan->from <= scan->bytes) {
        int count = pcre2_match(p->code, (PCRE2_SPTR)scan->text, scan->bytes, scan->from, PCRE2_NO_UTF_CHECK, p->found,
                                p->context);
        if (count == PCRE2_ERROR_NOMATCH) break;
        if (count < 0) return library_fail(count, "tokenizer", "a regular expression gave up on this text");
        const PCRE2_SIZE *where = pcre2_get_ovector_pointer(p->found);
        scan->begin = where[0];
        scan->end = where[1];
        if (scan->begin < scan->end || scan->end != scan->last_end) {
            scan->from = scan->last_end = scan->end;
            return 1;
        }
        uint32_t skipped;
        scan->from += scan->from < scan->bytes ? utf8_next(scan->text + scan->from, &skipped) : 1;
    }
    scan->from = scan->bytes + 1;
    return 0;
}

int pattern_replace(pattern *p, const char *text, size_t bytes, const char *content, size_t content_bytes,
                    text_buffer *out, size_t *first_end) {
    pattern_scan scan = pattern_scan_start(text, bytes);
    size_t copied = 0;
    int more;
    if (first_end) *first_end = 0;
    while ((more = pattern_scan_next(p, &scan)) > 0) {
        TRY(text_append(out, scan.text + copied, scan.begin - copied));
        TRY(text_append(out, content, content_bytes));
        if (first_end && scan.begin == 0) *first_end = scan.end;
        copied = scan.end;
    }
    TRY(more);
    return text_append(out, scan.text + copied, bytes - copied);
}
