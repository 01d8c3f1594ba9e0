/* The composed ops against double: few and many rows, odd sizes and sizes for tensor cores, with and without biases.
 * They give the same bits each time, and rope_append writes what rope and scatter_rows write. */
#include "device_check.h"

static const struct {
    int64_t rows, in, out[PROJECT_PARTS];
} sizes[] = {
    {1, 1, {1, 3, 2}},       {1, 2048, {24, 16, 17}},    {2, 1544, {40, 16, 16}},  {3, 136, {17, 33, 5}},
    {5, 33, {7, 5, 130}},    {8, 1032, {40, 8, 8}},      {9, 256, {64, 16, 16}},   {16, 264, {31, 16, 24}},
    {17, 64, {100, 20, 20}}, {32, 160, {24, 24, 24}},    {33, 128, {40, 16, 16}},  {61, 17, {37, 3, 4}},
    {70, 136, {72, 32, 32}}, {50, 1096, {200, 72, 136}}, {33, 2600, {24, 24, 24}}, {6, 1088, {8, 4, 3}},
    {12, 704, {8, 4, 3}},    {24, 2304, {4, 4, 4}},
};
enum { SIZES = sizeof sizes / sizeof *sizes };

static const struct {
    dtype compute, weight, bias;
    bool has_bias;
} types[] = {
    {DTYPE_F32, DTYPE_F32, DTYPE_F32, true},    {DTYPE_F32, DTYPE_BF16, DTYPE_F32, false},
    {DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, true}, {DTYPE_BF16, DTYPE_BF16, DTYPE_F32, false},
    {DTYPE_BF16, DTYPE_F32, DTYPE_F32, true},   {DTYPE_F32, DTYPE_INT8, DTYPE_F32, true},
    {DTYPE_BF16, DTYPE_INT8, DTYPE_BF16, true}, {DTYPE_BF16, DTYPE_INT4, DTYPE_F32, false},
};
enum { TYPES = sizeof types / sizeof *types };

static bool is_known(const device *d, int t) {
    return !is_grouped(types[t].weight) || (d->formats.linear & DTYPE_BIT(types[t].weight));
}

/* A CPU composes these ops of others, which have tests of their own: small products suffice. */
static bool is_left_out(const device *d, int64_t rows, int64_t in, int64_t out) {
    return d->host_memory && rows * in * out > 1 << 19;
}

/* Of the norm before a product. */
static dtype norm_type(int t) {
    return is_grouped(types[t].weight) ? types[t].bias : types[t].weight;
}

/* A value and its tolerance. */
typedef struct bounded {
    double value, error;
} bounded;

/* Error of operands and of a sum of `terms`, relative to the sum of the magnitudes of the terms. */
static double loss_of(dtype compute, int64_t terms) {
    double operands = compute == DTYPE_BF16 ? 2.5 * rounding(DTYPE_BF16) : 0;
    return operands + F32_EPSILON * (double)(terms + 8);
}

/* A weight, and its values. */
typedef struct decoded {
    view weight;
    const double *values;
} decoded;

static decoded decoded_of(view weight) {
    return (decoded){weight, values_of(weight)};
}

static bounded product_of(const double *x, decoded w, int64_t column, view bias, dtype compute) {
    int64_t cols = w.weight.cols;
    const double *row = w.values + column * cols;
    double value = 0, size = 0;
#pragma omp simd reduction(+ : value, size)
    for (int64_t k = 0; k < cols; k++) value += x[k] * row[k], size += fabs(x[k] * row[k]);
    bounded y = {value, size};
    if (bias.data) y.value += element(bias, column), y.error += fabs(element(bias, column));
    y.error *= loss_of(compute, cols);
    if (is_grouped(w.weight.type)) y.error += 1.01 * group_rounding(x, row, cols);
    return y;
}

