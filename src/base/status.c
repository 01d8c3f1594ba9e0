/* The error message of the thread. It is always valid UTF-8, because callers put it into JSON or pass it to other
 * languages. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_BYTES = 1024 };
static _Thread_local char message[MESSAGE_BYTES];

/* Length of the UTF-8 character at `s` (Unicode 15, table 3-7); 0 if it is ill-formed. */
static size_t character_bytes(const unsigned char *s) {
    static const struct {
        unsigned char first, last; /* range of the first byte */
        unsigned char low, high;   /* range of the second byte */
        size_t bytes;
    } FORMS[] = {{0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
                 {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
                 {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
    for (size_t f = 0; f < sizeof FORMS / sizeof *FORMS; f++) {
        if (*s < FORMS[f].first || *s > FORMS[f].last) continue;
        if (FORMS[f].bytes > 1 && (s[1] < FORMS[f].low || s[1] > FORMS[f].high)) return 0;
        for (size_t i = 2; i < FORMS[f].bytes; i++)
            if ((s[i] & 0xc0) != 0x80) return 0;
        return FORMS[f].bytes;
    }
    return 0;
}

/* Removes an incomplete character at the end of `text`. */
static void drop_incomplete(char *text) {
    size_t length = strlen(text), at = length;
    while (at > 0 && length - at < 3 && ((unsigned char)text[at - 1] & 0xc0) == 0x80) at--;
    if (at > 0 && (unsigned char)text[at - 1] >= 0xc2 && !character_bytes((unsigned char *)text + at - 1))
        text[at - 1] = '\0';
}

/* Stores `text` as the message; ill-formed bytes become U+FFFD. */
static void set_message(const char *text) {
    static const char REPLACEMENT[] = "\xef\xbf\xbd";
    size_t to = 0;
    while (*text) {
        size_t bytes = character_bytes((const unsigned char *)text), added = bytes ? bytes : sizeof REPLACEMENT - 1;
        if (to + added >= MESSAGE_BYTES) break;
        memcpy(message + to, bytes ? text : REPLACEMENT, added);
        to += added;
        text += bytes ? bytes : 1;
    }
    message[to] = '\0';
}

/* vsnprintf() that truncates between characters. */
PRINTF_LIKE(3, 0) static void format_text(char *to, size_t size, const char *format, va_list arguments) {
    if (vsnprintf(to, size, format, arguments) >= (int)size) drop_incomplete(to);
}

void fail_message(const char *format, ...) {
    char fresh[MESSAGE_BYTES]; /* the arguments may point into the old message */
    va_list arguments;
    va_start(arguments, format);
    format_text(fresh, sizeof fresh, format, arguments);
    va_end(arguments);
    set_message(fresh);
}

int fail_within(int code, const char *format, ...) {
    enum { INNER_BYTES = 501 };
    char context[MESSAGE_BYTES - INNER_BYTES - 2], inner[INNER_BYTES], fresh[MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    format_text(context, sizeof context, format, arguments);
    va_end(arguments);
    if (snprintf(inner, sizeof inner, "%s", message) >= INNER_BYTES) drop_incomplete(inner);
    snprintf(fresh, sizeof fresh, "%s: %s", context, inner);
    set_message(fresh);
    return code;
}

const char *lckv_last_error(void) {
    return message;
}

const char *lckv_version(void) {
    return LCKV_VERSION;
}

void lckv_free(void *memory) {
    free(memory);
}
