/* SwiGLU forward and backward against double, from gates near 0 to gates whose exponential overflows float. */
#include "device_check.h"

static const int64_t sizes[][2] = {{1, 1}, {3, 17}, {1, 1030}, {100, 3}, {97, 129}};
enum { SIZES = sizeof sizes / sizeof *sizes };
static const dtype compute[] = {DTYPE_F32, DTYPE_BF16};

/* The exponential is exact to 2 units in the last place (4 half ones); four more operations round once each. */
#define RELATIVE (12 * F32_EPSILON)
#define SMALLEST 1e-35 /* if exp(-gate) overflows float, small results become 0 early */

static double sigmoid(double x) {
    return 1.0 / (1.0 + exp(-x));
}

static view random_gates(int64_t rows, int64_t cols, dtype type) {
    static const double notable[] = {0.0, -0.0, 88.0, -88.0, 89.0, -89.0, 104.0, -104.0, 1e4, -1e4, 1e-30, -1e-30};
    view gate = random_tensor(rows, cols, type, 4.0);
    for (int64_t i = 0; i < elements(gate) && elements(gate) > 12; i++) {
        if (i % 40 < 12) set_element(gate, i, notable[i % 40]);
    }
    return gate;
}

static struct op_swiglu random_swiglu(int64_t rows, int64_t cols, dtype type) {
    return (struct op_swiglu){.gate = random_gates(rows, cols, type),
                              .up = random_tensor(rows, cols, type, 1.0),
                              .y = tensor(rows, cols, type),
                              .dy = random_tensor(rows, cols, DTYPE_F32, 1.0),
                              .dgate = random_tensor(rows, cols, DTYPE_F32, 1.0),
                              .dup = random_tensor(rows, cols, DTYPE_F32, 1.0)};
}

static void check_forward(device *d) {
    for (int s = 0; s < SIZES; s++) {
        for (int t = 0; t < 2; t++) {
            struct op_swiglu a = random_swiglu(sizes[s][0], sizes[s][1], compute[t]);
            RUN(d, swiglu, a);
            for (int64_t i = 0; i < elements(a.y); i++) {
                double gate = element(a.gate, i), want = gate * sigmoid(gate) * element(a.up, i);
                check_near("y", a.y, i, want, (RELATIVE + rounding(a.y.type)) * fabs(want) + SMALLEST);
            }
            release_tensors();
        }
    }
}

static void check_backward_of(device *d, int64_t rows, int64_t cols, dtype type) {
    struct op_swiglu a = random_swiglu(rows, cols, type), alone = a;
    view dgate_before = copy_tensor(a.dgate), dup_before = copy_tensor(a.dup);
    RUN(d, swiglu_backward, a);
    for (int64_t i = 0; i < elements(a.dy); i++) {
        double gate = element(a.gate, i), up = element(a.up, i), dy = element(a.dy, i), s = sigmoid(gate);
        double dgate = element(dgate_before, i) + dy * up * s * (1.0 + gate * (1.0 - s));
        double size = fabs(dy * up * s) * (1.0 + fabs(gate)); /* 1 - s has the absolute error of 1 */
        check_near("dgate", a.dgate, i, dgate, 2 * RELATIVE * size + F32_EPSILON * fabs(dgate) + SMALLEST);
        double dup = element(dup_before, i) + dy * gate * s;
        check_near("dup", a.dup, i, dup, RELATIVE * fabs(dy * gate * s) + F32_EPSILON * fabs(dup) + SMALLEST);
    }
    alone.dgate = dgate_before, alone.dup = ABSENT;
    RUN(d, swiglu_backward, alone);
    check_same_bits("dgate alone", alone.dgate, a.dgate);
    alone.dgate = ABSENT, alone.dup = dup_before;
    RUN(d, swiglu_backward, alone);
    check_same_bits("dup alone", alone.dup, a.dup);
    RUN(d, swiglu, a);
    alone.y_again = tensor(rows, cols, type);
    RUN(d, swiglu_backward, alone);
    check_same_bits("y again", alone.y_again, a.y);
    release_tensors();
}

