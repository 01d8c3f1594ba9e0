/* Whole runs through lckv.h: the golden folders, options that must not change the result, invalid options, and the end
 * of a run. */
#include "log_capture.h"
#include "train_run_fixture.h"

/* ---------------------------------------------------------------- golden folders */

/* Tolerances of reference/README.md: AdamW's first step divides by |g|. */
static const double LOSS_TOLERANCE = 2e-4, NORM_TOLERANCE = 2e-3, FINAL_TOLERANCE = 1e-2;

static float golden_value(const safetensors_entry *e, int64_t i) {
    float value;
    memcpy(&value, e->data + i * 4, 4);
    return value;
}

static const char *golden_ids(folder *r, const safetensors_file *expected) {
    char text[1024];
    const safetensors_entry *ids = safetensors_find(expected, "ids");
    size_t at = (size_t)snprintf(text, sizeof text, "{\"input_ids\": [");
    for (int64_t i = 0; i < ids->elements; i++) {
        int32_t id;
        memcpy(&id, ids->data + i * 4, 4);
        at += (size_t)snprintf(text + at, sizeof text - at, i ? ",%d" : "%d", id);
    }
    snprintf(text + at, sizeof text - at, "]}\n");
    return put_text_in(r, "ids.jsonl", text);
}

static void expect_final_weights(const run *t, const char *place, const safetensors_file *expected) {
    safetensors_file found;
    open_weights(t, &found);
    for (int i = 0; i < expected->count; i++) {
        const safetensors_entry *e = &expected->entries[i];
        if (strncmp(e->name, "train.final.", 12)) continue;
        const safetensors_entry *w = safetensors_find(&found, e->name + 12);
        assert_non_null(w);
        assert_int_equal(w->elements, e->elements);
        for (int64_t k = 0; k < e->elements; k++)
            if (!(fabs((double)golden_value(w, k) - (double)golden_value(e, k)) <= FINAL_TOLERANCE))
                fail_msg("%s: %s, element %lld: %g, expected %g", place, e->name, (long long)k,
                         (double)golden_value(w, k), (double)golden_value(e, k));
    }
    safetensors_close(&found);
}

static lckv_processes *processes; /* under mpirun, the test only runs the golden folders */

static void check_golden(folder *r, const char *name) {
    char place[PATH_BYTES], file[PATH_BYTES + 32];
    safetensors_file expected;
    run t = {.folder = r, .options = lckv_train_defaults()};
    snprintf(place, sizeof place, "%s/goldens/%s", SHARED_DIR, name);
    snprintf(file, sizeof file, "%s/expected.safetensors", place);
    OK(safetensors_open(file, &expected));
    lckv_train_options *o = &t.options;
    t.train = golden_ids(r, &expected);
    o->model_name_or_path = place;
    o->train_files = &t.train;
    o->train_file_count = 1;
    o->output_dir = in(r, "out");
    o->overwrite_output_dir = true;
    o->device = "cpu"; /* several processes need device cpu */
    o->block_size = 20;
    o->num_train_epochs = 4;
    o->learning_rate = 0.01;
    o->lr_scheduler_type = LCKV_SCHEDULE_CONSTANT;
    o->adam_beta2 = 0.95;
    o->weight_decay = 0.1;
    o->shuffle = false;
    o->threads = 1;
    o->processes = processes;
    OK(run_go(&t));
    assert_int_equal(t.story.count, 4);
    const safetensors_entry *losses = safetensors_find(&expected, "train.losses");
    const safetensors_entry *norms = safetensors_find(&expected, "train.grad_norms");
    for (int i = 0; i < 4; i++) {
        double loss = (double)golden_value(losses, i), norm = (double)golden_value(norms, i);
        lckv_train_progress *p = &t.story.steps[i];
        if (!(fabs(p->loss - loss) <= LOSS_TOLERANCE && fabs(p->grad_norm - norm) <= NORM_TOLERANCE))
            fail_msg("%s, step %d: loss %g, gradient norm %g, expected %g and %g", name, i + 1, p->loss, p->grad_norm,
                     loss, norm);
    }
    if (lckv_processes_rank(processes) == 0) expect_final_weights(&t, place, &expected);
    safetensors_close(&expected);
}

