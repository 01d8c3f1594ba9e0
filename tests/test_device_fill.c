/* fill_normal: the specified numbers with any number of threads, and their distribution. */
#include "device_check.h"

static const int64_t sizes[][2] = {{1, 1}, {3, 17}, {1, 511}, {1, 513}, {211, 257}};
enum { SIZES = sizeof sizes / sizeof *sizes };
static const dtype floats[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};

static void check_numbers(device *d) {
    for (int s = 0; s < SIZES; s++) {
        for (int t = 0; t < 3; t++) {
            view dst = tensor(sizes[s][0], sizes[s][1], floats[t]), want = tensor(dst.rows, dst.cols, dst.type);
            RUN(d, fill_normal, ((struct op_fill_normal){dst, 0.02f, 42, 7}));
            for (int64_t i = 0; i < elements(dst); i++) {
                double pair[2];
                rng_normal2(42, 7, (uint64_t)i / 2, pair);
                set_element(want, i, (double)(float)(pair[i % 2] * (double)0.02f));
            }
            check_same_bits("normal numbers", dst, want);
            release_tensors();
        }
    }
}

/* Mean, variance, fourth moment and correlation of neighbours, each within 5 standard deviations over n numbers (1,
 * sqrt 2, sqrt 96 and 1, divided by sqrt n). */
static void check_moments(device *d) {
    enum { N = 200000 };
    view x = tensor(1, N, DTYPE_F32);
    RUN(d, fill_normal, ((struct op_fill_normal){x, 1.0f, 1, 2}));
    double mean = 0, square = 0, fourth = 0, neighbours = 0;
    for (int64_t i = 0; i < N; i++) {
        double value = element(x, i);
        mean += value / N, square += value * value / N, fourth += pow(value, 4) / N;
        neighbours += value * element(x, (i + 1) % N) / N;
    }
    assert_true(fabs(mean) < 5 / sqrt(N));
    assert_true(fabs(square - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(fourth - 3) < 5 * sqrt(96.0 / N));
    assert_true(fabs(neighbours) < 5 / sqrt(N));
}

/* Another seed, another stream: other numbers. */
static void check_streams(device *d) {
    view a = tensor(1, 64, DTYPE_F32), b = tensor(1, 64, DTYPE_F32), c = tensor(1, 64, DTYPE_F32);
    RUN(d, fill_normal, ((struct op_fill_normal){a, 1.0f, 1, 2}));
    RUN(d, fill_normal, ((struct op_fill_normal){b, 1.0f, 1, 3}));
    RUN(d, fill_normal, ((struct op_fill_normal){c, 1.0f, 2, 2}));
    for (int64_t i = 0; i < 64; i++) {
        assert_true(element(a, i) != element(b, i) && element(a, i) != element(c, i));
        assert_true(element(b, i) != element(c, i));
    }
}

static void test_numbers(void **state) {
    (void)state;
    check_everywhere(check_numbers);
    check_everywhere(check_streams);
}

static void test_moments(void **state) {
    (void)state;
    check_everywhere(check_moments);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_numbers), cmocka_unit_test(test_moments)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
