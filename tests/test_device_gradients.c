/* Gradients that are bf16 or fresh (device.h), on devices that know them: those of GPUs. Each op's result is compared
 * with that of the same op in f32, from zeros, which the other tests compare with formulas. */
#include "device_check.h"

typedef struct variant {
    dtype type;
    bool fresh;
} variant;

static const variant variants[] = {{DTYPE_F32, true}, {DTYPE_BF16, true}, {DTYPE_BF16, false}};
enum { VARIANTS = sizeof variants / sizeof *variants };

/* A gradient before the op: NaN if it is fresh. */
static view gradient(variant v, view like) {
    view g = v.fresh ? tensor(like.rows, like.cols, v.type) : random_tensor(like.rows, like.cols, v.type, 1.0);
    g.fresh = v.fresh;
    return g;
}

static view zeros(int64_t rows, int64_t cols) {
    view g = tensor(rows, cols, DTYPE_F32);
    memset(g.data, 0, view_bytes(g));
    return g;
}

static view widened(view from) {
    view v = tensor(from.rows, from.cols, DTYPE_F32);
    for (int64_t i = 0; i < elements(v); i++) set_element(v, i, element(from, i));
    return v;
}

/* got = before + sum, rounded once or, where products add to it, twice. */
static void check_sum(const char *what, view got, view before, view sum) {
    double largest = 0;
    for (int64_t i = 0; i < elements(sum); i++) largest = fmax(largest, fabs(element(sum, i)));
    for (int64_t i = 0; i < elements(got); i++) {
        double old = got.fresh ? 0 : element(before, i), want = old + element(sum, i);
        double tolerance = 2 * rounding(got.type) * (fabs(want) + fabs(old)) + 64 * F32_EPSILON * (largest + fabs(old));
        check_near(what, got, i, want, tolerance);
    }
}

/* ---------------------------------------------------------------- element by element */

static void check_rms_norm_of(device *d, variant v, int64_t rows, int64_t cols, int64_t width) {
    struct op_rms_norm a = {.x = random_tensor(rows, cols, DTYPE_F32, 1.0),
                            .weight = random_tensor(1, width, DTYPE_BF16, 1.0),
                            .y = tensor(rows, cols, DTYPE_BF16),
                            .rstd = tensor(rows, cols / width, DTYPE_F32),
                            .eps = 1e-5f,
                            .dy = random_tensor(rows, cols, DTYPE_BF16, 1.0)};
    RUN(d, rms_norm, a);
    struct op_rms_norm plain = a;
    plain.dy = widened(a.dy), plain.dx = zeros(rows, cols), plain.dweight = zeros(1, width);
    RUN(d, rms_norm_backward, plain);
    a.dx = gradient(v, a.x);
    a.dweight = zeros(1, width);
    a.dx_rounded = tensor(rows, cols, DTYPE_BF16);
    a.y_again = tensor(rows, cols, DTYPE_BF16);
    view before = copy_tensor(a.dx);
    RUN(d, rms_norm_backward, a);
    check_sum("rms_norm dx", a.dx, before, plain.dx);
    check_same_bits("rms_norm dweight", a.dweight, plain.dweight);
    check_same_bits("rms_norm y again", a.y_again, a.y);
    for (int64_t i = 0; i < elements(a.dx); i++)
        check_near("rms_norm dx_rounded", a.dx_rounded, i, element(a.dx, i),
                   rounding(DTYPE_BF16) * (1 + 1e-3) * fabs(element(a.dx, i)));
    release_tensors();
}

static void check_rms_norm(device *d, variant v) {
    check_rms_norm_of(d, v, 5, 96, 32);
    check_rms_norm_of(d, v, 3000, 512, 512);
    check_rms_norm_of(d, v, 700, 1500, 1500);
    check_rms_norm_of(d, v, 9, 2050, 2050);
    check_rms_norm_of(d, v, 9, 5000, 5000);
    check_rms_norm_of(d, v, 2, 7, 7);
}