static void golden_folders_are_trained_as_expected(void **state) {
    DIR *goldens = opendir(SHARED_DIR "/goldens");
    int count = 0;
    if (!goldens) {
        print_message("skipped: %s/goldens is not there\n", SHARED_DIR);
        skip();
    }
    for (struct dirent *e; (e = readdir(goldens));) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s/goldens/%.200s/expected.safetensors", SHARED_DIR, e->d_name);
        if (!file_exists(path)) continue;
        check_golden(*state, e->d_name);
        count++;
    }
    closedir(goldens);
    assert_true(count > 0);
}

/* ---------------------------------------------------------------- options that must not change the result */

/* Sums of the same numbers in another order: losses of about 3.6 over up to 180 labels, in f32, differ by roundings of
 * 2^-24 each; AdamW's first step divides by |g|, so weights by more (reference/README.md). */
static void expect_same_run(const run *a, const run *b) {
    assert_int_equal(a->story.count, b->story.count);
    for (int i = 0; i < a->story.count; i++) {
        assert_true(fabs(a->story.steps[i].loss - b->story.steps[i].loss) <= LOSS_TOLERANCE);
        assert_true(fabs(a->story.steps[i].grad_norm - b->story.steps[i].grad_norm) <= NORM_TOLERANCE);
    }
    assert_true(weights_differ(a, b) <= FINAL_TOLERANCE);
}

static void accumulation_equals_a_bigger_batch(void **state) {
    run whole, parts, uneven;
    run_begin(&whole, state);
    whole.options.per_device_train_batch_size = 6;
    OK(run_go(&whole));
    run_begin(&parts, state);
    use_output(&parts, "parts");
    parts.options.per_device_train_batch_size = 2;
    parts.options.gradient_accumulation_steps = 3;
    OK(run_go(&parts));
    expect_same_run(&whole, &parts);
    assert_int_equal(parts.summary.steps_per_epoch, 2);

    /* 12 blocks are micro-batches of 8 and 4: each label has the same weight */
    run_begin(&whole, state);
    use_output(&whole, "all");
    whole.options.per_device_train_batch_size = 12;
    OK(run_go(&whole));
    run_begin(&uneven, state);
    use_output(&uneven, "uneven");
    uneven.options.per_device_train_batch_size = 8;
    uneven.options.gradient_accumulation_steps = 2;
    OK(run_go(&uneven));
    assert_int_equal(uneven.summary.steps_per_epoch, 1);
    expect_same_run(&whole, &uneven);
}

static void the_same_run_gives_the_same_bits(void **state) {
    run a, b;
    run_begin(&a, state);
    a.options.threads = 2;
    OK(run_go(&a));
    run_begin(&b, state);
    b.options.threads = 2;
    use_output(&b, "again");
    OK(run_go(&b));
    for (int i = 0; i < a.story.count; i++) {
        assert_true(a.story.steps[i].loss == b.story.steps[i].loss);
        assert_true(a.story.steps[i].grad_norm == b.story.steps[i].grad_norm);
    }
    assert_true(weights_differ(&a, &b) == 0);
}

static void seed_and_epoch_change_the_order(void **state) {
    run t[3];
    for (int i = 0; i < 3; i++) {
        run_begin(&t[i], state);
        use_output(&t[i], i == 0 ? "a" : i == 1 ? "b" : "c");
        t[i].options.learning_rate = 0; /* the loss identifies the blocks of a step */
        t[i].options.model_name_or_path = i ? t[0].options.output_dir : NULL;
        t[i].options.config_name = i ? NULL : t[i].options.config_name;
        t[i].options.seed = i == 1 ? 42 : 7;
        t[i].options.shuffle = i != 0;
        OK(run_go(&t[i]));
    }
    double epoch[3][2] = {0};
    int alike = 0;
    for (int i = 0; i < 3; i++)
        for (int s = 0; s < 6; s++) epoch[i][s / 3] += t[i].story.steps[s].loss / 3;
    for (int i = 0; i < 3; i++)
        for (int e = 0; e < 2; e++) assert_true(fabs(epoch[i][e] - epoch[0][0]) < 1e-5); /* each block once */
    for (int s = 0; s < 3; s++) {
        assert_true(t[0].story.steps[s].loss == t[0].story.steps[s + 3].loss);
        alike += t[1].story.steps[s].loss == t[1].story.steps[s + 3].loss;
        alike += t[1].story.steps[s].loss == t[2].story.steps[s].loss;
    }
    assert_true(alike == 0);
}

