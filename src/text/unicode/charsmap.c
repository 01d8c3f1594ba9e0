/* Replacement table of SentencePiece, see charsmap.h. */
#include "text/unicode/charsmap.h"

#include "base/text/utf8.h"
#include "base/work.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { GRAPHEME_BYTES = 6 }; /* longer grapheme clusters are looked up character by character */

struct charsmap {
    text_buffer bytes; /* decoded: the length of the trie, the trie, the replacements */
    uint32_t *units;   /* [unit_count] of the trie */
    size_t unit_count;
    const char *texts; /* [text_bytes] in `bytes` */
    size_t text_bytes;
};

/* ---- reading */

static int base64_value(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static int decode_base64(const char *text, size_t bytes, const char *name, text_buffer *out) {
    uint32_t bits = 0;
    int count = 0;
    while (bytes && text[bytes - 1] == '=') bytes--;
    for (size_t i = 0; i < bytes; i++) {
        int value = base64_value(text[i]);
        REQUIRE(value >= 0, LCKV_ERROR_FORMAT, "%s: 'precompiled_charsmap' is not base64", name);
        bits = bits << 6 | (uint32_t)value;
        count += 6;
        if (count < 8) continue;
        count -= 8;
        TRY(text_append(out, &(char){(char)(bits >> count & 0xFF)}, 1));
    }
    return LCKV_OK;
}

static uint32_t little_endian(const char *bytes) {
    const unsigned char *b = (const unsigned char *)bytes;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static int open_table(charsmap *map, const char *name) {
    const text_buffer *b = &map->bytes;
    if (b->length == 0) return LCKV_OK;
    size_t trie_bytes = b->length >= 4 ? little_endian(b->data) : SIZE_MAX;
    REQUIRE(b->length >= 4 && trie_bytes <= b->length - 4 && trie_bytes % 4 == 0 && trie_bytes > 0, LCKV_ERROR_FORMAT,
            "%s: 'precompiled_charsmap' is damaged: the trie exceeds its %zu bytes", name, b->length);
    map->unit_count = trie_bytes / 4;
    map->texts = b->data + 4 + trie_bytes;
    map->text_bytes = b->length - 4 - trie_bytes;
    REQUIRE(utf8_valid(map->texts, map->text_bytes), LCKV_ERROR_FORMAT,
            "%s: 'precompiled_charsmap' is damaged: the replacements are not UTF-8", name);
    map->units = malloc(trie_bytes);
    REQUIRE(map->units, LCKV_ERROR_MEMORY, "%s: no memory for 'precompiled_charsmap'", name);
    for (size_t i = 0; i < map->unit_count; i++) map->units[i] = little_endian(b->data + 4 + 4 * i);
    return LCKV_OK;
}

int charsmap_read(const char *base64, size_t bytes, const char *name, charsmap **out) {
    *out = NULL;
    charsmap *map = calloc(1, sizeof *map);
    REQUIRE(map, LCKV_ERROR_MEMORY, "%s: no memory for 'precompiled_charsmap'", name);
    int status = decode_base64(base64, bytes, name, &map->bytes);
    if (status >= 0) status = open_table(map, name);
    if (status < 0)
        charsmap_free(map);
    else
        *out = map;
    return status;
}

void charsmap_free(charsmap *map) {
    if (!map) return;
    text_free(&map->bytes);
    free(map->units);
    free(map);
}

/* ---- double array: a unit has a label in its low bits, a flag "a value follows", and an offset */

static bool has_value(uint32_t unit) {
    return unit >> 8 & 1;
}

static uint32_t label_of(uint32_t unit) {
    return unit & (UINT32_C(1) << 31 | 0xFF);
}

static uint32_t offset_of(uint32_t unit) {
    return unit >> 10 << ((unit & UINT32_C(1) << 9) >> 6);
}

/* The value of the shortest prefix of `text` in the trie; false if there is none. Indices from a damaged trie may be
 * out of range; such units count as absent. */
static bool shortest_match(const charsmap *map, const char *text, size_t bytes, uint32_t *value) {
    if (!map->unit_count) return false;
    uint32_t at = offset_of(map->units[0]);
    for (size_t i = 0; i < bytes && text[i]; i++) {
        unsigned char byte = (unsigned char)text[i];
        work_count(1);
        at ^= byte;
        if (at >= map->unit_count || label_of(map->units[at]) != byte) return false;
        uint32_t unit = map->units[at];
        at ^= offset_of(unit);
        if (at >= map->unit_count) return false;
        if (!has_value(unit)) continue;
        *value = map->units[at] & ~(UINT32_C(1) << 31);
        return true;
    }
    return false;
}

/* Appends the replacement of a part of the text. *found is false if the table has no entry for it. */
static int replace_part(const charsmap *map, const char *part, size_t bytes, text_buffer *out, bool *found) {
    uint32_t begin;
    *found = shortest_match(map, part, bytes, &begin) && begin < map->text_bytes &&
             ((unsigned char)map->texts[begin] & 0xC0) != 0x80;
    if (!*found) return LCKV_OK;
    const char *text = map->texts + begin, *end = memchr(text, 0, map->text_bytes - begin);
    return text_append(out, text, end ? (size_t)(end - text) : map->text_bytes - begin);
}

static int apply_to_characters(const charsmap *map, const char *text, size_t bytes, text_buffer *out) {
    for (size_t at = 0, length; at < bytes; at += length) {
        uint32_t code_point;
        bool found;
        length = utf8_next(text + at, &code_point);
        TRY(replace_part(map, text + at, length, out, &found));
        if (!found) TRY(text_append(out, text + at, length));
    }
    return LCKV_OK;
}

static int apply_to_grapheme(const charsmap *map, const char *text, size_t bytes, text_buffer *out) {
    bool found = false;
    if (bytes < GRAPHEME_BYTES) TRY(replace_part(map, text, bytes, out, &found));
    return found ? LCKV_OK : apply_to_characters(map, text, bytes, out);
}

int charsmap_apply(const charsmap *map, const char *text, size_t bytes, text_buffer *out) {
    size_t begin = 0;
    uint32_t before = 0, code_point;
    utf8proc_int32_t state = 0;
    work_count(bytes);
    for (size_t at = 0, length; at < bytes; at += length, before = code_point) {
        length = utf8_next(text + at, &code_point);
        if (at == 0 ||
            !utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)code_point, &state))
            continue;
        TRY(apply_to_grapheme(map, text + begin, at - begin, out));
        begin = at;
    }
    return begin < bytes ? apply_to_grapheme(map, text + begin, bytes - begin, out) : LCKV_OK;
}
