/* UTF-8; see utf8.h. */
#include "base/text/utf8.h"

#include "base/status.h"
#include "lckv.h"

#include <string.h>
#include <utf8proc.h>

size_t utf8_next(const char *text, uint32_t *code_point) {
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) {
        *code_point = s[0];
        return 1;
    }
    if (s[0] < 0xE0) {
        *code_point = (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu);
        return 2;
    }
    if (s[0] < 0xF0) {
        *code_point = (s[0] & 0x0Fu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
        return 3;
    }
    *code_point = (s[0] & 0x07u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu);
    return 4;
}

size_t utf8_last(const char *text, size_t bytes) {
    size_t at = bytes - 1;
    while (at > 0 && ((unsigned char)text[at] & 0xC0) == 0x80) at--;
    return at;
}

size_t utf8_write(uint32_t code_point, char out[4]) {
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)code_point, (utf8proc_uint8_t *)out);
}

/* The sequence at the start of some bytes. */
typedef struct sequence {
    size_t bytes;     /* of the character, or of the maximal ill-formed part */
    bool well_formed; /* a complete character */
    bool cut_short;   /* the bytes end inside a possible character */
} sequence;

/* The table of well-formed byte sequences (Unicode 3.9, table 3-7): only the second byte has narrower ranges. */
static sequence sequence_at(const unsigned char *s, size_t bytes) {
    unsigned char lead = s[0], low = 0x80, high = 0xBF;
    if (lead < 0x80) return (sequence){1, true, false};
    if (lead < 0xC2 || lead > 0xF4) return (sequence){1, false, false};
    size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (lead == 0xE0) low = 0xA0;  /* not overlong */
    if (lead == 0xED) high = 0x9F; /* not a surrogate */
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F; /* not above U+10FFFF */
    for (size_t i = 1; i < length; i++) {
        if (i == bytes) return (sequence){i, false, true};
        if (s[i] < low || s[i] > high) return (sequence){i, false, false};
        low = 0x80;
        high = 0xBF;
    }
    return (sequence){length, true, false};
}

/* Number of well-formed bytes at the start; `*stop` is the sequence after them, if any. */
static size_t well_formed_prefix(const char *text, size_t bytes, sequence *stop) {
    size_t at = 0;
    while (at < bytes) {
        *stop = sequence_at((const unsigned char *)text + at, bytes - at);
        if (!stop->well_formed) return at;
        at += stop->bytes;
    }
    return at;
}

size_t utf8_mark_bytes(const char *text, size_t bytes) {
    static const char MARK[] = "\xef\xbb\xbf";
    const size_t length = sizeof MARK - 1;
    return bytes >= length && !memcmp(text, MARK, length) ? length : 0;
}

bool utf8_valid(const char *text, size_t bytes) {
    sequence stop;
    return well_formed_prefix(text, bytes, &stop) == bytes;
}

int lckv_check_utf8(const char *text, size_t bytes) {
    sequence stop;
    size_t at = well_formed_prefix(text, bytes, &stop), line = 1, begin = 0;
    if (at == bytes) return LCKV_OK;
    for (size_t i = 0; i < at; i++)
        if (text[i] == '\n') line++, begin = i + 1;
    return fail(LCKV_ERROR_FORMAT, "line %zu, byte %zu is not valid UTF-8", line, at - begin + 1);
}

int utf8_append_replacing(text_buffer *out, const char *text, size_t bytes, bool more, size_t *used) {
    size_t at = 0;
    while (at < bytes) {
        sequence stop;
        size_t good = well_formed_prefix(text + at, bytes - at, &stop);
        TRY(text_append(out, text + at, good));
        at += good;
        if (at == bytes || (more && stop.cut_short)) break;
        TRY(text_append(out, UTF8_REPLACEMENT, strlen(UTF8_REPLACEMENT)));
        at += stop.bytes;
    }
    *used = at;
    return LCKV_OK;
}

bool utf8_is_white_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* Symbols that have the property Alphabetic though their category is no letter: circled and squared Latin letters. */
static bool is_alphabetic_symbol(uint32_t c) {
    return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
           (c >= 0x1F170 && c <= 0x1F189);
}

bool utf8_is_word(uint32_t c) {
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return c == 0x200C || c == 0x200D || is_alphabetic_symbol(c);
    }
}

uint32_t utf8_to_lower(uint32_t code_point) {
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)code_point);
}

uint32_t utf8_to_title(uint32_t code_point) {
    return (uint32_t)utf8proc_totitle((utf8proc_int32_t)code_point);
}
