/* Training steps on a CPU that keeps the rules of a GPU (fresh_device.h): in every form, and recorded, they have the
 * bits of those on a CPU. */
#include "fresh_device.h" /* before cmocka's fail() */

#include "data/blocks.h"
#include "train/step/step.h"

#include "fixture.h"

enum { LAYERS = 4, BATCH = 2, BLOCK = 9, BLOCKS = 7, STEPS = 4, PER_STEP = 3 /* batches of 2 and 1 */ };

typedef struct manner {
    bool bf16; /* compute type */
    bool exact;
    double iteration_weight, plan_share;
    bool start; /* a learned start */
    bool checkpointing;
    bool masked; /* blocks of several documents */
    double dropout;
    unsigned adapts; /* matrices with an adapter; 0: all weights are trained */
} manner;

/* ---------------------------------------------------------------- the device */

static view take_view(graph *g, int64_t cols, dtype type) {
    view v = {NULL, 1, cols, type};
    OK(pool_take(g->pool, view_bytes(v), &v.data));
    return v;
}

static view as_fresh(view v) {
    v.fresh = true;
    return v;
}

static int add(device *d, view src, view dst) {
    return DEVICE_RUN(d, accumulate, &(struct op_accumulate){.src = src, .dst = dst, .scale = 1});
}

static void faults_are_errors(void **state) {
    (void)state;
    device *d;
    graph *g;
    float ones[4] = {1, 1, 1, 1}, sums[4];
    fresh_want(true);
    OK(device_open("cpu", 1, &d));
    OK(graph_create(d, DTYPE_BF16, true, &g));
    view x = take_view(g, 4, DTYPE_F32), sum = take_view(g, 4, DTYPE_F32), narrow = take_view(g, 4, DTYPE_BF16);
    FAILS(add(d, x, as_fresh(sum)), LCKV_ERROR_ARGUMENT, "accumulate: gradient 0, which it reads, has no value");
    OK(d->memory.copy_in(d, x.data, ones, sizeof ones));
    FAILS(add(d, x, sum), LCKV_ERROR_ARGUMENT, "accumulate: gradient 0, which it adds to, has no value");
    OK(add(d, x, as_fresh(sum)));
    FAILS(add(d, x, as_fresh(sum)), LCKV_ERROR_ARGUMENT, "accumulate: gradient 0 is fresh, but an op has written it");
    OK(add(d, x, sum));
    OK(d->memory.copy_out(d, sums, sum.data, sizeof sums));
    assert_true(isnan(sums[0])); /* on its way */
    OK(d->memory.wait(d));
    assert_true(sums[0] == 2 && sums[3] == 2);
    OK(add(d, x, as_fresh(narrow)));
    FAILS(add(d, x, narrow), LCKV_ERROR_ARGUMENT, "gradient 0, a sum of several, is bfloat16");
    OK(d->recording.begin(d));
    FAILS(d->memory.copy_in(d, x.data, ones, sizeof ones), LCKV_ERROR_ARGUMENT, "while work is recorded");
    OK(d->recording.end(d, NULL));
    graph_free(g);
    device_close(d);
}

/* ---------------------------------------------------------------- steps */

/* Moments, which are sums of gradients times constants, and weights. */
typedef struct run {
    step_result results[STEPS];
    float *numbers;
    int64_t count;
    int64_t written, narrow, rounded, replays; /* see fresh_device.h */
} run;

static void take(const stepper *s, run *out) {
    const optimizer *o = s->optimizer;
    out->count = 2 * params_elements(o->params);
    float *at = out->numbers = malloc((size_t)out->count * sizeof *at);
    assert_non_null(at);
    for (int i = 0; i < o->params->count; i++) {
        const weight *w = &o->params->table[i];
        OK(params_get(o->params, i, at));
        at += w->rows * w->cols;
    }
    for (int i = 0; i < o->slice_count; i++) {
        OK(view_to_host(o->device, o->slices[i].m, at, DTYPE_F32));
        at += o->slices[i].m.cols;
    }
    assert_ptr_equal(at, out->numbers + out->count);
}

