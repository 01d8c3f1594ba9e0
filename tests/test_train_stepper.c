/* Steps on the device: reading results a step later changes nothing. On a GPU, recorded steps with new blocks, learning
 * rates and clipping have the same bits as steps that are not recorded; so do recomputed layers. */
#include "data/blocks.h"
#include "train/step/step.h"

#include "fixture.h"

enum { BATCH = 2, BLOCK = 21, BLOCKS = 13, STEPS = 7, PER_STEP = 5 /* batches of 2, 2 and 1 */ };

typedef struct run {
    step_result results[STEPS];
    float *weights;
    int64_t count;
} run;

static void take_weights(const params *p, run *out) {
    out->count = params_elements(p);
    out->weights = malloc((size_t)out->count * sizeof *out->weights);
    assert_non_null(out->weights);
    float *at = out->weights;
    for (int i = 0; i < p->count; at += p->table[i].rows * p->table[i].cols, i++) OK(params_get((params *)p, i, at));
}

static void begin(stepper *s, const examples *data, int step) {
    int64_t chosen[PER_STEP];
    for (int i = 0; i < PER_STEP; i++) chosen[i] = (step * PER_STEP + i) % BLOCKS;
    OK(stepper_begin(s, data, chosen, PER_STEP, 0.01 / (1 + step)));
}

static const char LOOP[] = ",\"layer_types\":\"0_2_2_3\",\"forward_passes\":2,\"backward_passes\":2";

typedef struct manner {
    const char *model; /* more of its config */
    dtype compute;
    bool checkpointing;
    bool records; /* if the device supports it */
    bool ahead;   /* read results after the next step is launched */
    bool masked;  /* blocks of documents of many lengths */
    bool exact;   /* with the slots of fill_size blocks at a time */
    int fill_size;
} manner;

/* Documents of 1 to 9 tokens, so that their number varies between batches. */
static void mask(blocks *data, int64_t ends[BLOCKS * BLOCK]) {
    int64_t end = 0;
    for (data->documents = 0; end < BLOCKS * BLOCK; data->documents++) {
        end += 1 + (int64_t)(9 * rng_uniform(5, 0, (uint64_t)data->documents));
        ends[data->documents] = end < BLOCKS * BLOCK ? end : BLOCKS * BLOCK;
    }
    data->ends = ends;
}

/* STEPS steps. */
static void train(const char *device_name, manner how, run *out) {
    fixture f;
    stepper *s;
    int32_t ids[BLOCKS * BLOCK] = {0};
    int64_t ends[BLOCKS * BLOCK];
    blocks data = blocks_of_ids(ids, BLOCK, BLOCKS);
    if (how.masked) mask(&data, ends);
    stepper_options options = {
        .compute = how.compute,
        .batch_size = BATCH,
        .block_size = BLOCK,
        .exact = how.exact,
        .fill_size = how.fill_size,
        .gradient_checkpointing = how.checkpointing,
        .optimizer = {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1, .max_grad_norm = 0.5},
    };
    fixture_open_on(&f, device_name, 4, how.model, how.compute, false);
    fixture_ids(ids, BLOCKS * BLOCK, 3);
    OK(stepper_create(f.model, &options, &s));
    if (!how.records) f.device->recording = (struct device_recording){0}; /* batches are padded in the same way */
    for (int i = 0; i < STEPS; i++) {
        begin(s, &data.examples, i);
        if (!how.ahead) OK(stepper_end(s, &out->results[i]));
        if (how.ahead && i) OK(stepper_end(s, &out->results[i - 1]));
    }
    if (how.ahead) OK(stepper_end(s, &out->results[STEPS - 1]));
    take_weights(f.model->params, out);
    stepper_free(s);
    fixture_close(&f);
}

static void assert_same(const run *a, const run *b) {
    for (int i = 0; i < STEPS; i++) {
        assert_true(a->results[i].finite && b->results[i].finite);
        assert_true(a->results[i].loss > 0 && a->results[i].grad_norm > 0);
        assert_memory_equal(&a->results[i].loss, &b->results[i].loss, sizeof(double));
        assert_memory_equal(&a->results[i].grad_norm, &b->results[i].grad_norm, sizeof(double));
    }
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->weights, b->weights, (size_t)a->count * sizeof *a->weights);
}

