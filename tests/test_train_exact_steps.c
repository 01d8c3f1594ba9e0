/* Exact training whose models are made to need few iterations (loop_plan_share, loop_iteration_weight), through lckv.h:
 * which steps run by the plan, that they are the plan's, that runs resume bit for bit, and that one iteration from the
 * start comes nearer to the exact form. */
#include "train_run_fixture.h"

enum { STEPS = 12 };

static void begin(run *t, void **state, const char *output) {
    run_begin(t, state);
    use_output(t, output);
    t->options.loop_form = LCKV_LOOP_EXACT;
    t->options.max_steps = STEPS;
    t->options.save_steps = 4;
    t->options.per_device_train_batch_size = 2;
    t->options.gradient_accumulation_steps = 2;
    t->options.config_overrides = "forward_passes=1,backward_passes=1";
}

static bool by_plan(const run *t, int step) {
    return isnan(t->story.steps[step].loop_residual);
}

static void a_share_of_the_steps_runs_by_the_plan(void **state) {
    const struct {
        double share;
        const char *steps; /* p: by the plan */
    } CASES[] = {{0, "............"}, {0.25, ".p...p...p.."}, {0.1, "....p......."}, {0.5, "p.p.p.p.p.p."}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        run t;
        begin(&t, state, "out");
        t.options.overwrite_output_dir = true;
        t.options.loop_plan_share = CASES[i].share;
        OK(run_go(&t));
        assert_int_equal(t.story.count, STEPS);
        for (int k = 0; k < STEPS; k++)
            if (by_plan(&t, k) != (CASES[i].steps[k] == 'p')) fail_msg("share %g, step %d", CASES[i].share, k);
    }
}

/* Without learning, the loss of a step tells its form. */
static void each_step_is_that_of_its_form(void **state) {
    run exact, planned, both;
    begin(&exact, state, "exact");
    exact.options.learning_rate = 0;
    planned = both = exact;
    use_output(&planned, "planned");
    use_output(&both, "both");
    planned.options.loop_form = LCKV_LOOP_PLAN;
    both.options.loop_plan_share = 0.3;
    OK(run_go(&exact));
    OK(run_go(&planned));
    OK(run_go(&both));
    int count = 0;
    for (int k = 0; k < STEPS; k++) {
        const lckv_train_progress *one = &(by_plan(&both, k) ? planned : exact).story.steps[k];
        assert_true(one->loss == both.story.steps[k].loss && one->grad_norm == both.story.steps[k].grad_norm);
        assert_true(exact.story.steps[k].loss != planned.story.steps[k].loss);
        count += by_plan(&both, k);
    }
    assert_int_equal(count, 4);
}

static void runs_resume_bit_for_bit(void **state) {
    for (int start = 0; start < 2; start++) {
        for (int stop = 4; stop <= 8; stop += 4) {
            run whole, parts;
            char name[32];
            snprintf(name, sizeof name, "whole%d%d", start, stop);
            begin(&whole, state, name);
            whole.options.loop_plan_share = 0.3;
            whole.options.loop_iteration_weight = 0.1;
            whole.options.loop_start = start;
            parts = whole;
            snprintf(name, sizeof name, "parts%d%d", start, stop);
            use_output(&parts, name);
            OK(run_go(&whole));
            parts.story.stop_after = stop;
            FAILS(run_go(&parts), LCKV_ERROR_INTERRUPTED, "");
            parts.story.stop_after = 0;
            OK(run_go(&parts));
            expect_same_output(&whole, &parts, "model.safetensors");
            expect_same_output(&whole, &parts, "checkpoint-12/optimizer.safetensors");
        }
    }
}

static void micro_batches_change_rounding_only(void **state) {
    run a, b;
    begin(&a, state, "a");
    a.options.loop_plan_share = 0.3;
    a.options.loop_iteration_weight = 0.5;
    b = a;
    use_output(&b, "b");
    b.options.per_device_train_batch_size = 4;
    b.options.gradient_accumulation_steps = 1;
    b.options.gradient_checkpointing = true;
    OK(run_go(&a));
    OK(run_go(&b));
    assert_true(weights_differ(&a, &b) < 1e-3);
}

