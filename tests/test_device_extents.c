/* Every op at every combination of extents of 0, 1 and more, at every CPU feature level, with the device opened by
 * name, and on a GPU. Outputs start as NaN (device_check.h), so that an unwritten element fails; gradients start as
 * numbers. The references are plain sums; an empty sum is 0 (device.h). */
#include "extents_attention.h"
#include "extents_layers.h"

#include "device/open.h"

enum { MAX_EXTENTS = 5, CHOICES = 3 };
static const dtype computes[] = {DTYPE_F32, DTYPE_BF16};

/* ---------------------------------------------------------------- rows */

/* dst[r] = src[index[r]] */
static void expect_rows(view dst, view src, const int32_t *index) {
    for (int64_t i = 0; i < elements(dst); i++)
        check_near("a row", dst, i, of_row(src, index[i / dst.cols], i % dst.cols), 0);
}

/* dst[index[r]] = before + sum of src[r] */
static void expect_sums(view dst, view before, view src, const int32_t *index) {
    for (int64_t i = 0; i < elements(dst); i++) {
        double want = element(before, i), size = fabs(want);
        for (int64_t r = 0; r < src.rows; r++) {
            if (index[r] != i / dst.cols) continue;
            double x = element(src, r * src.cols + i % dst.cols);
            want += x, size += fabs(x);
        }
        check_near("a sum of rows", dst, i, want, 64 * F32_EPSILON * size);
    }
}

static void check_embed(device *d, const int64_t *e) {
    struct op_embed a = {.ids = integers(e[0], DTYPE_I32, e[1]),
                         .table = random_tensor(e[1], e[2], weight_type, 1.0),
                         .out = tensor(e[0], e[2], DTYPE_F32)};
    RUN(d, embed, a);
    expect_rows(a.out, a.table, a.ids.data);
}

static void check_embed_backward(device *d, const int64_t *e) {
    struct op_embed a = {
        .ids = integers(e[0], DTYPE_I32, e[1]), .dout = gradient(e[0], e[2]), .dtable = gradient(e[1], e[2])};
    view before = copy_tensor(a.dtable);
    RUN(d, embed_backward, a);
    expect_sums(a.dtable, before, a.dout, a.ids.data);
}

static void check_gather_rows(device *d, const int64_t *e) {
    struct op_gather_rows a = {.src = random_tensor(e[1], e[2], compute, 1.0),
                               .index = integers(e[0], DTYPE_I32, e[1]),
                               .dst = tensor(e[0], e[2], compute)};
    RUN(d, gather_rows, a);
    expect_rows(a.dst, a.src, a.index.data);
}

static void check_gather_rows_backward(device *d, const int64_t *e) {
    struct op_gather_rows a = {
        .index = integers(e[0], DTYPE_I32, e[1]), .ddst = gradient(e[0], e[2]), .dsrc = gradient(e[1], e[2])};
    view before = copy_tensor(a.dsrc);
    RUN(d, gather_rows_backward, a);
    expect_sums(a.dsrc, before, a.ddst, a.index.data);
}

/* No two rows share an index: row r goes to r - 1, the first one nowhere. */
static view shifted(int64_t rows) {
    view index = tensor(rows, 1, DTYPE_I64);
    for (int64_t r = 0; r < rows; r++) ((int64_t *)index.data)[r] = r - 1;
    return index;
}

static void check_scatter_rows(device *d, const int64_t *e) {
    struct op_scatter_rows a = {.src = random_tensor(e[0], e[2], DTYPE_F32, 1.0),
                                .index = shifted(e[0]),
                                .dst = random_tensor(e[1], e[2], DTYPE_F32, 1.0)};
    view before = copy_tensor(a.dst);
    RUN(d, scatter_rows, a);
    for (int64_t i = 0; i < elements(a.dst); i++) {
        int64_t from = i / a.dst.cols + 1;
        double want = from < e[0] ? of_row(a.src, from, i % a.dst.cols) : element(before, i);
        check_near("a scattered row", a.dst, i, want, 0);
    }
}

static void check_scatter_rows_backward(device *d, const int64_t *e) {
    struct op_scatter_rows a = {.index = shifted(e[0]), .dsrc = gradient(e[0], e[2]), .ddst = gradient(e[1], e[2])};
    view before = copy_tensor(a.dsrc);
    RUN(d, scatter_rows_backward, a);
    for (int64_t i = 0; i < elements(a.dsrc); i++) {
        double want = element(before, i) + of_row(a.ddst, i / a.dsrc.cols - 1, i % a.dsrc.cols);
        check_near("a collected row", a.dsrc, i, want, F32_EPSILON * fabs(want));
    }
}

/* ---------------------------------------------------------------- products */

