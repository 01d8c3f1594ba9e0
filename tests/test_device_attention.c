/* attention and attention_backward against loops in double: every type, past pages with sinks and skipped rows, strict
 * and windowed masks, grouped heads, sequences without queries, dead rows. Memory that must not be read contains NaN.
 */
#include "attention_runs.h"
#include "skipping.h"

#include "device/open.h"

/* ---------------------------------------------------------------- the reference */

/* For one query and head: the weights of all keys of its sequence, and the logarithm of their sum. */
struct weights {
    int64_t keys, seen;
    double p[MAX_KEYS], lse;
};

static void reference_weights(const struct attention_run *r, int i, int64_t q, int64_t head, struct weights *w) {
    const struct op_attention *a = &r->a;
    const attention_sequence *s = (const attention_sequence *)a->sequences.data + i;
    int64_t at = s->past + s->q_offset + q, kv_head = head / (a->heads / a->kv_heads);
    double score[MAX_KEYS], largest = -(double)INFINITY, sum = 0;
    w->keys = s->past + s->kv_rows, w->seen = 0;
    for (int64_t u = 0; u < w->keys; u++) {
        score[u] = -(double)INFINITY;
        bool sees = (a->strict ? u < at : u <= at) && (a->window == 0 || u > at - a->window);
        if (!sees) continue;
        const double *rows = a->q_sink.data && u < s->sinks ? r->q_sink : r->q;
        score[u] = (double)a->scale *
                   dot(head_row(r, rows, s->q_row + q, head), key_row(r, i, u, kv_head, false), a->head_dim);
        largest = fmax(largest, score[u]);
        w->seen++;
    }
    for (int64_t u = 0; u < w->keys; u++) sum += w->p[u] = w->seen > 0 ? exp(score[u] - largest) : 0;
    for (int64_t u = 0; u < w->keys && w->seen > 0; u++) w->p[u] /= sum;
    w->lse = w->seen > 0 ? largest + log(sum) : -(double)INFINITY;
}

/* Relative error of a weight in f32: scores are sums of head_dim terms whose magnitudes add up to at most about 4
 * sqrt(head_dim) after scaling. exp and the sums over keys round as well. */
static double weight_error(const struct op_attention *a, int64_t keys) {
    return F32_EPSILON * (4 * a->head_dim * sqrt(a->head_dim) + (double)keys + 16);
}

static void check_forward_row(const struct attention_run *r, int i, int64_t row, int64_t h, const struct weights *w) {
    const struct op_attention *a = &r->a;
    int64_t kv_head = h / (a->heads / a->kv_heads);
    double error = weight_error(a, w->keys), want[MAX_DIM] = {0}, size[MAX_DIM] = {0};
    for (int64_t u = 0; u < w->keys; u++) {
        if (w->p[u] == 0) continue;
        const double *v = key_row(r, i, u, kv_head, true);
        for (int64_t c = 0; c < a->head_dim; c++) want[c] += w->p[u] * v[c], size[c] += w->p[u] * fabs(v[c]);
    }
    for (int64_t c = 0; c < a->head_dim; c++)
        check_near("out", a->out, row * a->out.cols + h * a->head_dim + c, want[c],
                   rounding(a->out.type) * fabs(want[c]) + (2 * error + r->rounded) * size[c]);
    float lse = ((float *)a->lse.data)[row * a->heads + h];
    if (w->seen == 0)
        assert_true(isinf(lse) && lse < 0);
    else
        check_near("lse", a->lse, row * a->heads + h, w->lse, error * (1 + fabs(w->lse)));
}

static void check_forward(const struct attention_run *r) {
    struct weights w;
    for (int i = 0; i < r->c->count; i++) {
        const attention_sequence *s = (const attention_sequence *)r->a.sequences.data + i;
        for (int64_t q = 0; q < s->q_rows; q++)
            for (int64_t h = 0; h < r->a.heads; h++) {
                reference_weights(r, i, q, h, &w);
                check_forward_row(r, i, s->q_row + q, h, &w);
            }
    }
}