static void compare(const char *device_name, dtype compute) {
    for (int i = 0; i < 4; i++) {
        run plain = {0}, late = {0};
        manner how = {LOOP, compute, .masked = i % 2, .exact = i / 2, .fill_size = 3};
        train(device_name, how, &plain);
        how.records = how.ahead = true;
        train(device_name, how, &late);
        assert_same(&plain, &late);
        free(plain.weights), free(late.weights);
    }
}

/* The first loss and gradient are the same sums in another order: good to some 1e-5 of themselves in f32. Adam divides
 * small gradients by themselves, so later steps may differ by more; a missing iteration shows in the second digit. */
static void assert_close_results(const run *a, const run *b) {
    for (int i = 0; i < STEPS; i++) {
        double scale = i ? 1e-2 : 1e-4;
        assert_true(fabs(a->results[i].loss - b->results[i].loss) < scale * a->results[i].loss);
        assert_true(fabs(a->results[i].grad_norm - b->results[i].grad_norm) < scale * a->results[i].grad_norm);
    }
}

/* The plan with as many iterations as a block has tokens is exact. */
static void compare_with_long_plan(const char *device_name) {
    static const char LONG_PLAN[] = ",\"layer_types\":\"0_2_2_3\",\"forward_passes\":21,\"backward_passes\":2";
    for (int masked = 0; masked < 2; masked++) {
        run planned = {0}, again = {0};
        train("cpu", (manner){LONG_PLAN, DTYPE_F32, .masked = masked}, &planned);
        for (int fill_size = 0; fill_size <= 4; fill_size += 2) {
            run exact = {0};
            train(device_name, (manner){LOOP, DTYPE_F32, .masked = masked, .exact = true, .fill_size = fill_size},
                  &exact);
            assert_close_results(&planned, &exact);
            free(exact.weights);
        }
        run exact = {0};
        train(device_name, (manner){LOOP, DTYPE_F32, .masked = masked, .exact = true, .fill_size = 3}, &exact);
        train(device_name,
              (manner){LOOP, DTYPE_F32, .masked = masked, .exact = true, .fill_size = 3, .checkpointing = true},
              &again);
        assert_same(&exact, &again);
        free(planned.weights), free(exact.weights), free(again.weights);
    }
}

static void exact_steps_are_those_of_a_long_plan(void **state) {
    (void)state;
    compare_with_long_plan("cpu");
}

static void exact_steps_on_a_gpu_are_those_of_a_long_plan(void **state) {
    (void)state;
    if (!fixture_has_gpu()) skip();
    compare_with_long_plan("cuda");
}

/* The filled slot and the recorded one are the same sums in another order. f32: some rounding errors of 2^-24. bf16:
 * both are rounded to 8 bits, and so is what they are computed from. */
static void the_recorded_pass_stays_at_the_fixed_point(void **state) {
    (void)state;
    run planned = {0}, f32 = {0}, bf16 = {0};
    train("cpu", (manner){LOOP, DTYPE_F32}, &planned);
    train("cpu", (manner){LOOP, DTYPE_F32, .exact = true}, &f32);
    train("cpu", (manner){LOOP, DTYPE_BF16, .exact = true}, &bf16);
    for (int i = 0; i < STEPS; i++) {
        assert_true(isnan(planned.results[i].loop_residual));
        assert_true(f32.results[i].loop_residual >= 0 && f32.results[i].loop_residual < 0x1p-20);
        assert_true(bf16.results[i].loop_residual >= 0 && bf16.results[i].loop_residual < 0x1p-6);
    }
    free(planned.weights), free(f32.weights), free(bf16.weights);
}

static void late_results_are_the_same(void **state) {
    (void)state;
    compare("cpu", DTYPE_F32);
}

