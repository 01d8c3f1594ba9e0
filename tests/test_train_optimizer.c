/* Schedules and AdamW against plain implementations. */
#include "train/checkpoint/optimizer_state.h"
#include "train/step/schedule.h"

#include "fixture.h"

/* ---------------------------------------------------------------- schedules */

/* The learning rates of transformers 4.45's get_scheduler(), for a maximum of 0.5. */
static const struct {
    lckv_schedule_type type;
    int64_t warmup_steps, steps;
    double expected[10];
    double min_lr_rate;
    int64_t decay_steps;
} SCHEDULES[] = {
    {LCKV_SCHEDULE_LINEAR, 0, 5, {0.5, 0.4, 0.3, 0.2, 0.1}},
    {LCKV_SCHEDULE_LINEAR,
     3,
     10,
     {0, 0.16666666666666666, 0.33333333333333331, 0.5, 0.42857142857142855, 0.35714285714285715, 0.2857142857142857,
      0.21428571428571427, 0.14285714285714285, 0.071428571428571425}},
    {LCKV_SCHEDULE_COSINE,
     0,
     5,
     {0.5, 0.45225424859373686, 0.32725424859373686, 0.17274575140626316, 0.047745751406263165}},
    {LCKV_SCHEDULE_COSINE,
     3,
     10,
     {0, 0.16666666666666666, 0.33333333333333331, 0.5, 0.47524221697560476, 0.4058724504646834, 0.30563023348907858,
      0.19436976651092142, 0.094127549535316629, 0.024757783024395241}},
    {LCKV_SCHEDULE_CONSTANT, 0, 5, {0.5, 0.5, 0.5, 0.5, 0.5}},
    {LCKV_SCHEDULE_CONSTANT, 3, 10, {0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5}},
    {LCKV_SCHEDULE_CONSTANT_WITH_WARMUP, 0, 5, {0.5, 0.5, 0.5, 0.5, 0.5}},
    {LCKV_SCHEDULE_CONSTANT_WITH_WARMUP,
     3,
     10,
     {0, 0.16666666666666666, 0.33333333333333331, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5}},
    {LCKV_SCHEDULE_COSINE_WITH_MIN_LR,
     0,
     5,
     {0.5, 0.45702882373436315, 0.34452882373436317, 0.20547117626563688, 0.092971176265636862},
     0.1,
     0},
    {LCKV_SCHEDULE_COSINE_WITH_MIN_LR,
     3,
     10,
     {0, 0.16666666666666666, 0.33333333333333331, 0.5, 0.48143166273170357, 0.42940433784851256, 0.35422267511680894,
      0.27077732488319106, 0.19559566215148746, 0.14356833726829643},
     0.25,
     0},
    {LCKV_SCHEDULE_WARMUP_STABLE_DECAY, 0, 5, {0.5, 0.5, 0.5, 0.5, 0.25}, 0, 2},
    {LCKV_SCHEDULE_WARMUP_STABLE_DECAY,
     3,
     10,
     {0, 0.16666666666666666, 0.33333333333333331, 0.5, 0.5, 0.5, 0.5, 0.43409902576697318, 0.27500000000000002,
      0.11590097423302682},
     0.1,
     4},
};

static void schedules_are_those_of_transformers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof SCHEDULES / sizeof *SCHEDULES; i++) {
        schedule s = {SCHEDULES[i].type,         0.5,
                      SCHEDULES[i].warmup_steps, SCHEDULES[i].steps,
                      SCHEDULES[i].min_lr_rate,  SCHEDULES[i].decay_steps};
        for (int64_t step = 0; step < s.steps; step++)
            assert_true(fabs(schedule_learning_rate(&s, step) - SCHEDULES[i].expected[step]) < 1e-15);
    }
}