static void check_swiglu_of(device *d, variant v, int64_t rows, int64_t cols, bool joined) {
    int64_t wide = joined ? 2 * cols : cols;
    struct op_swiglu a = {.gate = random_tensor(rows, wide, DTYPE_BF16, 2.0),
                          .y = tensor(rows, cols, DTYPE_BF16),
                          .dy = random_tensor(rows, cols, DTYPE_BF16, 1.0)};
    if (!joined) a.up = random_tensor(rows, cols, DTYPE_BF16, 1.0);
    RUN(d, swiglu, a);
    struct op_swiglu plain = a;
    plain.dy = widened(a.dy), plain.dgate = zeros(rows, wide);
    if (!joined) plain.dup = zeros(rows, cols);
    RUN(d, swiglu_backward, plain);
    a.dgate = gradient(v, a.gate);
    view dgate_before = copy_tensor(a.dgate), dup_before = ABSENT;
    if (!joined) a.dup = gradient(v, a.up), dup_before = copy_tensor(a.dup);
    a.y_again = tensor(rows, cols, DTYPE_BF16);
    RUN(d, swiglu_backward, a);
    check_same_bits("swiglu y again", a.y_again, a.y);
    check_sum("dgate", a.dgate, dgate_before, plain.dgate);
    if (!joined) check_sum("dup", a.dup, dup_before, plain.dup);
    release_tensors();
}

static void check_elements(device *d, variant v) {
    for (int joined = 0; joined < 2; joined++) {
        check_swiglu_of(d, v, 3, 17, joined);
        check_swiglu_of(d, v, 130, 264, joined);
    }
    struct op_dropout a = {.x = random_tensor(7, 33, DTYPE_BF16, 1.0),
                           .seed = tensor(1, 1, DTYPE_I64),
                           .p = 0.25,
                           .dy = random_tensor(7, 33, DTYPE_BF16, 1.0)};
    memset(a.seed.data, 1, sizeof(int64_t));
    struct op_dropout plain = a;
    plain.dy = widened(a.dy), plain.dx = zeros(7, 33);
    RUN(d, dropout_backward, plain);
    a.dx = gradient(v, a.x);
    view before = copy_tensor(a.dx);
    RUN(d, dropout_backward, a);
    check_sum("dropout dx", a.dx, before, plain.dx);
    struct op_accumulate sum = {.src = a.dy, .dst = gradient(v, a.x), .scale = 1};
    before = copy_tensor(sum.dst);
    RUN(d, accumulate, sum);
    check_sum("accumulate", sum.dst, before, a.dy);
    release_tensors();
}

/* ---------------------------------------------------------------- rows and heads */

static void check_rope(device *d, variant v) {
    enum { ROWS = 11, HEADS = 3, DIM = 12 };
    struct op_rope a = {.x = random_tensor(ROWS, HEADS * DIM, DTYPE_BF16, 1.0),
                        .angles = random_tensor(ROWS, DIM, DTYPE_F32, 1.0),
                        .head_dim = DIM,
                        .dy = random_tensor(ROWS, HEADS * DIM, DTYPE_BF16, 1.0)};
    struct op_rope plain = a;
    plain.dy = widened(a.dy), plain.dx = zeros(ROWS, HEADS * DIM);
    RUN(d, rope_backward, plain);
    a.dx = gradient(v, a.x);
    view before = copy_tensor(a.dx);
    RUN(d, rope_backward, a);
    check_sum("rope dx", a.dx, before, plain.dx);
    release_tensors();
}

