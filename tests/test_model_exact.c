/* Exact training: its loss and logits are those of the sequential form, its gradients those of the plan at the fixed
 * point, and of the sequential form where the walks reach every token. */
#include "model/exact.h"

#include "fixture.h"

enum { LENGTH = 5, SEQUENCES = 3, LAYERS = 6, ROWS = 5 + 4 + 3 };

/* Two loops, one, tangled, chains, windows, a loop that other layers read, none. */
static const char *const LAYOUTS[] = {"2_2_2_5_5_5",   "0_4_4_4_4_5",       "3_5_1_3_2_0", "1_2_3_4_5_5",
                                      "2s_2s_2_3_5_5", "3s_3s_3s_3s_3s_5s", "0_3_3_3_3_3", "1_1_1_0_5_5",
                                      "5_4_3_2_1_0",   "5_5_5_5_5_5",       "0_0_2_2_4_4", "1_1_0_4_4_1"};

typedef enum loop_form { PLAN, SEQUENTIAL, EXACT } loop_form;

/* Loss and gradients of one form. */
typedef struct outcome {
    float logits[ROWS * FIXTURE_VOCAB];
    double loss, residual[2];
    float *gradients;
    int64_t count;
} outcome;

typedef struct setting {
    const char *layout, *more;
    int m, b;
    bool recompute;
    unsigned targets; /* of LoRA; 0: the weights are trained */
} setting;

static view scalar(device *d, dtype type, const void *value) {
    view v = {NULL, 1, 1, type};
    OK(d->memory.alloc(d, view_bytes(v), &v.data));
    OK(d->memory.copy_in(d, v.data, value, view_bytes(v)));
    return v;
}

/* Sequences of unequal length, each one's labels the ids that follow. */
static int32_t fill_batch(fixture *f, int32_t ids[SEQUENCES][LENGTH + 1]) {
    batch_entry entries[SEQUENCES];
    int32_t rows = 0;
    for (int s = 0; s < SEQUENCES; s++) {
        fixture_ids(ids[s], LENGTH + 1, (uint64_t)s);
        entries[s] = (batch_entry){.ids = ids[s],
                                   .labels = ids[s] + 1,
                                   .rows = LENGTH - s,
                                   .wanted = LENGTH - s,
                                   .cache_id = -1,
                                   .planned = true};
        rows += LENGTH - s;
    }
    OK(batch_fill(f->batch, NULL, entries, SEQUENCES));
    return rows;
}

/* B starts as zeros; here it gets values of the size of other weights. */
static void add_adapter(fixture *f, unsigned targets) {
    const adapter_options options = {.rank = 2, .alpha = 4, .targets = targets};
    OK(adapter_create(f->model->params, &options, &f->model->adapter));
    OK(adapter_randomize(f->model->adapter, 3));
    const params *p = f->model->adapter->weights;
    for (int i = 1; i < p->count; i += 2) {
        float *values = p->table[i].tensor.value.data;
        for (int64_t k = 0; k < p->table[i].rows * p->table[i].cols; k++)
            values[k] = (float)(0.4 * rng_uniform(17, (uint64_t)i, (uint64_t)k) - 0.2);
    }
}

static void read_gradients(fixture *f, outcome *o) {
    const params *p = model_trainable(f->model);
    o->count = params_elements(p);
    o->gradients = malloc((size_t)o->count * sizeof(float));
    assert_non_null(o->gradients);
    int64_t at = 0;
    for (int i = 0; i < p->count; i++) {
        view grad = p->table[i].tensor.grad;
        OK(f->device->memory.copy_out(f->device, o->gradients + at, grad.data, view_bytes(grad)));
        at += grad.rows * grad.cols;
    }
    OK(f->device->memory.wait(f->device));
    assert_int_equal(at, o->count);
}