/* Dead rows of outputs are not written. */
static void check_dead(view v) {
    for (int64_t i = 0; i < DEAD_ROWS * v.cols; i++) {
        assert_true(isnan(element(v, i)));
        assert_true(isnan(element(v, (v.rows - DEAD_ROWS) * v.cols + i)));
    }
}

/* New rows, and past ones. */
static const struct {
    dtype compute, past;
} types_of[] = {{DTYPE_F32, DTYPE_F32},  {DTYPE_BF16, DTYPE_BF16},   {DTYPE_BF16, DTYPE_F32},
                {DTYPE_F32, DTYPE_BF16}, {DTYPE_F32, DTYPE_KV_INT8}, {DTYPE_BF16, DTYPE_KV_INT8}};
enum { TYPES = sizeof types_of / sizeof *types_of };

/* With sanitizers, each case runs with one of the numbers of threads. */
static bool runs_case(const device *d, int i) {
#ifdef SANITIZED
    return i % 2 == (d->threads == 1);
#else
    (void)d, (void)i;
    return true;
#endif
}

static void check_attention(device *d) {
    for (int i = 0; i < CASES; i++)
        for (int types = 0; types < TYPES && runs_case(d, i); types++) {
            dtype compute = types_of[types].compute, past = types_of[types].past;
            if (types >= 2 && cases[i].page_rows == 0) continue;
            if (past == DTYPE_KV_INT8 && !(d->formats.attention & DTYPE_BIT(past))) continue;
            struct attention_run *r = make_run(&cases[i], compute, past);
            r->rounded = weight_rounding_of(d, compute);
            RUN(d, attention, r->a);
            check_forward(r);
            check_dead(r->a.out);
            view once = copy_tensor(r->a.out);
            r->a.lse = ABSENT;
            RUN(d, attention, r->a);
            check_same_bits("attention, again and without lse", once, r->a.out);
            release_tensors();
            free_run(r);
        }
}

/* ---------------------------------------------------------------- gradients */

/* The gradients in double, each with the sum of the magnitudes of its terms. */
struct gradients {
    double *dq, *dk, *dv, *dq_size, *dk_size, *dv_size;
};

static struct gradients make_gradients(const struct op_attention *a) {
    size_t q = (size_t)elements(a->q), k = (size_t)elements(a->k);
    struct gradients g = {calloc(q, 8), calloc(k, 8), calloc(k, 8), calloc(q, 8), calloc(k, 8), calloc(k, 8)};
    return g;
}

static void free_gradients(struct gradients *g) {
    double *all[] = {g->dq, g->dk, g->dv, g->dq_size, g->dk_size, g->dv_size};
    for (int i = 0; i < 6; i++) free(all[i]);
}

/* Contribution of one query and head to key u, given its weight and delta; _size: of magnitudes. */
static void reference_key(const struct attention_run *r, int i, int64_t q_row, int64_t h, int64_t u, double p,
                          double delta, double delta_size, struct gradients *g) {
    const struct op_attention *a = &r->a;
    const attention_sequence *s = (const attention_sequence *)a->sequences.data + i;
    int64_t kv_head = h / (a->heads / a->kv_heads), dim = a->head_dim;
    int64_t q_at = (q_row * a->heads + h) * dim, k_at = ((s->kv_row + u) * a->kv_heads + kv_head) * dim;
    const double *q = r->q + q_at, *dout = r->dout + q_at, *k = r->k + k_at, *v = r->v + k_at;
    double dp = 0, dp_size = 0, scale = (double)a->scale;
    for (int64_t c = 0; c < dim; c++) dp += dout[c] * v[c], dp_size += fabs(dout[c] * v[c]);
    double ds = p * (dp - delta) * scale, ds_size = p * (dp_size + delta_size) * scale;
    for (int64_t c = 0; c < dim; c++) {
        g->dq[q_at + c] += ds * k[c], g->dq_size[q_at + c] += ds_size * fabs(k[c]);
        g->dk[k_at + c] += ds * q[c], g->dk_size[k_at + c] += ds_size * fabs(q[c]);
        g->dv[k_at + c] += p * dout[c], g->dv_size[k_at + c] += fabs(p * dout[c]);
    }
}

