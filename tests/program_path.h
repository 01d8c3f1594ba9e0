/* Path of the program that was built together with the tests. Include this after a header that includes cmocka. */
#ifndef TESTS_PROGRAM_PATH_H
#define TESTS_PROGRAM_PATH_H

#include "skipping.h"

#include <unistd.h>

/* Skips the test if the program was not built. */
static inline const char *program_path(void) {
    if (access(PROGRAM, X_OK) != 0) SKIP("%s is not built", PROGRAM);
    return PROGRAM;
}

#endif