static void norm_row(double *h, const struct op_project *a, int64_t row) {
    double sum = 0;
    for (int64_t k = 0; k < a->x.cols; k++) sum += pow(element(a->x, row * a->x.cols + k), 2);
    double rstd = 1 / sqrt(sum / (double)a->x.cols + (double)a->eps);
    for (int64_t k = 0; k < a->x.cols; k++) h[k] = element(a->norm, k) * element(a->x, row * a->x.cols + k) * rstd;
}

static struct op_project random_project(int s, int t, int parts) {
    int64_t rows = sizes[s].rows, in = sizes[s].in;
    struct op_project a = {.x = random_tensor(rows, in, DTYPE_F32, 1.0),
                           .norm = random_tensor(1, in, norm_type(t), 1.0),
                           .eps = 1e-5f,
                           .parts = parts,
                           .normed = tensor(rows, in, types[t].compute),
                           .rstd = tensor(rows, 1, DTYPE_F32)};
    for (int i = 0; i < parts; i++) {
        int64_t out = sizes[s].out[parts == 2 ? 0 : i];
        a.part[i].weight = random_tensor(out, in, types[t].weight, 0.3);
        a.part[i].y = tensor(rows, out, types[t].compute);
        if (types[t].has_bias) a.part[i].bias = random_tensor(1, out, types[t].bias, 1.0);
    }
    return a;
}

static void check_parts(device *d, int s, int t) {
    struct op_project a = random_project(s, t, 1 + (s + t) % PROJECT_PARTS), again;
    dtype compute = types[t].compute;
    double *h = malloc((size_t)a.x.cols * sizeof *h);
    decoded weights[PROJECT_PARTS];
    if (a.parts == 2) a.parts = 1;
    RUN(d, project, a);
    for (int i = 0; i < a.parts; i++) weights[i] = decoded_of(a.part[i].weight);
    for (int64_t r = 0; r < a.x.rows; r++) {
        norm_row(h, &a, r);
        for (int i = 0; i < a.parts; i++)
            for (int64_t c = 0; c < a.part[i].y.cols; c++) {
                bounded y = product_of(h, weights[i], c, a.part[i].bias, compute);
                check_near("y", a.part[i].y, r * a.part[i].y.cols + c, y.value,
                           y.error + rounding(compute) * fabs(y.value));
            }
    }
    again = a;
    again.part[0].y = tensor(a.x.rows, a.part[0].y.cols, compute);
    RUN(d, project, again);
    check_same_bits("y, again", again.part[0].y, a.part[0].y);
    free(h);
    release_tensors();
}

static void check_gated(device *d, int s, int t) {
    struct op_project a = random_project(s, t, 2);
    dtype compute = types[t].compute;
    double *h = malloc((size_t)a.x.cols * sizeof *h);
    a.gated_y = tensor(a.x.rows, sizes[s].out[0], compute);
    RUN(d, project, a);
    decoded weights[] = {decoded_of(a.part[0].weight), decoded_of(a.part[1].weight)};
    for (int64_t r = 0; r < a.x.rows; r++) {
        norm_row(h, &a, r);
        for (int64_t c = 0; c < a.gated_y.cols; c++) {
            bounded gate = product_of(h, weights[0], c, a.part[0].bias, compute);
            bounded up = product_of(h, weights[1], c, a.part[1].bias, compute);
            double silu = gate.value / (1 + exp(-gate.value)), want = silu * up.value;
            gate.error += rounding(compute) * fabs(gate.value), up.error += rounding(compute) * fabs(up.value);
            double error = 1.2 * gate.error * (fabs(up.value) + up.error) + fabs(silu) * up.error;
            check_near("gated y", a.gated_y, r * a.gated_y.cols + c, want,
                       error + (rounding(compute) + 16 * F32_EPSILON) * fabs(want) + 1e-35);
        }
    }
    free(h);
    release_tensors();
}

