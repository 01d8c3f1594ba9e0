/* Normal forms, see unicode_form.h. */
#include "text/unicode/unicode_form.h"

#include "base/text/utf8.h"
#include "base/work.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static const struct {
    const char *name;
    utf8proc_option_t options;
} FORMS[] = {[FORM_NFC] = {"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
             [FORM_NFD] = {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
             [FORM_NFKC] = {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
             [FORM_NFKD] = {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT}};

bool unicode_form_named(const char *name, unicode_form *out) {
    for (size_t i = 0; i < sizeof FORMS / sizeof *FORMS; i++) {
        if (strcmp(name, FORMS[i].name) != 0) continue;
        *out = (unicode_form)i;
        return true;
    }
    return false;
}

/* Code points of the current segment. */
typedef struct code_points {
    utf8proc_int32_t *items, *sorted; /* [capacity] each; `sorted`: work space */
    size_t count, capacity;
} code_points;

static int reserve(code_points *c, size_t more) {
    if (c->capacity - c->count >= more) return LCKV_OK;
    size_t capacity = 2 * c->capacity + more;
    utf8proc_int32_t *items = realloc(c->items, capacity * sizeof *items);
    if (items) c->items = items;
    utf8proc_int32_t *sorted = realloc(c->sorted, capacity * sizeof *sorted);
    if (sorted) c->sorted = sorted;
    REQUIRE(items && sorted, LCKV_ERROR_MEMORY, "no memory to normalize a text of %zu characters", capacity);
    c->capacity = capacity;
    return LCKV_OK;
}

static int decompose(code_points *c, const char *text, size_t bytes, utf8proc_option_t options) {
    enum { MAX_FROM_ONE = 32 }; /* U+FDFA decomposes to 18 */
    if (options & UTF8PROC_COMPOSE) options = (options & ~UTF8PROC_COMPOSE) | UTF8PROC_DECOMPOSE;
    work_count(bytes);
    for (size_t at = 0; at < bytes;) {
        uint32_t code_point;
        at += utf8_next(text + at, &code_point);
        TRY(reserve(c, MAX_FROM_ONE));
        utf8proc_ssize_t count =
            utf8proc_decompose_char((utf8proc_int32_t)code_point, c->items + c->count, MAX_FROM_ONE, options, NULL);
        REQUIRE(count >= 0 && count <= MAX_FROM_ONE, LCKV_ERROR_UNSUPPORTED, "U+%04X cannot be normalized",
                (unsigned)code_point);
        c->count += (size_t)count;
    }
    return LCKV_OK;
}

static unsigned class_of(utf8proc_int32_t code_point) {
    return (unsigned)utf8proc_get_property(code_point)->combining_class & 255;
}

/* Stable sort by combining class: counting sort, or insertion sort for a few marks. */
static void sort_marks(utf8proc_int32_t *marks, size_t count, utf8proc_int32_t *room) {
    enum { FEW = 16 };
    size_t first[257] = {0};
    work_count(count);
    for (size_t i = 1; count <= FEW && i < count; i++) {
        utf8proc_int32_t moved = marks[i];
        size_t at = i;
        for (; at > 0 && class_of(marks[at - 1]) > class_of(moved); at--) marks[at] = marks[at - 1];
        marks[at] = moved;
    }
    if (count <= FEW) return;
    for (size_t i = 0; i < count; i++) first[class_of(marks[i]) + 1]++;
    for (size_t i = 1; i < 257; i++) first[i] += first[i - 1];
    for (size_t i = 0; i < count; i++) room[first[class_of(marks[i])]++] = marks[i];
    memcpy(marks, room, count * sizeof *marks);
}

/* Canonical order: sorts each run of characters whose class is not 0. */
static void order(code_points *c) {
    for (size_t at = 0; at < c->count; at++) {
        size_t begin = at;
        while (at < c->count && class_of(c->items[at])) at++;
        if (at - begin > 1) sort_marks(c->items + begin, at - begin, c->sorted);
    }
}

static int append_piece(code_points *c, utf8proc_option_t options, const char *text, size_t bytes, text_buffer *out) {
    c->count = 0;
    TRY(decompose(c, text, bytes, options));
    order(c);
    if (options & UTF8PROC_COMPOSE)
        c->count = (size_t)utf8proc_normalize_utf32(c->items, (utf8proc_ssize_t)c->count, options);
    work_count(c->count);
    for (size_t i = 0; i < c->count; i++) {
        char character[4];
        TRY(text_append(out, character, utf8_write((uint32_t)c->items[i], character)));
    }
    return LCKV_OK;
}

static size_t ascii_length(const char *text, size_t bytes, bool ascii) {
    size_t at = 0;
    while (at < bytes && ((unsigned char)text[at] < 0x80) == ascii) at++;
    return at;
}

/* ASCII characters are their own form. They do not combine with what precedes them, only with marks after them. The
 * rest is normalized in segments, each with the character before it. */
static int append_pieces(code_points *c, utf8proc_option_t options, const char *text, size_t bytes, text_buffer *out) {
    for (size_t at = 0; at < bytes;) {
        size_t ascii = ascii_length(text + at, bytes - at, true), plain = ascii;
        if (at + ascii < bytes && ascii) plain--;
        TRY(text_append(out, text + at, plain));
        at += ascii;
        size_t other = ascii_length(text + at, bytes - at, false);
        if (other) TRY(append_piece(c, options, text + at - (ascii - plain), other + ascii - plain, out));
        at += other;
    }
    return LCKV_OK;
}

int unicode_form_append(unicode_form form, const char *text, size_t bytes, text_buffer *out) {
    code_points c = {0};
    int status = append_pieces(&c, FORMS[form].options, text, bytes, out);
    free(c.items);
    free(c.sorted);
    return status;
}
