/* A growing byte array. If memory runs out, the content stays unchanged and `failed` is set. */
#ifndef SERVE_BYTES_H
#define SERVE_BYTES_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct bytes {
    char *data; /* not NUL-terminated */
    size_t length, capacity;
    bool failed;
} bytes; /* all zeros: empty */

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

/* Removes the first `count` bytes. */
static inline void bytes_drop(bytes *b, size_t count) {
    b->length -= count;
    if (b->length) memmove(b->data, b->data + count, b->length);
}

static inline void bytes_free(bytes *b) {
    free(b->data);
    *b = (bytes){0};
}

#endif
