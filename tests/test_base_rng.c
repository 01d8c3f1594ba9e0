/* Philox against its authors' test vectors, and the numbers derived from it. */
#include "base/rng.h"
#include "expect.h"

#include <math.h>

/* Random123's kat_vectors, philox4x32 with 10 rounds: counter, key, result. */
static void known_answers(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], result[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const uint32_t *c = cases[i].counter, *k = cases[i].key;
        uint32_t out[4];
        rng_block(k[0] | (uint64_t)k[1] << 32, c[2] | (uint64_t)c[3] << 32, c[0] | (uint64_t)c[1] << 32, out);
        assert_memory_equal(out, cases[i].result, sizeof out);
    }
}

static void each_argument_counts(void **state) {
    (void)state;
    uint32_t base[4], other[4];
    rng_block(1, 2, 3, base);
    for (int bit = 0; bit < 64; bit++) {
        uint64_t flip = UINT64_C(1) << bit;
        rng_block(1 ^ flip, 2, 3, other);
        assert_memory_not_equal(base, other, sizeof base);
        rng_block(1, 2 ^ flip, 3, other);
        assert_memory_not_equal(base, other, sizeof base);
        rng_block(1, 2, 3 ^ flip, other);
        assert_memory_not_equal(base, other, sizeof base);
    }
}

/* The mean of n numbers is within five standard errors. */
static void uniform_moments(void **state) {
    (void)state;
    enum { N = 100000 };
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++) {
        double u = rng_uniform(42, 7, (uint64_t)i);
        assert_true(u >= 0 && u < 1);
        sum += u;
        squares += u * u;
    }
    assert_true(fabs(sum / N - 1.0 / 2) < 5 * sqrt(1.0 / 12 / N));
    assert_true(fabs(squares / N - 1.0 / 3) < 5 * sqrt(4.0 / 45 / N));
}

static void normal_moments(void **state) {
    (void)state;
    enum { PAIRS = 50000, N = 2 * PAIRS };
    double sum = 0, squares = 0, fourth = 0, product = 0;
    for (int i = 0; i < PAIRS; i++) {
        double x[2];
        rng_normal2(42, 7, (uint64_t)i, x);
        for (int j = 0; j < 2; j++) {
            assert_true(isfinite(x[j]));
            sum += x[j];
            squares += x[j] * x[j];
            fourth += x[j] * x[j] * x[j] * x[j];
        }
        product += x[0] * x[1];
    }
    assert_true(fabs(sum / N) < 5 * sqrt(1.0 / N));
    assert_true(fabs(squares / N - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(fourth / N - 3) < 5 * sqrt(96.0 / N));
    assert_true(fabs(product / PAIRS) < 5 * sqrt(1.0 / PAIRS));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(each_argument_counts),
        cmocka_unit_test(uniform_moments),
        cmocka_unit_test(normal_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
