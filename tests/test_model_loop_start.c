/* A learned start: its formula and gradients, that it changes the number of iterations but not what they converge to,
 * and that it does not depend on the other sequences of a batch. */
#include "model/exact.h"

#include "fixture.h"

enum { LENGTH = 7, LAYERS = 6, WIDTH = 10, HIDDEN = 24, HEAD = 6, KV = 12 };

/* One loop, two, tangled, chains, keys and values of different layers, windows. */
static const char *const LAYOUTS[] = {"0_4_4_4_4_5", "2_2_2_5_5_5", "3_5_1_3_2_0",   "1_2_3_4_5_5",
                                      "5_4_3_2_1_0", "5_5_5_5_5_5", "0_4:3_4_3_4_5", "2s_2s_2_3_5_5"};
enum { LAYOUT_COUNT = sizeof LAYOUTS / sizeof *LAYOUTS };

static void open_model(fixture *f, const char *layout, bool with_tape) {
    char extra[256];
    snprintf(extra, sizeof extra, ",\"layer_types\":\"%s\",\"sliding_window\":4", layout);
    fixture_open(f, LAYERS, extra, DTYPE_F32, with_tape);
}

/* Gives the model a start whose outputs are about as large as keys and values. */
static void add_start(fixture *f) {
    model *m = f->model;
    OK(loop_start_create(f->device, m->config, WIDTH, &m->loop_start));
    OK(params_allocate(m->loop_start->weights, f->device, DTYPE_F32));
    for (int i = 0; i < m->loop_start->weights->count; i++) OK(params_fill_normal(m->loop_start->weights, i, 0.3, 5));
}

/* Logits of all rows after a number of iterations. */
static void run_plan(fixture *f, int iterations, const int32_t *ids, int rows, float *logits) {
    plan steps;
    batch_entry e = {.ids = ids, .rows = rows, .wanted = rows, .cache_id = -1, .planned = true};
    OK(plan_make(&f->model->config->map, iterations - 1, 1, &steps));
    f->batch->plan = &steps;
    fixture_run(f, &e, 1, logits);
    f->batch->plan = NULL;
    plan_free(&steps);
}

static void enough_iterations_are_exact(void **state) {
    (void)state;
    for (int i = 0; i < LAYOUT_COUNT; i++) {
        fixture f;
        int32_t ids[LENGTH];
        float zeros[LENGTH * FIXTURE_VOCAB], once[LENGTH * FIXTURE_VOCAB], logits[LENGTH * FIXTURE_VOCAB];
        double changed = 0;
        open_model(&f, LAYOUTS[i], false);
        fixture_ids(ids, LENGTH, (uint64_t)i);
        run_plan(&f, LENGTH, ids, LENGTH, zeros);
        run_plan(&f, 1, ids, LENGTH, once);
        add_start(&f);
        run_plan(&f, LENGTH, ids, LENGTH, logits);
        assert_close(logits, zeros, LENGTH * FIXTURE_VOCAB, CLOSE, LAYOUTS[i]);
        run_plan(&f, 1, ids, LENGTH, logits);
        for (int k = 0; k < LENGTH * FIXTURE_VOCAB; k++) changed = fmax(changed, fabs((double)(logits[k] - once[k])));
        if (!(changed > 100 * CLOSE)) fail_msg("%s: the start changes nothing", LAYOUTS[i]);
        fixture_close(&f);
    }
}

static void a_new_start_is_zeros_bit_for_bit(void **state) {
    (void)state;
    for (int i = 0; i < LAYOUT_COUNT; i++) {
        fixture f;
        int32_t ids[LENGTH];
        float zeros[LENGTH * FIXTURE_VOCAB], logits[LENGTH * FIXTURE_VOCAB];
        open_model(&f, LAYOUTS[i], false);
        fixture_ids(ids, LENGTH, (uint64_t)i);
        for (int iterations = 1; iterations <= 3; iterations++) {
            run_plan(&f, iterations, ids, LENGTH, zeros);
            OK(loop_start_create(f.device, f.model->config, WIDTH, &f.model->loop_start));
            OK(params_allocate(f.model->loop_start->weights, f.device, DTYPE_F32));
            OK(loop_start_randomize(f.model->loop_start, 3));
            run_plan(&f, iterations, ids, LENGTH, logits);
            assert_close(logits, zeros, LENGTH * FIXTURE_VOCAB, 0, LAYOUTS[i]);
            loop_start_free(f.model->loop_start);
            f.model->loop_start = NULL;
        }
        fixture_close(&f);
    }
}

