/* lckv_kl_divergence() against distributions whose divergence is known. */
#include "base/status.h"

#include "expect.h"

#include <math.h>

static void known_divergences(void **state) {
    (void)state;
    const float p[] = {0, (float)log(3), 700, 700}, q[] = {5, 5, 700, (float)(700 + log(3))};
    double first = 0.25 * log(0.25 / 0.5) + 0.75 * log(0.75 / 0.5),
           second = 0.5 * log(0.5 / 0.25) + 0.5 * log(0.5 / 0.75);
    assert_true(fabs(lckv_kl_divergence(p, q, 1, 2) - first) < 1e-6);
    assert_true(fabs(lckv_kl_divergence(p + 2, q + 2, 1, 2) - second) < 1e-4);
    assert_true(fabs(lckv_kl_divergence(p, q, 2, 2) - (first + second) / 2) < 1e-4);
    assert_true(lckv_kl_divergence(p, p, 2, 2) == 0);
}

static void logits_that_are_not_finite(void **state) {
    (void)state;
    const float p[] = {0, 1}, q[] = {NAN, 1};
    assert_true(isnan(lckv_kl_divergence(p, q, 1, 2)));
    assert_true(isnan(lckv_kl_divergence(p, p, 0, 2)));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_divergences),
                                       cmocka_unit_test(logits_that_are_not_finite)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
