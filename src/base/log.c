/* The process-wide log sink. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

static lckv_log_function sink;
static void *sink_user;
static lckv_log_level sink_level;

void lckv_set_log(lckv_log_function function, void *user, lckv_log_level level) {
    sink = function;
    sink_user = user;
    sink_level = level;
}

void log_message(lckv_log_level level, const char *format, ...) {
    if (!sink || level > sink_level) return;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sink(sink_user, level, text);
}
