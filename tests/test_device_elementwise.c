/* add, accumulate and cast against double; the conversions for all 65536 half-precision patterns and around every
 * rounding boundary. */
#include "device_check.h"

static const int64_t sizes[][2] = {{1, 1}, {3, 17}, {1, 513}, {100, 3}, {211, 257}};
enum { SIZES = sizeof sizes / sizeof *sizes };
static const dtype floats[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};

static void check_add(device *d) {
    for (int s = 0; s < SIZES; s++) {
        view a = random_tensor(sizes[s][0], sizes[s][1], DTYPE_F32, 1.0);
        view b = random_tensor(a.rows, a.cols, DTYPE_F32, 1.0), y = tensor(a.rows, a.cols, DTYPE_F32);
        RUN(d, add, ((struct op_add){a, b, y}));
        for (int64_t i = 0; i < elements(y); i++) check_near("a + b", y, i, (float)(element(a, i) + element(b, i)), 0);
        RUN(d, add, ((struct op_add){a, b, a}));
        check_same_bits("a = a + b", a, y);
        RUN(d, add, ((struct op_add){y, y, y}));
        for (int64_t i = 0; i < elements(y); i++) check_near("y = y + y", y, i, 2 * element(a, i), 0);
        release_tensors();
    }
}

static void check_accumulate(device *d) {
    for (int s = 0; s < SIZES; s++) {
        for (int t = 0; t < 3; t++) {
            view src = random_tensor(sizes[s][0], sizes[s][1], floats[t], 1.0);
            view dst = random_tensor(src.rows, src.cols, DTYPE_F32, 1.0), before = copy_tensor(dst);
            RUN(d, accumulate, ((struct op_accumulate){src, dst, 1}));
            for (int64_t i = 0; i < elements(dst); i++) {
                check_near("dst += src", dst, i, (float)(element(before, i) + element(src, i)), 0);
            }
            release_tensors();
        }
    }
}

/* Product and sum may be rounded to f32 separately or once; the result is rounded to the type of dst. */
static void check_scaled(device *d) {
    const float scale = 0.3f;
    for (int pair = 0; pair < 6; pair++) {
        view src = random_tensor(31, 67, floats[pair / 2], 1.0);
        view dst = random_tensor(31, 67, floats[pair % 2], 1.0), before = copy_tensor(dst);
        RUN(d, accumulate, ((struct op_accumulate){src, dst, scale}));
        for (int64_t i = 0; i < elements(dst); i++) {
            double old = element(before, i), term = (double)scale * element(src, i), sum = old + term;
            double lost = F32_EPSILON * (fabs(term) + fabs(sum));
            if (dst.type == DTYPE_BF16) lost += rounding(DTYPE_BF16) * (fabs(sum) + lost);
            check_near("dst += scale src", dst, i, sum, lost);
        }
        release_tensors();
    }
}

static void check_cast(device *d) {
    for (int s = 0; s < SIZES; s++) {
        for (int pair = 0; pair < 9; pair++) {
            view src = random_tensor(sizes[s][0], sizes[s][1], floats[pair / 3], 10.0);
            view dst = tensor(src.rows, src.cols, floats[pair % 3]), want = tensor(src.rows, src.cols, dst.type);
            for (int64_t i = 0; i < elements(src); i++) set_element(want, i, element(src, i));
            RUN(d, cast, ((struct op_cast){src, dst}));
            check_same_bits("cast", dst, want);
            release_tensors();
        }
    }
}

static bool is_nan(view v, int64_t i) {
    return isnan(element(v, i));
}

/* Every pattern of a half type has the right value as f32, and converts back to itself. */
static void check_all_patterns(device *d) {
    for (int t = 1; t < 3; t++) {
        view half = tensor(256, 256, floats[t]), wide = tensor(256, 256, DTYPE_F32), back = tensor(256, 256, floats[t]);
        for (int i = 0; i < 65536; i++) ((uint16_t *)half.data)[i] = (uint16_t)i;
        RUN(d, cast, ((struct op_cast){half, wide}));
        RUN(d, cast, ((struct op_cast){wide, back}));
        for (int64_t i = 0; i < 65536; i++) {
            if (is_nan(half, i)) {
                assert_true(is_nan(wide, i) && is_nan(back, i));
                continue;
            }
            assert_true(element(wide, i) == element(half, i));
            assert_int_equal(signbit(element(wide, i)) != 0, i >> 15);
            assert_int_equal(((uint16_t *)back.data)[i], i);
        }
        release_tensors();
    }
}

/* f32 numbers at, just below and just above each pattern and each midpoint between neighbours, up to infinity and
 * beyond. */
