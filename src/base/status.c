/* The thread's error message. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_BYTES = 1024 };
static _Thread_local char message[MESSAGE_BYTES];

void fail_message(const char *format, ...) {
    char fresh[MESSAGE_BYTES]; /* the arguments may point into the old message */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fresh, sizeof fresh, format, arguments);
    va_end(arguments);
    memcpy(message, fresh, sizeof fresh);
}

int fail_within(int code, const char *format, ...) {
    char context[MESSAGE_BYTES / 2], fresh[MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(context, sizeof context, format, arguments);
    va_end(arguments);
    snprintf(fresh, sizeof fresh, "%s: %.500s", context, message);
    memcpy(message, fresh, sizeof fresh);
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
