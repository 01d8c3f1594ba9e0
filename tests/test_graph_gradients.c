/* The tape: gradients of a small network that uses every op, against finite differences, and the lifetime of
 * activations. */
#include "base/rng.h"
#include "graph/graph.h"

#include "expect.h"

#include <math.h>

enum { ROWS = 7, HIDDEN = 8, VOCAB = 11, HEADS = 2, HEAD_DIM = 4, RANK = 2, PLAIN = 9, WEIGHTS = PLAIN + 2 };

/* embed -> norm -> q, k, v -> head norm -> rope -> attention -> o -> add -> gather -> scatter -> swiglu -> loss */
typedef struct net {
    device *d;
    graph *g;
    tensor weights[WEIGHTS]; /* embed and head, norm, q, k, v, o, bias, gate, up; and a and b, added to v */
    low_rank plus;
    view ids, labels, positions, frequencies, index, destination, sequences, scale, loss;
    bool joined[WEIGHTS]; /* in the memory of the weight before */
    bool packed;          /* runs packed_layer() instead */
    bool recompute;       /* recomputes the attention part in the backward pass */
    int runs;             /* of the attention part */
} net;

static const int shapes[WEIGHTS][2] = {{VOCAB, HIDDEN},  {1, HIDDEN},      {HIDDEN, HIDDEN}, {HIDDEN, HIDDEN},
                                       {HIDDEN, HIDDEN}, {HIDDEN, HIDDEN}, {1, HIDDEN},      {HIDDEN, HIDDEN},
                                       {HIDDEN, HIDDEN}, {RANK, HIDDEN},   {HIDDEN, RANK}};

static view on_device(device *d, int64_t rows, int64_t cols, dtype type, const void *values) {
    view v = {NULL, rows, cols, type};
    OK(d->memory.alloc(d, view_bytes(v), &v.data));
    if (values)
        OK(d->memory.copy_in(d, v.data, values, view_bytes(v)));
    else
        OK(d->memory.zero(d, v.data, view_bytes(v)));
    return v;
}

static void net_open(net *n) {
    int32_t ids[ROWS] = {3, 1, 4, 1, 5, 9, 2}, labels[ROWS] = {1, 4, -1, 5, 9, 2, 6}, index[5] = {0, 2, 2, 6, 5};
    int64_t positions[ROWS] = {0, 1, 2, 3, 0, 1, 2}, destination[5] = {4, 0, 3, -1, 1};
    double frequencies[HEAD_DIM / 2] = {1.0, 0.1};
    attention_sequence s[2] = {{.q_rows = 4, .kv_rows = 4}, {.q_row = 4, .q_rows = 3, .kv_row = 4, .kv_rows = 3}};
    float scale = 1.0f / 3;
    *n = (net){0};
    OK(device_open("cpu", 2, &n->d));
    OK(graph_create(n->d, DTYPE_F32, true, &n->g));
    n->ids = on_device(n->d, ROWS, 1, DTYPE_I32, ids);
    n->labels = on_device(n->d, 5, 1, DTYPE_I32, labels);
    n->positions = on_device(n->d, ROWS, 1, DTYPE_I64, positions);
    n->frequencies = on_device(n->d, 1, HEAD_DIM / 2, DTYPE_F64, frequencies);
    n->index = on_device(n->d, 5, 1, DTYPE_I32, index);
    n->destination = on_device(n->d, 5, 1, DTYPE_I64, destination);
    n->sequences = on_device(n->d, 2, sizeof *s, DTYPE_U8, s);
    n->scale = on_device(n->d, 1, 1, DTYPE_F32, &scale);
    n->loss = on_device(n->d, 1, 1, DTYPE_F64, NULL);
    for (int i = 0; i < WEIGHTS; i++) {
        float values[VOCAB * HIDDEN];
        int count = shapes[i][0] * shapes[i][1];
        for (int j = 0; j < count; j++)
            values[j] = (float)(rng_uniform(5, (uint64_t)i, (uint64_t)j) - 0.5) + (i == 1 ? 1.0f : 0.0f);
        n->weights[i] = (tensor){.value = on_device(n->d, shapes[i][0], shapes[i][1], DTYPE_F32, values),
                                 .grad = on_device(n->d, shapes[i][0], shapes[i][1], DTYPE_F32, NULL),
                                 .needs_grad = true,
                                 .weight = true};
    }
    n->plus = (low_rank){.a = &n->weights[PLAIN], .b = &n->weights[PLAIN + 1], .scale = 1.5f};
    n->weights[4].plus = &n->plus;
}