static double product_error(int64_t depth) {                   /* of operands near 1, which may be rounded too */
    double groups = is_grouped(weight_type) ? 4 * 0x1p-15 : 0; /* group_rounding(), for values up to 4 */
    return (4 * rounding(compute) + 64 * F32_EPSILON + groups) * 4 * (double)(depth + 1);
}

static void check_linear(device *d, const int64_t *e) {
    struct op_linear a = {.x = random_tensor(e[0], e[1], compute, 1.0),
                          .weight = random_tensor(e[2], e[1], weight_type, 1.0),
                          .y = tensor(e[0], e[2], compute)};
    for (int biased = 0; biased < 2; biased++) {
        if (biased) a.bias = random_tensor(1, e[2], compute, 1.0), a.y = tensor(e[0], e[2], compute);
        RUN(d, linear, a);
        for (int64_t i = 0; i < elements(a.y); i++) {
            double want = biased ? element(a.bias, i % e[2]) : 0;
            for (int64_t k = 0; k < e[1]; k++)
                want += element(a.x, i / e[2] * e[1] + k) * element(a.weight, i % e[2] * e[1] + k);
            check_near(biased ? "y with bias" : "y", a.y, i, want, e[1] > 0 ? product_error(e[1]) : 0);
        }
    }
}

static void check_linear_backward(device *d, const int64_t *e) {
    struct op_linear a = {.x = random_tensor(e[0], e[1], compute, 1.0),
                          .weight = random_tensor(e[2], e[1], weight_type, 1.0),
                          .dy = gradient(e[0], e[2]),
                          .dx = gradient(e[0], e[1]),
                          .dweight = gradient(e[2], e[1]),
                          .dbias = gradient(1, e[2])};
    view dx = copy_tensor(a.dx), dweight = copy_tensor(a.dweight), dbias = copy_tensor(a.dbias);
    RUN(d, linear_backward, a);
    for (int64_t i = 0; i < elements(a.dx); i++) {
        double want = element(dx, i);
        for (int64_t o = 0; o < e[2]; o++)
            want += element(a.dy, i / e[1] * e[2] + o) * element(a.weight, o * e[1] + i % e[1]);
        check_near("dx", a.dx, i, want, e[2] > 0 ? product_error(e[2]) : 0);
    }
    for (int64_t i = 0; i < elements(a.dweight); i++) {
        double want = element(dweight, i);
        for (int64_t r = 0; r < e[0]; r++)
            want += element(a.dy, r * e[2] + i / e[1]) * element(a.x, r * e[1] + i % e[1]);
        check_near("dweight", a.dweight, i, want, e[0] > 0 ? product_error(e[0]) : 0);
    }
    for (int64_t c = 0; c < e[2]; c++) {
        double want = element(dbias, c);
        for (int64_t r = 0; r < e[0]; r++) want += element(a.dy, r * e[2] + c);
        check_near("dbias", a.dbias, c, want, 1e-5);
    }
}

/* The logits of row r as double, and their logsumexp. */
static double logits_of(const struct op_linear_cross_entropy *a, int64_t r, double *logits) {
    double sum = 0;
    for (int64_t o = 0; o < a->weight.rows; o++) {
        logits[o] = 0;
        for (int64_t k = 0; k < a->x.cols; k++)
            logits[o] += element(a->x, r * a->x.cols + k) * element(a->weight, o * a->x.cols + k);
        sum += exp(logits[o]);
    }
    return log(sum);
}

static void check_linear_cross_entropy(device *d, const int64_t *e) {
    struct op_linear_cross_entropy a = {.x = random_tensor(e[0], e[1], compute, 0.3),
                                        .weight = random_tensor(e[2], e[1], weight_type, 0.3),
                                        .labels = integers(e[0], DTYPE_I32, e[2]),
                                        .scale = tensor(1, 1, DTYPE_F32),
                                        .loss = tensor(1, 1, DTYPE_F64),
                                        .nll = tensor(e[0], 1, DTYPE_F32),
                                        .correct = tensor(e[0], 1, DTYPE_I32),
                                        .dx = gradient(e[0], e[1]),
                                        .dweight = gradient(e[2], e[1])};
    view dx = copy_tensor(a.dx);
    double loss = 3, *logits = calloc((size_t)e[2] + 1, sizeof *logits);
    assert_non_null(logits);
    set_element(a.scale, 0, 0.5), set_element(a.loss, 0, loss);
    RUN(d, linear_cross_entropy, a);
    for (int64_t r = 0; r < e[0]; r++) {
        int64_t label = ((int32_t *)a.labels.data)[r];
        bool labelled = label >= 0 && label < e[2];
        double all = logits_of(&a, r, logits), nll = labelled ? all - logits[label] : 0;
        check_near("nll", a.nll, r, nll, labelled ? product_error(e[1]) : 0);
        assert_in_range(((int32_t *)a.correct.data)[r], 0, labelled);
        loss += 0.5 * nll;
        for (int64_t k = 0; k < e[1]; k++) {
            double want = element(dx, r * e[1] + k);
            for (int64_t o = 0; o < e[2] && labelled; o++)
                want += 0.5 * (exp(logits[o] - all) - (o == label)) * element(a.weight, o * e[1] + k);
            check_near("dx", a.dx, r * e[1] + k, want, product_error(e[1]));
        }
    }
    check_near("loss", a.loss, 0, loss, product_error(e[1]) * (double)(e[0] + 1));
    for (int64_t i = 0; i < elements(a.dweight); i++) assert_true(isfinite(element(a.dweight, i)));
    free(logits);
}

