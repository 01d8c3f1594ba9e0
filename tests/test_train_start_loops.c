/* Training a learned start beside its model, through lckv.h: it learns, resumes bit for bit, leaves the model's weights
 * in their own file, and does not change the model where it changes no iteration. */
#include "base/files/checksum.h"
#include "base/files/folder.h"
#include "io/loop_start_file.h"

#include "train_run_fixture.h"

static void begin(run *t, void **state, const char *output) {
    run_begin(t, state);
    use_output(t, output);
    t->options.loop_start = true;
    t->options.max_steps = 12;
    t->options.save_steps = 4;
    t->options.per_device_train_batch_size = 2;
    t->options.gradient_accumulation_steps = 2;
    t->options.weight_decay = 0.1;
}

static bool same_bytes(const char *left, const char *right) {
    uint64_t a, b;
    size_t x, y;
    return checksum_file(left, &a, &x) >= 0 && checksum_file(right, &b, &y) >= 0 && a == b && x == y;
}

static const struct {
    lckv_loop_form form;
    bool bf16, checkpointing;
    const char *torch_dtype, *whole, *parts;
} RECIPES[] = {{LCKV_LOOP_PLAN, false, false, NULL, "whole", "parts"},
               {LCKV_LOOP_PLAN, false, true, NULL, "wholec", "partsc"},
               {LCKV_LOOP_PLAN, true, false, NULL, "whole16", "parts16"},
               {LCKV_LOOP_PLAN, true, false, "bfloat16", "wholeb", "partsb"},
               {LCKV_LOOP_EXACT, false, false, NULL, "wholee", "partse"}};

static void a_start_learns_and_resumes_bit_for_bit(void **state) {
    for (size_t i = 0; i < sizeof RECIPES / sizeof *RECIPES; i++) {
        run whole, parts;
        begin(&whole, state, RECIPES[i].whole);
        whole.options.loop_form = RECIPES[i].form;
        whole.options.bf16 = RECIPES[i].bf16;
        whole.options.torch_dtype = RECIPES[i].torch_dtype;
        whole.options.gradient_checkpointing = RECIPES[i].checkpointing;
        parts = whole;
        OK(run_go(&whole));
        double first = whole.story.steps[0].loop_start_error, last = whole.story.steps[11].loop_start_error;
        assert_true(fabs(first - 1) < 1e-3); /* a new start is zeros */
        if (!(last < 0.6)) fail_msg("%s: the error went from %g to %g", RECIPES[i].whole, first, last);
        use_output(&parts, RECIPES[i].parts);
        parts.story.stop_after = 4;
        FAILS(run_go(&parts), LCKV_ERROR_INTERRUPTED, "after step 4");
        parts.story.stop_after = 0;
        OK(run_go(&parts));
        assert_int_equal(parts.summary.first_step, 4);
        static const char *const files[] = {"model.safetensors", "loop_start.safetensors",
                                            "checkpoint-12/model.safetensors", "checkpoint-12/loop_start.safetensors",
                                            "checkpoint-12/optimizer.safetensors"};
        for (int k = 0; k < 5; k++) expect_same_output(&whole, &parts, files[k]);
    }
}

/* The folder loads with and without the start, whose tensors are in no other file. */
static void a_trained_start_is_in_its_own_file(void **state) {
    run t;
    safetensors_file file;
    lckv_device *d;
    lckv_model *m;
    begin(&t, state, "out");
    OK(run_go(&t));
    open_weights(&t, &file);
    for (int i = 0; i < file.count; i++) assert_null(strstr(file.entries[i].name, "loops."));
    safetensors_close(&file);
    OK(lckv_device_open("cpu", 1, &d));
    lckv_model_options o = lckv_model_defaults();
    for (int without = 0; without < 2; without++) {
        o.no_loop_start = without;
        OK(lckv_model_open(d, t.options.output_dir, &o, &m));
        assert_int_equal(m->loop_start == NULL, without);
        if (!without) assert_int_equal(m->loop_start->width, 48);
        lckv_model_free(m);
    }
    lckv_device_close(d);
}

