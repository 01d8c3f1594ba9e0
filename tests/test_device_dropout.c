/* Dropout: the specified mask with any number of threads, the share of dropped elements, and the same mask in the
 * backward pass. */
#include "device_check.h"

static const int64_t sizes[][2] = {{1, 1}, {3, 17}, {1, 511}, {1, 513}, {211, 257}};
enum { SIZES = sizeof sizes / sizeof *sizes };
static const dtype compute[] = {DTYPE_F32, DTYPE_BF16};

static view seed_of(uint64_t seed) {
    view v = tensor(1, 1, DTYPE_I64);
    memcpy(v.data, &seed, sizeof seed);
    return v;
}

static double mask(uint64_t seed, uint64_t stream, double p, int64_t i) {
    uint32_t words[4];
    rng_block(seed, stream, (uint64_t)i / 4, words);
    return (double)words[i % 4] < floor(p * 4294967296.0) ? 0 : (double)(float)(1 / (1 - p));
}

static void check_numbers(device *d) {
    static const double chances[] = {0, 0.05, 0.5, 0.999};
    for (int s = 0; s < SIZES; s++)
        for (int t = 0; t < 2; t++)
            for (int c = 0; c < 4; c++) {
                struct op_dropout a = {.x = random_tensor(sizes[s][0], sizes[s][1], compute[t], 1.0),
                                       .y = tensor(sizes[s][0], sizes[s][1], compute[t]),
                                       .seed = seed_of(0x123456789abcdef0),
                                       .p = chances[c],
                                       .stream = 1 + (uint64_t)c,
                                       .dy = random_tensor(sizes[s][0], sizes[s][1], DTYPE_F32, 1.0),
                                       .dx = random_tensor(sizes[s][0], sizes[s][1], DTYPE_F32, 1.0)};
                view before = copy_tensor(a.dx);
                RUN(d, dropout, a);
                RUN(d, dropout_backward, a);
                for (int64_t i = 0; i < elements(a.x); i++) {
                    double m = mask(0x123456789abcdef0, a.stream, a.p, i), y = m * element(a.x, i);
                    check_near("y", a.y, i, y, (F32_EPSILON + rounding(a.y.type)) * fabs(y));
                    double change = m * element(a.dy, i), dx = element(before, i) + change;
                    check_near("dx", a.dx, i, dx, F32_EPSILON * (fabs(change) + fabs(dx)));
                }
                if (a.p == 0) check_same_bits("p = 0", a.y, a.x);
                release_tensors();
            }
}

/* The share of dropped elements, and how often two neighbours are both dropped or both kept, within 5 standard
 * deviations; the mean does not change. */
static void check_statistics(device *d) {
    enum { N = 200000 };
    const double p = 0.1;
    struct op_dropout a = {.x = tensor(1, N, DTYPE_F32), .y = tensor(1, N, DTYPE_F32), .seed = seed_of(7), .p = p};
    double dropped = 0, both = 0, mean = 0;
    for (int64_t i = 0; i < N; i++) set_element(a.x, i, 1);
    RUN(d, dropout, a);
    for (int64_t i = 0; i < N; i++) {
        bool here = element(a.y, i) == 0, next = element(a.y, (i + 1) % N) == 0;
        dropped += here, both += here && next, mean += element(a.y, i) / N;
    }
    assert_true(fabs(dropped / N - p) < 5 * sqrt(p * (1 - p) / N));
    assert_true(fabs(both / N - p * p) < 5 * sqrt(p * p * (1 - p * p) / N) * 1.2); /* neighbouring pairs overlap */
    assert_true(fabs(mean - 1) < 5 * sqrt(p / (1 - p) / N));
}

/* With another seed or stream about half of the elements change at p = 0.5. */
static void check_streams(device *d) {
    enum { N = 4096 };
    view x = random_tensor(1, N, DTYPE_F32, 1.0), y[3];
    static const uint64_t seeds[] = {1, 1, 2}, streams[] = {0, 1, 0};
    for (int i = 0; i < 3; i++) {
        struct op_dropout a = {
            .x = x, .y = y[i] = tensor(1, N, DTYPE_F32), .seed = seed_of(seeds[i]), .p = 0.5, .stream = streams[i]};
        RUN(d, dropout, a);
    }
    for (int k = 1; k < 3; k++) {
        int64_t others = 0;
        for (int64_t i = 0; i < N; i++) others += (element(y[0], i) == 0) != (element(y[k], i) == 0);
        assert_true(fabs((double)others - N / 2) < 5 * sqrt(N / 4.0));
    }
}

static void test_numbers(void **state) {
    (void)state;
    check_everywhere(check_numbers);
}

static void test_statistics(void **state) {
    (void)state;
    check_everywhere(check_statistics);
    check_everywhere(check_streams);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_numbers), cmocka_unit_test(test_statistics)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