static void check_boundaries(device *d) {
    for (int t = 1; t < 3; t++) {
        view wide = tensor(65536, 6, DTYPE_F32), half = tensor(65536, 6, floats[t]), one = tensor(1, 2, floats[t]);
        for (int64_t i = 0; i < 65536; i++) {
            uint16_t *pattern = one.data;
            pattern[0] = (uint16_t)i, pattern[1] = (uint16_t)(i + 1);
            float here = (float)element(one, 0), middle = (float)(0.5 * (element(one, 0) + element(one, 1)));
            float last = floats[t] == DTYPE_BF16 ? 0x1.ffp127f : 65520.0f; /* rounds to infinity */
            if (isinf(element(one, 1)) && !isinf(here)) middle = copysignf(last, here);
            float *out = (float *)wide.data + 6 * i;
            out[0] = here, out[1] = nextafterf(here, INFINITY), out[2] = nextafterf(here, -INFINITY);
            out[3] = middle, out[4] = nextafterf(middle, INFINITY), out[5] = nextafterf(middle, -INFINITY);
        }
        RUN(d, cast, ((struct op_cast){wide, half}));
        view want = tensor(1, 1, floats[t]);
        for (int64_t i = 0; i < elements(wide); i++) {
            set_element(want, 0, element(wide, i));
            if (isnan(element(wide, i)) && is_nan(half, i)) continue;
            uint16_t expected = *(uint16_t *)want.data, found = ((uint16_t *)half.data)[i];
            if (expected != found) {
                fail_msg("%a to %s: expected %04x, found %04x", element(wide, i), dtype_name(half.type), expected,
                         found);
            }
        }
        release_tensors();
    }
}

/* A sample of all f32 patterns, including NaNs with any payload, in both half types and between them. */
static void check_any_pattern(device *d) {
    enum { COUNT = 1 << 16 };
    for (int t = 1; t < 3; t++) {
        view wide = tensor(1, COUNT, DTYPE_F32), half = tensor(1, COUNT, floats[t]), want = tensor(1, 1, floats[t]);
        view other = tensor(1, COUNT, floats[3 - t]), other_want = tensor(1, 1, floats[3 - t]);
        for (uint32_t i = 0; i < COUNT; i++) ((uint32_t *)wide.data)[i] = i * 65539u + (i >> 3);
        RUN(d, cast, ((struct op_cast){wide, half}));
        RUN(d, cast, ((struct op_cast){half, other}));
        for (int64_t i = 0; i < COUNT; i++) {
            if (isnan(element(wide, i))) {
                assert_true(is_nan(half, i) && is_nan(other, i));
                continue;
            }
            set_element(want, 0, element(wide, i));
            set_element(other_want, 0, element(half, i));
            assert_int_equal(((uint16_t *)half.data)[i], *(uint16_t *)want.data);
            assert_int_equal(((uint16_t *)other.data)[i], *(uint16_t *)other_want.data);
        }
        release_tensors();
    }
}

static void test_add(void **state) {
    (void)state;
    check_everywhere(check_add);
}

static void test_accumulate(void **state) {
    (void)state;
    check_everywhere(check_accumulate);
    check_everywhere(check_scaled);
}

static void test_cast(void **state) {
    (void)state;
    check_everywhere(check_cast);
}

static void test_cast_patterns(void **state) {
    (void)state;
    check_everywhere(check_all_patterns);
    check_everywhere(check_boundaries);
    check_everywhere(check_any_pattern);
}

/* The reference conversion itself, for numbers with known rounding. */
static void test_reference(void **state) {
    (void)state;
    assert_int_equal(encode_half(1.0, 10, 15), 0x3c00);
    assert_int_equal(encode_half(65504.0, 10, 15), 0x7bff);
    assert_int_equal(encode_half(65519.99, 10, 15), 0x7bff);
    assert_int_equal(encode_half(65520.0, 10, 15), 0x7c00);
    assert_int_equal(encode_half(-0x1p-24, 10, 15), 0x8001);
    assert_int_equal(encode_half(0x1p-25, 10, 15), 0x0000);
    assert_int_equal(encode_half(0x1.000002p-25, 10, 15), 0x0001);
    assert_int_equal(encode_half(0x1.8p-24, 10, 15), 0x0002);
    assert_int_equal(encode_half(0x1.ffep-15, 10, 15), 0x0400);
    assert_int_equal(encode_half(3.140625, 7, 127), 0x4049);
    assert_int_equal(encode_half(0x1.01p0, 7, 127), 0x3f80);
    assert_int_equal(encode_half(0x1.03p0, 7, 127), 0x3f82);
    assert_int_equal(encode_half(0x1.ffp127, 7, 127), 0x7f80);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference), cmocka_unit_test(test_add),           cmocka_unit_test(test_accumulate),
        cmocka_unit_test(test_cast),      cmocka_unit_test(test_cast_patterns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