/* ---------------------------------------------------------------- training */

static void a_model_learns(void **state) {
    const bool bf16[] = {false, true};
    double last[2];
    for (int i = 0; i < 2; i++) {
        run t;
        run_begin(&t, state);
        use_output(&t, i ? "bf16" : "f32");
        t.options.max_steps = 60;
        t.options.bf16 = bf16[i];
        OK(run_go(&t));
        assert_true(t.story.steps[0].loss > 3.3 && t.story.steps[59].loss < 2);
        last[i] = t.story.steps[59].loss;
        assert_true(output_has(&t, "config.json"));
        safetensors_file weights;
        open_weights(&t, &weights);
        assert_string_equal(weights.entries[0].stored_type, "F32");
        safetensors_close(&weights);
    }
    assert_true(last[0] != last[1] && fabs(last[0] - last[1]) < 0.1);
}

static void sequential_training_follows_the_config(void **state) {
    run plan, sequential;
    run_begin(&plan, state);
    plan.options.max_steps = 3;
    plan.options.config_overrides = "forward_passes=14,backward_passes=2"; /* 16 tokens: the plan is exact */
    OK(run_go(&plan));
    run_begin(&sequential, state);
    use_output(&sequential, "sequential");
    sequential.options.max_steps = 3;
    sequential.options.config_overrides = "use_sequential=true";
    OK(run_go(&sequential));
    /* the same loss before the first step; the plan's gradient is truncated to its last passes */
    assert_true(fabs(plan.story.steps[0].loss - sequential.story.steps[0].loss) < LOSS_TOLERANCE);
    assert_true(plan.story.steps[0].grad_norm != sequential.story.steps[0].grad_norm);
    assert_true(sequential.story.steps[2].loss < sequential.story.steps[0].loss);
}

/* 16 tokens: a plan of as many iterations is exact. */
static void exact_training_follows_the_option(void **state) {
    run plan, exact;
    char *path, *text;
    size_t bytes;
    run_begin(&plan, state);
    plan.options.max_steps = 3;
    plan.options.config_overrides = "forward_passes=16,backward_passes=2";
    OK(run_go(&plan));
    run_begin(&exact, state);
    use_output(&exact, "exact");
    exact.options.max_steps = 3;
    exact.options.loop_form = LCKV_LOOP_EXACT;
    exact.options.loop_group_size = 2;
    exact.options.config_overrides = "forward_passes=0,backward_passes=2";
    exact.options.logging_steps = 1;
    OK(run_go(&exact));
    for (int i = 0; i < 3; i++)
        assert_true(fabs(plan.story.steps[i].loss - exact.story.steps[i].loss) < LOSS_TOLERANCE);
    double norm = plan.story.steps[0].grad_norm;
    assert_true(fabs(norm - exact.story.steps[0].grad_norm) < 1e-3 * norm);
    OK(path_join(exact.options.output_dir, "train_log.jsonl", &path));
    OK(file_read(path, &text, &bytes));
    assert_non_null(strstr(text, "\"loop_residual\":"));
    free(text);
    free(path);
    exact.options.config_overrides = "use_sequential=true"; /* the option goes before the config */
    use_output(&exact, "again");
    OK(run_go(&exact));
    exact.options.loop_form = (lckv_loop_form)3;
    FAILS(run_go(&exact), LCKV_ERROR_ARGUMENT, "loop_form: expected 0 to 2");
}