static void add_parts(model *m, const manner *how) {
    if (how->adapts) {
        const adapter_options options = {.rank = 2, .alpha = 4, .targets = how->adapts, .dropout = how->dropout};
        OK(adapter_create(m->params, &options, &m->adapter));
        OK(adapter_randomize(m->adapter, 5));
    }
    if (how->start) {
        OK(loop_start_attach(m->params, m->config, 8, &m->loop_start));
        OK(loop_start_randomize(m->loop_start, 5));
    }
}

/* Blocks are documents of 1 to 5 tokens if `masked`. */
static blocks make_data(bool masked, int32_t ids[BLOCKS * BLOCK], int64_t ends[BLOCKS * BLOCK]) {
    blocks data = blocks_of_ids(ids, BLOCK, BLOCKS);
    fixture_ids(ids, BLOCKS * BLOCK, 3);
    if (!masked) return data;
    for (int64_t end = 0; end < BLOCKS * BLOCK; data.documents++) {
        end += 1 + (int64_t)(5 * rng_uniform(5, 0, (uint64_t)data.documents));
        ends[data.documents] = end < BLOCKS * BLOCK ? end : BLOCKS * BLOCK;
    }
    data.ends = ends;
    return data;
}

static void step(stepper *s, const examples *data, int number, step_result *out) {
    int64_t chosen[PER_STEP];
    for (int i = 0; i < PER_STEP; i++) chosen[i] = (number * PER_STEP + i) % BLOCKS;
    OK(stepper_step(s, data, chosen, PER_STEP, 0.01, out));
}

/* On a plain CPU, batches are padded as on a device that records. */
static void train(bool as_gpu, const char *config, const manner *how, run *out) {
    fixture f;
    stepper *s;
    int32_t ids[BLOCKS * BLOCK] = {0};
    int64_t ends[BLOCKS * BLOCK];
    const dtype compute = how->bf16 ? DTYPE_BF16 : DTYPE_F32;
    const blocks data = make_data(how->masked, ids, ends);
    const stepper_options options = {
        .compute = compute,
        .batch_size = BATCH,
        .block_size = BLOCK,
        .exact = how->exact,
        .fill_size = 3,
        .plan_share = how->plan_share,
        .iteration_weight = how->iteration_weight,
        .loop_start_weight = 0.5,
        .gradient_checkpointing = how->checkpointing,
        .optimizer = {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1, .max_grad_norm = 0.5},
    };
    fresh_want(as_gpu);
    fixture_open(&f, LAYERS, config, compute, false);
    f.device->recording.begin = fresh_begin;
    add_parts(f.model, how);
    OK(stepper_create(f.model, &options, &s));
    if (!as_gpu) f.device->recording = (struct device_recording){0};
    for (int i = 0; i < STEPS; i++) step(s, &data.examples, i, &out->results[i]);
    take(s, out);
    out->written = fresh.written;
    out->narrow = fresh.narrow;
    out->rounded = fresh.rounded;
    out->replays = fresh.replays;
    stepper_free(s);
    fixture_close(&f);
}

static void compare(const char *config, const manner *how, const run *a, const run *b) {
    for (int i = 0; i < STEPS; i++) {
        const step_result *x = &a->results[i], *y = &b->results[i];
        if (!x->finite || !y->finite) fail_msg("%s: step %d is not finite", config, i);
        if (x->loss != y->loss || x->grad_norm != y->grad_norm)
            fail_msg("%s: step %d: loss %.17g and %.17g, gradient norm %.17g and %.17g", config, i, x->loss, y->loss,
                     x->grad_norm, y->grad_norm);
        if (how->start && x->loop_start_error != y->loop_start_error) fail_msg("%s: start, step %d", config, i);
    }
    assert_int_equal(a->count, b->count);
    for (int64_t i = 0; i < a->count; i++)
        if (memcmp(&a->numbers[i], &b->numbers[i], sizeof(float)) != 0)
            fail_msg("%s: number %lld of %lld: %g and %g", config, (long long)i, (long long)a->count,
                     (double)a->numbers[i], (double)b->numbers[i]);
}