/* Moves `count` weights of the same shape into one matrix, and their gradients into another. */
static void join(net *n, int first, int count) {
    tensor *w = &n->weights[first];
    view value = w->value, grad = w->grad;
    size_t bytes = view_bytes(value);
    value.rows *= count, grad.rows *= count;
    OK(n->d->memory.alloc(n->d, (size_t)count * bytes, &value.data));
    OK(n->d->memory.alloc(n->d, (size_t)count * bytes, &grad.data));
    OK(n->d->memory.zero(n->d, grad.data, (size_t)count * bytes));
    for (int i = 0; i < count; i++) {
        memcpy((char *)value.data + (size_t)i * bytes, w[i].value.data, bytes);
        n->d->memory.release(n->d, w[i].value.data);
        n->d->memory.release(n->d, w[i].grad.data);
        w[i].value.data = (char *)value.data + (size_t)i * bytes;
        w[i].grad.data = (char *)grad.data + (size_t)i * bytes;
        n->joined[first + i] = i > 0;
    }
}

static void net_close(net *n) {
    const view views[] = {n->ids,         n->labels,    n->positions, n->frequencies, n->index,
                          n->destination, n->sequences, n->scale,     n->loss};
    for (size_t i = 0; i < sizeof views / sizeof *views; i++) n->d->memory.release(n->d, views[i].data);
    for (int i = 0; i < WEIGHTS; i++) {
        if (n->joined[i]) continue;
        n->d->memory.release(n->d, n->weights[i].value.data);
        n->d->memory.release(n->d, n->weights[i].grad.data);
    }
    graph_free(n->g);
    device_close(n->d);
}

static tensor *attention_part(net *n, tensor *x, tensor *angles) {
    tensor *w = n->weights, *q, *k, *v, *turned, *keys, *heads, *out;
    struct op_attention a = {.sequences = n->sequences,
                             .max_q_rows = 4,
                             .max_kv_rows = 4,
                             .heads = HEADS,
                             .kv_heads = HEADS,
                             .head_dim = HEAD_DIM,
                             .strict = true,
                             .window = 3,
                             .scale = 0.5f};
    OK(graph_linear(n->g, x, &w[2], &w[6], DTYPE_F32, &q));
    OK(graph_rope(n->g, q, angles, &turned));
    OK(graph_linear(n->g, x, &w[3], NULL, DTYPE_F32, &k));
    OK(graph_rope(n->g, k, angles, &keys));
    OK(graph_linear(n->g, x, &w[4], NULL, DTYPE_F32, &v));
    OK(graph_attention(n->g, turned, NULL, keys, v, &a, NULL, &heads));
    OK(graph_linear(n->g, heads, &w[5], NULL, DTYPE_F32, &out));
    tensor *all[] = {q, k, v, turned, keys, heads};
    for (int i = 0; i < 6; i++) tensor_release(n->g, all[i]);
    return out;
}

static int run_attention_part(graph *g, const void *what, tensor *const in[WORK_INPUTS], tensor *out[WORK_OUTPUTS]) {
    net *n;
    memcpy(&n, what, sizeof n);
    assert_ptr_equal(g, n->g);
    n->runs++;
    out[0] = attention_part(n, in[0], in[1]);
    return LCKV_OK;
}

static tensor *recomputed_part(net *n, tensor *x, tensor *angles) {
    graph_work work = {.run = run_attention_part, .what = &n, .bytes = sizeof n, .in = {x, angles}};
    tensor *out[WORK_OUTPUTS] = {NULL};
    OK(graph_recompute(n->g, &work, out));
    return out[0];
}

static tensor *rows_part(net *n, tensor *x) {
    tensor *w = n->weights, *some, *moved, *gate, *up, *inner, *bias, *out;
    OK(graph_gather_rows(n->g, x, n->index, &some));
    OK(graph_zeros(n->g, 5, HIDDEN, DTYPE_F32, &moved));
    OK(graph_scatter_rows(n->g, some, n->destination, moved));
    OK(graph_linear(n->g, moved, &w[7], NULL, DTYPE_F32, &gate));
    OK(graph_linear(n->g, moved, &w[8], NULL, DTYPE_F32, &up));
    OK(graph_swiglu(n->g, gate, up, &inner));
    OK(graph_bias(n->g, &w[6], 5, &bias));
    OK(graph_add(n->g, inner, bias, &out));
    tensor *all[] = {some, moved, gate, up, inner, bias};
    for (int i = 0; i < 6; i++) tensor_release(n->g, all[i]);
    return out;
}