static void check_linear_add(device *d, int s, int t) {
    int64_t rows = sizes[s].rows, in = sizes[s].in, out = sizes[s].out[0];
    struct op_linear_add a = {.product = {.x = random_tensor(rows, in, types[t].compute, 1.0),
                                          .weight = random_tensor(out, in, types[t].weight, 0.3),
                                          .y = tensor(rows, out, DTYPE_F32)},
                              .residual = random_tensor(rows, out, DTYPE_F32, 10.0)};
    if (types[t].has_bias) a.product.bias = random_tensor(1, out, types[t].bias, 1.0);
    view residual = copy_tensor(a.residual);
    double *x = malloc((size_t)in * sizeof *x);
    RUN(d, linear_add, a);
    decoded weight = decoded_of(a.product.weight);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t k = 0; k < in; k++) x[k] = element(a.product.x, r * in + k);
        for (int64_t c = 0; c < out; c++) {
            bounded y = product_of(x, weight, c, a.product.bias, types[t].compute);
            double term = element(residual, r * out + c);
            check_near("y", a.product.y, r * out + c, y.value + term, y.error + 4 * F32_EPSILON * fabs(term));
        }
    }
    check_same_bits("the residual", a.residual, residual);
    free(x);
    release_tensors();
}

static void check_products(device *d) {
    for (int s = 0; s < SIZES; s++)
        for (int t = 0; t < TYPES; t++) {
            if (!is_known(d, t) || is_left_out(d, sizes[s].rows, sizes[s].in, sizes[s].out[0])) continue;
            check_parts(d, s, t);
            check_gated(d, s, t);
            check_linear_add(d, s, t);
        }
}

/* Pages or workspace; their content is random. */
static view random_pages(int64_t rows, int64_t cols, dtype type, int dim) {
    if (type != DTYPE_KV_INT8) return random_tensor(rows, cols, type, 1.0);
    view v = tensor_of_heads(rows, cols, dim);
    for (int64_t i = 0; i < elements(v); i++) ((int8_t *)v.data)[i] = (int8_t)random_below(255);
    for (int64_t i = 0; i < elements(v) / dim; i++) ((float *)v.scales)[i] = (float)random_uniform();
    return v;
}

static view copy_pages(view from) {
    if (from.type != DTYPE_KV_INT8) return copy_tensor(from);
    view v = tensor_of_heads(from.rows, from.cols, from.group);
    memcpy(v.data, from.data, view_bytes(from));
    memcpy(v.scales, from.scales, view_scale_bytes(from));
    return v;
}

static void check_same_pages(const char *what, view a, view b) {
    check_same_bits(what, a, b);
    if (a.scales && memcmp(a.scales, b.scales, view_scale_bytes(a)) != 0) fail_msg("%s: not the same scales", what);
}

/* Pages of each type, rows that are not stored, with and without queries, with and without rounding: the same bits as
 * from the separate ops. */
static void check_rope_append_of(device *d, int64_t rows, int heads, int kv_heads, int dim, dtype compute, dtype pages,
                                 bool rounds) {
    enum { PAGE_ROWS = 40 };
    bool queries = heads > 0;
    struct op_rope_append a = {.k = random_tensor(rows, kv_heads * dim, compute, 1.0),
                               .v = random_tensor(rows, kv_heads * dim, compute, 1.0),
                               .k_out = tensor(rows, kv_heads * dim, compute),
                               .angles = random_tensor(rows, dim, DTYPE_F32, 1.0),
                               .index = tensor(rows, 1, DTYPE_I64),
                               .pages_k = random_pages(PAGE_ROWS, kv_heads * dim, pages, dim),
                               .pages_v = random_pages(PAGE_ROWS, kv_heads * dim, pages, dim),
                               .head_dim = dim};
    if (rounds) a.room = random_pages(rows, kv_heads * dim, pages, dim);
    if (queries) a.q = random_tensor(rows, heads * dim, compute, 1.0), a.q_out = tensor(rows, heads * dim, compute);
    for (int64_t r = 0; r < rows; r++) ((int64_t *)a.index.data)[r] = r % 3 == 2 ? -1 : (r * 7 + 3) % PAGE_ROWS;
    struct op_rope_append b = a;
    b.v = copy_tensor(a.v);
    b.k_out = tensor(rows, kv_heads * dim, compute);
    b.pages_k = copy_pages(a.pages_k), b.pages_v = copy_pages(a.pages_v);
    if (queries) b.q_out = tensor(rows, heads * dim, compute);
    RUN(d, rope_append, a);
    assert_int_equal(device_rope_append(d, &b), LCKV_OK);
    if (queries) check_same_bits("q", a.q_out, b.q_out);
    check_same_bits("k", a.k_out, b.k_out);
    check_same_bits("v", a.v, b.v);
    check_same_pages("pages of k", a.pages_k, b.pages_k);
    check_same_pages("pages of v", a.pages_v, b.pages_v);
    for (int64_t r = 0; rounds && r < rows; r++) { /* what pages hold */
        int64_t to = ((int64_t *)a.index.data)[r];
        for (int64_t i = 0; to >= 0 && i < a.v.cols; i++) {
            double k = element(a.pages_k, to * a.v.cols + i), v = element(a.pages_v, to * a.v.cols + i);
            check_near("k", a.k_out, r * a.v.cols + i, k, rounding(compute) * fabs(k));
            check_near("v", a.v, r * a.v.cols + i, v, rounding(compute) * fabs(v));
        }
    }
    release_tensors();
}

