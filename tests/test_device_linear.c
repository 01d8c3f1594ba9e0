/* linear and linear_backward against loops in double: every mix of types, few and many rows, odd sizes, the plain
 * entries of every feature level and the faster ones of the opened device. */
#include "device_check.h"

#include "device/open.h"

static const struct {
    int64_t rows, in, out;
} sizes[] = {{1, 1, 1},
             {1, 512, 37},
             {2, 33, 130},
             {3, 7, 5},
             {5, 300, 67},
             {8, 96, 41},
             {9, 5, 3},
             {13, 64, 64},
             {61, 17, 97},
             {130, 259, 7},
             {200, 3, 200},
             {19, 1030, 33},
             {401, 40, 31},
             {6, 96, 48} /* whole tiles of AMX, one group of rows */,
             {3, 3200, 32} /* two pieces of the depth */,
             {12, 1024, 80} /* two groups */,
             {9, 4096, 600}};
enum {
    SIZES = sizeof sizes / sizeof *sizes - 1,
    PANELS = SIZES /* more than a panel of onednn.c; for grouped weights */
};

/* For each size in turn: compute type, weight, bias, y. */
static const struct {
    dtype x, weight, bias, y;
    bool has_bias;
} types[] = {
    {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32, true},     {DTYPE_F32, DTYPE_BF16, DTYPE_BF16, DTYPE_F32, true},
    {DTYPE_F32, DTYPE_F16, DTYPE_F32, DTYPE_F32, false},    {DTYPE_BF16, DTYPE_F32, DTYPE_F32, DTYPE_BF16, true},
    {DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, true}, {DTYPE_BF16, DTYPE_BF16, DTYPE_F32, DTYPE_F32, false},
    {DTYPE_BF16, DTYPE_F16, DTYPE_F16, DTYPE_F32, true},    {DTYPE_F32, DTYPE_INT8, DTYPE_F32, DTYPE_F32, true},
    {DTYPE_BF16, DTYPE_INT8, DTYPE_BF16, DTYPE_BF16, true}, {DTYPE_F32, DTYPE_INT4, DTYPE_F32, DTYPE_F32, false},
    {DTYPE_BF16, DTYPE_INT4, DTYPE_F32, DTYPE_BF16, true},
};
enum { TYPES = sizeof types / sizeof *types };

static double *doubles(view v) {
    double *x = malloc((size_t)elements(v) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < elements(v); i++) x[i] = element(v, i);
    return x;
}

/* got[r][c] = before + sum over k of a[r][k] b[c][k], within the epsilon of f32 per term, the rounding of the result,
 * and the rounding of operands. a[r][k] is at r * a_row + k * a_step; the same for b. */
struct expected {
    const double *a, *b, *before; /* before: of row r and column c, or of column c alone (a bias), or NULL */
    int64_t a_row, a_step, b_row, b_step, depth, before_row;
    double products_rounding, before_rounding; /* relative */
    bool grouped;                              /* y, with a weight in a grouped format */
};

static void check_product(const char *what, view got, const struct expected *e) {
    for (int64_t r = 0; r < got.rows; r++)
        for (int64_t c = 0; c < got.cols; c++) {
            double want = e->before ? e->before[r * e->before_row + c] : 0, size = fabs(want), products = 0;
            double error = e->before_rounding * fabs(want);
            for (int64_t k = 0; k < e->depth; k++) {
                double term = e->a[r * e->a_row + k * e->a_step] * e->b[c * e->b_row + k * e->b_step];
                want += term, products += fabs(term);
            }
            size += products;
            if (e->grouped) error += group_rounding(e->a + r * e->a_row, e->b + c * e->b_row, e->depth);
            check_near(what, got, r * got.cols + c, want,
                       F32_EPSILON * (double)(e->depth + 2) * size + e->products_rounding * products + error +
                           rounding(got.type) * fabs(want));
        }
}

