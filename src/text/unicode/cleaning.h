/* Normalizers that look at one character at a time: they drop it, replace it or put spaces around it. */
#ifndef TEXT_UNICODE_CLEANING_H
#define TEXT_UNICODE_CLEANING_H

#include "base/text_buffer.h"

typedef enum cleaning {
    CLEAN_MARKS,      /* StripAccents: drops marks of all kinds */
    CLEAN_NONSPACING, /* BertNormalizer, strip_accents: drops nonspacing marks */
    CLEAN_CONTROLS,   /* BertNormalizer, clean_text: drops controls and makes every white space a space */
    CLEAN_HAN,        /* BertNormalizer, handle_chinese_chars: puts spaces around Chinese characters */
    CLEAN_NMT,        /* Nmt: drops ASCII's controls and makes some characters a space */
    CLEAN_BYTES,      /* ByteLevel: writes each byte as a character */
} cleaning;

/* The cleaning that is a normalizer of its own; false where `type` is none. */
bool cleaning_named(const char *type, cleaning *out);

/* Appends the cleaned text to `out`. `*keeps_start` turns false where the first character is dropped. */
int clean_text(cleaning kind, const char *text, size_t bytes, text_buffer *out, bool *keeps_start);

#endif
