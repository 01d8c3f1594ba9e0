/* UTF-8: decoding and encoding of code points, replacement of ill-formed bytes, character classes and case.
 *
 * Normal forms are in normalizer.c, regular expressions in pattern.h. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/text/text_buffer.h"

#include <stdint.h>

#define UTF8_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

/* Decodes the code point at `text`, which must be well formed. Returns its length in bytes, 1 to 4. */
size_t utf8_next(const char *text, uint32_t *code_point);

/* Start of the last code point of `text`, which must be well formed and not empty. */
size_t utf8_last(const char *text, size_t bytes);

/* Encodes a code point; returns its length in bytes. */
size_t utf8_write(uint32_t code_point, char out[4]);

bool utf8_valid(const char *text, size_t bytes);

/* Bytes of the byte order mark that `text` begins with, which editors and spreadsheets write; 0: none. */
size_t utf8_mark_bytes(const char *text, size_t bytes);

/* Appends `text`, with U+FFFD for each maximal ill-formed part (Unicode 3.9, "U+FFFD Substitution of Maximal Subparts";
 * what Python's errors="replace" gives). With `more`, an incomplete last character is left for the next call; `*used`
 * is the number of bytes consumed. */
int utf8_append_replacing(text_buffer *out, const char *text, size_t bytes, bool more, size_t *used);

/* The Unicode property White_Space. */
bool utf8_is_white_space(uint32_t code_point);

/* Letters, marks, digits, connectors and joiners: what Unicode's regular expressions (UTS #18, annex C) call \w. */
bool utf8_is_word(uint32_t code_point);

/* Unicode's simple case mappings. */
uint32_t utf8_to_lower(uint32_t code_point);
uint32_t utf8_to_title(uint32_t code_point);

#endif