/* ---------------------------------------------------------------- attention */

static void check_attention(device *d, const int64_t *e) {
    attention_extents(d, e, compute);
}

static void check_attention_backward(device *d, const int64_t *e) {
    attention_backward_extents(d, e, compute);
}

/* ---------------------------------------------------------------- tokens, optimizer, fill */

static void check_sample(device *d, const int64_t *e) {
    struct op_sample a = {.logits = random_tensor(e[0], e[1], DTYPE_F32, 1.0),
                          .how = tensor(e[0], sizeof(sample_row), DTYPE_U8),
                          .ids = tensor(e[0], 1, DTYPE_I32),
                          .logprob = tensor(e[0], 1, DTYPE_F32)};
    for (int hot = 0; hot < 2; hot++) {
        for (int64_t r = 0; r < e[0]; r++)
            ((sample_row *)a.how.data)[r] = (sample_row){
                .temperature = (float)hot, .top_p = 0.5f, .min_p = 0.1f, .repetition_penalty = 1, .top_k = 3};
        RUN(d, sample, a);
        for (int64_t r = 0; r < e[0]; r++) {
            int32_t id = ((int32_t *)a.ids.data)[r];
            double sum = 0, largest = -INFINITY, logprob = element(a.logprob, r);
            for (int64_t i = 0; i < e[1]; i++) sum += exp(element(a.logits, r * e[1] + i));
            for (int64_t i = 0; i < e[1]; i++) largest = fmax(largest, element(a.logits, r * e[1] + i));
            if (e[1] == 0) assert_true(id == -1 && isnan(logprob));
            if (e[1] == 0) continue;
            assert_in_range(id, 0, e[1] - 1);
            if (!hot) assert_true(element(a.logits, r * e[1] + id) == largest);
            check_near("logprob", a.logprob, r, element(a.logits, r * e[1] + id) - log(sum), 1e-5);
        }
    }
}

static void check_sum_squares(device *d, const int64_t *e) {
    struct op_sum_squares a = {gradient(e[0], e[1]), tensor(1, 1, DTYPE_F64)};
    double want = 5;
    set_element(a.out, 0, want);
    RUN(d, sum_squares, a);
    for (int64_t i = 0; i < elements(a.x); i++) want += pow(element(a.x, i), 2);
    check_near("a sum of squares", a.out, 0, want, 1e-9 * want);
}

static view state_of(int finite) {
    view v = tensor(1, sizeof(step_state), DTYPE_U8);
    *(step_state *)v.data = (step_state){.learning_rate = 0.1f,
                                         .beta1 = 0.5f,
                                         .beta2 = 0.5f,
                                         .epsilon = 1e-8f,
                                         .correction1 = 0.5f,
                                         .correction2 = 0.5f,
                                         .max_grad_norm = 1,
                                         .clip_factor = 1,
                                         .finite = finite};
    return v;
}

/* Tensors of one element: there is no division by a norm of 0. */
static void check_clip(device *d, const int64_t *e) {
    struct op_clip a = {tensor(1, 1, DTYPE_F64), tensor(1, 1, DTYPE_F64), state_of(0)};
    set_element(a.sum_squares, 0, (double)e[0] * 4), set_element(a.loss, 0, 1);
    RUN(d, clip, a);
    const step_state *s = a.state.data;
    assert_true(s->finite == 1 && fabs(s->grad_norm - 2 * sqrt((double)e[0])) < 1e-12);
    assert_true(fabsf(s->clip_factor - (e[0] ? 0.5f / sqrtf((float)e[0]) : 1)) < 1e-6f);
}

static void check_adamw(device *d, const int64_t *e) {
    for (int finite = 0; finite < 2; finite++) {
        struct op_adamw a = {.master = gradient(e[0], e[1]),
                             .weight = tensor(e[0], e[1], DTYPE_BF16),
                             .grad = gradient(e[0], e[1]),
                             .m = gradient(e[0], e[1]),
                             .v = random_tensor(e[0], e[1], DTYPE_F32, 0),
                             .state = state_of(finite)};
        view p = copy_tensor(a.master), g = copy_tensor(a.grad), m = copy_tensor(a.m);
        RUN(d, adamw, a);
        for (int64_t i = 0; i < elements(p); i++) {
            double gradient = element(g, i), first = 0.5 * element(m, i) + 0.5 * gradient;
            double step = finite ? 0.1 * first / 0.5 / (fabs(gradient) + 1e-8) : 0;
            check_near("p", a.master, i, element(p, i) - step, 1e-5 * (1 + fabs(step)));
            check_near("grad", a.grad, i, 0, 0);
            if (finite) check_near("weight", a.weight, i, element(a.master, i), 0x1p-8 * fabs(element(a.master, i)));
        }
    }
}

