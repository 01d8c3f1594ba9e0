/* Assertions for functions that return a status. Includes cmocka. */
#ifndef TESTS_EXPECT_H
#define TESTS_EXPECT_H

#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#undef fail /* cmocka defines its own fail(): include headers that use ours before */
#include <cmocka.h>

#include "skipping.h"

#define OK(expression)                                                                                                 \
    do {                                                                                                               \
        int status_ = (expression);                                                                                    \
        if (status_ < 0) fail_msg("%s: %s", #expression, lckv_last_error());                                           \
    } while (0)

/* Asserts that `expression` fails with `code`, and that its message contains `part`. */
#define FAILS(expression, code, part)                                                                                  \
    do {                                                                                                               \
        int status_ = (expression);                                                                                    \
        if (status_ != (code)) fail_msg("%s: expected %d, found %d", #expression, (int)(code), status_);               \
        if (!strstr(lckv_last_error(), (part)))                                                                        \
            fail_msg("%s: expected \"...%s...\", found \"%s\"", #expression, (part), lckv_last_error());               \
    } while (0)

#endif
