/* linear_cross_entropy against loops in double and finite differences: every mix of types, negative labels, absent
 * outputs, and more rows than one block of logits holds. */
#include "device_check.h"

#include "device/open.h"

static const struct {
    int64_t rows, hidden, vocab;
} sizes[] = {{1, 8, 5}, {3, 17, 301}, {8, 64, 33}, {9, 5, 2}, {37, 33, 130}, {70, 12, 1000}};
enum { SIZES = sizeof sizes / sizeof *sizes };

static const dtype types[][2] = {{DTYPE_F32, DTYPE_F32},  {DTYPE_F32, DTYPE_BF16},  {DTYPE_F32, DTYPE_F16},
                                 {DTYPE_BF16, DTYPE_F32}, {DTYPE_BF16, DTYPE_BF16}, {DTYPE_BF16, DTYPE_F16},
                                 {DTYPE_F32, DTYPE_INT8}, {DTYPE_BF16, DTYPE_INT8}, {DTYPE_F32, DTYPE_INT4},
                                 {DTYPE_BF16, DTYPE_INT4}};
enum { TYPES = sizeof types / sizeof *types };

/* Random tensors of a size. The loss and the gradients do not start at zero. */
static struct op_linear_cross_entropy make_case(int64_t rows, int64_t hidden, int64_t vocab, dtype x, dtype weight) {
    struct op_linear_cross_entropy a = {.x = random_tensor(rows, hidden, x, 1.0),
                                        .weight = random_tensor(vocab, hidden, weight, 1.0),
                                        .labels = tensor(rows, 1, DTYPE_I32),
                                        .scale = tensor(1, 1, DTYPE_F32),
                                        .loss = tensor(1, 1, DTYPE_F64),
                                        .nll = tensor(rows, 1, DTYPE_F32),
                                        .correct = tensor(rows, 1, DTYPE_I32),
                                        .dx = random_tensor(rows, hidden, DTYPE_F32, 1.0),
                                        .dweight = random_tensor(vocab, hidden, DTYPE_F32, 1.0)};
    for (int64_t r = 0; r < rows; r++) set_element(a.labels, r, r % 5 == 3 ? -100 : (double)random_below(vocab));
    set_element(a.scale, 0, 0.37);
    set_element(a.loss, 0, 2.5);
    return a;
}

/* ---------------------------------------------------------------- the reference */

/* Softmax of every row, its loss, and the error of f32 logits. */
struct reference {
    double *x, *weight, *p, *nll, *error;
};

/* Relative rounding of the weight on the device: conversion to the compute type. */
static double weight_rounding(const device *d, const struct op_linear_cross_entropy *a) {
    return a->weight.type != a->x.type ? operand_rounding(d, a->x.type) : 0;
}

/* rounded: relative error of rounding the weight to the compute type. */
static struct reference make_reference(const struct op_linear_cross_entropy *a, double rounded) {
    int64_t rows = a->x.rows, hidden = a->x.cols, vocab = a->weight.rows;
    struct reference f = {calloc((size_t)elements(a->x), 8), calloc((size_t)elements(a->weight), 8),
                          calloc((size_t)(rows * vocab), 8), calloc((size_t)rows, 8), calloc((size_t)rows, 8)};
    for (int64_t i = 0; i < elements(a->x); i++) f.x[i] = element(a->x, i);
    for (int64_t i = 0; i < elements(a->weight); i++) f.weight[i] = element(a->weight, i);
    for (int64_t r = 0; r < rows; r++) {
        double largest = -(double)INFINITY, sum = 0, *p = f.p + r * vocab;
        int32_t label = ((int32_t *)a->labels.data)[r];
        for (int64_t v = 0; v < vocab; v++) {
            double size = 0;
            for (int64_t k = 0; k < hidden; k++) {
                double term = f.x[r * hidden + k] * f.weight[v * hidden + k];
                p[v] += term, size += fabs(term);
            }
            largest = fmax(largest, p[v]);
            double error = (F32_EPSILON * (double)(hidden + 2) + rounded) * size;
            if (is_grouped(a->weight.type)) error += group_rounding(f.x + r * hidden, f.weight + v * hidden, hidden);
            f.error[r] = fmax(f.error[r], error);
        }
        double own = label >= 0 ? p[label] : 0;
        for (int64_t v = 0; v < vocab; v++) sum += p[v] = exp(p[v] - largest);
        for (int64_t v = 0; v < vocab; v++) p[v] /= sum;
        f.nll[r] = label >= 0 ? largest + log(sum) - own : 0;
    }
    return f;
}

static void free_reference(struct reference *f) {
    free(f->x), free(f->weight), free(f->p), free(f->nll), free(f->error);
}

/* d loss / d logit and its error: the error of the weight, one rounding of exp and of the factor, and the rounding of
 * operands on the device. */