static void training_goes_on_from_what_was_written(void **state) {
    run first, second;
    run_begin(&first, state);
    first.options.learning_rate = 0;
    OK(run_go(&first));
    run_begin(&second, state);
    use_output(&second, "second");
    second.options.model_name_or_path = first.options.output_dir;
    second.options.config_name = NULL;
    second.options.learning_rate = 0;
    OK(run_go(&second));
    for (int i = 0; i < 6; i++) assert_true(first.story.steps[i].loss == second.story.steps[i].loss);
    assert_true(weights_differ(&first, &second) == 0);
    char *path, *config;
    size_t bytes;
    OK(path_join(second.options.output_dir, "config.json", &path));
    OK(file_read(path, &config, &bytes));
    assert_non_null(strstr(config, "unknown_key"));
    free(config);
    free(path);
}

static void validation_is_the_mean_over_its_labels(void **state) {
    run t, alone;
    run_begin(&t, state);
    use_validation(&t, 7);
    t.options.per_device_eval_batch_size = 4;
    OK(run_go(&t));
    assert_int_equal(t.summary.validation_blocks, 7);
    assert_int_equal(t.story.evaluations, 2); /* batches of 4 and 3 */
    assert_true(t.result.perplexity == exp(t.result.eval_loss));

    /* the loss of a step over all blocks, before the update */
    run_begin(&alone, state);
    use_output(&alone, "alone");
    alone.train = t.validation;
    alone.options.model_name_or_path = t.options.output_dir;
    alone.options.config_name = NULL;
    alone.options.per_device_train_batch_size = 7;
    alone.options.max_steps = 1;
    OK(run_go(&alone));
    assert_true(fabs(alone.story.steps[0].loss - t.result.eval_loss) < LOSS_TOLERANCE);
    assert_true(isnan(alone.result.eval_loss));
}

static void a_larger_tokenizer_adds_rows(void **state) {
    const char *book = SOURCE_DIR "/data/pride_and_prejudice.txt", *tokenizer = SOURCE_DIR "/data/tokenizer";
    const bool tied[] = {false, true};
    lckv_tokenizer *t;
    OK(lckv_tokenizer_open(tokenizer, &t));
    int64_t size = lckv_tokenizer_vocab_size(t);
    lckv_tokenizer_free(t);
    for (int i = 0; i < 2; i++) {
        run first, second;
        safetensors_file before, after;
        capture_log(LCKV_LOG_INFO);
        run_begin(&first, state);
        use_output(&first, i ? "tied" : "untied");
        first.options.config_overrides = tied[i] ? "tie_word_embeddings=true" : NULL;
        first.options.max_steps = 1;
        OK(run_go(&first));
        run_begin(&second, state);
        use_output(&second, i ? "tied-more" : "untied-more");
        second.options.model_name_or_path = first.options.output_dir;
        second.options.config_name = NULL;
        second.options.tokenizer_name = tokenizer;
        second.train = book;
        second.options.max_steps = 1;
        second.options.learning_rate = 0;
        OK(run_go(&second));
        assert_non_null(strstr(logged, "rows added"));
        assert_true(output_has(&second, "tokenizer.json"));
        open_weights(&first, &before);
        open_weights(&second, &after);
        assert_int_equal(before.count, after.count);
        const safetensors_entry *x = safetensors_find(&before, "model.embed_tokens.weight");
        const safetensors_entry *y = safetensors_find(&after, "model.embed_tokens.weight");
        assert_int_equal(y->shape[0], size);
        assert_memory_equal(x->data, y->data, x->bytes);
        double squares = 0;
        int64_t fresh = y->elements - x->elements;
        for (int64_t k = x->elements; k < y->elements; k++) squares += pow((double)golden_value(y, k), 2);
        /* deviation 0.2; that of the mean square of n normal numbers is sqrt(2 / n) of it */
        double mean = squares / (double)fresh / 0.04;
        assert_true(fabs(mean - 1) < 5 * sqrt(2 / (double)fresh));
        safetensors_close(&before);
        safetensors_close(&after);
    }
    end_capture();
}