/* Contributions of one query and head. As in the op, delta is computed from the saved `out`. */
static void reference_row(const struct attention_run *r, int i, int64_t q, int64_t h, struct gradients *g) {
    const struct op_attention *a = &r->a;
    const attention_sequence *s = (const attention_sequence *)a->sequences.data + i;
    struct weights w;
    reference_weights(r, i, q, h, &w);
    double delta = 0, delta_size = 0;
    for (int64_t c = 0; c < a->head_dim; c++) {
        int64_t at = ((s->q_row + q) * a->heads + h) * a->head_dim + c;
        delta += r->dout[at] * element(a->out, at), delta_size += fabs(r->dout[at] * element(a->out, at));
    }
    for (int64_t u = 0; u < w.keys; u++)
        if (w.p[u] != 0) reference_key(r, i, s->q_row + q, h, u, w.p[u], delta, delta_size, g);
}

static void reference_backward(const struct attention_run *r, struct gradients *g) {
    for (int i = 0; i < r->c->count; i++)
        for (int64_t q = 0; q < r->c->sequence[i].q_rows; q++)
            for (int64_t h = 0; h < r->a.heads; h++) reference_row(r, i, q, h, g);
}

/* got = before + want, up to the error of the weights and of a sum of this many terms. */
static void check_gradient(const char *what, const struct attention_run *r, view got, view before, const double *want,
                           const double *size) {
    double error = 2 * weight_error(&r->a, r->a.max_kv_rows + r->a.max_q_rows * r->a.heads / r->a.kv_heads);
    error += 2 * r->rounded; /* of the weight or its gradient, and of dout */
    for (int64_t i = 0; i < elements(got); i++) {
        if (isnan(element(before, i))) continue; /* a dead row */
        check_near(what, got, i, element(before, i) + want[i],
                   error * size[i] + F32_EPSILON * (fabs(want[i]) + 2 * fabs(element(before, i))));
    }
}

/* The initial gradient is not zero; dead rows contain NaN and are not written. */
static view gradient_tensor(view of, view pattern) {
    view v = random_tensor(of.rows, of.cols, DTYPE_F32, 1.0);
    for (int64_t i = 0; i < elements(v); i++)
        if (isnan(element(pattern, i))) ((uint32_t *)v.data)[i] = UINT32_MAX;
    return v;
}

static void check_backward_case(device *d, const struct attention_case *c, dtype compute) {
    struct attention_run *r = make_run(c, compute, compute);
    struct op_attention *a = &r->a;
    r->rounded = weight_rounding_of(d, compute);
    RUN(d, attention, r->a);
    struct gradients g = make_gradients(a);
    reference_backward(r, &g);
    view dq = gradient_tensor(a->q, a->q), dk = gradient_tensor(a->k, a->k), dv = gradient_tensor(a->v, a->v);
    a->dq = copy_tensor(dq), a->dk = copy_tensor(dk), a->dv = copy_tensor(dv);
    RUN(d, attention_backward, r->a);
    check_gradient("dq", r, a->dq, dq, g.dq, g.dq_size);
    check_gradient("dk", r, a->dk, dk, g.dk, g.dk_size);
    check_gradient("dv", r, a->dv, dv, g.dv, g.dv_size);
    view all[] = {a->dq, a->dk, a->dv};
    view *each[] = {&a->dq, &a->dk, &a->dv}, start[] = {dq, dk, dv};
    for (int i = 0; i < 3; i++) { /* each gradient alone has the same bits */
        a->dq = a->dk = a->dv = ABSENT;
        *each[i] = copy_tensor(start[i]);
        RUN(d, attention_backward, r->a);
        check_same_bits("a gradient alone", *each[i], all[i]);
    }
    free_gradients(&g);
    free_run(r);
}

