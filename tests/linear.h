/* Doubles an input and limits how much the work counted by base/work.h may grow (steps, not seconds). Include this
 * after a header that includes cmocka (expect.h, text_fixture.h). */
#ifndef TESTS_LINEAR_H
#define TESTS_LINEAR_H

#include "base/work.h"

/* Does the work for an input of about `size` bytes (or tokens). */
typedef void (*linear_run)(const void *user, size_t size);

static inline uint64_t linear_steps(linear_run run, const void *user, size_t size) {
    uint64_t before = work_steps;
    run(user, size);
    return work_steps - before;
}

/* 2.2 leaves room for a factor of log n. Fewer steps than size / 64 would mean that nothing is counted. */
static inline void expect_linear(const char *name, linear_run run, const void *user, size_t size) {
    uint64_t steps = linear_steps(run, user, size);
    if (steps < size / 64) fail_msg("%s: %zu bytes took %llu steps", name, size, (unsigned long long)steps);
    for (int i = 0; i < 2; i++) {
        uint64_t twice = linear_steps(run, user, 2 * size);
        if ((double)twice > 2.2 * (double)steps)
            fail_msg("%s: %zu bytes took %llu steps, twice as many took %llu", name, size, (unsigned long long)steps,
                     (unsigned long long)twice);
        size *= 2;
        steps = twice;
    }
}

#endif