static void check_split_heads(device *d, variant v) {
    enum { ROWS = 13, DIM = 8 };
    view q = random_tensor(ROWS, 4 * DIM, DTYPE_BF16, 1.0), kv = random_tensor(ROWS, 2 * DIM, DTYPE_BF16, 1.0);
    struct op_split_heads a = {.x = random_tensor(ROWS, 8 * DIM, DTYPE_BF16, 1.0),
                               .angles = random_tensor(ROWS, DIM, DTYPE_F32, 1.0),
                               .q = q,
                               .k = kv,
                               .v = kv,
                               .head_dim = DIM,
                               .dq = random_tensor(ROWS, 4 * DIM, DTYPE_BF16, 1.0),
                               .dk = random_tensor(ROWS, 2 * DIM, DTYPE_F32, 1.0)};
    struct op_split_heads plain = a;
    plain.dq = widened(a.dq), plain.dx = zeros(ROWS, 8 * DIM);
    RUN(d, split_heads_backward, plain);
    a.dx = gradient(v, a.x);
    view before = copy_tensor(a.dx);
    RUN(d, split_heads_backward, a);
    check_sum("split_heads dx", a.dx, before, plain.dx);
    release_tensors();
}

static void check_rows(device *d, variant v) {
    enum { ROWS = 6, FROM = 9, COLS = 20 };
    struct op_gather_rows g = {.src = random_tensor(FROM, COLS, DTYPE_F32, 1.0),
                               .index = tensor(ROWS, 1, DTYPE_I32),
                               .ddst = random_tensor(ROWS, COLS, DTYPE_F32, 1.0)};
    for (int64_t r = 0; r < ROWS; r++) set_element(g.index, r, (double)(r * r % 5));
    struct op_gather_rows plain = g;
    plain.dsrc = zeros(FROM, COLS);
    RUN(d, gather_rows_backward, plain);
    g.dsrc = gradient(v, g.src);
    view before = copy_tensor(g.dsrc);
    RUN(d, gather_rows_backward, g);
    check_sum("gather_rows dsrc", g.dsrc, before, plain.dsrc);
    struct op_scatter_rows s = {.src = random_tensor(ROWS, COLS, DTYPE_BF16, 1.0),
                                .index = tensor(ROWS, 1, DTYPE_I64),
                                .ddst = random_tensor(FROM, COLS, DTYPE_BF16, 1.0)};
    for (int64_t r = 0; r < ROWS; r++) ((int64_t *)s.index.data)[r] = r == 2 ? -1 : FROM - 1 - r;
    struct op_scatter_rows other = s;
    other.ddst = widened(s.ddst), other.dsrc = zeros(ROWS, COLS);
    RUN(d, scatter_rows_backward, other);
    s.dsrc = gradient(v, s.src);
    before = copy_tensor(s.dsrc);
    RUN(d, scatter_rows_backward, s);
    check_sum("scatter_rows dsrc", s.dsrc, before, other.dsrc);
    release_tensors();
}

/* ---------------------------------------------------------------- products */

static void check_linear_of(device *d, variant v, int64_t rows, int64_t in, int64_t out) {
    struct op_linear a = {.x = random_tensor(rows, in, DTYPE_BF16, 1.0),
                          .weight = random_tensor(out, in, DTYPE_BF16, 1.0),
                          .dy = random_tensor(rows, out, DTYPE_BF16, 1.0)};
    struct op_linear plain = a;
    plain.dy = widened(a.dy), plain.dx = zeros(rows, in), plain.dweight = zeros(out, in), plain.dbias = zeros(1, out);
    RUN(d, linear_backward, plain);
    a.dx = gradient(v, a.x), a.dweight = zeros(out, in), a.dbias = zeros(1, out);
    view before = copy_tensor(a.dx);
    RUN(d, linear_backward, a);
    check_sum("linear dx", a.dx, before, plain.dx);
    check_same_bits("linear dweight", a.dweight, plain.dweight);
    check_same_bits("linear dbias", a.dbias, plain.dbias);
    release_tensors();
}

