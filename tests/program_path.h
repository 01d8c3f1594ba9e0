/* Where the program lies that was built beside the tests. Include it behind a header that brings cmocka along. */
#ifndef TESTS_PROGRAM_PATH_H
#define TESTS_PROGRAM_PATH_H

#include "skipping.h"

#include <unistd.h>

/* The test is skipped where it is not built. */
static inline const char *program_path(void) {
    if (access(PROGRAM, X_OK) != 0) SKIP("%s is not built", PROGRAM);
    return PROGRAM;
}

#endif