static void check_attention_backward(device *d) {
    for (int i = 0; i < CASES; i++)
        for (int types = 0; types < 2 && cases[i].page_rows == 0 && runs_case(d, i); types++) {
            check_backward_case(d, &cases[i], types == 0 ? DTYPE_F32 : DTYPE_BF16);
            release_tensors();
        }
}

/* The sum of dout * out in double, as a function of q, k and v. */
static double reference_loss(const struct attention_run *r) {
    const struct op_attention *a = &r->a;
    struct weights w;
    double loss = 0;
    for (int i = 0; i < r->c->count; i++) {
        const attention_sequence *s = (const attention_sequence *)a->sequences.data + i;
        for (int64_t q = 0; q < s->q_rows; q++)
            for (int64_t h = 0; h < a->heads; h++) {
                reference_weights(r, i, q, h, &w);
                for (int64_t u = 0; u < w.keys; u++)
                    if (w.p[u] != 0)
                        loss += w.p[u] * dot(head_row(r, r->dout, s->q_row + q, h),
                                             key_row(r, i, u, h / (a->heads / a->kv_heads), true), a->head_dim);
            }
    }
    return loss;
}

static void check_difference(const char *what, const struct attention_run *r, double *x, view of,
                             const double *gradient) {
    const double step = 1e-4; /* this error is of the square */
    for (int64_t i = 0; i < elements(of); i++) {
        double at = x[i];
        if (isnan(at)) continue;
        x[i] = at + step;
        double loss = reference_loss(r);
        x[i] = at - step;
        double slope = (loss - reference_loss(r)) / (2 * step);
        x[i] = at;
        if (fabs(slope - gradient[i]) > 1e-6)
            fail_msg("%s %d: %g by differences, %g", what, (int)i, slope, gradient[i]);
    }
}

/* The reference's gradients are those of its forward pass. */
static void test_reference(void **state) {
    (void)state;
    static const struct attention_case small = {
        4, 2, 3, true, 4, 0, false, 2, {{6, 7, 1, 0, 0, 0}, {3, 3, 0, 0, 0, 0}}};
    device d;
    assert_int_equal(cpu_open_level(&d, 1, CPU_BASE), LCKV_OK);
    struct attention_run *r = make_run(&small, DTYPE_F32, DTYPE_F32);
    struct gradients g = make_gradients(&r->a);
    RUN(&d, attention, r->a);
    reference_backward(r, &g);
    check_difference("dq", r, r->q, r->a.q, g.dq);
    check_difference("dk", r, r->k, r->a.k, g.dk);
    check_difference("dv", r, r->v, r->a.v, g.dv);
    free_gradients(&g);
    free_run(r);
    release_tensors();
    d.memory.close(&d);
}

/* ---------------------------------------------------------------- the exponential */

/* Every 251st float between underflow and overflow, and both ends. */
static void test_exp(void **state) {
    (void)state;
    double worst = 0;
    for (uint32_t bits = 0; bits <= 0x42d20000; bits += 251) /* to 105 */
        for (int sign = 0; sign < 2; sign++) {
            float x = float_of_bits(bits | (uint32_t)sign << 31);
            double want = exp((double)x), got = (double)cpu_exp(x);
            if (want > 0x1.fffffep127)
                assert_true(isinf(got) || got > 0x1.fffffcp127);
            else
                worst = fmax(worst, fabs(got - want) / fmax(0x1p-149, ldexp(1, ilogb(want) - 23)));
        }
    if (worst > 1.1) fail_msg("exp is off by %.3f units in the last place", worst);
    assert_true(cpu_exp(0.0f) == 1.0f);
    assert_true(cpu_exp(-INFINITY) == 0.0f);
    assert_true(isinf(cpu_exp(INFINITY)));
    assert_true(isnan(cpu_exp(NAN)));
}

/* ---------------------------------------------------------------- */

static void test_attention(void **state) {
    (void)state;
    check_everywhere(check_attention);
}

static void test_attention_backward(void **state) {
    (void)state;
    check_everywhere(check_attention_backward);
}