/* With gradient accumulation, so that recomputed layers add to gradients. */
static void compare_checkpointing(const char *device_name) {
    static const char *const models[] = {
        "",
        ",\"tie_word_embeddings\":true,\"attention_bias\":true",
        LOOP,
        ",\"layer_types\":\"0_3_3_3\",\"forward_passes\":1,\"backward_passes\":3,\"tie_word_embeddings\":true",
        ",\"layer_types\":\"2_2_1_1\",\"force_nodiag\":true,\"backward_passes\":2,\"mlp_bias\":true",
        ",\"layer_types\":\"1_1_3s_3s\",\"sliding_window\":5",
    };
    for (size_t i = 0; i < 4 * sizeof models / sizeof *models; i++) {
        run kept = {0}, again = {0};
        manner how = {models[i / 4], i % 2 ? DTYPE_BF16 : DTYPE_F32, .exact = i / 2 % 2};
        train(device_name, how, &kept);
        how.checkpointing = how.records = true;
        train(device_name, how, &again);
        assert_same(&kept, &again);
        free(kept.weights), free(again.weights);
    }
}

static void layers_that_run_again_give_the_same_bits(void **state) {
    (void)state;
    compare_checkpointing("cpu");
}

static void layers_that_run_again_are_recorded(void **state) {
    (void)state;
    if (!fixture_has_gpu()) skip();
    compare_checkpointing("cuda");
}

static void recorded_steps_are_the_same(void **state) {
    (void)state;
    if (!fixture_has_gpu()) skip();
    compare("cuda", DTYPE_F32);
    compare("cuda", DTYPE_BF16);
}

static void steps_end_in_order(void **state) {
    (void)state;
    fixture f;
    stepper *s;
    step_result r;
    int32_t ids[BLOCKS * BLOCK] = {0};
    blocks data = blocks_of_ids(ids, BLOCK, BLOCKS);
    stepper_options options = {
        .batch_size = BATCH, .block_size = BLOCK, .optimizer = {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8}};
    int64_t chosen[1] = {0};
    fixture_open(&f, 2, "", DTYPE_F32, false);
    fixture_ids(ids, BLOCKS * BLOCK, 3);
    OK(stepper_create(f.model, &options, &s));
    FAILS(stepper_end(s, &r), LCKV_ERROR_ARGUMENT, "no step has begun");
    begin(s, &data.examples, 0);
    begin(s, &data.examples, 1);
    FAILS(stepper_begin(s, &data.examples, chosen, 1, 0.1), LCKV_ERROR_ARGUMENT, "2 steps have begun");
    OK(stepper_end(s, &r));
    OK(stepper_end(s, &r));
    stepper_free(s);
    fixture_close(&f);
}

static void the_exact_form_keeps_everything(void **state) {
    (void)state;
    fixture f;
    stepper *s;
    stepper_options options = {.batch_size = BATCH, .block_size = BLOCK, .gradient_checkpointing = true};
    fixture_open(&f, 2, ",\"use_sequential\":true", DTYPE_F32, false);
    FAILS(stepper_create(f.model, &options, &s), LCKV_ERROR_UNSUPPORTED,
          "gradient_checkpointing is not supported with use_sequential");
    options = (stepper_options){.batch_size = BATCH, .block_size = BLOCK, .exact = true};
    FAILS(stepper_create(f.model, &options, &s), LCKV_ERROR_ARGUMENT, "exact and use_sequential exclude each other");
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(late_results_are_the_same),
        cmocka_unit_test(exact_steps_are_those_of_a_long_plan),
        cmocka_unit_test(exact_steps_on_a_gpu_are_those_of_a_long_plan),
        cmocka_unit_test(the_recorded_pass_stays_at_the_fixed_point),
        cmocka_unit_test(recorded_steps_are_the_same),
        cmocka_unit_test(layers_that_run_again_give_the_same_bits),
        cmocka_unit_test(layers_that_run_again_are_recorded),
        cmocka_unit_test(the_exact_form_keeps_everything),
        cmocka_unit_test(steps_end_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
