/* Skipping a test with a reason. scripts/test lists the reasons at the end. */
#ifndef TESTS_SKIPPING_H
#define TESTS_SKIPPING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef CMOCKA_H_
#undef fail /* as in expect.h */
#include <cmocka.h>
#endif

enum { SKIPPED_CODE = 77 }; /* SKIP_RETURN_CODE in CMakeLists.txt */

/* A build with a sanitizer, which needs memory and time of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

/* SKIP("%s is absent", path). A test that calls skip() directly prints such a line first. */
#define SKIP(...) (print_message("skipped: " __VA_ARGS__), print_message("\n"), skip())

#endif
