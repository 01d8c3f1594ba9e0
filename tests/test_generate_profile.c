/* Profiles of a device (lckv_profile_start): ops and their number, times, FLOPs, ops within ops, errors. Profiles do
 * not change results. */
#include "base/clock.h"

#include "fixture.h"

#include <string.h>

enum { LAYERS = 4, PROMPT = 9 };

static void open_plain(fixture *f, const char *device_name) {
    fixture_open_on(f, device_name, LAYERS, ",\"layer_types\":\"0_1_2_3\"", DTYPE_F32, false);
}

/* A list of calls, and the wall clock of the run. */
typedef struct profile {
    lckv_op_call *calls;
    int64_t count;
    double seconds;
    int32_t ids[64];
} profile;

/* Generates `length` greedy tokens. */
static void generate(const fixture *f, int length, int32_t *ids) {
    int32_t prompt[PROMPT];
    lckv_generation *g;
    lckv_generate_options o = lckv_generate_defaults();
    o.length = length;
    o.temperature = 0;
    fixture_ids(prompt, PROMPT, 3);
    OK(lckv_generate(f->model, NULL, &(lckv_prompt){prompt, PROMPT}, 1, &o, &g));
    assert_int_equal(g->sequences[0].count, length);
    memcpy(ids, g->sequences[0].ids, (size_t)length * sizeof *ids);
    lckv_generation_free(g);
}

static profile profile_of(const fixture *f, int length) {
    profile p = {0};
    double begin = clock_seconds();
    OK(lckv_profile_start(f->device));
    generate(f, length, p.ids);
    OK(lckv_profile_stop(f->device, &p.calls, &p.count));
    p.seconds = clock_seconds() - begin;
    return p;
}

static int calls_of(const profile *p, const char *op) {
    int count = 0;
    for (int64_t i = 0; i < p->count; i++) count += !strcmp(p->calls[i].op, op);
    return count;
}

static double flops_of(const profile *p) {
    double flops = 0;
    for (int64_t i = 0; i < p->count; i++) flops += p->calls[i].flops;
    return flops;
}

/* The ops of a decode step are the difference between two lengths. */
static void ops_of_a_decode_step(void **state) {
    (void)state;
    static const struct {
        const char *op;
        int per_step;
    } EXPECTED[] = {{"embed", 1},          {"rope_angles", 1}, {"project", 2 * LAYERS}, {"linear_add", 2 * LAYERS},
                    {"attention", LAYERS}, {"linear", 1},      {"rms_norm", 1},         {"sample", 1}};
    enum { STEPS = 5 };
    fixture f;
    open_plain(&f, "cpu");
    profile shorter = profile_of(&f, 4), longer = profile_of(&f, 4 + STEPS);
    for (size_t i = 0; i < sizeof EXPECTED / sizeof *EXPECTED; i++) {
        int more = calls_of(&longer, EXPECTED[i].op) - calls_of(&shorter, EXPECTED[i].op);
        if (more != STEPS * EXPECTED[i].per_step)
            fail_msg("%s: expected %d calls per step, found %d in %d steps", EXPECTED[i].op, EXPECTED[i].per_step, more,
                     STEPS);
    }
    assert_int_equal(calls_of(&longer, "heads"), 0); /* the CPU composes it of other ops */
    lckv_free(shorter.calls);
    lckv_free(longer.calls);
    fixture_close(&f);
}

/* One op at a time; therefore the sum is at most the wall clock. */
static void times_do_not_overlap(void **state) {
    (void)state;
    fixture f;
    open_plain(&f, "cpu");
    profile p = profile_of(&f, 8);
    double end = 0, sum = 0;
    assert_true(p.count > 0);
    for (int64_t i = 0; i < p.count; i++) {
        assert_true(p.calls[i].begin >= end && p.calls[i].seconds >= 0 && p.calls[i].bytes >= 0);
        end = p.calls[i].begin + p.calls[i].seconds;
        sum += p.calls[i].seconds;
    }
    assert_true(sum > 0 && sum <= p.seconds && end <= p.seconds);
    lckv_free(p.calls);
    fixture_close(&f);
}

static void flops_are_those_of_the_counting_device(void **state) {
    (void)state;
    enum { NEW = 6 };
    fixture f, counted;
    int32_t ids[NEW];
    open_plain(&f, "cpu");
    open_plain(&counted, "count");
    profile p = profile_of(&f, NEW);
    counted.device->counts.flops = 0;
    generate(&counted, NEW, ids);
    assert_true(flops_of(&p) > 0 && flops_of(&p) == counted.device->counts.flops);
    profile of_count = profile_of(&counted, NEW);
    assert_true(flops_of(&of_count) == flops_of(&p));
    lckv_free(p.calls);
    lckv_free(of_count.calls);
    fixture_close(&counted);
    fixture_close(&f);
}