static void run(const setting *s, loop_form form, outcome *o) {
    fixture f;
    char extra[256];
    int32_t ids[SEQUENCES][LENGTH + 1];
    float one = 1;
    tensor *hidden, *logits;
    exact_slots *slots;
    exact_record record = {0};
    snprintf(extra, sizeof extra,
             ",\"layer_types\":\"%s\",\"sliding_window\":4,\"forward_passes\":%d,\"backward_passes\":%d%s", s->layout,
             s->m, s->b, s->more);
    fixture_open(&f, LAYERS, extra, DTYPE_F32, true);
    if (s->targets) add_adapter(&f, s->targets);
    OK(params_enable_gradients(model_trainable(f.model)));
    f.graph->recompute = s->recompute;
    view scale = scalar(f.device, DTYPE_F32, &one), loss = scalar(f.device, DTYPE_F64, &(double){0});
    view residual = {NULL, 1, 2, DTYPE_F64};
    OK(f.device->memory.alloc(f.device, view_bytes(residual), &residual.data));
    OK(f.device->memory.zero(f.device, residual.data, view_bytes(residual)));
    int32_t rows = fill_batch(&f, ids);
    OK(exact_slots_create(f.model, DTYPE_F32, rows, &slots));
    if (form == EXACT) {
        OK(decoder_fill(f.model, f.graph, f.batch, slots, 0));
        assert_int_equal(pool_in_use(f.graph->pool), 0);
        OK(graph_reset(f.graph));
    }
    f.graph->recording = true;
    if (form == EXACT)
        OK(decoder_forward_exact(f.model, f.graph, f.batch, slots, 0, residual, &record, &hidden));
    else
        OK(form == PLAN ? decoder_forward(f.model, f.graph, f.batch, NULL, &hidden)
                        : decoder_forward_sequential(f.model, f.graph, f.batch, &hidden));
    OK(decoder_loss(f.model, f.graph, f.batch, hidden, scale, loss, (view){0}, (view){0}));
    f.graph->recording = false;
    OK(decoder_logits(f.model, f.graph, hidden, &logits));
    OK(f.device->memory.copy_out(f.device, o->logits, logits->value.data, view_bytes(logits->value)));
    tensor_release(f.graph, logits);
    tensor_release(f.graph, hidden);
    f.graph->recording = true;
    OK(form == EXACT ? decoder_backward_exact(f.graph, &record, s->b) : graph_backward(f.graph));
    OK(f.device->memory.copy_out(f.device, &o->loss, loss.data, sizeof o->loss));
    OK(f.device->memory.copy_out(f.device, o->residual, residual.data, sizeof o->residual));
    OK(f.device->memory.wait(f.device));
    read_gradients(&f, o);
    exact_record_free(f.graph, &record);
    if (form != SEQUENTIAL && pool_in_use(f.graph->pool))
        fail_msg("%s: %zu bytes of tensors were not released", s->layout, pool_in_use(f.graph->pool));
    OK(graph_reset(f.graph));
    const params *trained = model_trainable(f.model);
    for (int i = 0; i < trained->count; i++) assert_int_equal(trained->table[i].tensor.uses, 0);
    exact_slots_free(slots);
    f.device->memory.release(f.device, scale.data);
    f.device->memory.release(f.device, loss.data);
    f.device->memory.release(f.device, residual.data);
    fixture_close(&f);
}

/* The same sums in another order: a gradient of a dozen tokens is good to 1e-5 of the largest, as CLOSE says of logits;
 * a walk too few or too many moves it by more than a hundredth. */
static void assert_same_gradients(const outcome *a, const outcome *b, const char *what) {
    float largest = 0;
    for (int64_t i = 0; i < a->count; i++) largest = fmaxf(largest, fabsf(a->gradients[i]));
    assert_true(largest > 0);
    for (int64_t i = 0; i < a->count; i++)
        if (!(fabsf(a->gradients[i] - b->gradients[i]) <= 1e-4f * largest))
            fail_msg("%s: gradient %lld: %g against %g, of at most %g", what, (long long)i, (double)a->gradients[i],
                     (double)b->gradients[i], (double)largest);
}