/* A layer whose weights are packed: q, k and v of weights 2, 3 and 4, gate and up of 7 and 8. */
static tensor *packed_layer(net *n, tensor *x, tensor *angles) {
    tensor *w = n->weights, *heads[PROJECT_PARTS], *attended, *middle, *inner, *out, *some;
    weight_part part[5] = {
        {"q", &w[2], NULL}, {"k", &w[3], NULL}, {"v", &w[4], NULL}, {"gate", &w[7], NULL}, {"up", &w[8], NULL}};
    graph_projection qkv = {.norm = &w[1], .eps = 1e-5f, .parts = 3, .part = {&part[0], &part[1], &part[2]}};
    graph_projection mlp = {.norm = &w[1], .eps = 1e-5f, .parts = 2, .part = {&part[3], &part[4]}};
    struct op_attention a = {.sequences = n->sequences,
                             .max_q_rows = 4,
                             .max_kv_rows = 4,
                             .heads = HEADS,
                             .kv_heads = HEADS,
                             .head_dim = HEAD_DIM,
                             .scale = 0.5f};
    assert_true(graph_is_packed(&qkv) && graph_is_packed(&mlp));
    OK(graph_project_heads(n->g, x, &qkv, (const bool[PROJECT_PARTS]){true, true, true}, angles, heads));
    OK(graph_attention(n->g, heads[0], NULL, heads[1], heads[2], &a, NULL, &attended));
    OK(graph_linear_add(n->g, attended, &w[5], &w[6], x, &middle));
    OK(graph_project_gated(n->g, middle, &mlp, &inner));
    OK(graph_linear_add(n->g, inner, &w[5], NULL, middle, &out));
    OK(graph_gather_rows(n->g, out, n->index, &some));
    tensor *all[] = {heads[0], heads[1], heads[2], attended, middle, inner, out};
    for (int i = 0; i < 7; i++) tensor_release(n->g, all[i]);
    return some;
}

static double run(net *n, bool with_gradients) {
    tensor *w = n->weights, *x, *h = NULL, *angles, *branch = NULL, *sum = NULL, *last;
    double loss;
    n->g->recording = with_gradients;
    OK(n->d->memory.zero(n->d, n->loss.data, sizeof loss));
    OK(graph_embed(n->g, n->ids, &w[0], &x));
    OK(graph_rope_angles(
        n->g,
        &(struct op_rope_angles){.positions = n->positions, .inverse_frequencies = n->frequencies, .scale = 1.25f},
        &angles));
    if (n->packed) {
        last = packed_layer(n, x, angles);
    } else {
        OK(graph_rms_norm(n->g, x, &w[1], 1e-5f, DTYPE_F32, &h));
        branch = n->recompute && with_gradients ? recomputed_part(n, h, angles) : attention_part(n, h, angles);
        OK(graph_add(n->g, x, branch, &sum));
        last = rows_part(n, sum);
    }
    struct op_linear_cross_entropy a = {.labels = n->labels, .scale = n->scale, .loss = n->loss};
    OK(graph_linear_cross_entropy(n->g, last, &w[0], &a));
    tensor *all[] = {x, h, angles, branch, sum, last};
    for (int i = 0; i < 6; i++) tensor_release(n->g, all[i]);
    if (with_gradients) OK(graph_backward(n->g));
    OK(n->d->memory.copy_out(n->d, &loss, n->loss.data, sizeof loss));
    OK(n->d->memory.wait(n->d));
    return loss;
}

/* Central differences with step h = 1e-2: the truncation error is h^2 / 6 times a third derivative of order 1, and the
 * f32 rounding of a loss of 5, divided by 2h, is 3e-5. Both are far below the tolerance of 1 % plus 2e-4. */