/* In the exact form no iteration reads the start: the model's weights are those of a run without it, up to clipping,
 * which is off here. */
static void the_regression_does_not_reach_the_model(void **state) {
    run with, without;
    begin(&with, state, "with");
    with.options.loop_form = LCKV_LOOP_EXACT;
    with.options.max_grad_norm = 0;
    without = with;
    use_output(&without, "without");
    without.options.loop_start = false;
    OK(run_go(&with));
    OK(run_go(&without));
    assert_true(weights_differ(&with, &without) == 0);
    assert_true(isnan(without.story.steps[0].loop_start_error));
    assert_false(output_has(&without, "loop_start.safetensors"));
}

static void micro_batches_change_rounding_only(void **state) {
    run a, b;
    begin(&a, state, "a");
    b = a;
    use_output(&b, "b");
    b.options.per_device_train_batch_size = 4;
    b.options.gradient_accumulation_steps = 1;
    OK(run_go(&a));
    OK(run_go(&b));
    assert_true(weights_differ(&a, &b) < 1e-3);
    for (int i = 0; i < 3; i++)
        assert_true(fabs(a.story.steps[i].loop_start_error - b.story.steps[i].loop_start_error) < 1e-3);
}

/* A run continues from the start of its checkpoint; with another config it begins anew. */
static void training_continues_from_a_start(void **state) {
    run t, more;
    begin(&t, state, "out");
    OK(run_go(&t));
    more = t;
    use_output(&more, "more");
    more.options.model_name_or_path = t.options.output_dir;
    more.options.config_name = NULL;
    OK(run_go(&more));
    assert_true(more.story.steps[0].loop_start_error < 0.6);
    use_output(&more, "anew");
    more.options.config_name = t.options.config_name;
    OK(run_go(&more));
    assert_true(more.story.steps[0].loop_start_error > 0.9);
}

static void mismatches_are_errors(void **state) {
    run t;
    begin(&t, state, "out");
    t.story.stop_after = 4;
    FAILS(run_go(&t), LCKV_ERROR_INTERRUPTED, "");
    t.options.loop_start = false;
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "a run with loop_start");
    use_output(&t, "other");
    FAILS(run_go(&t), LCKV_ERROR_INTERRUPTED, "");
    t.options.loop_start = true;
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "a run without loop_start");
    use_output(&t, "third");
    t.options.loop_form = LCKV_LOOP_SEQUENTIAL;
    FAILS(run_go(&t), LCKV_ERROR_UNSUPPORTED, "loop_start");
    t.options.loop_form = LCKV_LOOP_PLAN;
    t.options.config_overrides = "layer_types=0_1_2_3";
    FAILS(run_go(&t), LCKV_ERROR_UNSUPPORTED, "loops");
    t.options.config_overrides = NULL;
    t.options.loop_start_weight = 0;
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "loop_start_weight");
}

/* The start of a folder; the caller closes the device and frees it. */
static loop_start *read_start(lckv_device *d, const char *name) {
    lckv_config *c;
    loop_start *s;
    OK(lckv_config_load(name, NULL, &c));
    OK(loop_start_read(d, name, c, DTYPE_F32, &s));
    assert_non_null(s);
    lckv_config_free(c);
    return s;
}

static void measured(const loop_start_kl *kl, int count) {
    assert_int_equal(kl->count, count);
    for (int i = 0; i < count; i++) assert_true(isfinite(kl->zeros[i]) && kl->zeros[i] >= 0);
    for (int i = 0; i < count; i++) assert_true(isfinite(kl->start[i]) && kl->start[i] >= 0);
    if (count) assert_true(kl->start[0] != kl->zeros[0] && kl->start[count - 1] < kl->start[0]);
}

