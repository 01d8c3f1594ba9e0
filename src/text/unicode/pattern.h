/* Patterns of tokenizer files: a regular expression or a plain string, searched repeatedly in a text.
 *
 * The expressions in tokenizer files use Oniguruma with Ruby's syntax. pattern_syntax.c translates them to PCRE2's
 * syntax, or rejects what cannot be translated. normalizer.c, pre_tokenizer.c and detokenizer.c use the matches. */
#ifndef TEXT_UNICODE_PATTERN_H
#define TEXT_UNICODE_PATTERN_H

#include "base/text/text_buffer.h"

#include <jansson.h>

typedef struct pattern pattern;

/* Limit on the bytes that the steps of a tokenizer file may make of `bytes` bytes of input. Real files stay far below
 * it: a normal form produces at most 11 times its input, bytes as characters 2 times. A chain of steps that multiplies
 * its input ends in an error. */
static inline size_t text_growth_limit(size_t bytes) {
    return ((size_t)1 << 20) + 64 * bytes;
}

/* `expression` is NUL-terminated. `literal`: search for the text itself. Errors quote `name` (the file, and which part
 * of it has the pattern). */
int pattern_compile(const char *expression, size_t bytes, bool literal, const char *name, pattern **out);

/* Compiles {"String": "..."} or {"Regex": "..."}. */
int pattern_read(const json_t *value, const char *name, pattern **out);

void pattern_free(pattern *p);

/* Starts a new text. All scans until the next call share an allowance of steps: 2^28 plus 64 per byte, counted for
 * attempts to match that look at more than 1 KiB. */
void pattern_begin(pattern *p);

/* A scan for the matches in one text, which must be valid UTF-8. Start it with pattern_scan_start(). */
typedef struct pattern_scan {
    const char *text;
    size_t bytes;
    size_t from, last_end; /* where the search continues; end of the last match, SIZE_MAX before the first */
    size_t begin, end;     /* the latest match */
} pattern_scan;

pattern_scan pattern_scan_start(pattern *p, const char *text, size_t bytes);

/* 1: the next match is [begin, end); 0: no more matches; negative: the expression exceeded the limits on time and
 * memory. Matches do not overlap. An empty match directly after a match does not count, nor does one in an empty text.
 */
int pattern_scan_next(pattern *p, pattern_scan *scan);

/* Appends the text to `out` with each match replaced by `content`. *first_end (may be NULL) receives the end of a match
 * that starts at 0, otherwise 0. */
int pattern_replace(pattern *p, const char *text, size_t bytes, const char *content, size_t content_bytes,
                    text_buffer *out, size_t *first_end);

/* Appends the PCRE2 form of an expression in Ruby syntax (pattern_syntax.c). */
int pattern_translate(const char *expression, size_t bytes, const char *name, text_buffer *out);

#endif