static double logit_gradient(const device *d, const struct op_linear_cross_entropy *a, const struct reference *f,
                             int64_t r, int64_t v, double *error) {
    int32_t label = ((int32_t *)a->labels.data)[r];
    double scale = element(a->scale, 0), p = f->p[r * a->weight.rows + v];
    *error = label < 0 ? 0 : scale * p * (2 * f->error[r] + 8 * F32_EPSILON) + (v == label ? scale * F32_EPSILON : 0);
    double gradient = label < 0 ? 0 : scale * (p - (v == label));
    *error += (operand_rounding(d, a->x.type) + weight_rounding(d, a)) * fabs(gradient);
    return gradient;
}

/* ---------------------------------------------------------------- checks */

static void check_losses(const struct op_linear_cross_entropy *a, const struct reference *f) {
    double want = 2.5, error = 0, scale = element(a->scale, 0);
    for (int64_t r = 0; r < a->x.rows; r++) {
        int32_t label = ((int32_t *)a->labels.data)[r];
        const double *p = f->p + r * a->weight.rows;
        double row_error = 2 * f->error[r] + 4 * F32_EPSILON * (1 + fabs(f->nll[r])), largest = 0;
        check_near("nll", a->nll, r, f->nll[r], label < 0 ? 0 : row_error);
        want += scale * f->nll[r], error += scale * row_error;
        for (int64_t v = 0; v < a->weight.rows; v++) largest = fmax(largest, p[v]);
        bool close = label >= 0 && p[label] != largest && log(largest / p[label]) <= 2 * f->error[r];
        if (!close) check_near("correct", a->correct, r, label >= 0 && p[label] == largest, 0);
    }
    check_near("loss", a->loss, 0, want, error);
}

static void check_dx(const device *d, const struct op_linear_cross_entropy *a, const struct reference *f, view before) {
    int64_t hidden = a->x.cols, vocab = a->weight.rows;
    for (int64_t r = 0; r < a->x.rows; r++)
        for (int64_t k = 0; k < hidden; k++) {
            double want = element(before, r * hidden + k), size = fabs(want), error = 0, one;
            for (int64_t v = 0; v < vocab; v++) {
                double weight = f->weight[v * hidden + k], term = weight * logit_gradient(d, a, f, r, v, &one);
                want += term, size += fabs(term), error += one * fabs(weight);
            }
            check_near("dx", a->dx, r * hidden + k, want, error + F32_EPSILON * (double)(vocab + 2) * size);
        }
}

static void check_dweight(const device *d, const struct op_linear_cross_entropy *a, const struct reference *f,
                          view before) {
    int64_t hidden = a->x.cols;
    for (int64_t v = 0; v < a->weight.rows; v++)
        for (int64_t k = 0; k < hidden; k++) {
            double want = element(before, v * hidden + k), size = fabs(want), error = 0, one;
            for (int64_t r = 0; r < a->x.rows; r++) {
                double x = f->x[r * hidden + k], term = x * logit_gradient(d, a, f, r, v, &one);
                want += term, size += fabs(term), error += one * fabs(x);
            }
            check_near("dweight", a->dweight, v * hidden + k, want,
                       error + F32_EPSILON * (double)(a->x.rows + 2) * size);
        }
}

static void check_case(device *d, int s, int t) {
    struct op_linear_cross_entropy a =
        make_case(sizes[s].rows, sizes[s].hidden, sizes[s].vocab, types[t][0], types[t][1]);
    view dx = copy_tensor(a.dx), dweight = copy_tensor(a.dweight), start = copy_tensor(a.loss);
    struct reference f = make_reference(&a, weight_rounding(d, &a));
    RUN(d, linear_cross_entropy, a);
    check_losses(&a, &f);
    check_dx(d, &a, &f, dx);
    check_dweight(d, &a, &f, dweight);
    view nll = a.nll, loss = a.loss, with_dx = a.dx, with_dweight = a.dweight;
    a.nll = a.correct = a.dx = ABSENT; /* with fewer outputs, the same bits */
    a.loss = copy_tensor(start), a.dweight = copy_tensor(dweight);
    RUN(d, linear_cross_entropy, a);
    check_same_bits("loss, again", a.loss, loss);
    check_same_bits("dweight alone", a.dweight, with_dweight);
    a.loss = a.dweight = ABSENT, a.dx = copy_tensor(dx), a.nll = tensor(a.x.rows, 1, DTYPE_F32);
    RUN(d, linear_cross_entropy, a);
    check_same_bits("dx alone", a.dx, with_dx);
    check_same_bits("nll, again", a.nll, nll);
    a.dx = ABSENT, a.nll = tensor(a.x.rows, 1, DTYPE_F32);
    RUN(d, linear_cross_entropy, a);
    check_same_bits("nll without gradients", a.nll, nll);
    free_reference(&f);
    release_tensors();
}

static void check_cross_entropy(device *d) {
    for (int s = 0; s < SIZES; s++)
        for (int t = 0; t < TYPES; t++) {
            if (is_grouped(types[t][1]) && !(d->formats.linear_cross_entropy & DTYPE_BIT(types[t][1]))) continue;
            check_case(d, s, t);
        }
}

