/* A growing string of bytes. */
#ifndef BASE_TEXT_BUFFER_H
#define BASE_TEXT_BUFFER_H

#include "base/status.h"

#include <stddef.h>

typedef struct text_buffer {
    char *data;              /* ends in NUL whenever not NULL; NUL bytes inside are allowed */
    size_t length, capacity; /* bytes, without the NUL; allocated bytes */
    size_t limit;            /* maximum length: appending beyond it fails with LCKV_ERROR_UNSUPPORTED; 0: no limit */
} text_buffer;               /* all zeros is an empty buffer */

int text_append(text_buffer *b, const char *bytes, size_t length);
int text_printf(text_buffer *b, const char *format, ...) PRINTF_LIKE(2, 3);
/* Moves the string out (never NULL on success; "" if empty) and leaves `b` empty. Release with free(). */
int text_take(text_buffer *b, char **out);
void text_free(text_buffer *b);

#endif