static void check_derivatives(bool packed) {
    net n;
    net_open(&n);
    if (packed) {
        n.packed = true;
        n.weights[4].plus = NULL;
        join(&n, 2, 3);
        join(&n, 7, 2);
    }
    run(&n, true);
    assert_int_equal(pool_in_use(n.g->pool), 0);
    for (int i = 0; i < WEIGHTS; i++) {
        float *value = n.weights[i].value.data, *grad = n.weights[i].grad.data;
        for (int j = 0; j < shapes[i][0] * shapes[i][1]; j++) {
            float kept = value[j], h = 1e-2f;
            value[j] = kept + h;
            double high = run(&n, false);
            value[j] = kept - h;
            double low = run(&n, false), expected = (high - low) / (2 * (double)h);
            value[j] = kept;
            if (fabs(expected - (double)grad[j]) > 0.01 * fabs(expected) + 2e-4)
                fail_msg("weight %d element %d: gradient %g, difference %g", i, j, (double)grad[j], expected);
        }
    }
    net_close(&n);
}

static void gradients_are_derivatives(void **state) {
    (void)state;
    check_derivatives(false);
}

static void gradients_of_packed_weights_are_derivatives(void **state) {
    (void)state;
    check_derivatives(true);
}

/* Gradients accumulate over steps; the same step gives the same bits at the same addresses. */
static void steps_repeat_and_add(void **state) {
    (void)state;
    net n;
    float once[VOCAB * HIDDEN];
    net_open(&n);
    double first = run(&n, true);
    float *grad = n.weights[0].grad.data;
    memcpy(once, grad, sizeof once);
    OK(graph_reset(n.g));
    assert_true(first == run(&n, true));
    for (int j = 0; j < VOCAB * HIDDEN; j++)
        assert_true(fabsf(grad[j] - 2 * once[j]) <= 1e-5f * fabsf(grad[j]) + 1e-6f);
    net_close(&n);
}

/* A recomputed part gives the same bits as a stored one, and needs less memory. */
static void recomputed_parts_give_the_same_bits(void **state) {
    (void)state;
    net kept, again;
    net_open(&kept);
    net_open(&again);
    again.recompute = true;
    assert_true(run(&kept, true) == run(&again, true));
    assert_int_equal(again.runs, 2);
    for (int i = 0; i < WEIGHTS; i++)
        assert_memory_equal(kept.weights[i].grad.data, again.weights[i].grad.data, view_bytes(kept.weights[i].grad));
    assert_int_equal(pool_in_use(again.g->pool), 0);
    net_close(&kept);
    net_close(&again);
}

static int note_ready(void *user, tensor *weight) {
    int *ready = user;
    ready[weight->uses == 0]++;
    return LCKV_OK;
}

/* The callback is called once for every weight that the tape used, when its gradient is complete; frozen weights get
 * none. */
static void check_announcements(bool recompute) {
    net n;
    int ready[2] = {0, 0};
    float zeros[HIDDEN * HIDDEN] = {0};
    net_open(&n);
    n.recompute = recompute;
    n.g->gradient_ready = note_ready;
    n.g->gradient_ready_user = ready;
    n.weights[7].needs_grad = false; /* the gate is frozen */
    run(&n, true);
    assert_int_equal(ready[0], 0);
    assert_int_equal(ready[1], WEIGHTS - 1);
    assert_memory_equal(n.weights[7].grad.data, zeros, sizeof zeros);
    net_close(&n);
}

static void weights_are_announced(void **state) {
    (void)state;
    check_announcements(false);
    check_announcements(true);
}

/* Parts without incoming gradients are not recomputed; their weights are reported as complete nevertheless. */
static void work_without_a_gradient_does_not_run_again(void **state) {
    (void)state;
    net n;
    int ready[2] = {0, 0};
    tensor *x, *angles, *branch;
    net_open(&n);
    n.g->gradient_ready = note_ready;
    n.g->gradient_ready_user = ready;
    n.g->recording = true;
    OK(graph_embed(n.g, n.ids, &n.weights[0], &x));
    OK(graph_rope_angles(
        n.g, &(struct op_rope_angles){.positions = n.positions, .inverse_frequencies = n.frequencies, .scale = 1},
        &angles));
    branch = recomputed_part(&n, x, angles);
    assert_int_equal(n.weights[2].uses, 1);
    tensor *all[] = {x, angles, branch};
    for (int i = 0; i < 3; i++) tensor_release(n.g, all[i]);
    OK(graph_backward(n.g));
    assert_int_equal(n.runs, 1);
    assert_int_equal(ready[1], 8); /* the embedding; q, k, v with their additions, o and the bias */
    assert_int_equal(n.weights[2].uses, 0);
    assert_int_equal(pool_in_use(n.g->pool), 0);
    net_close(&n);
}