/* ---------------------------------------------------------------- batches */

/* Prompts in two pieces, beside other prompts and decoding tokens, give what each gives alone. */
static void company_changes_nothing(void **state) {
    (void)state;
    enum { SEQUENCES = 3 };
    for (int i = 0; i < LAYOUT_COUNT; i++) {
        fixture f;
        int32_t ids[SEQUENCES][LENGTH];
        float alone[SEQUENCES][FIXTURE_VOCAB], together[SEQUENCES * FIXTURE_VOCAB];
        plan steps;
        open_model(&f, LAYOUTS[i], false);
        add_start(&f);
        OK(plan_make(&f.model->config->map, 1, 1, &steps));
        for (int company = 0; company < 2; company++) {
            int cached[SEQUENCES];
            kv_cache_options o = kv_cache_defaults();
            o.sequences = SEQUENCES;
            fixture_cache(&f, o);
            f.batch->plan = &steps;
            batch_entry entries[SEQUENCES];
            for (int s = 0; s < SEQUENCES; s++) {
                bool decodes = s == SEQUENCES - 1;
                int32_t first = 3 - s, rows = decodes ? 1 : LENGTH - 1 - first - s;
                float unused[LENGTH * FIXTURE_VOCAB];
                fixture_ids(ids[s], LENGTH, (uint64_t)(10 * i + s));
                OK(kv_cache_add(f.cache, &cached[s]));
                batch_entry e = {.ids = ids[s], .rows = first, .wanted = 1, .cache_id = cached[s], .planned = true};
                fixture_run(&f, &e, 1, unused);
                entries[s] = (batch_entry){
                    .ids = ids[s] + first, .rows = rows, .wanted = 1, .cache_id = cached[s], .planned = !decodes};
                if (!company) fixture_run(&f, &entries[s], 1, alone[s]);
            }
            if (company) fixture_run(&f, entries, SEQUENCES, together);
        }
        f.batch->plan = NULL;
        assert_close(&alone[0][0], together, SEQUENCES * FIXTURE_VOCAB, CLOSE, LAYOUTS[i]);
        plan_free(&steps);
        fixture_close(&f);
    }
}

/* ---------------------------------------------------------------- formula */

typedef struct inputs {
    float x[2 * LENGTH * HIDDEN]; /* hidden states below the loop */
} inputs;

/* Layer 0 is below the loop. */
static int keep_hidden(void *user, int layer, const plan_step *step, layer_value what, view value) {
    inputs *in = user;
    (void)step;
    if (layer == 0 && what == LAYER_HIDDEN) memcpy(in->x, value.data, view_bytes(value));
    return LCKV_OK;
}

static double weight_at(const fixture *f, const char *name, int row, int col) {
    const weight *w = params_find(f->model->loop_start->weights, name);
    assert_non_null(w);
    return (double)((const float *)w->tensor.value.data)[row * w->cols + col];
}

/* Row t of x, normalized; zeros before the piece. */
static double normed(const inputs *in, int t, int back, int piece, int i) {
    double squares = 0;
    if (back > t % piece) return 0;
    const float *x = in->x + (t - back) * HIDDEN;
    for (int k = 0; k < HIDDEN; k++) squares += (double)x[k] * (double)x[k];
    return (double)x[i] / sqrt(squares / HIDDEN + 1e-5);
}

static void expect_hidden(const fixture *f, const inputs *in, int t, int piece, double *h) {
    for (int j = 0; j < WIDTH; j++) {
        double gate = weight_at(f, "loops.0.gate_proj.bias", 0, j), up = 0;
        for (int back = 0; back < LOOP_START_TOKENS; back++)
            for (int i = 0; i < HIDDEN; i++) {
                double n = normed(in, t, back, piece, i);
                gate += n * weight_at(f, "loops.0.gate_proj.weight", j, back * HIDDEN + i);
                up += n * weight_at(f, "loops.0.up_proj.weight", j, back * HIDDEN + i);
            }
        h[j] = gate / (1 + exp(-gate)) * up;
    }
}

static void project(const fixture *f, const char *name, const char *bias, const double *h, double *out) {
    for (int j = 0; j < KV; j++) {
        out[j] = weight_at(f, bias, 0, j);
        for (int i = 0; i < WIDTH; i++) out[j] += h[i] * weight_at(f, name, j, i);
    }
}

