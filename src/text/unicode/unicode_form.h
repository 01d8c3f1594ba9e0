/* Unicode's normal forms (UAX #15) in linear time: utf8proc decomposes and composes, and the marks between, which
 * utf8proc would sort in quadratic time, are sorted here. */
#ifndef TEXT_UNICODE_UNICODE_FORM_H
#define TEXT_UNICODE_UNICODE_FORM_H

#include "base/text_buffer.h"

typedef enum unicode_form { FORM_NFC, FORM_NFD, FORM_NFKC, FORM_NFKD } unicode_form;

/* The form of that name ("NFC"); false where there is none. */
bool unicode_form_named(const char *name, unicode_form *out);

/* Appends the form of `text`, which must be valid UTF-8. */
int unicode_form_append(unicode_form form, const char *text, size_t bytes, text_buffer *out);

#endif