static void schedules_end_well(void **state) {
    (void)state;
    schedule all_warmup = {LCKV_SCHEDULE_LINEAR, 1, 10, 10}, longer = {LCKV_SCHEDULE_COSINE, 1, 20, 10};
    assert_true(schedule_learning_rate(&all_warmup, 9) == 0.9);
    assert_true(schedule_learning_rate(&longer, 9) == 0.45);
}

static void warmup_is_steps_or_a_ratio(void **state) {
    (void)state;
    assert_int_equal(schedule_warmup_steps(7, 0.5, 100), 7);
    assert_int_equal(schedule_warmup_steps(0, 0.015, 100), 2);
    assert_int_equal(schedule_warmup_steps(0, 0, 100), 0);
}

static void decay_is_steps_or_a_tenth(void **state) {
    (void)state;
    assert_int_equal(schedule_decay_steps(7, 10, 100), 7);
    assert_int_equal(schedule_decay_steps(0, 10, 101), 11);
    assert_int_equal(schedule_decay_steps(50, 60, 100), 40);
    assert_int_equal(schedule_decay_steps(0, 200, 100), 0);
}

/* ---------------------------------------------------------------- AdamW */

enum { STEPS = 5 };

static const optimizer_options OPTIONS = {
    .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1, .max_grad_norm = 1};

static double gradient(int entry, int64_t element, int step, double size) {
    double pair[2];
    rng_normal2(5, (uint64_t)(entry * 100 + step), (uint64_t)element, pair);
    return size * pair[0];
}

/* Every weight, its moments and its gradient as torch.optim.AdamW and clip_grad_norm_ treat them, in f64. */
typedef struct reference {
    double *w, *m, *v;
    int64_t count;
    bool decays;
} reference;

static reference *reference_open(params *p) {
    reference *all = calloc((size_t)p->count, sizeof *all);
    for (int i = 0; i < p->count; i++) {
        int64_t n = p->table[i].rows * p->table[i].cols;
        float *values = malloc((size_t)n * sizeof *values);
        all[i] = (reference){.count = n, .decays = strstr(p->table[i].name, "norm") == NULL};
        all[i].w = calloc((size_t)(3 * n), sizeof *all[i].w);
        all[i].m = all[i].w + n;
        all[i].v = all[i].m + n;
        OK(params_get(p, i, values));
        for (int64_t k = 0; k < n; k++) all[i].w[k] = (double)values[k];
        free(values);
    }
    return all;
}

static double reference_norm(const params *p, const reference *all, int step, double size) {
    double squares = 0;
    for (int i = 0; i < p->count; i++)
        for (int64_t k = 0; k < all[i].count; k++) squares += pow(gradient(i, k, step, size), 2);
    return sqrt(squares);
}

static void reference_step(const params *p, reference *all, int step, double rate, double size) {
    double norm = reference_norm(p, all, step, size), clip = 1 / (norm + 1e-6);
    if (clip > 1) clip = 1;
    for (int i = 0; i < p->count; i++) {
        for (int64_t k = 0; k < all[i].count; k++) {
            double g = clip * gradient(i, k, step, size), *m = &all[i].m[k], *v = &all[i].v[k];
            *m = 0.9 * *m + 0.1 * g;
            *v = 0.95 * *v + 0.05 * g * g;
            if (all[i].decays) all[i].w[k] *= 1 - rate * 0.1;
            all[i].w[k] -= rate * (*m / (1 - pow(0.9, step))) / (sqrt(*v / (1 - pow(0.95, step))) + 1e-8);
        }
    }
}

static void reference_close(const params *p, reference *all) {
    for (int i = 0; i < p->count; i++) free(all[i].w);
    free(all);
}

static void set_gradients(params *p, int step, double size) {
    for (int i = 0; i < p->count; i++) {
        view g = p->table[i].tensor.grad;
        float *values = malloc(view_bytes(g));
        for (int64_t k = 0; k < g.rows * g.cols; k++) values[k] = (float)gradient(i, k, step, size);
        OK(p->device->memory.copy_in(p->device, g.data, values, view_bytes(g)));
        free(values);
    }
    OK(p->device->memory.wait(p->device));
}