static void test_levels(void **state) {
    (void)state;
    check_everywhere(check_cross_entropy);
}

static void test_opened(void **state) {
    (void)state;
    device d = {0};
    assert_int_equal(cpu_open(&d, 2), LCKV_OK);
    check_cross_entropy(&d);
    d.memory.close(&d);
}

static double reference_loss(const struct op_linear_cross_entropy *a) {
    struct reference f = make_reference(a, 0);
    double loss = 0;
    for (int64_t r = 0; r < a->x.rows; r++) loss += element(a->scale, 0) * f.nll[r];
    free_reference(&f);
    return loss;
}

/* Gradients against finite differences: x and weight change by steps that f32 represents exactly. */
static void check_slopes(const struct op_linear_cross_entropy *a, view of, view gradient) {
    const float step = 0x1p-10f;
    for (int64_t i = 0; i < elements(of); i++) {
        float *x = (float *)of.data + i, at = *x, above = at + step, below = at - step;
        *x = above;
        double loss = reference_loss(a);
        *x = below;
        double slope = (loss - reference_loss(a)) / ((double)above - (double)below);
        *x = at;
        check_near("slope", gradient, i, slope, 4e-6); /* step^2 times a third derivative of about 4 */
    }
}

static void test_slopes(void **state) {
    (void)state;
    device d = {0};
    assert_int_equal(cpu_open(&d, 1), LCKV_OK);
    struct op_linear_cross_entropy a = make_case(6, 4, 9, DTYPE_F32, DTYPE_F32);
    memset(a.dx.data, 0, view_bytes(a.dx));
    memset(a.dweight.data, 0, view_bytes(a.dweight));
    RUN(&d, linear_cross_entropy, a);
    check_slopes(&a, a.x, a.dx);
    check_slopes(&a, a.weight, a.dweight);
    release_tensors();
    d.memory.close(&d);
}

/* If logits are equal, the first is the largest. */
static void test_ties(void **state) {
    (void)state;
    device d = {0};
    assert_int_equal(cpu_open(&d, 1), LCKV_OK);
    struct op_linear_cross_entropy a = make_case(12, 8, 7, DTYPE_F32, DTYPE_F32);
    memset(a.weight.data, 0, view_bytes(a.weight));
    for (int32_t r = 0; r < 12; r++) ((int32_t *)a.labels.data)[r] = r % 7;
    RUN(&d, linear_cross_entropy, a);
    for (int32_t r = 0; r < 12; r++) {
        assert_int_equal(((int32_t *)a.correct.data)[r], r % 7 == 0);
        check_near("nll", a.nll, r, log(7), 4 * F32_EPSILON * log(7));
    }
    release_tensors();
    d.memory.close(&d);
}

/* 1000 rows of 20011 logits are three blocks; 250 rows are one block. */
static void test_pieces(void **state) {
    (void)state;
    device d = {0};
    assert_int_equal(cpu_open(&d, 2), LCKV_OK);
    struct op_linear_cross_entropy whole = make_case(1000, 4, 20011, DTYPE_F32, DTYPE_F32), part = whole;
    view dx = copy_tensor(whole.dx), dweight = copy_tensor(whole.dweight), nll = tensor(1000, 1, DTYPE_F32);
    part.dweight = dweight, part.loss = ABSENT, part.correct = ABSENT;
    RUN(&d, linear_cross_entropy, whole);
    for (int64_t r = 0; r < 1000; r += 250) {
        part.x = (view){cpu_row(whole.x, r), 250, 4, DTYPE_F32}, part.dx = (view){cpu_row(dx, r), 250, 4, DTYPE_F32};
        part.labels = (view){cpu_row(whole.labels, r), 250, 1, DTYPE_I32};
        part.nll = (view){cpu_row(nll, r), 250, 1, DTYPE_F32};
        RUN(&d, linear_cross_entropy, part);
    }
    double loss = 2.5;
    for (int64_t r = 0; r < 1000; r++) {
        check_near("nll", nll, r, element(whole.nll, r), 1e-5);
        loss += element(whole.scale, 0) * element(whole.nll, r);
    }
    check_near("loss", whole.loss, 0, loss, 1000 * 1e-6);
    /* logits up to about 20: errors of a sum of 4 terms, twice, in sums whose terms add up to about 1 and 4 */
    for (int64_t i = 0; i < elements(dx); i++) check_near("dx", dx, i, element(whole.dx, i), 1e-4);
    for (int64_t i = 0; i < elements(dweight); i++) check_near("dweight", dweight, i, element(whole.dweight, i), 1e-4);
    release_tensors();
    d.memory.close(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels), cmocka_unit_test(test_opened), cmocka_unit_test(test_slopes),
        cmocka_unit_test(test_ties),   cmocka_unit_test(test_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
