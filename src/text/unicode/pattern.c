/* Compiling and matching with PCRE2, see pattern.h.
 *
 * Time. PCRE2 tries each position of the text in turn, and an attempt can look ahead without limit, so that an
 * expression such as \s+$ takes quadratic time in a run of spaces. Therefore a search sees only a window of WINDOW
 * bytes. In the mode PARTIAL_HARD, PCRE2 reports an attempt that reaches the end of the window; all other results do
 * not depend on what follows. An attempt that needs more is repeated alone in a window of twice the size, and so on.
 * Windows larger than WINDOW count as work, and a text whose work exceeds its allowance is an error. */
#define _GNU_SOURCE /* memmem() */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/unicode/pattern.h"

#include "base/text/utf8.h"
#include "base/work.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

/* Maximum stack for the backtracking state of compiled code, which grows with the text for some expressions. The memory
 * is reserved, and touched only when needed. */
enum { STACK_START_BYTES = 32 << 10, STACK_LIMIT_BYTES = 64 << 20 };

enum { WINDOW = 1 << 10, ALLOWANCE = 1 << 28, ALLOWANCE_PER_BYTE = 64 };

/* Maximum number of steps of an attempt: some for each byte of the window (a run of white space is walked to its end
 * and back), so that an expression with exponential time ends in an error. */
static uint32_t step_limit(size_t window) {
    const uint32_t least = 1000000, per_byte = 16;
    return window < (UINT32_MAX - least) / per_byte ? least + per_byte * (uint32_t)window : UINT32_MAX;
}

struct pattern {
    char *literal; /* the literal to search for; NULL: an expression */
    size_t literal_bytes;
    uint64_t spent, allowance; /* work on the current text, see the top of this file */
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

/* Ruby's anchors match at every line, and only \n ends a line. Returns NULL and PCRE2's code on failure. */
static pcre2_code *compile_code(const text_buffer *expression, int *code) {
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) {
        *code = PCRE2_ERROR_NOMEMORY;
        return NULL;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    uint32_t options = PCRE2_USE_OFFSET_LIMIT | PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    PCRE2_SIZE offset;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)(expression->data ? expression->data : ""), expression->length,
                                         options, code, &offset, context);
    pcre2_compile_context_free(context);
    return compiled;
}

static int prepare_match(pattern *p, const char *name) {
    p->found = pcre2_match_data_create(1, NULL); /* only the whole match; groups are not needed */
    p->context = pcre2_match_context_create(NULL);
    REQUIRE(p->found && p->context, LCKV_ERROR_MEMORY, "%s: no memory for a regular expression", name);
    if (pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) != 0)
        return LCKV_OK; /* otherwise the interpreter runs it */
    p->stack = pcre2_jit_stack_create(STACK_START_BYTES, STACK_LIMIT_BYTES, NULL);
    REQUIRE(p->stack, LCKV_ERROR_MEMORY, "%s: no memory for a regular expression", name);
    pcre2_jit_stack_assign(p->context, NULL, p->stack);
    return LCKV_OK;
}

static int copy_literal(pattern *p, const char *text, size_t bytes, const char *name) {
    p->literal = malloc(bytes);
    REQUIRE(p->literal, LCKV_ERROR_MEMORY, "%s: no memory for a pattern", name);
    memcpy(p->literal, text, bytes);
    p->literal_bytes = bytes;
    return LCKV_OK;
}

static int compile_into(pattern *p, const char *expression, size_t bytes, const char *name) {
    text_buffer translated = {0};
    int code, status = pattern_translate(expression, bytes, name, &translated);
    if (status >= 0) p->code = compile_code(&translated, &code);
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
    pattern_begin(p);
    int status = literal && bytes ? copy_literal(p, expression, bytes, name) /* the empty literal matches everywhere */
                                  : compile_into(p, expression, bytes, name);
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
    free(p->literal);
    pcre2_code_free(p->code);
    pcre2_match_data_free(p->found);
    pcre2_match_context_free(p->context);
    pcre2_jit_stack_free(p->stack);
    free(p);
}

/* ---- matching */

void pattern_begin(pattern *p) {
    p->spent = 0;
    p->allowance = ALLOWANCE;
}

pattern_scan pattern_scan_start(pattern *p, const char *text, size_t bytes) {
    p->allowance += (uint64_t)bytes * ALLOWANCE_PER_BYTE;
    return (pattern_scan){.text = text ? text : "", .bytes = bytes, .from = bytes ? 0 : 1, .last_end = SIZE_MAX};
}