static void check_forward(device *d, int s, int t) {
    int64_t rows = sizes[s].rows, in = sizes[s].in, out = sizes[s].out;
    struct op_linear a = {.x = random_tensor(rows, in, types[t].x, 1.0),
                          .weight = random_tensor(out, in, types[t].weight, 1.0),
                          .bias = types[t].has_bias ? random_tensor(1, out, types[t].bias, 1.0) : ABSENT,
                          .y = tensor(rows, out, types[t].y)};
    RUN(d, linear, a);
    double *x = doubles(a.x), *weight = doubles(a.weight), *bias = types[t].has_bias ? doubles(a.bias) : NULL;
    struct expected y = {.a = x, .a_row = in, .a_step = 1, .b = weight, .b_row = in, .b_step = 1, .depth = in};
    y.before = bias, y.grouped = is_grouped(a.weight.type);
    if (a.weight.type != a.x.type) y.products_rounding = operand_rounding(d, a.x.type);
    if (a.bias.type != a.y.type) y.before_rounding = operand_rounding(d, a.y.type);
    check_product("y", a.y, &y);
    view first = a.y;
    a.y = tensor(rows, out, types[t].y);
    RUN(d, linear, a);
    check_same_bits("y, again", a.y, first);
    free(x), free(weight), free(bias);
    release_tensors();
}

static void check_dbias(const struct op_linear *a, view dbias, const double *before, const double *dy) {
    for (int64_t c = 0; c < dbias.cols; c++) {
        double want = before[c], size = fabs(want);
        for (int64_t r = 0; r < a->dy.rows; r++) want += dy[r * dbias.cols + c], size += fabs(dy[r * dbias.cols + c]);
        check_near("dbias", dbias, c, want, F32_EPSILON * (double)(a->dy.rows + 1) * size);
    }
}

static void check_backward(device *d, int s, int t) {
    int64_t rows = sizes[s].rows, in = sizes[s].in, out = sizes[s].out;
    struct op_linear a = {.x = random_tensor(rows, in, types[t].x, 1.0),
                          .weight = random_tensor(out, in, types[t].weight, 1.0),
                          .dy = random_tensor(rows, out, DTYPE_F32, 1.0),
                          .dx = random_tensor(rows, in, DTYPE_F32, 1.0),
                          .dweight = random_tensor(out, in, DTYPE_F32, 1.0),
                          .dbias = random_tensor(1, out, DTYPE_F32, 1.0)};
    view start[] = {copy_tensor(a.dx), copy_tensor(a.dweight), copy_tensor(a.dbias)};
    double *x = doubles(a.x), *weight = doubles(a.weight), *dy = doubles(a.dy), *before[3];
    for (int i = 0; i < 3; i++) before[i] = doubles(start[i]);
    RUN(d, linear_backward, a);
    struct expected dx = {.a = dy, .a_row = out, .a_step = 1, .b = weight, .b_row = 1, .b_step = in, .depth = out};
    dx.before = before[0], dx.before_row = in, dx.products_rounding = 2 * operand_rounding(d, a.x.type);
    check_product("dx", a.dx, &dx);
    struct expected dweight = {.a = dy, .a_row = 1, .a_step = out, .b = x, .b_row = 1, .b_step = in, .depth = rows};
    dweight.before = before[1], dweight.before_row = in, dweight.products_rounding = operand_rounding(d, a.x.type);
    check_product("dweight", a.dweight, &dweight);
    check_dbias(&a, a.dbias, before[2], dy);
    view all[] = {a.dx, a.dweight, a.dbias}, *each[] = {&a.dx, &a.dweight, &a.dbias};
    for (int i = 0; i < 6; i++) { /* each gradient alone has the same bits, also with a workspace for all calls */
        if (i == 3) a.dy_rounded = tensor(rows, out, a.x.type);
        a.dy_rounded.fresh = i == 3;
        a.dx = a.dweight = a.dbias = ABSENT;
        *each[i % 3] = copy_tensor(start[i % 3]);
        RUN(d, linear_backward, a);
        check_same_bits("a gradient alone", *each[i % 3], all[i % 3]);
    }
    for (int i = 0; i < 3; i++) free(before[i]);
    free(x), free(weight), free(dy);
    release_tensors();
}