static void same_as_cpu(const char *config, manner how) {
    bool sequential = strstr(config, "use_sequential");
    for (int bf16 = 0; bf16 < 2; bf16++) {
        run plain = {0}, gpu = {0};
        how.bf16 = bf16;
        train(false, config, &how, &plain);
        train(true, config, &how, &gpu);
        compare(config, &how, &plain, &gpu);
        assert_true(gpu.written > 0 && (gpu.narrow > 0) == bf16);
        if (bf16 && !how.adapts && !strstr(config, "bias")) assert_true(gpu.rounded > 0);
        assert_true(gpu.replays >= (sequential ? STEPS - 1 : 2 * STEPS)); /* updates; and batches of two sizes */
        free(plain.numbers), free(gpu.numbers);
    }
}

/* ---------------------------------------------------------------- models and forms */

#define ITERATED ",\"forward_passes\":1,\"backward_passes\":3"

/* Without loops. */
static const char *const STANDARD[] = {
    "",
    ",\"tie_word_embeddings\":true,\"attention_bias\":true,\"mlp_bias\":true",
    ",\"layer_types\":\"0_0_2_2\"",
    ",\"layer_types\":\"0_0s_1:0_3s\",\"sliding_window\":3",
};

static const char *const LOOPS[] = {
    ",\"layer_types\":\"0_2_2_3\"" ITERATED,
    ",\"layer_types\":\"0_3_3_3\",\"tie_word_embeddings\":true,\"attention_bias\":true" ITERATED,
    ",\"layer_types\":\"1_1_3s_3s\",\"sliding_window\":3" ITERATED,
    ",\"layer_types\":\"2_2_1_1\",\"force_nodiag\":true,\"mlp_bias\":true" ITERATED,
    ",\"layer_types\":\"0_2:3_0:2_3\"" ITERATED,
    ",\"layer_types\":\"0_3:0_0:3_3\"" ITERATED, /* keys or values of the first iteration are zeros */
};

static const char *const SEQUENTIAL[] = {
    ",\"layer_types\":\"0_2_2_3\",\"use_sequential\":true",
    ",\"layer_types\":\"0_3:0_0:3_3\",\"use_sequential\":true,\"tie_word_embeddings\":true",
};

#define EACH(MODELS, ...)                                                                                              \
    for (size_t i = 0; i < sizeof(MODELS) / sizeof *(MODELS); i++) same_as_cpu((MODELS)[i], (manner){__VA_ARGS__})

static void steps_without_loops(void **state) {
    (void)state;
    EACH(STANDARD, .masked = false);
    EACH(STANDARD, .masked = true, .checkpointing = true);
}

static void steps_by_the_plan(void **state) {
    (void)state;
    EACH(LOOPS, .masked = true);
    EACH(LOOPS, .checkpointing = true);
}

static void exact_steps(void **state) {
    (void)state;
    EACH(LOOPS, .exact = true);
    EACH(LOOPS, .exact = true, .masked = true, .checkpointing = true);
}

static void learned_starts(void **state) {
    (void)state;
    EACH(LOOPS, .start = true);
    EACH(LOOPS, .start = true, .checkpointing = true, .masked = true);
    EACH(LOOPS, .start = true, .exact = true);
}

static void losses_of_one_iteration(void **state) {
    (void)state;
    EACH(LOOPS, .exact = true, .iteration_weight = 0.3);
    EACH(LOOPS, .exact = true, .iteration_weight = 0.3, .start = true, .plan_share = 0.3);
    EACH(LOOPS, .exact = true, .iteration_weight = 0.3, .start = true, .checkpointing = true, .masked = true);
}

static void adapters(void **state) {
    (void)state;
    EACH(STANDARD, .adapts = ADAPTER_ALL, .dropout = 0.2);
    EACH(LOOPS, .adapts = ADAPTER_ALL, .dropout = 0.2, .checkpointing = true);
    EACH(LOOPS, .adapts = 1 << 2, .exact = true, .iteration_weight = 0.3); /* v_proj */
}

static void steps_token_by_token(void **state) {
    (void)state;
    EACH(SEQUENTIAL, .masked = true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_are_errors), cmocka_unit_test(steps_without_loops),
        cmocka_unit_test(steps_by_the_plan), cmocka_unit_test(exact_steps),
        cmocka_unit_test(learned_starts),    cmocka_unit_test(losses_of_one_iteration),
        cmocka_unit_test(adapters),          cmocka_unit_test(steps_token_by_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
