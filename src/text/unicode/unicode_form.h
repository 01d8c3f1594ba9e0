/* Unicode normal forms (UAX #15) in linear time: utf8proc decomposes and composes; runs of marks, which utf8proc sorts
 * in quadratic time, are sorted here. */
#ifndef TEXT_UNICODE_UNICODE_FORM_H
#define TEXT_UNICODE_UNICODE_FORM_H

#include "base/text/text_buffer.h"

typedef enum unicode_form { FORM_NFC, FORM_NFD, FORM_NFKC, FORM_NFKD } unicode_form;

/* The form with this name ("NFC"); false if there is none. */
bool unicode_form_named(const char *name, unicode_form *out);

/* Appends the normal form of `text`, which must be valid UTF-8. */
int unicode_form_append(unicode_form form, const char *text, size_t bytes, text_buffer *out);

#endif