static void compare(const setting *s, loop_form other, const setting *of_other) {
    outcome a, b;
    char what[128];
    snprintf(what, sizeof what, "%s%s, m = %d, b = %d, targets %x", s->layout, s->more, s->m, s->b, s->targets);
    run(s, EXACT, &a);
    run(of_other, other, &b);
    assert_close(a.logits, b.logits, ROWS * FIXTURE_VOCAB, CLOSE, what);
    assert_true(fabs(a.loss - b.loss) < ROWS * CLOSE);
    assert_same_gradients(&b, &a, what);
    assert_true(a.residual[0] <= 0x1p-40 * a.residual[1]); /* some rounding errors of 2^-24 */
    free(a.gradients);
    free(b.gradients);
}

enum { SETTINGS = sizeof LAYOUTS / sizeof *LAYOUTS + 3 }; /* the first three with force_nodiag too */

static setting setting_of(int i, int m, int b) {
    int layouts = sizeof LAYOUTS / sizeof *LAYOUTS;
    return (setting){
        .layout = LAYOUTS[i % layouts], .more = i < layouts ? "" : ",\"force_nodiag\":true", .m = m, .b = b};
}

static void equals_the_plan_at_the_fixed_point(void **state) {
    (void)state;
    for (int i = 0; i < SETTINGS; i++) {
        for (int b = 1; b <= 3; b++) {
            setting exact = setting_of(i, 0, b), planned = setting_of(i, LENGTH, b);
            compare(&exact, PLAN, &planned);
        }
    }
}

static void equals_sequential_training(void **state) {
    (void)state;
    for (int i = 0; i < SETTINGS; i++) {
        setting s = setting_of(i, 2, LENGTH);
        compare(&s, SEQUENTIAL, &s);
    }
}

/* All matrices; queries and values; the last product of a layer alone. */
static const unsigned TARGETS[] = {ADAPTER_ALL, 1 | 4, 64};

static void lora_has_the_gradients_of_the_plan(void **state) {
    (void)state;
    for (int i = 0; i < SETTINGS; i++) {
        for (int j = 0; j < 3; j++) {
            setting exact = setting_of(i, 0, 2), planned = setting_of(i, LENGTH, 2);
            exact.targets = planned.targets = TARGETS[j];
            compare(&exact, PLAN, &planned);
        }
    }
}

static void checkpointing_gives_the_same_bits(void **state) {
    (void)state;
    for (int i = 0; i < 4 * SETTINGS; i++) {
        setting s = setting_of(i / 4, 0, 3);
        outcome kept, recomputed;
        if (i % 4) s.targets = TARGETS[i % 4 - 1];
        run(&s, EXACT, &kept);
        s.recompute = true;
        run(&s, EXACT, &recomputed);
        assert_memory_equal(kept.gradients, recomputed.gradients, (size_t)kept.count * sizeof(float));
        free(kept.gradients);
        free(recomputed.gradients);
    }
}

/* ---------------------------------------------------------------- one iteration from the start */

/* The loss of one iteration alone, at the weights moved by `shift` along a random direction. */
typedef struct iteration_run {
    fixture f;
    exact_slots *slots;
    loop_start_loss loss;
    float scales[2 * LAYERS];
    view residual;
    int32_t ids[SEQUENCES][LENGTH + 1];
} iteration_run;

static double direction(int entry, int64_t i) {
    return rng_uniform(5, (uint64_t)entry, (uint64_t)i) - 0.5;
}

static void shift_weights(iteration_run *r, double shift) {
    const params *p = r->f.model->params;
    for (int e = 0; e < p->count; e++) {
        float *w = p->table[e].tensor.value.data;
        int64_t count = p->table[e].tensor.value.rows * p->table[e].tensor.value.cols;
        for (int64_t i = 0; i < count; i++) w[i] += (float)(shift * direction(e, i));
    }
}