static void check_cross_entropy(device *d, variant v) {
    enum { ROWS = 9, HIDDEN = 24, VOCAB = 40 };
    struct op_linear_cross_entropy a = {.x = random_tensor(ROWS, HIDDEN, DTYPE_BF16, 1.0),
                                        .weight = random_tensor(VOCAB, HIDDEN, DTYPE_BF16, 1.0),
                                        .labels = tensor(ROWS, 1, DTYPE_I32),
                                        .scale = tensor(1, 1, DTYPE_F32)};
    for (int64_t r = 0; r < ROWS; r++) set_element(a.labels, r, (double)random_below(VOCAB));
    set_element(a.scale, 0, 0.5);
    struct op_linear_cross_entropy plain = a;
    plain.dx = zeros(ROWS, HIDDEN);
    RUN(d, linear_cross_entropy, plain);
    a.dx = gradient(v, a.x);
    view before = copy_tensor(a.dx);
    RUN(d, linear_cross_entropy, a);
    check_sum("linear_cross_entropy dx", a.dx, before, plain.dx);
    release_tensors();
}

/* Two sequences, and a row of none, whose fresh gradients are zeros. */
static void check_attention_of(device *d, variant v, int dim, dtype compute) {
    enum { HEADS = 4, KV_HEADS = 2, FIRST = 70, SECOND = 33, ROWS = FIRST + SECOND + 1 };
    const attention_sequence sequences[2] = {{0, FIRST, 0, FIRST, 0, 0, 0, 0},
                                             {FIRST, SECOND, FIRST, SECOND, 0, 0, 0, 0}};
    struct op_attention a = {.q = random_tensor(ROWS, HEADS * dim, compute, 1.0),
                             .k = random_tensor(ROWS, KV_HEADS * dim, compute, 1.0),
                             .v = random_tensor(ROWS, KV_HEADS * dim, compute, 1.0),
                             .out = random_tensor(ROWS, HEADS * dim, compute, 1.0),
                             .lse = random_tensor(ROWS, HEADS, DTYPE_F32, 1.0),
                             .sequences = tensor(2, sizeof *sequences, DTYPE_U8),
                             .max_q_rows = FIRST,
                             .max_kv_rows = FIRST,
                             .heads = HEADS,
                             .kv_heads = KV_HEADS,
                             .head_dim = dim,
                             .scale = 0.3f,
                             .dout = random_tensor(ROWS, HEADS * dim, compute, 1.0)};
    memcpy(a.sequences.data, sequences, sizeof sequences);
    RUN(d, attention, a);
    struct op_attention plain = a;
    plain.dout = widened(a.dout);
    plain.dq = zeros(ROWS, HEADS * dim), plain.dk = zeros(ROWS, KV_HEADS * dim), plain.dv = zeros(ROWS, KV_HEADS * dim);
    RUN(d, attention_backward, plain);
    a.dq = gradient(v, a.q), a.dk = gradient(v, a.k), a.dv = gradient(v, a.v);
    view dq = copy_tensor(a.dq), dk = copy_tensor(a.dk), dv = copy_tensor(a.dv);
    RUN(d, attention_backward, a);
    check_sum("dq", a.dq, dq, plain.dq);
    check_sum("dk", a.dk, dk, plain.dk);
    check_sum("dv", a.dv, dv, plain.dv);
    release_tensors();
}

static void check_products(device *d, variant v) {
    check_linear_of(d, v, 5, 7, 3);
    check_linear_of(d, v, 200, 64, 128);
    check_linear_of(d, v, 4, 8, 0);
    check_cross_entropy(d, v);
    check_attention_of(d, v, 64, DTYPE_BF16);
    check_attention_of(d, v, 128, DTYPE_BF16);
    check_attention_of(d, v, 72, DTYPE_BF16);
    check_attention_of(d, v, 6, DTYPE_BF16);
    if (v.type == DTYPE_F32) check_attention_of(d, v, 32, DTYPE_F32);
}

static void check_all(device *d) {
    for (int i = 0; i < VARIANTS; i++) {
        check_rms_norm(d, variants[i]);
        check_elements(d, variants[i]);
        check_rope(d, variants[i]);
        check_split_heads(d, variants[i]);
        check_rows(d, variants[i]);
        check_products(d, variants[i]);
    }
}

static void test_gradients(void **state) {
    (void)state;
    check_on_gpu(check_all);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
