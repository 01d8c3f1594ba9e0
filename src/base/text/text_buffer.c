/* A growing string of bytes. */
#include "base/text/text_buffer.h"

#include "base/work.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int text_reserve(text_buffer *b, size_t more) {
    REQUIRE(more < SIZE_MAX / 4 - b->length, LCKV_ERROR_MEMORY, "no memory for %zu more bytes of a string", more);
    REQUIRE(!b->limit || b->length + more <= b->limit, LCKV_ERROR_UNSUPPORTED,
            "a text grew beyond its limit of %zu bytes", b->limit);
    size_t needed = b->length + more + 1;
    if (needed <= b->capacity) return LCKV_OK;
    size_t capacity = b->capacity ? b->capacity : 64;
    while (capacity < needed) capacity *= 2;
    char *data = realloc(b->data, capacity);
    REQUIRE(data, LCKV_ERROR_MEMORY, "no memory for a string of %zu bytes", capacity);
    b->data = data;
    b->capacity = capacity;
    return LCKV_OK;
}

int text_append(text_buffer *b, const char *bytes, size_t length) {
    TRY(text_reserve(b, length));
    work_count(length + 1);
    if (length) memcpy(b->data + b->length, bytes, length);
    b->length += length;
    b->data[b->length] = 0;
    return LCKV_OK;
}

int text_printf(text_buffer *b, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    int status = length < 0 ? fail(LCKV_ERROR_ARGUMENT, "bad format string") : text_reserve(b, (size_t)length);
    if (status >= 0) {
        vsnprintf(b->data + b->length, (size_t)length + 1, format, again);
        b->length += (size_t)length;
    }
    va_end(again);
    return status;
}

int text_take(text_buffer *b, char **out) {
    TRY(text_reserve(b, 0));
    b->data[b->length] = 0;
    *out = b->data;
    *b = (text_buffer){0};
    return LCKV_OK;
}

void text_free(text_buffer *b) {
    free(b->data);
    *b = (text_buffer){0};
}
