/* RMSNorm forward and backward against double, for whole rows and for heads, in every data type. */
#include "device_check.h"

typedef struct shape {
    int64_t rows, cols, width;
} shape;
static const shape shapes[] = {{1, 1, 1}, {3, 17, 17}, {17, 6, 3}, {5, 1030, 1030}, {100, 100, 100}, {131, 384, 96}};
enum { SHAPES = sizeof shapes / sizeof *shapes };
static const dtype floats[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
static const float epsilon = 1e-5f;

static double inverse_rms(view x, int64_t begin, int64_t width) {
    double sum = 0;
    for (int64_t i = begin; i < begin + width; i++) sum += element(x, i) * element(x, i);
    return 1.0 / sqrt(sum / (double)width + (double)epsilon);
}

/* A sum of n squares in float has a relative error of at most n epsilon, and 1 / sqrt() halves it. */
static double rstd_error(int64_t width) {
    return ((double)width / 2 + 4) * F32_EPSILON;
}

static void check_forward(device *d) {
    for (int s = 0; s < SHAPES; s++) {
        for (int types = 0; types < 12; types++) {
            shape h = shapes[s];
            view x = random_tensor(h.rows, h.cols, floats[types % 2], 2.0);
            view weight = random_tensor(1, h.width, floats[types / 4], 1.0);
            view y = tensor(h.rows, h.cols, floats[types / 2 % 2]), rstd = tensor(h.rows, h.cols / h.width, DTYPE_F32);
            RUN(d, rms_norm, ((struct op_rms_norm){.x = x, .weight = weight, .y = y, .rstd = rstd, .eps = epsilon}));
            for (int64_t run = 0; run < elements(rstd); run++) {
                double want_rstd = inverse_rms(x, run * h.width, h.width);
                check_near("rstd", rstd, run, want_rstd, rstd_error(h.width) * want_rstd);
                for (int64_t i = run * h.width; i < (run + 1) * h.width; i++) {
                    double want = element(weight, i % h.width) * element(x, i) * want_rstd;
                    double error = rstd_error(h.width) + 2 * F32_EPSILON + rounding(y.type);
                    check_near("y", y, i, want, error * fabs(want));
                }
            }
            release_tensors();
        }
    }
}

/* Rows of zeros, and numbers whose squares nearly overflow float. */
static void check_extremes(device *d) {
    view x = tensor(3, 8, DTYPE_F32), weight = random_tensor(1, 8, DTYPE_F32, 1.0);
    view y = tensor(3, 8, DTYPE_F32), rstd = tensor(3, 1, DTYPE_F32);
    for (int64_t i = 0; i < 24; i++) set_element(x, i, i < 8 ? 0.0 : i < 16 ? 1e-18 * (double)i : 1e17 * (double)i);
    RUN(d, rms_norm, ((struct op_rms_norm){.x = x, .weight = weight, .y = y, .rstd = rstd, .eps = epsilon}));
    for (int64_t i = 0; i < 24; i++) {
        double want = element(weight, i % 8) * element(x, i) * inverse_rms(x, i / 8 * 8, 8);
        check_near("y", y, i, want, 16 * F32_EPSILON * fabs(want));
    }
}

/* ---------------------------------------------------------------- backward */

struct gradients {
    double *dx, *dweight;           /* the gradient to add */
    double *dx_size, *dweight_size; /* the same sum of absolute values, to which rounding is relative */
};

/* From the formula of y: with g = dy weight,  dx = rstd g - x rstd^3 mean(g x),  dweight = sum dy x rstd. */
static struct gradients reference(view x, view weight, view dy) {
    int64_t width = weight.cols;
    size_t n = (size_t)elements(x);
    struct gradients g = {calloc(n, 8), calloc((size_t)width, 8), calloc(n, 8), calloc((size_t)width, 8)};
    for (int64_t at = 0; at < elements(x); at += width) {
        double r = inverse_rms(x, at, width), mean = 0, mean_size = 0;
        for (int64_t c = 0; c < width; c++) {
            double term = element(dy, at + c) * element(weight, c) * element(x, at + c) / (double)width;
            mean += term, mean_size += fabs(term);
            g.dweight[c] += element(dy, at + c) * element(x, at + c) * r;
            g.dweight_size[c] += fabs(element(dy, at + c) * element(x, at + c) * r);
        }
        for (int64_t c = 0; c < width; c++) {
            double direct = r * element(dy, at + c) * element(weight, c), pull = element(x, at + c) * r * r * r;
            g.dx[at + c] = direct - pull * mean;
            g.dx_size[at + c] = fabs(direct) + fabs(pull) * mean_size;
        }
    }
    return g;
}

static void free_gradients(struct gradients g) {
    free(g.dx), free(g.dweight), free(g.dx_size), free(g.dweight_size);
}

/* Whatever gradients are wanted. */
static void check_again(device *d, struct op_rms_norm a) {
    static const dtype types[] = {DTYPE_F32, DTYPE_BF16};
    view dx = a.dx, dweight = a.dweight;
    for (int i = 0; i < 8; i++) {
        a.y = tensor(a.x.rows, a.x.cols, types[i / 4]);
        a.y_again = tensor(a.x.rows, a.x.cols, types[i / 4]);
        a.dx = i % 2 ? dx : ABSENT, a.dweight = i / 2 % 2 ? dweight : ABSENT;
        RUN(d, rms_norm, a);
        RUN(d, rms_norm_backward, a);
        check_same_bits("y again", a.y_again, a.y);
    }
}

static void check_backward_of(device *d, shape h, dtype x_type, dtype weight_type) {
    view x = random_tensor(h.rows, h.cols, x_type, 2.0), weight = random_tensor(1, h.width, weight_type, 1.0);
    view y = tensor(h.rows, h.cols, DTYPE_F32), rstd = tensor(h.rows, h.cols / h.width, DTYPE_F32);
    view dy = random_tensor(h.rows, h.cols, DTYPE_F32, 1.0);
    view dx = random_tensor(h.rows, h.cols, DTYPE_F32, 1.0), dx_before = copy_tensor(dx);
    view dweight = random_tensor(1, h.width, DTYPE_F32, 1.0), dweight_before = copy_tensor(dweight);
    struct op_rms_norm a = {.x = x, .weight = weight, .y = y, .rstd = rstd, .eps = epsilon, .dy = dy};
    RUN(d, rms_norm, a);
    a.dx = dx, a.dweight = dweight;
    RUN(d, rms_norm_backward, a);
    struct gradients g = reference(x, weight, dy);
    double relative = 4 * rstd_error(h.width) + (double)h.width * F32_EPSILON + 8 * F32_EPSILON;
    for (int64_t i = 0; i < elements(dx); i++) {
        double want = element(dx_before, i) + g.dx[i];
        check_near("dx", dx, i, want, relative * g.dx_size[i] + F32_EPSILON * fabs(want));
    }
    double runs = (double)elements(rstd);
    for (int64_t c = 0; c < h.width; c++) {
        double want = element(dweight_before, c) + g.dweight[c];
        double size = g.dweight_size[c] + fabs(element(dweight_before, c));
        check_near("dweight", dweight, c, want, (rstd_error(h.width) + (runs + 4) * F32_EPSILON) * size);
    }
    free_gradients(g);
    view dx_alone = copy_tensor(dx_before), dweight_alone = copy_tensor(dweight_before);
    a.dx = dx_alone, a.dweight = ABSENT;
    RUN(d, rms_norm_backward, a);
    check_same_bits("dx alone", dx_alone, dx);
    a.dx = ABSENT, a.dweight = dweight_alone;
    RUN(d, rms_norm_backward, a);
    check_same_bits("dweight alone", dweight_alone, dweight);
    a.dx = dx_alone;
    check_again(d, a);
    release_tensors();
}

static void check_backward(device *d) {
    for (int s = 0; s < SHAPES; s++) {
        for (int types = 0; types < 6; types++) check_backward_of(d, shapes[s], floats[types % 2], floats[types / 2]);
    }
}

/* ---------------------------------------------------------------- finite differences */

/* sum of dy * y, in double */
static double loss_of(view x, view weight, view dy) {
    double loss = 0;
    for (int64_t at = 0; at < elements(x); at += weight.cols) {
        double r = inverse_rms(x, at, weight.cols);
        for (int64_t c = 0; c < weight.cols; c++) {
            loss += element(dy, at + c) * element(weight, c) * element(x, at + c) * r;
        }
    }
    return loss;
}

/* Central differences of the loss in double; their error is about step^2 and 2^-53 / step. */
static void check_differences_of(const char *what, view got, view variable, view x, view weight, view dy) {
    const double step = 1e-5;
    for (int64_t i = 0; i < elements(variable); i++) {
        double value = element(variable, i);
        set_element(variable, i, value + step);
        double up = loss_of(x, weight, dy);
        set_element(variable, i, value - step);
        double down = loss_of(x, weight, dy);
        set_element(variable, i, value);
        check_near(what, got, i, (up - down) / (2 * step), 2e-6);
    }
}

static view widened(view v) {
    view wide = tensor(v.rows, v.cols, DTYPE_F64);
    for (int64_t i = 0; i < elements(v); i++) set_element(wide, i, element(v, i));
    return wide;
}

static void check_differences(device *d) {
    view x = random_tensor(4, 10, DTYPE_F32, 1.0), weight = random_tensor(1, 5, DTYPE_F32, 1.0);
    view dy = random_tensor(4, 10, DTYPE_F32, 1.0), y = tensor(4, 10, DTYPE_F32), rstd = tensor(4, 2, DTYPE_F32);
    view dx = tensor(4, 10, DTYPE_F32), dweight = tensor(1, 5, DTYPE_F32);
    memset(dx.data, 0, view_bytes(dx));
    memset(dweight.data, 0, view_bytes(dweight));
    struct op_rms_norm a = {x, weight, y, rstd, epsilon, dy, dx, dweight};
    RUN(d, rms_norm, a);
    RUN(d, rms_norm_backward, a);
    view x_wide = widened(x), weight_wide = widened(weight);
    check_differences_of("dx", dx, x_wide, x_wide, weight_wide, dy);
    check_differences_of("dweight", dweight, weight_wide, x_wide, weight_wide, dy);
}

static void test_forward(void **state) {
    (void)state;
    check_everywhere(check_forward);
    check_everywhere(check_extremes);
}

static void test_backward(void **state) {
    (void)state;
    check_everywhere(check_backward);
}

static void test_finite_differences(void **state) {
    (void)state;
    check_everywhere(check_differences);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_backward),
        cmocka_unit_test(test_finite_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
