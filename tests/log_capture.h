/* Captures the library's log messages, for tests of what is logged. */
#ifndef TESTS_LOG_CAPTURE_H
#define TESTS_LOG_CAPTURE_H

#include "lckv.h"

#include <stdio.h>
#include <string.h>

static char logged[8192]; /* one message per line */

static inline void keep_message(void *user, lckv_log_level level, const char *message) {
    (void)user, (void)level;
    size_t length = strlen(logged);
    snprintf(logged + length, sizeof logged - length, "%s\n", message);
}

/* Empties `logged` and captures messages of this level and of more severe ones. */
static inline void capture_log(lckv_log_level level) {
    logged[0] = '\0';
    lckv_set_log(keep_message, NULL, level);
}

static inline void end_capture(void) {
    lckv_set_log(NULL, NULL, LCKV_LOG_WARNING);
}

#endif
