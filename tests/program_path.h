/* Where the program lies that was built beside the tests. Include it behind a header that brings cmocka along. */
#ifndef TESTS_PROGRAM_PATH_H
#define TESTS_PROGRAM_PATH_H

#include <string.h>
#include <unistd.h>

/* build/tests/test_... -> build/lckv; the test is skipped where it is not built. */
static inline const char *program_path(void) {
    static char path[512];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 16);
    if (length < 0) skip();
    path[length] = '\0';
    for (int up = 0; up < 2; up++) *strrchr(path, '/') = '\0';
    strcat(path, "/lckv");
    if (access(path, X_OK) == 0) return path;
    print_message("skipped: %s is not built\n", path);
    skip();
    return NULL;
}

#endif
