/* Patterns of tokenizer files: a regular expression, or a plain string, found again and again in a text.
 *
 * The files' expressions are written for Oniguruma with Ruby's syntax; they are compiled by PCRE2 after
 * pattern_syntax.c has put what differs into PCRE2's words, or refused it by name. Leaves out: what is done with the
 * matches (normalizer.c, pre_tokenizer.c, detokenizer.c). */
#ifndef TEXT_UNICODE_PATTERN_H
#define TEXT_UNICODE_PATTERN_H

#include "base/text_buffer.h"

#include <jansson.h>

typedef struct pattern pattern;

/* The most bytes that the steps of a tokenizer file may make of a text or of tokens of so many bytes: what real files
 * do stays far below (a normal form makes at most 11 times as many, bytes as characters twice as many), and a chain of
 * steps that multiply ends in an error. */
static inline size_t text_growth_limit(size_t bytes) {
    return ((size_t)1 << 20) + 64 * bytes;
}

/* `expression` ends in NUL. `literal`: the text itself is what is looked for. Errors quote `name` (a file, and what in
 * it has the pattern). */
int pattern_compile(const char *expression, size_t bytes, bool literal, const char *name, pattern **out);

/* Compiles {"String": "..."} or {"Regex": "..."}. */
int pattern_read(const json_t *value, const char *name, pattern **out);

void pattern_free(pattern *p);

/* A new text begins, of which all that is scanned up to the next call may take a limited number of steps together: 2^28
 * and 64 for each byte, counted for attempts to match that look at more than 1 KiB. */
void pattern_begin(pattern *p);

/* A walk over the matches in one text, which must be valid UTF-8. Begin with pattern_scan_start(). */
typedef struct pattern_scan {
    const char *text;
    size_t bytes;
    size_t from, last_end; /* where the search goes on; where the last match ended, SIZE_MAX before the first */
    size_t begin, end;     /* the match found last */
} pattern_scan;

pattern_scan pattern_scan_start(pattern *p, const char *text, size_t bytes);

/* 1: the next match lies in [begin, end); 0: there is none; negative: the expression needed more than the library's
 * limits on time and memory. Matches do not overlap; an empty one right behind a match does not count, nor one in an
 * empty text. */
int pattern_scan_next(pattern *p, pattern_scan *scan);

/* Appends to `out` the text with each match replaced by `content`. `*first_end`, where not NULL, gets the end of a
 * match that begins at 0, else 0. */
int pattern_replace(pattern *p, const char *text, size_t bytes, const char *content, size_t content_bytes,
                    text_buffer *out, size_t *first_end);

/* Appends the PCRE2 form of a Ruby-syntax expression (pattern_syntax.c). */
int pattern_translate(const char *expression, size_t bytes, const char *name, text_buffer *out);

#endif
