/* Normalizers for single characters, see cleaning.h. The ranges are those of the tokenizers library. */
#include "text/unicode/cleaning.h"

#include "base/text/utf8.h"
#include "base/work.h"
#include "text/unicode/byte_alphabet.h"

#include <string.h>
#include <utf8proc.h>

bool cleaning_named(const char *type, cleaning *out) {
    static const struct {
        const char *type;
        cleaning kind;
    } named[] = {{"StripAccents", CLEAN_MARKS}, {"Nmt", CLEAN_NMT}, {"ByteLevel", CLEAN_BYTES}};
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        if (strcmp(type, named[i].type) != 0) continue;
        *out = named[i].kind;
        return true;
    }
    return false;
}

static bool is_chinese(uint32_t c) {
    static const uint32_t ranges[][2] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                                         {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF},
                                         {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (c >= ranges[i][0] && c <= ranges[i][1]) return true;
    return false;
}

/* The replacement of a character: itself, a space, or nothing (NUL). */
enum { DROPPED = 0 };

static uint32_t clean_controls(uint32_t c) {
    if (c == '\t' || c == '\n' || c == '\r') return ' ';
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CS:
        return DROPPED;
    default:
        break;
    }
    if (c == 0xFFFD) return DROPPED;
    return utf8_is_white_space(c) ? ' ' : c;
}

static uint32_t clean_nmt(uint32_t c) {
    static const uint32_t dropped[][2] = {{0x01, 0x08}, {0x0B, 0x0B}, {0x0E, 0x1F},
                                          {0x7F, 0x7F}, {0x8F, 0x8F}, {0x9F, 0x9F}};
    static const uint32_t spaces[][2] = {{0x09, 0x0A},     {0x0C, 0x0D},     {0x1680, 0x1680}, {0x200B, 0x200F},
                                         {0x2028, 0x2029}, {0x2581, 0x2581}, {0xFEFF, 0xFEFF}, {0xFFFD, 0xFFFD}};
    for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++)
        if (c >= dropped[i][0] && c <= dropped[i][1]) return DROPPED;
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++)
        if (c >= spaces[i][0] && c <= spaces[i][1]) return ' ';
    return c;
}

static bool drops_mark(cleaning kind, uint32_t c) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category == UTF8PROC_CATEGORY_MN ||
           (kind == CLEAN_MARKS && (category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME));
}

static int clean_character(cleaning kind, uint32_t c, const char *character, size_t bytes, text_buffer *out) {
    uint32_t cleaned = c;
    bool dropped = false;
    if (kind == CLEAN_BYTES) return byte_alphabet_write(out, character, bytes);
    if (kind == CLEAN_MARKS || kind == CLEAN_NONSPACING) dropped = drops_mark(kind, c);
    if (kind == CLEAN_CONTROLS) cleaned = clean_controls(c);
    if (kind == CLEAN_NMT) cleaned = clean_nmt(c);
    dropped = dropped || (cleaned == DROPPED && (c != 0 || kind == CLEAN_CONTROLS));
    if (dropped) return LCKV_OK;
    if (cleaned != c) return text_append(out, " ", 1);
    bool spaced = kind == CLEAN_HAN && is_chinese(c);
    if (spaced) TRY(text_append(out, " ", 1));
    TRY(text_append(out, character, bytes));
    return spaced ? text_append(out, " ", 1) : LCKV_OK;
}

int clean_text(cleaning kind, const char *text, size_t bytes, text_buffer *out, bool *keeps_start) {
    work_count(bytes);
    for (size_t at = 0, length; at < bytes; at += length) {
        uint32_t code_point;
        size_t before = out->length;
        length = utf8_next(text + at, &code_point);
        TRY(clean_character(kind, code_point, text + at, length, out));
        if (at == 0 && out->length == before) *keeps_start = false;
    }
    return LCKV_OK;
}
