/* How a function fails: one sentence on the thread, one negative code up the stack.
 *
 * Leaves out: logging (log.h) and any cleanup. A function that owns something wraps the fallible part in an inner
 * function, or ends in one `done:` label; the two macros below return, so use them where nothing is owned.
 */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#include "lckv.h"

#if defined(__GNUC__)
#define PRINTF_LIKE(at, first) __attribute__((format(printf, at, first)))
#else
#define PRINTF_LIKE(at, first)
#endif

/* Sets the thread's message. */
void fail_message(const char *format, ...) PRINTF_LIKE(1, 2);

/* Sets the thread's message and returns `code`. The sentence says what was expected, what was found, and where. That
 * the value is `code` is visible to the compiler, which therefore knows that a failure hands nothing out. */
#define fail(code, ...) (fail_message(__VA_ARGS__), status_of_failure(code))
static inline int status_of_failure(int code) {
    return code;
}

/* Puts "context: " before the thread's message and returns `code`: callers that know the file name add it so. */
int fail_within(int code, const char *format, ...) PRINTF_LIKE(2, 3);

/* Returns from the function unless `condition` holds. */
#define REQUIRE(condition, code, ...)                                                                                  \
    do {                                                                                                               \
        if (!(condition)) return fail((code), __VA_ARGS__);                                                            \
    } while (0)

/* Forwards a failure of `expression`. */
#define TRY(expression)                                                                                                \
    do {                                                                                                               \
        int status_ = (expression);                                                                                    \
        if (status_ < 0) return status_;                                                                               \
    } while (0)

#endif
