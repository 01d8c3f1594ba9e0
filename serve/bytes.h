/* A growing string of bytes. Where memory ends, it stays as it is and says so: `failed`. */
#ifndef SERVE_BYTES_H
#define SERVE_BYTES_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct bytes {
    char *data; /* no NUL at its end */
    size_t length, capacity;
    bool failed;
} bytes; /* all zeros is empty */

static inline bool bytes_add(bytes *b, const char *from, size_t length) {
    if (length > b->capacity - b->length) {
        size_t capacity = 2 * (b->length + length) + 64;
        char *grown = realloc(b->data, capacity);
        if (!grown) {
            b->failed = true;
            return false;
        }
        b->data = grown;
        b->capacity = capacity;
    }
    if (length) memcpy(b->data + b->length, from, length);
    b->length += length;
    return true;
}

static inline bool bytes_add_text(bytes *b, const char *text) {
    return bytes_add(b, text, strlen(text));
}

/* Drops the first `count`. */
static inline void bytes_drop(bytes *b, size_t count) {
    b->length -= count;
    if (b->length) memmove(b->data, b->data + count, b->length);
}

static inline void bytes_free(bytes *b) {
    free(b->data);
    *b = (bytes){0};
}

#endif