/* Two-way search: linear in the text and the literal. */
static int next_literal(const pattern *p, pattern_scan *scan) {
    const char *at = memmem(scan->text + scan->from, scan->bytes - scan->from, p->literal, p->literal_bytes);
    size_t begin = at ? (size_t)(at - scan->text) : scan->bytes;
    work_count(begin - scan->from + 1);
    scan->from = at ? begin + p->literal_bytes : scan->bytes + 1;
    scan->begin = begin;
    scan->end = scan->from;
    return at != NULL;
}

/* The end of a window, on a character boundary. */
static size_t window_end(const pattern_scan *scan, size_t from, size_t window) {
    if (scan->bytes - from <= window) return scan->bytes;
    size_t end = from + window;
    while ((scan->text[end] & 0xC0) == 0x80) end--;
    return end;
}

/* One call of PCRE2 for matches that start in [from, last]. Returns a positive number, PCRE2_ERROR_NOMATCH or
 * PCRE2_ERROR_PARTIAL, with the positions in p->found, or another PCRE2 error. (It uses a limit, because PCRE2_ANCHORED
 * would not use the compiled code.) */
static int match_in_window(pattern *p, const pattern_scan *scan, size_t from, size_t last, size_t end) {
    pcre2_set_match_limit(p->context, step_limit(end - from));
    pcre2_set_offset_limit(p->context, last);
    return pcre2_match(p->code, (PCRE2_SPTR)scan->text, end, from,
                       PCRE2_NO_UTF_CHECK | (end < scan->bytes ? PCRE2_PARTIAL_HARD : 0), p->found, p->context);
}

/* An attempt at one position, in windows that grow until it does not reach their end. PCRE2_ERROR_MATCHLIMIT if the
 * allowance is spent. */
static int match_at(pattern *p, const pattern_scan *scan, size_t from) {
    int result = PCRE2_ERROR_PARTIAL;
    for (size_t window = 2 * WINDOW; result == PCRE2_ERROR_PARTIAL; window *= 2) {
        size_t end = window_end(scan, from, window);
        p->spent += end - from;
        work_count(end - from);
        result = p->spent > p->allowance ? PCRE2_ERROR_MATCHLIMIT : match_in_window(p, scan, from, from, end);
    }
    return result;
}

static size_t behind_character(const pattern_scan *scan, size_t at) {
    uint32_t skipped;
    return at + (at < scan->bytes ? utf8_next(scan->text + at, &skipped) : 1);
}

/* The first match from scan->from on. Advances scan->from to a position before which no match starts. */
static int find_match(pattern *p, pattern_scan *scan) {
    const PCRE2_SIZE *where = pcre2_get_ovector_pointer(p->found);
    while (scan->from <= scan->bytes) {
        size_t end = window_end(scan, scan->from, WINDOW);
        int result = match_in_window(p, scan, scan->from, PCRE2_UNSET, end);
        work_count((result > 0 ? where[1] : end) - scan->from + 1);
        if (result == PCRE2_ERROR_PARTIAL) {
            scan->from = where[0];
            result = match_at(p, scan, scan->from);
            if (result == PCRE2_ERROR_NOMATCH) scan->from = behind_character(scan, scan->from);
        } else if (result == PCRE2_ERROR_NOMATCH) {
            scan->from = end < scan->bytes ? end : scan->bytes + 1;
        }
        if (result != PCRE2_ERROR_NOMATCH) return result;
    }
    return PCRE2_ERROR_NOMATCH;
}

int pattern_scan_next(pattern *p, pattern_scan *scan) {
    const PCRE2_SIZE *where;
    while (scan->from <= scan->bytes) {
        if (p->literal) return next_literal(p, scan);
        int result = find_match(p, scan);
        if (result == PCRE2_ERROR_NOMATCH) break;
        if (result < 0)
            return library_fail(result, "tokenizer",
                                "a regular expression exceeded the limits of time or memory on this text");
        where = pcre2_get_ovector_pointer(p->found);
        scan->begin = where[0];
        scan->end = where[1];
        if (scan->begin < scan->end || scan->end != scan->last_end) {
            scan->from = scan->last_end = scan->end;
            return 1;
        }
        scan->from = behind_character(scan, scan->from);
    }
    scan->from = scan->bytes + 1;
    return 0;
}

int pattern_replace(pattern *p, const char *text, size_t bytes, const char *content, size_t content_bytes,
                    text_buffer *out, size_t *first_end) {
    pattern_scan scan = pattern_scan_start(p, text, bytes);
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
