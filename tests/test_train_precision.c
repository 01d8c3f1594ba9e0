/* The cost of reduced precision: the mean loss of the last 50 of 300 steps in bf16, with and without f32 master
 * weights, against f32; for a plain model and one with a loop. */
#include "data/blocks.h"
#include "train/step/step.h"

#include "fixture.h"

enum { BATCH = 8, BLOCK = 24, STEPS = 300, LAST = 50, BLOCKS = STEPS * BATCH };

typedef struct recipe {
    dtype compute;
    bool bf16_weights;
} recipe;

/* Text that can be learned in part: mostly an id follows from the previous one, sometimes it is random. No block
 * repeats. */
static void fill_ids(int32_t *ids) {
    for (int i = 0; i < BLOCKS * BLOCK; i++) {
        bool follows = i % BLOCK && rng_uniform(3, 1, (uint64_t)i) < 0.8;
        ids[i] = follows ? (ids[i - 1] * 5 + 7) % FIXTURE_VOCAB
                         : (int32_t)(rng_uniform(3, 2, (uint64_t)i) * (double)FIXTURE_VOCAB);
    }
}

static double last_losses(const char *extra, recipe r) {
    fixture f;
    stepper *s;
    step_result result;
    static int32_t ids[BLOCKS * BLOCK];
    int64_t chosen[BATCH];
    double sum = 0;
    const blocks data = blocks_of_ids(ids, BLOCK, BLOCKS);
    const stepper_options options = {
        .compute = r.compute,
        .bf16_weights = r.bf16_weights,
        .batch_size = BATCH,
        .block_size = BLOCK,
        .optimizer = {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1, .max_grad_norm = 1, .seed = 4},
    };
    fill_ids(ids);
    fixture_open(&f, 4, extra, r.compute, false);
    OK(stepper_create(f.model, &options, &s));
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < BATCH; i++) chosen[i] = step * BATCH + i;
        OK(stepper_step(s, &data.examples, chosen, BATCH, 3e-3, &result));
        assert_true(result.finite);
        if (step >= STEPS - LAST) sum += result.loss;
    }
    stepper_free(s);
    fixture_close(&f);
    return sum / LAST;
}

static void compare(const char *extra) {
    double f32 = last_losses(extra, (recipe){DTYPE_F32}), masters = last_losses(extra, (recipe){DTYPE_BF16});
    double bf16 = last_losses(extra, (recipe){DTYPE_BF16, true});
    printf("mean loss of the last %d of %d steps: f32 %.4f, bf16 %.4f, bf16 weights %.4f\n", LAST, STEPS, f32, masters,
           bf16);
    assert_true(f32 < 2.2); /* it has learned: log(37) is 3.6 */
    assert_true(fabs(masters / f32 - 1) < 0.005);
    assert_true(fabs(bf16 / f32 - 1) < 0.01);
}

static void plain_models_learn_as_in_f32(void **state) {
    (void)state;
    compare("");
}

static void loops_learn_as_in_f32(void **state) {
    (void)state;
    compare(",\"layer_types\":\"0_2_2_3\",\"forward_passes\":3,\"backward_passes\":2");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_models_learn_as_in_f32),
        cmocka_unit_test(loops_learn_as_in_f32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