static void expect_zero_gradients(params *p) {
    for (int i = 0; i < p->count; i++) {
        const float *g = p->table[i].tensor.grad.data;
        for (int64_t k = 0; k < p->table[i].rows * p->table[i].cols; k++) assert_true(g[k] == 0.0f);
    }
}

static view a_loss(fixture *f, double value) {
    view loss = {NULL, 1, 1, DTYPE_F64};
    OK(f->device->memory.alloc(f->device, sizeof value, &loss.data));
    OK(f->device->memory.copy_in(f->device, loss.data, &value, sizeof value));
    return loss;
}

/* Every step moves a weight by at most about the learning rate and rounds a few times in f32: weights around 0.25 stay
 * within STEPS * 2^-24 of their own size, m / sqrt(v) within some ten roundings of 2^-24 times the rate of 0.01. */
enum { ROUNDINGS = 20 };

static void expect_weights(params *p, const reference *all, dtype type) {
    for (int i = 0; i < p->count; i++) {
        float *values = malloc((size_t)all[i].count * sizeof *values);
        OK(params_get(p, i, values));
        for (int64_t k = 0; k < all[i].count; k++) {
            double w = all[i].w[k], bound = ROUNDINGS * 0x1p-24 * (fabs(w) + 0.05);
            if (!(fabs((double)values[k] - w) <= bound))
                fail_msg("%s, element %lld: %.9g, expected %.9g", p->table[i].name, (long long)k, (double)values[k], w);
        }
        if (type == DTYPE_BF16) { /* the value is the rounded master weight */
            uint16_t *rounded = malloc((size_t)all[i].count * sizeof *rounded);
            OK(p->device->memory.copy_out(p->device, rounded, p->table[i].tensor.value.data, (size_t)all[i].count * 2));
            OK(p->device->memory.wait(p->device));
            for (int64_t k = 0; k < all[i].count; k++) {
                uint32_t bits = (uint32_t)rounded[k] << 16;
                float value;
                memcpy(&value, &bits, sizeof value);
                assert_true(fabsf(value - values[k]) <= 0x1p-8f * fabsf(values[k]));
            }
            free(rounded);
        }
        free(values);
    }
}

/* size: 1 gives norms far above the clip of 1, 1e-3 below it. */
static void check_adamw(dtype type, double size) {
    fixture f;
    fixture_open(&f, 2, "", type, true);
    params *p = f.model->params;
    optimizer *o;
    OK(params_enable_masters(p, type, NULL));
    OK(params_enable_gradients(p));
    reference *all = reference_open(p);
    OK(optimizer_create(p, &OPTIONS, &o));
    view loss = a_loss(&f, 1);
    for (int step = 1; step <= STEPS; step++) {
        double rate = 0.01 / step;
        step_state found;
        set_gradients(p, step, size);
        OK(optimizer_send(o, rate));
        OK(optimizer_update(o, loss));
        reference_step(p, all, step, rate, size);
        OK(f.device->memory.copy_out(f.device, &found, o->state.data, sizeof found));
        OK(f.device->memory.wait(f.device));
        double norm = reference_norm(p, all, step, size);
        assert_true(fabs(found.grad_norm - norm) <= 1e-6 * norm);
        assert_int_equal(found.finite, 1);
        expect_zero_gradients(p);
    }
    expect_weights(p, all, type);
    reference_close(p, all);
    f.device->memory.release(f.device, loss.data);
    optimizer_free(o);
    fixture_close(&f);
}

static void adamw_is_torch_s(void **state) {
    (void)state;
    check_adamw(DTYPE_F32, 1);
    check_adamw(DTYPE_F32, 1e-3);
}

static void adamw_keeps_masters_in_f32(void **state) {
    (void)state;
    check_adamw(DTYPE_BF16, 1);
}