/* Iterations from the start that are as exact as `iterations` from zeros. */
static int fewest(const loop_start_kl *kl, int iterations) {
    for (int i = 1; i < iterations; i++)
        if (kl->start[i - 1] <= kl->zeros[iterations - 1]) return i;
    return iterations;
}

/* The file of the final start has its divergence on validation text. Prompts take the iterations of training if the
 * model has learned from loops that begin with the start, otherwise as few as are as exact as those from zeros. */
static void a_trained_start_is_measured(void **state) {
    static const struct {
        const char *name;
        bool validates, exact;
        double plan_share, iteration_weight;
        bool seen;
    } CASES[] = {
        {"with", true, .seen = true},
        {"without", false, .seen = true},
        {"exact", true, true},
        {"plan-share", true, true, .plan_share = 0.5, .seen = true},
        {"iteration", true, true, .iteration_weight = 0.1, .seen = true},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        run t;
        lckv_device *d;
        lckv_model *m;
        begin(&t, state, CASES[i].name);
        if (CASES[i].validates) use_validation(&t, 5);
        t.options.loop_form = CASES[i].exact ? LCKV_LOOP_EXACT : LCKV_LOOP_PLAN;
        t.options.loop_plan_share = CASES[i].plan_share;
        t.options.loop_iteration_weight = CASES[i].iteration_weight;
        OK(run_go(&t));
        OK(lckv_device_open("cpu", 1, &d));
        OK(lckv_model_open(d, t.options.output_dir, NULL, &m));
        int iterations = m->config->forward_passes + m->config->backward_passes;
        measured(&m->loop_start->kl, CASES[i].validates ? iterations : 0);
        assert_int_equal(m->loop_start->kl.trained, CASES[i].seen);
        assert_int_equal(model_default_iterations(m),
                         CASES[i].seen ? iterations : fewest(&m->loop_start->kl, iterations));
        lckv_model_free(m);
        lckv_device_close(d);
    }
}

/* The best model, which is loaded at the end, has the start of its checkpoint. */
static void the_best_model_has_its_own_start(void **state) {
    run t;
    begin(&t, state, "out");
    use_validation(&t, 5);
    t.options.eval_strategy = LCKV_INTERVAL_STEPS;
    t.options.eval_steps = 4;
    t.options.load_best_model_at_end = true;
    t.options.learning_rate = 0.2; /* diverges after the first evaluation or stays worse */
    OK(run_go(&t));
    int found = 0;
    for (int step = 4; step <= 12; step += 4) {
        char saved[2 * PATH_BYTES], left[3 * PATH_BYTES], right[3 * PATH_BYTES];
        snprintf(saved, sizeof saved, "%s/checkpoint-%d", t.options.output_dir, step);
        snprintf(left, sizeof left, "%s/model.safetensors", saved);
        snprintf(right, sizeof right, "%s/model.safetensors", t.options.output_dir);
        if (!same_bytes(left, right)) continue;
        lckv_device *d;
        OK(lckv_device_open("cpu", 1, &d));
        loop_start *a = read_start(d, saved), *b = read_start(d, t.options.output_dir);
        for (int i = 0; i < a->weights->count; i++) {
            view x = a->weights->table[i].tensor.value, y = b->weights->table[i].tensor.value;
            assert_memory_equal(x.data, y.data, view_bytes(x));
        }
        loop_start_free(a);
        loop_start_free(b);
        lckv_device_close(d);
        found++;
    }
    assert_int_equal(found, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_start_learns_and_resumes_bit_for_bit),
        IN_FOLDER(a_trained_start_is_in_its_own_file),
        IN_FOLDER(the_regression_does_not_reach_the_model),
        IN_FOLDER(micro_batches_change_rounding_only),
        IN_FOLDER(training_continues_from_a_start),
        IN_FOLDER(mismatches_are_errors),
        IN_FOLDER(a_trained_start_is_measured),
        IN_FOLDER(the_best_model_has_its_own_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
