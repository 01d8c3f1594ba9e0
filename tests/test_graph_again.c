/* Values that are made again in the backward pass: the bits are those of kept values, and the memory is free between
 * the passes. */
#include "base/rng.h"
#include "graph/graph.h"

#include "expect.h"

#include <math.h>

enum { ROWS = 45, HIDDEN = 24, INNER = 40, WEIGHTS = 4, MATRIX = 2 * INNER * HIDDEN };

typedef enum mlp_form {
    PLAIN,      /* every value has one reader */
    READ_TWICE, /* a second product reads the norm and the gated activation */
    APART,      /* the products are in a part of the tape that is walked on its own */
    FROZEN,     /* the last product's weight has no gradient */
    RUN_AGAIN,  /* activation checkpointing */
    FORMS
} mlp_form;

/* out = x + down(swiglu(gate_up(norm(x)))) + bias */
typedef struct mlp {
    device *d;
    graph *g;
    tensor weights[WEIGHTS]; /* norm, gate_up, down, bias */
    tensor *x, *target;
    view sums;
    mlp_form form;
    tensor *held[2]; /* the values, if `holds` */
    bool holds;
    size_t between; /* bytes in use between the passes */
} mlp;

static const int shapes[WEIGHTS][2] = {{1, HIDDEN}, {2 * INNER, HIDDEN}, {HIDDEN, INNER}, {1, HIDDEN}};

static void fill(device *d, view v, uint64_t stream) {
    static float values[MATRIX];
    int64_t count = v.rows * v.cols;
    view wide = {NULL, v.rows, v.cols, DTYPE_F32};
    for (int64_t i = 0; i < count; i++) values[i] = (float)(rng_uniform(3, stream, (uint64_t)i) - 0.4);
    OK(d->memory.alloc(d, view_bytes(wide), &wide.data));
    OK(d->memory.copy_in(d, wide.data, values, view_bytes(wide)));
    OK(DEVICE_RUN(d, cast, &((struct op_cast){wide, v})));
    OK(d->memory.wait(d));
    d->memory.release(d, wide.data);
}

static view on_device(device *d, int64_t rows, int64_t cols, dtype type) {
    view v = {NULL, rows, cols, type};
    OK(d->memory.alloc(d, view_bytes(v), &v.data));
    OK(d->memory.zero(d, v.data, view_bytes(v)));
    return v;
}

static void mlp_open(mlp *m, const char *device_name, dtype compute, mlp_form form) {
    *m = (mlp){.form = form};
    OK(device_open(device_name, 2, &m->d));
    OK(graph_create(m->d, compute, true, &m->g));
    for (int i = 0; i < WEIGHTS; i++) {
        m->weights[i] = (tensor){.value = on_device(m->d, shapes[i][0], shapes[i][1], compute),
                                 .grad = on_device(m->d, shapes[i][0], shapes[i][1], DTYPE_F32),
                                 .needs_grad = form != FROZEN || i != 2,
                                 .weight = true};
        fill(m->d, m->weights[i].value, (uint64_t)i);
    }
    m->sums = on_device(m->d, 1, 2, DTYPE_F64);
    OK(graph_borrow(m->g, on_device(m->d, ROWS, HIDDEN, DTYPE_F32), true, &m->x));
    OK(graph_borrow(m->g, on_device(m->d, ROWS, HIDDEN, DTYPE_F32), false, &m->target));
    fill(m->d, m->x->value, 10);
    fill(m->d, m->target->value, 11);
}

static void mlp_close(mlp *m) {
    m->d->memory.release(m->d, m->x->value.data);
    m->d->memory.release(m->d, m->target->value.data);
    m->d->memory.release(m->d, m->sums.data);
    for (int i = 0; i < WEIGHTS; i++) {
        m->d->memory.release(m->d, m->weights[i].value.data);
        m->d->memory.release(m->d, m->weights[i].grad.data);
    }
    graph_free(m->g);
    device_close(m->d);
}

static void hold(mlp *m, int i, tensor *t) {
    if (m->holds) m->held[i] = tensor_hold(t);
}

/* A second reader: adds a product of t to *sum. */
static void read_again(mlp *m, tensor *t, tensor *weight, tensor **sum) {
    tensor *product, *both;
    if (m->form != READ_TWICE) return;
    OK(graph_linear(m->g, t, weight, NULL, DTYPE_F32, &product));
    OK(graph_add(m->g, *sum, product, &both));
    tensor_release(m->g, product);
    tensor_release(m->g, *sum);
    *sum = both;
}

static tensor *forward(mlp *m, tensor *x) {
    graph *g = m->g;
    tensor *w = m->weights, *h, *both, *inner, *out;
    OK(graph_rms_norm(g, x, &w[0], 1e-5f, g->compute, &h));
    if (m->form == APART) graph_mark(g);
    OK(graph_linear(g, h, &w[1], NULL, m->form == READ_TWICE ? DTYPE_F32 : g->compute, &both));
    read_again(m, h, &w[1], &both);
    OK(graph_swiglu(g, both, NULL, &inner));
    if (m->form == APART) graph_mark(g);
    OK(graph_linear_add(g, inner, &w[2], &w[3], x, &out));
    read_again(m, inner, &w[2], &out);
    hold(m, 0, h);
    hold(m, 1, inner);
    tensor_release(g, h);
    tensor_release(g, both);
    tensor_release(g, inner);
    return out;
}