static void rotate(double *k, int position) {
    for (int head = 0; head < KV / HEAD; head++)
        for (int d = 0; d < HEAD / 2; d++) {
            double *a = &k[head * HEAD + d], *b = a + HEAD / 2, x = *a, y = *b;
            double angle = position / pow(10000, 2.0 * d / HEAD);
            *a = x * cos(angle) - y * sin(angle);
            *b = y * cos(angle) + x * sin(angle);
        }
}

static double distance(const double *a, const float *b) {
    double sum = 0;
    for (int i = 0; i < KV; i++) sum += (a[i] - (double)b[i]) * (a[i] - (double)b[i]);
    return sum;
}

typedef struct regression {
    exact_slots *slots;
    view sums;
    double host[12]; /* [slots * 2, 2] */
    float scales[6];
    loop_start_loss loss;
} regression;

static void regress(fixture *f, regression *r) {
    device *d = f->device;
    OK(d->memory.zero(d, r->sums.data, view_bytes(r->sums)));
    OK(decoder_fit_loop_start(f->model, f->graph, f->batch, r->slots, 0));
    OK(d->memory.copy_out(d, r->host, r->sums.data, view_bytes(r->sums)));
    OK(d->memory.wait(d));
}

/* A model with slots 0, 4 and 5, of which slot 4 (number 1) is looked up, and two sequences. */
static void open_regression(fixture *f, regression *r, inputs *in, int piece) {
    static int32_t ids[2][LENGTH];
    batch_entry entries[2];
    tensor *hidden;
    *r = (regression){.scales = {0, 0, 0.7f, 1.3f}};
    open_model(f, "0_4_4_4_4_5", true);
    add_start(f);
    for (int s = 0; s < 2; s++) {
        fixture_ids(ids[s], LENGTH, (uint64_t)s);
        entries[s] = (batch_entry){.ids = ids[s], .rows = LENGTH, .wanted = LENGTH, .cache_id = -1, .planned = true};
    }
    f->batch->piece_rows = piece;
    f->batch->watch = &(layer_watch){keep_hidden, in};
    OK(batch_fill(f->batch, NULL, entries, 2));
    OK(exact_slots_create(f->model, DTYPE_F32, 2 * LENGTH, &r->slots));
    OK(decoder_fill(f->model, f->graph, f->batch, r->slots, 0));
    OK(graph_reset(f->graph));
    OK(decoder_forward(f->model, f->graph, f->batch, NULL, &hidden));
    OK(graph_reset(f->graph));
    f->batch->watch = NULL;
    r->sums = (view){NULL, 6, 2, DTYPE_F64, NULL};
    OK(f->device->memory.alloc(f->device, view_bytes(r->sums), &r->sums.data));
    r->loss = (loop_start_loss){r->scales, r->sums};
    f->batch->start_loss = &r->loss;
}

static void close_regression(fixture *f, regression *r) {
    f->device->memory.release(f->device, r->sums.data);
    exact_slots_free(r->slots);
    fixture_close(f);
}

static void formula_is_the_documented_one(void **state) {
    (void)state;
    const int pieces[] = {0, 3};
    for (int i = 0; i < 2; i++) {
        fixture f;
        regression r;
        inputs in;
        double keys = 0, values = 0;
        int piece = pieces[i] ? pieces[i] : LENGTH;
        open_regression(&f, &r, &in, pieces[i]);
        regress(&f, &r);
        for (int row = 0; row < 2 * LENGTH; row++) {
            const inputs mine = {0};
            double h[WIDTH], k[KV], v[KV];
            inputs sequence = mine;
            int t = row % LENGTH;
            memcpy(sequence.x, in.x + row / LENGTH * LENGTH * HIDDEN, LENGTH * HIDDEN * sizeof(float));
            expect_hidden(&f, &sequence, t, piece, h);
            project(&f, "loops.0.slots.4.k_proj.weight", "loops.0.slots.4.k_proj.bias", h, k);
            project(&f, "loops.0.slots.4.v_proj.weight", "loops.0.slots.4.v_proj.bias", h, v);
            rotate(k, t);
            keys += distance(k, (const float *)exact_keys(r.slots, 1, row, 1).data);
            values += distance(v, (const float *)exact_values(r.slots, 1, row, 1).data);
        }
        assert_true(fabs(r.host[4] - keys) < 1e-4 * keys);
        assert_true(fabs(r.host[6] - values) < 1e-4 * values);
        assert_true(r.host[0] == 0 && r.host[2] == 0 && r.host[8] == 0 && r.host[10] == 0); /* not looked up */
        close_regression(&f, &r);
    }
}