static double iteration_loss(iteration_run *r) {
    fixture *f = &r->f;
    exact_record record = {0};
    tensor *hidden;
    double sum = 0, *sums = r->loss.sums.data;
    int slots = f->model->config->map.slots;
    OK(f->device->memory.zero(f->device, sums, view_bytes(r->loss.sums)));
    f->graph->recording = true;
    OK(decoder_forward_exact(f->model, f->graph, f->batch, r->slots, 0, r->residual, &record, &hidden));
    tensor_release(f->graph, hidden);
    OK(decoder_backward_exact(f->graph, &record, 1)); /* more walks would go through the exact slots */
    OK(f->device->memory.wait(f->device));
    exact_record_free(f->graph, &record);
    assert_int_equal(pool_in_use(f->graph->pool), 0);
    OK(graph_reset(f->graph));
    for (int i = 0; i < 2 * slots; i++) sum += (double)r->scales[i] * sums[2 * i];
    return sum;
}

/* The directional derivative by differences, and by the gradients. The exact slots are constants. */
static void check_iteration_gradients(const char *layout, bool recompute) {
    const double STEP = 1e-3;
    iteration_run r = {0};
    fixture *f = &r.f;
    char extra[128];
    double derivative = 0;
    snprintf(extra, sizeof extra, ",\"layer_types\":\"%s\",\"sliding_window\":4,\"forward_passes\":0", layout);
    fixture_open(f, LAYERS, extra, DTYPE_F32, true);
    OK(params_enable_gradients(f->model->params));
    f->graph->recompute = recompute;
    r.residual = (view){NULL, 1, 2, DTYPE_F64};
    r.loss.sums = (view){NULL, 2 * LAYERS, 2, DTYPE_F64};
    OK(f->device->memory.alloc(f->device, view_bytes(r.residual), &r.residual.data));
    OK(f->device->memory.alloc(f->device, view_bytes(r.loss.sums), &r.loss.sums.data));
    OK(f->device->memory.zero(f->device, r.residual.data, view_bytes(r.residual)));
    for (int i = 0; i < 2 * LAYERS; i++) r.scales[i] = 0.1f * (float)(i + 1);
    r.loss.scales = r.scales;
    int32_t rows = fill_batch(f, r.ids);
    OK(exact_slots_create(f->model, DTYPE_F32, rows, &r.slots));
    OK(decoder_fill(f->model, f->graph, f->batch, r.slots, 0));
    OK(graph_reset(f->graph));
    f->batch->iteration_loss = &r.loss;
    bool loops = exact_top_layer(f->model) >= 0;
    assert_true(loops ? iteration_loss(&r) > 1e-3 : iteration_loss(&r) == 0);
    const params *p = f->model->params;
    for (int e = 0; e < p->count; e++) {
        const float *g = p->table[e].tensor.grad.data;
        int64_t count = p->table[e].tensor.grad.rows * p->table[e].tensor.grad.cols;
        for (int64_t i = 0; i < count; i++) derivative += (double)g[i] * direction(e, i);
    }
    shift_weights(&r, STEP);
    double above = iteration_loss(&r);
    shift_weights(&r, -2 * STEP);
    double difference = (above - iteration_loss(&r)) / (2 * STEP);
    if (!(fabs(difference - derivative) <= 0.01 * fabs(derivative) + 1e-3))
        fail_msg("%s: derivative %g, by differences %g", layout, derivative, difference);
    f->device->memory.release(f->device, r.residual.data);
    f->device->memory.release(f->device, r.loss.sums.data);
    exact_slots_free(r.slots);
    fixture_close(f);
}

static void one_iteration_is_learned_by_its_gradient(void **state) {
    (void)state;
    for (int i = 0; i < (int)(sizeof LAYOUTS / sizeof *LAYOUTS); i++) {
        check_iteration_gradients(LAYOUTS[i], false);
        check_iteration_gradients(LAYOUTS[i], true);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_iteration_is_learned_by_its_gradient),
        cmocka_unit_test(equals_the_plan_at_the_fixed_point),
        cmocka_unit_test(equals_sequential_training),
        cmocka_unit_test(lora_has_the_gradients_of_the_plan),
        cmocka_unit_test(checkpointing_gives_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