static void check_backward(device *d) {
    for (int s = 0; s < SIZES; s++) {
        for (int t = 0; t < 2; t++) check_backward_of(d, sizes[s][0], sizes[s][1], compute[t]);
    }
}

/* One matrix with the columns of gate and up. */
static void check_joined(device *d) {
    for (int s = 0; s < SIZES; s++) {
        int64_t rows = sizes[s][0], cols = sizes[s][1];
        for (int t = 0; t < 2; t++) {
            struct op_swiglu a = random_swiglu(rows, cols, compute[t]), joined = a;
            joined.gate = tensor(rows, 2 * cols, compute[t]);
            joined.dgate = tensor(rows, 2 * cols, DTYPE_F32);
            joined.y = tensor(rows, cols, compute[t]);
            joined.up = joined.dup = ABSENT;
            for (int64_t i = 0; i < elements(a.y); i++) {
                int64_t at = i / cols * 2 * cols + i % cols;
                set_element(joined.gate, at, element(a.gate, i));
                set_element(joined.gate, at + cols, element(a.up, i));
                set_element(joined.dgate, at, element(a.dgate, i));
                set_element(joined.dgate, at + cols, element(a.dup, i));
            }
            RUN(d, swiglu, a);
            RUN(d, swiglu, joined);
            RUN(d, swiglu_backward, a);
            joined.y_again = tensor(rows, cols, compute[t]);
            RUN(d, swiglu_backward, joined);
            check_same_bits("y again, joined", joined.y_again, joined.y);
            for (int64_t i = 0; i < elements(a.y); i++) {
                int64_t at = i / cols * 2 * cols + i % cols;
                double dgate = element(a.dgate, i), dup = element(a.dup, i), y = element(a.y, i);
                check_near("y, joined", joined.y, i, y, (RELATIVE + 2 * rounding(a.y.type)) * fabs(y) + SMALLEST);
                check_near("dgate, joined", joined.dgate, at, dgate, 4 * RELATIVE * (1 + fabs(dgate)));
                check_near("dup, joined", joined.dgate, at + cols, dup, 4 * RELATIVE * (1 + fabs(dup)));
            }
            release_tensors();
        }
    }
}

static double loss_at(double gate, double up, double dy) {
    return dy * gate * sigmoid(gate) * up;
}

/* Central differences in double; their error is about step^2 + 2^-53 / step. */
static void check_differences(device *d) {
    const double step = 1e-5;
    struct op_swiglu a = random_swiglu(7, 9, DTYPE_F32);
    for (int64_t i = 0; i < elements(a.gate); i++) set_element(a.gate, i, 3.0 * random_normal());
    memset(a.dgate.data, 0, view_bytes(a.dgate));
    memset(a.dup.data, 0, view_bytes(a.dup));
    RUN(d, swiglu_backward, a);
    for (int64_t i = 0; i < elements(a.dy); i++) {
        double gate = element(a.gate, i), up = element(a.up, i), dy = element(a.dy, i);
        double dgate = (loss_at(gate + step, up, dy) - loss_at(gate - step, up, dy)) / (2 * step);
        double dup = (loss_at(gate, up + step, dy) - loss_at(gate, up - step, dy)) / (2 * step);
        check_near("dgate", a.dgate, i, dgate, 2e-6 * (1.0 + fabs(dgate)));
        check_near("dup", a.dup, i, dup, 2e-6 * (1.0 + fabs(dup)));
    }
}

static void test_forward(void **state) {
    (void)state;
    check_everywhere(check_forward);
}

static void test_backward(void **state) {
    (void)state;
    check_everywhere(check_backward);
    check_everywhere(check_differences);
    check_everywhere(check_joined);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_backward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