/* ---------------------------------------------------------------- gradients */

static double loss_of(const regression *r) {
    return (double)r->scales[2] * r->host[4] + (double)r->scales[3] * r->host[6];
}

/* The loss is quadratic in the output weights and smooth in the others: central differences in f32 are good to a few
 * thousandths of the largest gradient. */
static void gradients_are_finite_differences(void **state) {
    (void)state;
    fixture f;
    regression r;
    inputs in;
    open_regression(&f, &r, &in, 0);
    params *p = f.model->loop_start->weights;
    OK(params_enable_gradients(p));
    OK(params_enable_gradients(f.model->params));
    regress(&f, &r);
    OK(graph_backward(f.graph));
    OK(graph_reset(f.graph));
    for (int i = 0; i < f.model->params->count; i++) {
        const weight *w = &f.model->params->table[i];
        for (int64_t k = 0; k < w->rows * w->cols; k++)
            if (((const float *)w->tensor.grad.data)[k] != 0) fail_msg("%s has a gradient", w->name);
    }
    for (int i = 0; i < p->count; i++) {
        float *values = p->table[i].tensor.value.data;
        const float *gradient = p->table[i].tensor.grad.data;
        int64_t count = p->table[i].rows * p->table[i].cols;
        double largest = 0;
        for (int64_t k = 0; k < count; k++) largest = fmax(largest, fabs((double)gradient[k]));
        assert_true(largest > 0);
        for (int64_t k = 0; k < count; k += 1 + count / 7) {
            const float before = values[k], step = 1e-2f;
            double up, down;
            values[k] = before + step;
            regress(&f, &r);
            up = loss_of(&r);
            OK(graph_reset(f.graph));
            values[k] = before - step;
            regress(&f, &r);
            down = loss_of(&r);
            OK(graph_reset(f.graph));
            values[k] = before;
            double expected = (up - down) / (2 * (double)step);
            if (!(fabs((double)gradient[k] - expected) <= 5e-3 * largest))
                fail_msg("%s[%lld]: gradient %g, differences %g", p->table[i].name, (long long)k, (double)gradient[k],
                         expected);
        }
    }
    close_regression(&f, &r);
}

/* With enough iterations the plan ends with the exact slot, so that both forms of training regress on the same target:
 * the gradients are those of the fit. Neither changes the gradients of the model. */
typedef enum form { FIT, PLAN, EXACT } form;

static void run_form(fixture *f, regression *r, form how, bool learns) {
    device *d = f->device;
    exact_record record = {0};
    tensor *hidden;
    float one = 1;
    double unused[4];
    view scale = {&one, 1, 1, DTYPE_F32, NULL}, residual = {unused, 1, 2, DTYPE_F64, NULL};
    view loss = {unused + 2, 1, 1, DTYPE_F64, NULL};
    memset(unused, 0, sizeof unused);
    f->batch->start_loss = learns ? &r->loss : NULL;
    f->graph->recording = true;
    OK(d->memory.zero(d, r->sums.data, view_bytes(r->sums)));
    if (how == FIT) OK(decoder_fit_loop_start(f->model, f->graph, f->batch, r->slots, 0));
    if (how == PLAN) OK(decoder_forward(f->model, f->graph, f->batch, NULL, &hidden));
    if (how == EXACT) OK(decoder_forward_exact(f->model, f->graph, f->batch, r->slots, 0, residual, &record, &hidden));
    if (how != FIT) OK(decoder_loss(f->model, f->graph, f->batch, hidden, scale, loss, (view){0}, (view){0}));
    if (how != FIT) tensor_release(f->graph, hidden);
    OK(how == EXACT ? decoder_backward_exact(f->graph, &record, 2) : graph_backward(f->graph));
    exact_record_free(f->graph, &record);
    if (pool_in_use(f->graph->pool)) fail_msg("%zu bytes were not released", pool_in_use(f->graph->pool));
    OK(graph_reset(f->graph));
}

/* Copies the gradients to `out` and zeroes them. */
static int64_t take_gradients(params *p, float *out, int64_t room) {
    int64_t at = 0;
    for (int i = 0; i < p->count; i++) {
        view g = p->table[i].tensor.grad;
        int64_t count = g.rows * g.cols;
        assert_true(at + count <= room);
        memcpy(out + at, g.data, (size_t)count * sizeof *out);
        memset(g.data, 0, (size_t)count * sizeof *out);
        at += count;
    }
    return at;
}