static void check_fill_normal(device *d, const int64_t *e) {
    struct op_fill_normal a = {.dst = tensor(e[0], e[1], compute), .deviation = 2, .seed = 7, .stream = 3};
    RUN(d, fill_normal, a);
    for (int64_t i = 0; i < elements(a.dst); i++) {
        double pair[2];
        rng_normal2(7, 3, (uint64_t)i / 2, pair);
        check_near("a number", a.dst, i, 2 * pair[i % 2], near(2 * pair[i % 2]));
    }
}

/* ---------------------------------------------------------------- every op */

/* The number of extents of an op's struct, and the largest extent: odd, and more than the few rows of linear_few.c and
 * attention_few.c. */
enum {
    EXTENTS_embed = 3,
    EXTENTS_gather_rows = 3,
    EXTENTS_scatter_rows = 3,
    EXTENTS_rms_norm = 3,
    EXTENTS_rope_angles = 2,
    EXTENTS_rope = 3,
    EXTENTS_split_heads = 3,
    EXTENTS_swiglu = 2,
    EXTENTS_dropout = 2,
    EXTENTS_add = 2,
    EXTENTS_accumulate = 2,
    EXTENTS_cast = 2,
    EXTENTS_linear = 3,
    EXTENTS_linear_cross_entropy = 3,
    EXTENTS_attention = 5,
    EXTENTS_sample = 2,
    EXTENTS_sum_squares = 2,
    EXTENTS_clip = 1,
    EXTENTS_adamw = 2,
    EXTENTS_fill_normal = 2
};

static const struct {
    const char *name;
    int extents;
    void (*check)(device *d, const int64_t *e);
    size_t formats; /* offset in device_formats */
} entries[] = {
#define ENTRY(name, arguments) {#name, EXTENTS_##arguments, check_##name, offsetof(struct device_formats, name)},
    DEVICE_OPS(ENTRY)
#undef ENTRY
};
enum { ENTRIES = sizeof entries / sizeof *entries };

static void check_entry(device *d, int entry) {
    int combinations = 1, extents = entries[entry].extents;
    for (int i = 0; i < extents; i++) combinations *= CHOICES;
    for (int combination = 0; combination < combinations; combination++) {
        int64_t e[MAX_EXTENTS] = {0};
        for (int i = 0, rest = combination; i < extents; i++, rest /= CHOICES)
            e[i] = (const int64_t[]){0, 1, extents > 3 ? 5 : 19}[rest % CHOICES];
        entries[entry].check(d, e);
        assert_int_equal(d->memory.wait ? d->memory.wait(d) : LCKV_OK, LCKV_OK);
        release_tensors();
    }
}

static void check_all(device *d) {
    for (int entry = 0; entry < ENTRIES; entry++)
        for (int c = 0; c < 2; c++) {
            compute = weight_type = computes[c];
            check_entry(d, entry);
            for (int grouped = DTYPE_INT8; grouped <= DTYPE_INT4; grouped++) {
                const unsigned *known = (const void *)((const char *)&d->formats + entries[entry].formats);
                weight_type = (dtype)grouped;
                if (*known & DTYPE_BIT(grouped)) check_entry(d, entry);
            }
        }
}

static void test_levels(void **state) {
    (void)state;
    check_everywhere(check_all);
}

/* With oneDNN if it was built in. */
static void test_opened(void **state) {
    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        device d = {0};
        assert_int_equal(cpu_open(&d, threads), LCKV_OK);
        check_all(&d);
        d.memory.close(&d);
    }
}

/* The counting device accepts the same calls. An empty product costs nothing. */
static void test_counted(void **state) {
    (void)state;
    device *d;
    assert_int_equal(device_open("count", 0, &d), LCKV_OK);
    for (int zero = 0; zero < 3; zero++) {
        int64_t e[] = {3, 3, 3};
        e[zero] = 0;
        struct op_linear a = {.x = tensor(e[0], e[1], DTYPE_F32),
                              .weight = tensor(e[2], e[1], DTYPE_F32),
                              .y = tensor(e[0], e[2], DTYPE_F32)};
        RUN(d, linear, a);
        assert_true(d->counts.flops == 0);
    }
    release_tensors();
    device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_opened),
        cmocka_unit_test(test_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
