/* Errors: a message per thread, and a negative code returned up the stack.
 *
 * The two macros below return without cleanup, so use them only where nothing is owned. A function that owns something
 * wraps the fallible part in an inner function, or ends in one `done:` label.
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

/* Sets the thread's message and returns `code`. The message says what was expected, what was found, and where. The
 * compiler sees that the value is `code`, and so can check that outputs are set on success only. */
#define fail(code, ...) (fail_message(__VA_ARGS__), status_of_failure(code))
static inline int status_of_failure(int code) {
    return code;
}

/* Prepends "context: ", such as a file name, to the thread's message and returns `code`. */
int fail_within(int code, const char *format, ...) PRINTF_LIKE(2, 3);

/* Endings for a count in a message: of the noun ("" for 1, else "s"), of its verb, and "is" or "are". */
static inline const char *plural(int64_t count) {
    return count == 1 ? "" : "s";
}
static inline const char *verb_ending(int64_t count) {
    return count == 1 ? "s" : "";
}
static inline const char *is_or_are(int64_t count) {
    return count == 1 ? "is" : "are";
}

/* Returns from the function unless `condition` holds. */
#define REQUIRE(condition, code, ...)                                                                                  \
    do {                                                                                                               \
        if (!(condition)) return fail((code), __VA_ARGS__);                                                            \
    } while (0)

/* Returns the status of `expression` if it failed. */
#define TRY(expression)                                                                                                \
    do {                                                                                                               \
        int status_ = (expression);                                                                                    \
        if (status_ < 0) return status_;                                                                               \
    } while (0)

#endif
