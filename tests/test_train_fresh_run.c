/* Training runs, through lckv.h, on a CPU that keeps the rules of a GPU (fresh_device.h): results are read a step late,
 * steps are replayed, and nothing is read on the host before it has arrived. Losses and files are those of a CPU. */
#include "fresh_device.h" /* before cmocka's fail() */

#include "train_run_fixture.h"

static const char *const ADAPTED[] = {"v_proj", "down_proj"};
static const lckv_lora ADAPTER = {.struct_size = sizeof(lckv_lora),
                                  .r = 3,
                                  .alpha = 6,
                                  .dropout = 0.1,
                                  .target_modules = ADAPTED,
                                  .target_module_count = 2};

static const struct manner {
    const char *name;
    lckv_loop_form form;
    bool bf16, bf16_weights, checkpointing, start, adapts;
    double plan_share, iteration_weight;
} MANNERS[] = {
    {.name = "plan", .form = LCKV_LOOP_PLAN},
    {.name = "plan-start", .form = LCKV_LOOP_PLAN, .bf16 = true, .start = true, .checkpointing = true},
    {.name = "plan-adapter", .form = LCKV_LOOP_PLAN, .adapts = true, .bf16 = true},
    {.name = "bf16-weights", .form = LCKV_LOOP_PLAN, .bf16 = true, .bf16_weights = true},
    {.name = "sequential", .form = LCKV_LOOP_SEQUENTIAL},
    {.name = "exact", .form = LCKV_LOOP_EXACT, .bf16 = true},
    {.name = "exact-start",
     .form = LCKV_LOOP_EXACT,
     .start = true,
     .plan_share = 0.3,
     .iteration_weight = 0.3,
     .checkpointing = true},
};

/* An adapter needs a model in a folder. */
static void begin_with_model(run *t) {
    use_output(t, "base");
    t->options.overwrite_output_dir = true;
    OK(run_go(t));
    t->options.overwrite_output_dir = false;
    t->options.model_name_or_path = t->options.output_dir;
    t->options.config_name = NULL;
}

static void begin(run *t, void **state, const struct manner *how, const char *output) {
    char name[64];
    run_begin(t, state);
    if (how->adapts) begin_with_model(t);
    use_validation(t, 5);
    snprintf(name, sizeof name, "%s-%s", how->name, output);
    use_output(t, name);
    t->options.loop_form = how->form;
    t->options.bf16 = how->bf16;
    t->options.torch_dtype = how->bf16_weights ? "bfloat16" : NULL;
    t->options.gradient_checkpointing = how->checkpointing;
    t->options.loop_start = how->start;
    t->options.use_peft = how->adapts;
    t->options.lora = how->adapts ? &ADAPTER : NULL;
    t->options.loop_plan_share = how->plan_share;
    t->options.loop_iteration_weight = how->iteration_weight;
    t->options.max_steps = 11;
    t->options.save_steps = 4;
    t->options.eval_strategy = LCKV_INTERVAL_STEPS;
    t->options.eval_steps = 4;
    t->options.per_device_train_batch_size = 2;
    t->options.per_device_eval_batch_size = 2;
    t->options.gradient_accumulation_steps = 2;
    t->options.weight_decay = 0.1;
}

static void same_number(double a, double b, const char *name, const char *what, int step) {
    if (!(a == b || (isnan(a) && isnan(b)))) fail_msg("%s: %s of step %d: %.17g and %.17g", name, what, step, a, b);
}

static void same_steps(const run *a, const run *b, const char *name) {
    assert_int_equal(a->story.count, b->story.count);
    for (int i = 0; i < a->story.count; i++) {
        const lckv_train_progress *x = &a->story.steps[i], *y = &b->story.steps[i];
        same_number(x->loss, y->loss, name, "loss", i);
        same_number(x->grad_norm, y->grad_norm, name, "gradient norm", i);
        same_number(x->loop_residual, y->loop_residual, name, "residual", i);
        same_number(x->loop_start_error, y->loop_start_error, name, "start", i);
    }
    same_number(a->result.eval_loss, b->result.eval_loss, name, "validation", a->story.count);
}

static void same_files(const run *a, const run *b, const struct manner *how) {
    expect_same_output(a, b, how->adapts ? "adapter_model.safetensors" : "model.safetensors");
    expect_same_output(a, b, "checkpoint-8/optimizer.safetensors");
    expect_same_output(a, b, "checkpoint-11/optimizer.safetensors");
    if (how->start) expect_same_output(a, b, "loop_start.safetensors");
}

static void runs_are_those_of_a_cpu(void **state) {
    for (size_t i = 0; i < sizeof MANNERS / sizeof *MANNERS; i++) {
        run plain, gpu;
        begin(&plain, state, &MANNERS[i], "cpu");
        begin(&gpu, state, &MANNERS[i], "gpu");
        fresh_want(false);
        OK(run_go(&plain));
        fresh_want(true);
        OK(run_go(&gpu));
        assert_true(fresh.written > 0 && fresh.replays > 0);
        same_steps(&plain, &gpu, MANNERS[i].name);
        same_files(&plain, &gpu, &MANNERS[i]);
    }
}

static void runs_resume_bit_for_bit(void **state) {
    fresh_want(true);
    for (size_t i = 0; i < sizeof MANNERS / sizeof *MANNERS; i++) {
        run whole, parts;
        begin(&whole, state, &MANNERS[i], "whole");
        begin(&parts, state, &MANNERS[i], "parts");
        OK(run_go(&whole));
        parts.story.stop_after = 6; /* the next step has been launched */
        FAILS(run_go(&parts), LCKV_ERROR_INTERRUPTED, "");
        parts.story.stop_after = 0;
        OK(run_go(&parts));
        same_files(&whole, &parts, &MANNERS[i]);
    }
}

/* The next step is launched, which may take as long as a step, before a step is reported. */
static void the_speed_is_that_of_the_device(void **state) {
    run gpu;
    begin(&gpu, state, &MANNERS[0], "speed");
    gpu.options.eval_strategy = gpu.options.save_strategy = LCKV_INTERVAL_NO;
    gpu.options.logging_steps = 1;
    gpu.options.max_steps = 4; /* before the end of the epoch, whose last step is smaller */
    fresh_want(true);
    OK(run_go(&gpu));
    double tokens = (double)gpu.result.tokens / (double)gpu.result.steps;
    assert_int_equal(gpu.story.count, gpu.options.max_steps);
    for (int i = 1; i < gpu.story.count; i++) /* the first step begins on the clock of the CPU */
        assert_float_equal(gpu.story.steps[i].tokens_per_second, tokens / FRESH_SECONDS, 1e-6 * tokens);
}

int main(void) {
    const struct CMUnitTest tests[] = {IN_FOLDER(runs_are_those_of_a_cpu), IN_FOLDER(runs_resume_bit_for_bit),
                                       IN_FOLDER(the_speed_is_that_of_the_device)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