static void nothing_changes_where_a_number_is_not_finite(void **state) {
    (void)state;
    const double losses[] = {NAN, 1, 1}, bad_gradients[] = {0, INFINITY, NAN};
    for (int i = 0; i < 3; i++) {
        fixture f;
        step_state found;
        optimizer *o;
        fixture_open(&f, 1, "", DTYPE_F32, true);
        params *p = f.model->params;
        OK(params_enable_masters(p, DTYPE_F32, NULL));
        OK(params_enable_gradients(p));
        reference *before = reference_open(p);
        OK(optimizer_create(p, &OPTIONS, &o));
        set_gradients(p, 1, 1);
        float bad = (float)bad_gradients[i];
        if (bad != 0.0f) OK(f.device->memory.copy_in(f.device, p->table[1].tensor.grad.data, &bad, sizeof bad));
        view loss = a_loss(&f, losses[i]);
        OK(optimizer_send(o, 0.01));
        OK(optimizer_update(o, loss));
        OK(f.device->memory.copy_out(f.device, &found, o->state.data, sizeof found));
        OK(f.device->memory.wait(f.device));
        assert_int_equal(found.finite, 0);
        expect_weights(p, before, DTYPE_F32);
        reference_close(p, before);
        f.device->memory.release(f.device, loss.data);
        optimizer_free(o);
        fixture_close(&f);
    }
}

/* An optimizer with the state of another one takes the same steps; no entries are mixed up. */
static void state_goes_out_and_in_again(void **state) {
    (void)state;
    fixture f;
    optimizer *a, *b;
    fixture_open(&f, 2, "", DTYPE_BF16, true);
    params *p = f.model->params;
    OK(params_enable_masters(p, DTYPE_BF16, NULL));
    OK(params_enable_gradients(p));
    OK(optimizer_create(p, &OPTIONS, &a));
    OK(optimizer_create(p, &OPTIONS, &b));
    view loss = a_loss(&f, 1);
    set_gradients(p, 1, 1);
    OK(optimizer_send(a, 0.01));
    OK(optimizer_update(a, loss));
    for (int i = 0; i < p->count; i++) {
        size_t n = (size_t)(p->table[i].rows * p->table[i].cols);
        const element_range whole = {0, (int64_t)n};
        float *all = calloc(n, 4 * sizeof *all), *again = all + n, *value = all + 2 * n, *master = all + 3 * n;
        for (optimizer_tensor what = OPTIMIZER_VALUE; what <= OPTIMIZER_V; what++) {
            OK(optimizer_read(a, i, what, whole, DTYPE_F32, all));
            OK(optimizer_write(b, i, what, all, DTYPE_F32));
            OK(optimizer_read(b, i, what, (element_range){0, 1}, DTYPE_F32, again));
            OK(optimizer_read(b, i, what, (element_range){1, whole.count - 1}, DTYPE_F32, again + 1));
            assert_memory_equal(all, again, n * sizeof *all);
            assert_true(all[0] != 0.0f && all[n - 1] != 0.0f);
        }
        OK(optimizer_read(a, i, OPTIMIZER_VALUE, whole, DTYPE_F32, value));
        OK(params_get(p, i, master));
        assert_memory_equal(value, master, n * sizeof *value);
        free(all);
    }
    f.device->memory.release(f.device, loss.data);
    optimizer_free(a);
    optimizer_free(b);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules_are_those_of_transformers),
        cmocka_unit_test(schedules_end_well),
        cmocka_unit_test(warmup_is_steps_or_a_ratio),
        cmocka_unit_test(decay_is_steps_or_a_tenth),
        cmocka_unit_test(adamw_is_torch_s),
        cmocka_unit_test(adamw_keeps_masters_in_f32),
        cmocka_unit_test(nothing_changes_where_a_number_is_not_finite),
        cmocka_unit_test(state_goes_out_and_in_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