static void the_log_has_a_line_a_logged_step(void **state) {
    run t;
    char *path, *text;
    size_t bytes;
    run_begin(&t, state);
    t.options.max_steps = 7;
    t.options.logging_steps = 3;
    OK(run_go(&t));
    OK(path_join(t.options.output_dir, "train_log.jsonl", &path));
    OK(file_read(path, &text, &bytes));
    const int expected[] = {3, 6, 7};
    char *line = text;
    for (int i = 0; i < 3; i++) {
        int step = expected[i], first = i ? expected[i - 1] : 0, found;
        double loss, norm, rate, speed, mean = 0;
        const char *form = "{\"step\": %d, \"loss\": %lf, \"grad_norm\": %lf, \"learning_rate\": %lf, "
                           "\"tokens_per_second\": %lf}";
        assert_int_equal(sscanf(line, form, &found, &loss, &norm, &rate, &speed), 5);
        for (int s = first; s < step; s++) mean += t.story.steps[s].loss / (step - first);
        assert_int_equal(found, step);
        assert_true(fabs(loss - mean) < 1e-12 && norm == t.story.steps[step - 1].grad_norm && rate == 0.01 &&
                    speed > 0);
        assert_true(t.story.steps[step - 1].logged);
        line = strchr(line, '\n') + 1;
    }
    assert_true(*line == '\0');
    free(text);
    free(path);
}

/* ---------------------------------------------------------------- the end of a run */

static void a_stopped_run_writes_a_checkpoint(void **state) {
    run stopped, short_one;
    run_begin(&stopped, state);
    stopped.story.stop_after = 3;
    FAILS(run_go(&stopped), LCKV_ERROR_INTERRUPTED, "after step 3 of 6");
    assert_int_equal(stopped.result.steps, 3);
    assert_false(output_has(&stopped, "model.safetensors")); /* only written at the end */
    run_begin(&short_one, state);
    use_output(&short_one, "short");
    short_one.options.max_steps = 3;
    OK(run_go(&short_one));
    use_output(&stopped, "out/checkpoint-3");
    assert_true(weights_differ(&stopped, &short_one) == 0);
}

static void a_loss_that_is_not_finite_stops_the_run(void **state) {
    run good, bad;
    run_begin(&good, state);
    OK(run_go(&good));
    bad = good;
    bad.options.overwrite_output_dir = true;
    bad.options.adam_epsilon = 0; /* 0 / 0 in the embeddings of ids that do not occur in a step */
    bad.options.per_device_train_batch_size = 1;
    FAILS(run_go(&bad), LCKV_ERROR_NUMERIC, "step ");
    assert_true(bad.story.count >= 1 && bad.story.count < 6);
    char named[32];
    snprintf(named, sizeof named, "step %d:", bad.story.count + 1);
    assert_non_null(strstr(lckv_last_error(), named));
    assert_non_null(strstr(lckv_last_error(), "no model was written"));
    /* the model that was there is still there */
    run again;
    run_begin(&again, state);
    use_output(&again, "again");
    OK(run_go(&again));
    assert_true(weights_differ(&bad, &again) == 0);
}