/* Sequences of one query and two keys, with scores 0 and x: the result is the second weight, exp(x) / (1 + exp(x)),
 * within a few roundings also where it is tiny. exp is off by at most 1.1 units in the last place (test_exp()), which
 * are 2.2 roundings each in the numerator and in the sum; the sum, its inverse, and the product with it round once. The
 * exponential of a GPU is less exact. */
static void check_weights(device *d) {
    enum { COUNT = 600 };
    if (!d->host_memory) return;
    view q = tensor(COUNT, 1, DTYPE_F32), k = tensor(2 * COUNT, 1, DTYPE_F32), v = tensor(2 * COUNT, 1, DTYPE_F32);
    view sequences = tensor(COUNT, sizeof(attention_sequence), DTYPE_U8), out = tensor(COUNT, 1, DTYPE_F32);
    for (int32_t i = 0; i < COUNT; i++) {
        float x = i == 0 ? NAN : i == 1 ? -INFINITY : -0.19f * (float)(i - 2);
        ((attention_sequence *)sequences.data)[i] = (attention_sequence){i, 1, 2 * i, 2, 1, 0, 0, 0};
        set_element(q, i, 1);
        ((float *)k.data)[2 * i] = 0, ((float *)k.data)[2 * i + 1] = x;
        ((float *)v.data)[2 * i] = 0, ((float *)v.data)[2 * i + 1] = 1;
    }
    struct op_attention a = {.q = q, .k = k, .v = v, .out = out, .sequences = sequences, .max_q_rows = 1};
    a.max_kv_rows = 2, a.heads = a.kv_heads = a.head_dim = 1, a.scale = 1;
    RUN(d, attention, a);
    assert_true(isnan(((float *)out.data)[0]));
    for (int64_t i = 1; i < COUNT; i++) {
        double weight = exp((double)((float *)k.data)[2 * i + 1]);
        check_near("weight", out, i, weight / (1 + weight), 8 * F32_EPSILON * weight + 0x1p-149);
    }
    release_tensors();
}

/* With invariant rows, a sequence has the same bits alone and beside others. */
static void check_invariant(device *d) {
    if (!d->has_invariant_rows) return;
    d->invariant_rows = true;
    for (int i = 0; i < CASES; i++)
        for (int types = 0; types < TYPES && cases[i].page_rows > 0 && runs_case(d, i); types++) {
            struct attention_run *r = make_run(&cases[i], types_of[types].compute, types_of[types].past);
            if (types_of[types].past != DTYPE_KV_INT8 || (d->formats.attention & DTYPE_BIT(DTYPE_KV_INT8))) {
                struct op_attention a = r->a;
                RUN(d, attention, a);
                view together = copy_tensor(a.out);
                for (int64_t s = 0; s < r->a.sequences.rows; s++) {
                    a.sequences = view_rows(r->a.sequences, s, 1);
                    a.past = r->a.past;
                    a.past.table = view_rows(r->a.past.table, s, 1);
                    if (cases[i].sequence[s].past == 0) a.past = (struct kv_pages){.k = ABSENT};
                    RUN(d, attention, a);
                }
                check_same_bits("a sequence alone", together, a.out);
            }
            release_tensors();
            free_run(r);
        }
    d->invariant_rows = false;
}

static void test_weights(void **state) {
    (void)state;
    check_everywhere(check_weights);
}

static void test_invariant(void **state) {
    (void)state;
    check_everywhere(check_invariant);
}

static void test_too_wide(void **state) {
    (void)state;
    device d;
    assert_int_equal(cpu_open_level(&d, 1, CPU_BASE), LCKV_OK);
    struct op_attention a = {.heads = 1, .kv_heads = 1, .head_dim = 2048};
    assert_int_equal(d.ops.attention(&d, &a), LCKV_ERROR_UNSUPPORTED);
    assert_int_equal(d.ops.attention_backward(&d, &a), LCKV_ERROR_UNSUPPORTED);
    d.memory.close(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),       cmocka_unit_test(test_reference),          cmocka_unit_test(test_too_wide),
        cmocka_unit_test(test_attention), cmocka_unit_test(test_attention_backward), cmocka_unit_test(test_weights),
        cmocka_unit_test(test_invariant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
