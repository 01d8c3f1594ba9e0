/* Reports skipped tests as skipped, not as passed. Linked into every test program in place of two functions of cmocka
 * (ld --wrap). A program whose tests are all skipped exits with the code that ctest reports as skipped. */
#include "skipping.h"

#include <stdio.h>

/* cmocka's own, and what stands for them; the linker makes these names. */
void __real__skip(const char *file, int line);
void __wrap__skip(const char *file, int line);
int __real__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t count,
                                   CMFixtureFunction setup, CMFixtureFunction teardown);
int __wrap__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t count,
                                   CMFixtureFunction setup, CMFixtureFunction teardown);

static size_t skipped;

void __wrap__skip(const char *file, int line) {
    skipped++;
    __real__skip(file, line);
}

int __wrap__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t count,
                                   CMFixtureFunction setup, CMFixtureFunction teardown) {
    size_t before = skipped;
    int failed = __real__cmocka_run_group_tests(name, tests, count, setup, teardown);
    if (skipped > before) printf("%zu of %zu tests skipped\n", skipped - before, count);
    return !failed && count && skipped - before == count ? SKIPPED_CODE : failed;
}
