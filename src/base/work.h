/* Counts steps of work, for tests that double an input and bound the growth of the work (tests/test_text_linear.c and
 * others).
 *
 * A step is about one byte, character, candidate or table entry processed. Loops add all their steps at once, so that
 * counting is cheap. The counter is thread-local. */
#ifndef BASE_WORK_H
#define BASE_WORK_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GLIBC__)
/* At a fixed distance from the thread's pointer: without a call in a shared library. */
#define WORK_STEPS_PLACE __attribute__((tls_model("initial-exec")))
#else
#define WORK_STEPS_PLACE
#endif

extern _Thread_local uint64_t work_steps WORK_STEPS_PLACE;

static inline void work_count(size_t steps) {
    work_steps += steps;
}

#endif