static void training_has_the_gradients_of_the_fit(void **state) {
    (void)state;
    enum { START = 1 << 13, MODEL = 1 << 16 };
    static float expected[START], start[START], alone[MODEL], beside[MODEL];
    fixture f;
    regression r;
    inputs in;
    plan steps;
    open_regression(&f, &r, &in, 0);
    OK(params_enable_gradients(f.model->loop_start->weights));
    OK(params_enable_gradients(f.model->params));
    OK(plan_make(&f.model->config->map, LENGTH, 2, &steps));
    f.batch->plan = &steps;
    run_form(&f, &r, FIT, true);
    int64_t count = take_gradients(f.model->loop_start->weights, expected, START);
    for (form how = PLAN; how <= EXACT; how++) {
        for (int recompute = 0; recompute < 2; recompute++) {
            f.graph->recompute = recompute;
            run_form(&f, &r, how, false);
            int64_t all = take_gradients(f.model->params, alone, MODEL);
            take_gradients(f.model->loop_start->weights, start, START);
            for (int64_t i = 0; i < count; i++) assert_true(start[i] == 0);
            run_form(&f, &r, how, true);
            take_gradients(f.model->params, beside, MODEL);
            take_gradients(f.model->loop_start->weights, start, START);
            assert_memory_equal(alone, beside, (size_t)all * sizeof *alone);
            assert_close(start, expected, (int)count, 1e-3, how == PLAN ? "plan" : "exact");
        }
    }
    plan_free(&steps);
    close_regression(&f, &r);
}

/* ---------------------------------------------------------------- tables and numbers */

static void only_looked_up_slots_have_outputs(void **state) {
    (void)state;
    fixture f;
    loop_start *s;
    open_model(&f, "0_4:3_4_3_4_5", false);
    OK(loop_start_create(f.device, f.model->config, WIDTH, &s));
    assert_non_null(params_find(s->weights, "loops.0.slots.4.k_proj.weight"));
    assert_non_null(params_find(s->weights, "loops.0.slots.4.v_proj.weight"));
    assert_non_null(params_find(s->weights, "loops.0.slots.3.v_proj.weight"));
    assert_null(params_find(s->weights, "loops.0.slots.3.k_proj.weight"));
    assert_null(params_find(s->weights, "loops.0.slots.0.k_proj.weight"));
    loop_start_free(s);
    fixture_close(&f);
    open_model(&f, "2_2_2_5_5_5", false);
    OK(loop_start_create(f.device, f.model->config, WIDTH, &s));
    assert_int_equal(s->net_count, 2);
    assert_non_null(params_find(s->weights, "loops.1.slots.5.k_proj.bias"));
    loop_start_free(s);
    fixture_close(&f);
    open_model(&f, "0_1_2_3_4_5", false);
    FAILS(loop_start_create(f.device, f.model->config, WIDTH, &s), LCKV_ERROR_UNSUPPORTED, "loops");
    assert_null(s);
    fixture_close(&f);
}

static void default_iterations_follow_from_the_divergence(void **state) {
    (void)state;
    loop_start s = {.kl = {.zeros = {2, 1, 0.5, 0.2}, .start = {0.6, 0.4, 0.2, 0.1}, .count = 4}};
    assert_int_equal(loop_start_iterations(&s, 4), 3);
    assert_int_equal(loop_start_iterations(&s, 3), 2);
    assert_int_equal(loop_start_iterations(&s, 1), 1);
    assert_int_equal(loop_start_iterations(&s, 5), 5); /* not measured */
    s.kl.start[2] = 0.3;
    assert_int_equal(loop_start_iterations(&s, 4), 4);
    s.kl.start[3] = 0.3; /* worse than zeros */
    assert_int_equal(loop_start_iterations(&s, 4), 4);
    s.kl.count = 0;
    assert_int_equal(loop_start_iterations(&s, 4), 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(enough_iterations_are_exact),
        cmocka_unit_test(a_new_start_is_zeros_bit_for_bit),
        cmocka_unit_test(company_changes_nothing),
        cmocka_unit_test(formula_is_the_documented_one),
        cmocka_unit_test(gradients_are_finite_differences),
        cmocka_unit_test(training_has_the_gradients_of_the_fit),
        cmocka_unit_test(only_looked_up_slots_have_outputs),
        cmocka_unit_test(default_iterations_follow_from_the_divergence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