/* If everything else is frozen, an addition to a weight has the same gradient as before, and nothing else has one. */
static void what_is_added_learns_alone(void **state) {
    (void)state;
    net all, alone;
    float zeros[VOCAB * HIDDEN] = {0};
    net_open(&all);
    net_open(&alone);
    for (int i = 0; i < PLAIN; i++) alone.weights[i].needs_grad = false;
    assert_true(run(&all, true) == run(&alone, true));
    for (int i = 0; i < WEIGHTS; i++) {
        const tensor *w = &alone.weights[i];
        const void *expected = i < PLAIN ? zeros : all.weights[i].grad.data;
        assert_memory_equal(w->grad.data, expected, view_bytes(w->grad));
    }
    assert_memory_not_equal(alone.weights[PLAIN].grad.data, zeros, sizeof(float) * RANK * HIDDEN);
    assert_int_equal(pool_in_use(alone.g->pool), 0);
    net_close(&all);
    net_close(&alone);
}

/* After a reset nothing remains of a pass that was aborted. */
static void reset_forgets(void **state) {
    (void)state;
    net n;
    tensor *x, *h;
    net_open(&n);
    n.g->recording = true;
    OK(graph_embed(n.g, n.ids, &n.weights[0], &x));
    OK(graph_rms_norm(n.g, x, &n.weights[1], 1e-5f, DTYPE_F32, &h));
    recomputed_part(&n, h, h); /* rows of HIDDEN numbers serve as angles for HEAD_DIM */
    assert_int_equal(n.weights[0].uses, 1);
    assert_int_equal(n.weights[2].uses, 1);
    OK(graph_reset(n.g));
    assert_int_equal(n.weights[0].uses, 0);
    assert_int_equal(n.weights[2].uses, 0);
    assert_int_equal(pool_in_use(n.g->pool), 0);
    run(&n, true);
    net_close(&n);
}

static int (*adds)(device *d, const struct op_accumulate *a);

static int adds_or_writes(device *d, const struct op_accumulate *a) {
    if (a->dst.fresh) memset(a->dst.data, 0, view_bytes(a->dst));
    return adds(d, a);
}

/* On a device with compute_gradients, whose accumulate overwrites a fresh gradient: the derivative has both terms,
 * 2 scale x and -2 scale target. */
static void a_square_loss_has_both_terms(void **state) {
    (void)state;
    net n;
    tensor *x, *target;
    float values[ROWS * HIDDEN], table[VOCAB * HIDDEN];
    net_open(&n);
    adds = n.d->ops.accumulate;
    n.d->ops.accumulate = adds_or_writes;
    n.d->compute_gradients = true;
    for (int i = 0; i < ROWS * HIDDEN; i++) values[i] = (float)rng_uniform(6, 0, (uint64_t)i);
    view sums = on_device(n.d, 1, 2, DTYPE_F64, NULL);
    OK(graph_borrow(n.g, on_device(n.d, ROWS, HIDDEN, DTYPE_F32, values), false, &target));
    n.g->recording = true;
    OK(graph_embed(n.g, n.ids, &n.weights[0], &x));
    OK(graph_square_loss(n.g, x, target, 0.25f, sums));
    memset(table, 0, sizeof table);
    for (int i = 0; i < ROWS * HIDDEN; i++) {
        int at = ((int32_t *)n.ids.data)[i / HIDDEN] * HIDDEN + i % HIDDEN;
        table[at] += 0.5f * (((float *)n.weights[0].value.data)[at] - values[i]);
    }
    tensor_release(n.g, x);
    OK(graph_backward(n.g));
    for (int i = 0; i < VOCAB * HIDDEN; i++) /* a few roundings of numbers up to 1 */
        assert_true(fabsf(((float *)n.weights[0].grad.data)[i] - table[i]) < 1e-6f);
    n.d->memory.release(n.d, target->value.data);
    n.d->memory.release(n.d, sums.data);
    tensor_release(n.g, target);
    net_close(&n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_derivatives),
        cmocka_unit_test(gradients_of_packed_weights_are_derivatives),
        cmocka_unit_test(steps_repeat_and_add),
        cmocka_unit_test(weights_are_announced),
        cmocka_unit_test(recomputed_parts_give_the_same_bits),
        cmocka_unit_test(work_without_a_gradient_does_not_run_again),
        cmocka_unit_test(reset_forgets),
        cmocka_unit_test(what_is_added_learns_alone),
        cmocka_unit_test(a_square_loss_has_both_terms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