static void check_linear(device *d) {
    for (int s = 0; s < SIZES; s++)
        for (int t = 0; t < TYPES; t++) {
            if (is_grouped(types[t].weight) && !(d->formats.linear & DTYPE_BIT(types[t].weight))) continue;
            check_forward(d, s, t);
            check_backward(d, s, t);
        }
}

static void test_levels(void **state) {
    (void)state;
    check_everywhere(check_linear);
}

/* The device opened by name: with oneDNN if it was built in. */
static void test_opened(void **state) {
    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        device d = {0};
        assert_int_equal(cpu_open(&d, threads), LCKV_OK);
        check_linear(&d);
        for (int t = 0; t < TYPES; t++) {
            if (!is_grouped(types[t].weight)) continue;
            check_forward(&d, PANELS, t);
            check_backward(&d, PANELS, t);
        }
        d.memory.close(&d);
    }
}

/* More shapes than the cache of primitives holds: that of the first shape is created again, with the same result. */
static void test_many_shapes(void **state) {
    (void)state;
    device d = {0};
    assert_int_equal(cpu_open(&d, 1), LCKV_OK);
    view x = random_tensor(200, 16, DTYPE_F32, 1.0), weight = random_tensor(8, 16, DTYPE_F32, 1.0);
    view first = tensor(9, 8, DTYPE_F32), y = tensor(200, 8, DTYPE_F32);
    for (int64_t rows = 9; rows <= 200; rows++) {
        struct op_linear a = {.x = x, .weight = weight, .y = rows == 9 ? first : y};
        a.x.rows = a.y.rows = rows;
        RUN(&d, linear, a);
    }
    y.rows = x.rows = 9;
    struct op_linear again = {.x = x, .weight = weight, .y = y};
    RUN(&d, linear, again);
    check_same_bits("the first shape, again", first, y);
    release_tensors();
    d.memory.close(&d);
}

/* A matrix that is larger than a block of the packed product in every dimension. */
static void check_large(device *d) {
    view x = random_tensor(801, 530, DTYPE_F32, 1.0), weight = random_tensor(809, 530, DTYPE_F32, 1.0);
    view y = tensor(801, 809, DTYPE_F32);
    struct op_linear a = {.x = x, .weight = weight, .y = y};
    RUN(d, linear, a);
    for (int i = 0; i < 2000; i++) {
        int64_t r = random_below(801), c = random_below(809);
        double want = 0, size = 0;
        for (int64_t k = 0; k < 530; k++) {
            double term = (double)((float *)x.data)[r * 530 + k] * (double)((float *)weight.data)[c * 530 + k];
            want += term, size += fabs(term);
        }
        check_near("y", y, r * 809 + c, want, F32_EPSILON * 532 * size);
    }
    for (int64_t i = 0; i < elements(y); i++) assert_false(isnan(((float *)y.data)[i]));
}

static void test_large(void **state) {
    (void)state;
    check_everywhere(check_large);
}

/* A NaN or an infinity in x must not become a plausible number when x is rounded in groups. */
static void check_spoiled(device *d) {
    static const float spoiled[] = {NAN, INFINITY, -INFINITY};
    for (int type = DTYPE_INT8; type <= DTYPE_INT4; type++)
        for (int i = 0; i < 3 && (d->formats.linear & DTYPE_BIT(type)); i++) {
            struct op_linear a = {.x = random_tensor(2, 100, DTYPE_F32, 1.0),
                                  .weight = random_tensor(5, 100, (dtype)type, 1.0),
                                  .y = tensor(2, 5, DTYPE_F32)};
            ((float *)a.x.data)[97] = spoiled[i];
            RUN(d, linear, a);
            for (int64_t o = 0; o < 5; o++) {
                assert_false(isfinite(element(a.y, o)));
                assert_true(isfinite(element(a.y, 5 + o)));
            }
            release_tensors();
        }
}

static void test_spoiled(void **state) {
    (void)state;
    check_everywhere(check_spoiled);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels), cmocka_unit_test(test_opened),  cmocka_unit_test(test_many_shapes),
        cmocka_unit_test(test_large),  cmocka_unit_test(test_spoiled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