static void check_rope_append(device *d) {
    static const int shapes[][4] = {{1, 4, 2, 64}, {5, 8, 1, 16},  {13, 3, 3, 10}, {17, 0, 2, 128},
                                    {1, 1, 1, 2},  {3, 2, 1, 256}, {4, 3, 1, 96}};
    static const dtype pages[] = {DTYPE_F32, DTYPE_BF16, DTYPE_KV_INT8};
    for (int s = 0; s < 7; s++)
        for (int t = 0; t < 12; t++) {
            if (pages[t / 4] == DTYPE_KV_INT8 && !(d->formats.rope_append & DTYPE_BIT(DTYPE_KV_INT8))) continue;
            check_rope_append_of(d, shapes[s][0], shapes[s][1], shapes[s][2], shapes[s][3],
                                 t % 2 ? DTYPE_BF16 : DTYPE_F32, pages[t / 4], t / 2 % 2 && pages[t / 4] != DTYPE_F32);
        }
}

/* An integer of a head differs by at most one if its values differ by much less than its scale. */
static double int8_step(view v, int64_t at, int dim) {
    double largest = 0;
    for (int64_t i = at / dim * dim; i < at / dim * dim + dim; i++) largest = fmax(largest, fabs(element(v, i)));
    return 1.01 * largest / 127;
}

