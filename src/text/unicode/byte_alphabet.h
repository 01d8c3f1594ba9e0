/* Alphabet of byte-level BPE: each byte is written as one printable character (Radford et al., "Language Models are
 * Unsupervised Multitask Learners", 2019, section 2.2), so that a model over characters is a model over bytes.
 *
 * Bytes that are printable in Latin-1 represent themselves. The other 68 are U+0100 to U+0143 in order. */
#ifndef TEXT_UNICODE_BYTE_ALPHABET_H
#define TEXT_UNICODE_BYTE_ALPHABET_H

#include "base/text/text_buffer.h"

/* Appends the characters of `bytes`. */
int byte_alphabet_write(text_buffer *out, const char *bytes, size_t count);

/* Appends the bytes that the characters of a text represent. A text with a character outside of the alphabet is
 * appended unchanged. */
int byte_alphabet_read(text_buffer *out, const char *text, size_t bytes);

#endif