static void bad_options_are_refused_before_any_work(void **state) {
    run t;
    run_begin(&t, state);
#define REFUSED(change, part)                                                                                          \
    do {                                                                                                               \
        run_begin(&t, state);                                                                                          \
        t.options.change;                                                                                              \
        FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, part);                                                                  \
        assert_false(folder_exists(t.options.output_dir ? t.options.output_dir : "/absent"));                          \
    } while (0)
    REFUSED(config_name = NULL, "neither");
    REFUSED(kv = LCKV_KV_COPY, "expected both");
    REFUSED(output_dir = NULL, "output_dir");
    REFUSED(train_file_count = 0, "train_file");
    REFUSED(validation_file_count = 1, "validation_file");
    REFUSED(block_size = 1, "block_size");
    REFUSED(block_size = -3, "block_size");
    REFUSED(per_device_train_batch_size = 0, "per_device_train_batch_size");
    REFUSED(gradient_accumulation_steps = 0, "gradient_accumulation_steps");
    REFUSED(logging_steps = 0, "logging_steps");
    REFUSED(learning_rate = NAN, "learning_rate");
    REFUSED(learning_rate = -1, "learning_rate");
    REFUSED(warmup_ratio = 1.5, "warmup_ratio");
    REFUSED(adam_beta1 = 1, "adam_beta1");
    REFUSED(adam_beta2 = 0.99999999999, "adam_beta2");
    REFUSED(lr_scheduler_type = (lckv_schedule_type)9, "lr_scheduler_type");
    REFUSED(min_lr_rate = 0.1, "min_lr_rate needs lr_scheduler_type cosine_with_min_lr or");
    REFUSED(num_decay_steps = 5, "num_decay_steps needs lr_scheduler_type warmup_stable_decay");
    REFUSED(threads = -1, "threads");
    REFUSED(do_train = false, "nothing to do");
    REFUSED(save_strategy = (lckv_interval_strategy)7, "save_strategy");
    REFUSED(save_steps = 2.5, "save_steps");
    REFUSED(save_steps = 0, "save_steps");
    REFUSED(eval_steps = NAN, "eval_steps");
    REFUSED(save_total_limit = -1, "save_total_limit");
    REFUSED(per_device_eval_batch_size = 0, "per_device_eval_batch_size");
    REFUSED(max_skipped_steps = -1, "max_skipped_steps");
    REFUSED(skip_grad_norm = -1, "skip_grad_norm");
    REFUSED(eval_strategy = LCKV_INTERVAL_EPOCH, "validation_file");
    REFUSED(load_best_model_at_end = true, "needs equal eval_strategy");
    REFUSED(early_stopping_patience = 1, "load_best_model_at_end");
#undef REFUSED
}

static void bad_data_and_folders_are_named(void **state) {
    run t;
    run_begin(&t, state);
    t.train = put_text_in(t.folder, "bad.jsonl", "{\"input_ids\":[1]}\n{\"input_ids\":[37]}\n");
    FAILS(run_go(&t), LCKV_ERROR_FORMAT, "bad.jsonl:2");
    t.train = in(t.folder, "absent.txt");
    FAILS(run_go(&t), LCKV_ERROR_FILE, "absent.txt");
    t.train = put_text_in(t.folder, "text.txt", "words\n");
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "no tokenizer");
    run_begin(&t, state);
    t.options.block_size = 500;
    t.options.config_overrides = "max_position_embeddings=500";
    FAILS(run_go(&t), LCKV_ERROR_FORMAT, "block_size");
    t.options.config_overrides = NULL;
    t.options.tokenizer_name = t.folder->path;
    FAILS(run_go(&t), LCKV_ERROR_FILE, "tokenizer");
    run_begin(&t, state);
    t.options.save_strategy = LCKV_INTERVAL_NO;
    OK(run_go(&t));
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "is not empty");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(golden_folders_are_trained_as_expected),
        IN_FOLDER(accumulation_equals_a_bigger_batch),
        IN_FOLDER(the_same_run_gives_the_same_bits),
        IN_FOLDER(seed_and_epoch_change_the_order),
        IN_FOLDER(a_model_learns),
        IN_FOLDER(sequential_training_follows_the_config),
        IN_FOLDER(exact_training_follows_the_option),
        IN_FOLDER(training_goes_on_from_what_was_written),
        IN_FOLDER(validation_is_the_mean_over_its_labels),
        IN_FOLDER(a_larger_tokenizer_adds_rows),
        IN_FOLDER(the_log_has_a_line_a_logged_step),
        IN_FOLDER(a_stopped_run_writes_a_checkpoint),
        IN_FOLDER(a_loss_that_is_not_finite_stops_the_run),
        IN_FOLDER(bad_options_are_refused_before_any_work),
        IN_FOLDER(bad_data_and_folders_are_named),
    };
    if (lckv_processes_open(0, &processes) < 0) return 1;
    if (lckv_processes_count(processes) > 1) cmocka_set_test_filter("golden_*");
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (!failed) lckv_processes_close(processes); /* closing after a failure could deadlock */
    return failed;
}