/* The loss by the plan of one iteration from zeros, above the exact one. */
static double excess_loss(const run *trained) {
    double loss[2] = {0};
    for (int plan_form = 0; plan_form < 2; plan_form++) {
        run t = *trained;
        t.options.model_name_or_path = trained->options.output_dir;
        t.options.config_name = NULL;
        t.options.do_train = false;
        t.options.loop_plan_share = t.options.loop_iteration_weight = 0;
        if (plan_form) t.options.loop_form = LCKV_LOOP_PLAN;
        use_output(&t, plan_form ? "plan" : "exact");
        OK(run_go(&t));
        loss[plan_form] = t.result.eval_loss;
    }
    return loss[1] - loss[0];
}

static void one_iteration_comes_nearer(void **state) {
    const struct { double share, weight; } WAYS[] = {{0, 0}, {0.25, 0}, {0, 1}};
    double excess[3];
    for (int i = 0; i < 3; i++) {
        run t;
        begin(&t, state, i == 0 ? "neither" : i == 1 ? "share" : "weight");
        use_validation(&t, 7);
        t.options.config_overrides = "forward_passes=0,backward_passes=1";
        t.options.max_steps = 60;
        t.options.loop_plan_share = WAYS[i].share;
        t.options.loop_iteration_weight = WAYS[i].weight;
        OK(run_go(&t));
        excess[i] = excess_loss(&t);
    }
    print_message("loss after one iteration above the exact one: %g; %g with steps by the plan, %g with the weight\n",
                  excess[0], excess[1], excess[2]);
    assert_true(excess[1] < 0.7 * excess[0] && excess[2] < 0.7 * excess[0]);
}

/* A GPU records whole micro-batches, those of both forms by themselves, and replays them. */
static void a_gpu_takes_the_same_steps(void **state) {
    lckv_device *d;
    if (lckv_device_open("cuda", 0, &d) < 0) {
        print_message("skipped: %s\n", lckv_last_error());
        skip();
    }
    lckv_device_close(d);
    for (int start = 0; start < 2; start++) {
        run host, gpu;
        begin(&host, state, start ? "host-start" : "host");
        host.options.loop_plan_share = 0.3;
        host.options.loop_iteration_weight = 0.3;
        host.options.loop_start = start;
        gpu = host;
        use_output(&gpu, start ? "gpu-start" : "gpu");
        gpu.options.device = "cuda";
        OK(run_go(&host));
        OK(run_go(&gpu));
        for (int k = 0; k < STEPS; k++) {
            const lckv_train_progress *a = &host.story.steps[k], *b = &gpu.story.steps[k];
            if (!(fabs(a->loss - b->loss) < 2e-3 && fabs(a->grad_norm - b->grad_norm) < 0.01 * a->grad_norm))
                fail_msg("step %d: loss %g and %g, gradient norm %g and %g", k, a->loss, b->loss, a->grad_norm,
                         b->grad_norm);
            assert_int_equal(by_plan(&host, k), by_plan(&gpu, k));
        }
    }
}

static void mismatches_are_errors(void **state) {
    run t;
    begin(&t, state, "out");
    t.options.loop_plan_share = 1;
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "loop_plan_share: expected a number of at least 0 and below 1, found 1");
    t.options.loop_plan_share = NAN;
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "loop_plan_share");
    t.options.loop_plan_share = 0.1;
    t.options.loop_form = LCKV_LOOP_PLAN;
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "loop_plan_share needs loop_form exact");
    t.options.loop_plan_share = 0;
    t.options.loop_iteration_weight = 0.1;
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "loop_iteration_weight needs loop_form exact");
    t.options.loop_iteration_weight = -1;
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "loop_iteration_weight");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_share_of_the_steps_runs_by_the_plan),
        IN_FOLDER(each_step_is_that_of_its_form),
        IN_FOLDER(runs_resume_bit_for_bit),
        IN_FOLDER(micro_batches_change_rounding_only),
        IN_FOLDER(one_iteration_comes_nearer),
        IN_FOLDER(a_gpu_takes_the_same_steps),
        IN_FOLDER(mismatches_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