static void results_do_not_change_on(const char *device_name) {
    enum { NEW = 12 };
    fixture f;
    int32_t before[NEW], after[NEW];
    open_plain(&f, device_name);
    struct device_ops ops = f.device->ops;
    generate(&f, NEW, before);
    profile first = profile_of(&f, NEW), second = profile_of(&f, NEW);
    generate(&f, NEW, after);
    assert_memory_equal(before, first.ids, sizeof before);
    assert_memory_equal(before, second.ids, sizeof before);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(first.count, second.count);
    assert_memory_equal(&ops, &f.device->ops, sizeof ops);
    lckv_free(first.calls);
    lckv_free(second.calls);
    fixture_close(&f);
}

static void results_do_not_change(void **state) {
    (void)state;
    results_do_not_change_on("cpu");
}

static void results_do_not_change_on_a_gpu(void **state) {
    (void)state;
    if (!fixture_has_gpu()) skip();
    results_do_not_change_on("cuda");
}

/* linear_cross_entropy calls linear; a failed op is not a call. */
static void only_the_outer_op_counts(void **state) {
    (void)state;
    device *d;
    lckv_op_call *calls;
    int64_t count;
    OK(device_open("cpu", 1, &d));
    float x[2 * 3] = {1, 2, 3, 4, 5, 6}, table[4 * 3] = {1, 0, 1}, nll[2];
    int32_t labels[2] = {0, 1};
    float scale = 1;
    const struct op_linear_cross_entropy a = {.x = {x, 2, 3, DTYPE_F32},
                                              .weight = {table, 4, 3, DTYPE_F32},
                                              .labels = {labels, 2, 1, DTYPE_I32},
                                              .scale = {&scale, 1, 1, DTYPE_F32},
                                              .nll = {nll, 2, 1, DTYPE_F32}};
    OK(lckv_profile_start(d));
    OK(DEVICE_RUN(d, linear_cross_entropy, &a));
    OK(lckv_profile_stop(d, &calls, &count));
    assert_int_equal(count, 1);
    assert_string_equal(calls[0].op, "linear_cross_entropy");
    assert_true(calls[0].flops == 2 * 2 * 3 * 4);
    lckv_free(calls);
    device_close(d);
}

static int refuse_add(device *d, const struct op_add *a) {
    (void)a;
    fail_message("%s refuses", d->name);
    return LCKV_ERROR_DEVICE;
}

static void failures(void **state) {
    (void)state;
    device *d;
    lckv_op_call *calls;
    int64_t count;
    OK(device_open("cpu", 1, &d));
    float value = 1;
    const view v = {&value, 1, 1, DTYPE_F32};
    assert_int_equal(lckv_profile_stop(d, &calls, &count), LCKV_ERROR_ARGUMENT);
    assert_null(calls);
    d->ops.add = refuse_add;
    OK(lckv_profile_start(d));
    assert_int_equal(lckv_profile_start(d), LCKV_ERROR_ARGUMENT);
    assert_int_equal(DEVICE_RUN(d, add, (&(struct op_add){v, v, v})), LCKV_ERROR_DEVICE);
    OK(DEVICE_RUN(d, cast, (&(struct op_cast){v, v})));
    OK(lckv_profile_stop(d, &calls, &count));
    assert_int_equal(count, 1);
    assert_string_equal(calls[0].op, "cast");
    lckv_free(calls);
    OK(lckv_profile_start(d));
    OK(DEVICE_RUN(d, cast, (&(struct op_cast){v, v})));
    device_close(d); /* discards the profile */
}

/* A device that records steps runs them one by one. */
static void profiles_do_not_record(void **state) {
    (void)state;
    device *d;
    lckv_op_call *calls;
    int64_t count;
    OK(device_open("cpu", 1, &d));
    d->recording.begin = d->memory.wait;
    OK(lckv_profile_start(d));
    assert_null(d->recording.begin);
    OK(lckv_profile_stop(d, &calls, &count));
    assert_int_equal(count, 0);
    assert_true(d->recording.begin == d->memory.wait);
    device_close(d);
}

static void reference_speeds(void **state) {
    (void)state;
    device *d;
    lckv_device_speeds s;
    OK(device_open("cpu", 2, &d));
    OK(lckv_device_speed(d, false, &s));
    assert_true(s.product_flops > 0 && s.copy_bytes > 0 && s.read_bytes > 0);
    OK(lckv_device_limit(d, 1 << 20));
    assert_int_equal(lckv_device_speed(d, false, &s), LCKV_ERROR_MEMORY);
    assert_true(s.product_flops == 0 && s.copy_bytes == 0 && s.read_bytes == 0);
    device_close(d);
    OK(device_open("count", 0, &d));
    OK(lckv_device_speed(d, true, &s));
    assert_true(s.product_flops == 0);
    assert_int_equal(d->counts.memory, 0);
    device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ops_of_a_decode_step),
        cmocka_unit_test(times_do_not_overlap),
        cmocka_unit_test(flops_are_those_of_the_counting_device),
        cmocka_unit_test(results_do_not_change),
        cmocka_unit_test(results_do_not_change_on_a_gpu),
        cmocka_unit_test(only_the_outer_op_counts),
        cmocka_unit_test(failures),
        cmocka_unit_test(profiles_do_not_record),
        cmocka_unit_test(reference_speeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