static int run_forward(graph *g, const void *what, tensor *const in[WORK_INPUTS], tensor *out[WORK_OUTPUTS]) {
    mlp *m;
    memcpy(&m, what, sizeof m);
    assert_ptr_equal(g, m->g);
    out[0] = forward(m, in[0]);
    return LCKV_OK;
}

static tensor *forward_in_form(mlp *m) {
    tensor *out[WORK_OUTPUTS] = {NULL};
    graph_work work = {.run = run_forward, .what = &m, .bytes = sizeof m, .in = {m->x}};
    if (m->form != RUN_AGAIN) return forward(m, m->x);
    OK(graph_recompute(m->g, &work, out));
    return out[0];
}

/* With several walks, x is the fixed point of a loop and `out` its next value. */
static void run(mlp *m, bool holds, int walks) {
    tensor *out;
    m->holds = holds;
    out = forward_in_form(m);
    m->between = pool_in_use(m->g->pool);
    OK(graph_square_loss(m->g, out, m->target, 0.1f, m->sums));
    OK(walks == 1 ? graph_backward_to(m->g, 0) : graph_backward_loop(m->g, 0, walks, &m->x, &out, 1));
    tensor_release(m->g, out);
    for (int i = 0; i < 2; i++) tensor_release(m->g, m->held[i]);
}

static void assert_same_bits(device *d, view a, device *other, view b) {
    static float values[2][MATRIX];
    size_t bytes = view_bytes(a);
    OK(d->memory.copy_out(d, values[0], a.data, bytes));
    OK(d->memory.wait(d));
    OK(other->memory.copy_out(other, values[1], b.data, bytes));
    OK(other->memory.wait(other));
    assert_memory_equal(values[0], values[1], bytes);
    for (size_t i = 0; i < bytes / sizeof(float); i++) assert_true(isfinite(values[0][i]));
}

static void compare(const char *device_name, dtype compute, mlp_form form, int walks) {
    mlp kept, again;
    mlp_open(&kept, device_name, compute, form);
    mlp_open(&again, device_name, compute, form);
    run(&kept, form != RUN_AGAIN, walks);
    run(&again, false, walks);
    assert_true(!kept.x->grad.data && !again.x->grad.data); /* a borrowed tensor keeps none */
    for (int i = 0; i < WEIGHTS; i++) assert_same_bits(kept.d, kept.weights[i].grad, again.d, again.weights[i].grad);
    assert_int_equal(pool_in_use(again.g->pool), pool_in_use(kept.g->pool));
    mlp_close(&kept);
    mlp_close(&again);
}

static void compare_all(const char *device_name) {
    for (int form = 0; form < FORMS; form++)
        for (int walks = 1; walks <= 3; walks++) {
            if (form == RUN_AGAIN && walks > 1) continue;
            compare(device_name, DTYPE_F32, form, walks);
            compare(device_name, DTYPE_BF16, form, walks);
        }
}

static void bits_are_those_of_kept_values(void **state) {
    (void)state;
    compare_all("cpu");
    if (device_gpus()) compare_all("cuda");
}

/* Bytes of the pool for a value in bf16. */
static size_t bytes_of(int64_t cols) {
    return ((size_t)(2 * ROWS * cols) + 255) / 256 * 256;
}

/* What is not kept is exactly the two values, and with a second reader, or apart, nothing. */
static void memory_between_the_passes(void **state) {
    (void)state;
    static const mlp_form forms[] = {PLAIN, FROZEN, READ_TWICE, APART};
    for (int i = 0; i < 4; i++) {
        mlp kept, again;
        mlp_open(&kept, "cpu", DTYPE_BF16, forms[i]);
        mlp_open(&again, "cpu", DTYPE_BF16, forms[i]);
        run(&kept, true, 1);
        run(&again, false, 1);
        size_t expected = i < 2 ? bytes_of(HIDDEN) + bytes_of(INNER) : 0;
        assert_int_equal(kept.between - again.between, expected);
        mlp_close(&kept);
        mlp_close(&again);
    }
}

/* After a reset nothing remains of a pass whose values were not kept. */
static void reset_forgets(void **state) {
    (void)state;
    mlp m;
    mlp_open(&m, "cpu", DTYPE_F32, PLAIN);
    view x = m.x->value, target = m.target->value;
    forward_in_form(&m);
    OK(graph_reset(m.g));
    assert_int_equal(pool_in_use(m.g->pool), 0);
    OK(graph_borrow(m.g, x, true, &m.x));
    OK(graph_borrow(m.g, target, false, &m.target));
    run(&m, false, 1);
    mlp_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_are_those_of_kept_values),
        cmocka_unit_test(memory_between_the_passes),
        cmocka_unit_test(reset_forgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