/* heads against project and rope_append, up to rounding: heads does not round in between. */
static void check_heads_of(device *d, int64_t rows, int64_t in, int heads, int kv_heads, int dim, int t, bool int8) {
    enum { PAGE_ROWS = 200 };
    dtype compute = types[t].compute;
    int64_t cols[] = {heads * dim, kv_heads * dim, kv_heads * dim};
    int first = heads ? 0 : 1;
    struct op_heads a = {.project = {.x = random_tensor(rows, in, DTYPE_F32, 1.0),
                                     .norm = random_tensor(1, in, norm_type(t), 1.0),
                                     .eps = 1e-5f,
                                     .parts = kv_heads ? 3 - first : 1,
                                     .normed = tensor(rows, in, compute),
                                     .rstd = tensor(rows, 1, DTYPE_F32)},
                         .append = {.angles = random_tensor(rows, dim, DTYPE_F32, 1.0), .head_dim = dim}};
    for (int i = first; i < first + a.project.parts; i++) {
        a.project.part[i - first].weight = random_tensor(cols[i], in, types[t].weight, 0.3);
        a.project.part[i - first].y = tensor(rows, cols[i], compute);
        if (types[t].has_bias) a.project.part[i - first].bias = random_tensor(1, cols[i], types[t].bias, 1.0);
    }
    if (heads) a.append.q = a.project.part[0].y, a.append.q_out = tensor(rows, cols[0], compute);
    if (kv_heads) {
        a.append.index = tensor(rows, 1, DTYPE_I64);
        for (int64_t r = 0; r < rows; r++)
            ((int64_t *)a.append.index.data)[r] = r % 5 == 4 ? -1 : (r * 7 + 3) % PAGE_ROWS;
        a.append.k_out = tensor(rows, cols[1], compute);
        a.append.pages_k = random_pages(PAGE_ROWS, cols[1], int8 ? DTYPE_KV_INT8 : compute, dim);
        a.append.pages_v = random_pages(PAGE_ROWS, cols[1], int8 ? DTYPE_KV_INT8 : compute, dim);
        if (int8) a.append.room = random_pages(rows, cols[1], DTYPE_KV_INT8, dim);
        a.append.k = a.project.part[1 - first].y;
        a.append.v = a.project.part[2 - first].y;
    }
    struct op_heads b = a;
    if (heads) b.append.q_out = tensor(rows, cols[0], compute);
    if (kv_heads) b.append.k_out = tensor(rows, cols[1], compute);
    if (kv_heads) b.append.pages_k = copy_pages(a.append.pages_k), b.append.pages_v = copy_pages(a.append.pages_v);
    RUN(d, heads, a);
    view v = kv_heads ? copy_tensor(a.append.v) : ABSENT;
    assert_int_equal(device_heads(d, &b), LCKV_OK);
    const view pairs[][2] = {{a.append.q_out, b.append.q_out},
                             {a.append.k_out, b.append.k_out},
                             {v, b.append.v},
                             {a.append.pages_k, b.append.pages_k},
                             {a.append.pages_v, b.append.pages_v}};
    for (int i = 0; i < 5; i++)
        for (int64_t j = 0; pairs[i][0].data && j < elements(pairs[i][0]); j++) {
            double want = element(pairs[i][1], j), size = sqrt((double)in) + fabs(want);
            double step = int8 && i > 0 ? int8_step(pairs[i][1], j, dim) : 0;
            check_near("heads", pairs[i][0], j, want, (4 * rounding(compute) + 8 * F32_EPSILON) * size + step);
        }
    release_tensors();
}

static void check_heads(device *d) {
    static const int shapes[][5] = {
        {1, 1040, 4, 2, 64},  {2, 520, 4, 0, 32},    {70, 64, 2, 0, 16},  {3, 64, 8, 1, 16},    {8, 520, 3, 3, 32},
        {13, 72, 0, 2, 128},  {33, 136, 4, 2, 48},   {64, 256, 4, 1, 64}, {90, 64, 2, 2, 16},   {2, 40, 2, 1, 10},
        {40, 2048, 1, 1, 64}, {33, 1032, 0, 1, 128}, {64, 72, 1, 0, 64},  {64, 2048, 3, 2, 64}, {50, 1032, 2, 1, 128},
        {36, 520, 1, 1, 256}, {63, 264, 3, 1, 32},   {4, 576, 1, 1, 64},  {27, 192, 1, 1, 32}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int t = 0; t < TYPES; t++) {
            if (!is_known(d, t) ||
                is_left_out(d, shapes[s][0], shapes[s][1], (shapes[s][2] + 2 * shapes[s][3]) * shapes[s][4]))
                continue;
            check_heads_of(d, shapes[s][0], shapes[s][1], shapes[s][2], shapes[s][3], shapes[s][4], t, false);
            bool small = shapes[s][0] * shapes[s][1] < 40000, int8 = d->formats.heads & DTYPE_BIT(DTYPE_KV_INT8);
            if (shapes[s][3] > 0 && small && int8)
                check_heads_of(d, shapes[s][0], shapes[s][1], shapes[s][2], shapes[s][3], shapes[s][4], t, true);
        }
}

static void test_heads(void **state) {
    (void)state;
    check_everywhere(check_heads);
}

static void test_products(void **state) {
    (void)state;
    check_everywhere(check_products);
}

static void test_rope_append(void **state) {
    (void)state;
    check_everywhere(check_rope_append);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products), cmocka_unit_test(test_rope_append),
                                       cmocka_unit_test(test_heads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
