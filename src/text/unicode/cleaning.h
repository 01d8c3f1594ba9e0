/* Normalizers for single characters: they drop a character, replace it, or put spaces around it. */
#ifndef TEXT_UNICODE_CLEANING_H
#define TEXT_UNICODE_CLEANING_H

#include "base/text/text_buffer.h"

typedef enum cleaning {
    CLEAN_MARKS,      /* StripAccents: drops all marks */
    CLEAN_NONSPACING, /* BertNormalizer, strip_accents: drops nonspacing marks */
    CLEAN_CONTROLS,   /* BertNormalizer, clean_text: drops controls and replaces white space by a space */
    CLEAN_HAN,        /* BertNormalizer, handle_chinese_chars: puts spaces around Chinese characters */
    CLEAN_NMT,        /* Nmt: drops ASCII controls and replaces some characters by a space */
    CLEAN_BYTES,      /* ByteLevel: writes each byte as a character */
} cleaning;

/* The cleaning of a normalizer type; false if `type` is another one. */
bool cleaning_named(const char *type, cleaning *out);

/* Appends the cleaned text to `out`. *keeps_start becomes false if the first character is dropped. */
int clean_text(cleaning kind, const char *text, size_t bytes, text_buffer *out, bool *keeps_start);

#endif
