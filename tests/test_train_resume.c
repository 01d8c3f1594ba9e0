/* Checkpoints of a run, through lckv.h: resuming, choosing and deleting checkpoints, damage, full disks, and numbers
 * that are not finite. Killed processes: test_train_kill.c. */
#include "base/files/checksum.h"
#include "base/files/folder.h"
#include "train/trainer.h"

#include "log_capture.h"
#include "train_run_fixture.h"

#include <signal.h>
#include <sys/resource.h>

static int test_begin(void **state) {
    capture_log(LCKV_LOG_WARNING);
    return folder_open(state);
}

static int test_end(void **state) {
    end_capture();
    return folder_close(state);
}

#define WARNED_OF(part)                                                                                                \
    do {                                                                                                               \
        if (!strstr(logged, (part))) fail_msg("expected a warning of \"%s\", found \"%s\"", (part), logged);           \
    } while (0)

/* A run of 12 steps with a checkpoint every 3, and with features that have state. */
static void begin(run *t, void **state, const char *output) {
    run_begin(t, state);
    use_output(t, output);
    t->options.max_steps = 12;
    t->options.save_steps = 3;
    t->options.logging_steps = 5;
    t->options.lr_scheduler_type = LCKV_SCHEDULE_COSINE;
    t->options.warmup_steps = 2;
    t->options.gradient_accumulation_steps = 2;
    t->options.per_device_train_batch_size = 2;
    t->options.weight_decay = 0.1;
}

static void validate(run *t) {
    use_validation(t, 5);
}

static int stop_and_go_on(run *t, int64_t step) {
    t->story.stop_after = step;
    int status = run_go(t);
    t->story.stop_after = 0;
    return status;
}

/* ---------------------------------------------------------------- the same bytes */

static bool same_bytes(const char *left, const char *right) {
    uint64_t a, b;
    size_t x, y;
    return checksum_file(left, &a, &x) >= 0 && checksum_file(right, &b, &y) >= 0 && a == b && x == y;
}

static void expect_same_checkpoint(const run *a, const run *b, const char *checkpoint) {
    char left[PATH_BYTES], path[2 * PATH_BYTES], other[2 * PATH_BYTES];
    int files = 0;
    snprintf(left, sizeof left, "%s/%s", a->options.output_dir, checkpoint);
    DIR *place = opendir(left);
    assert_non_null(place);
    for (struct dirent *e; (e = readdir(place));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%.200s", left, e->d_name);
        snprintf(other, sizeof other, "%s/%s/%.200s", b->options.output_dir, checkpoint, e->d_name);
        if (!same_bytes(path, other)) fail_msg("%s and %s differ", path, other);
        files++;
    }
    closedir(place);
    assert_true(files >= 5); /* config, weights, optimizer, state, checksums */
}

static void a_run_that_was_stopped_ends_with_the_same_bytes(void **state) {
    static const struct {
        bool bf16;
        const char *torch_dtype, *whole, *parts, *stopped;
    } recipes[] = {{false, NULL, "whole", "parts", "parts/checkpoint-4"},
                   {true, NULL, "whole16", "parts16", "parts16/checkpoint-4"},
                   {true, "bfloat16", "wholeb", "partsb", "partsb/checkpoint-4"}};
    for (int i = 0; i < 3; i++) {
        run whole, parts;
        begin(&whole, state, recipes[i].whole);
        validate(&whole);
        whole.options.bf16 = recipes[i].bf16;
        whole.options.torch_dtype = recipes[i].torch_dtype;
        whole.options.threads = 2;
        whole.options.eval_strategy = LCKV_INTERVAL_STEPS;
        whole.options.eval_steps = 3;
        parts = whole;
        OK(run_go(&whole));
        use_output(&parts, recipes[i].parts);
        FAILS(stop_and_go_on(&parts, 4), LCKV_ERROR_INTERRUPTED, "after step 4");
        assert_true(folder_exists(in(parts.folder, recipes[i].stopped)));
        FAILS(stop_and_go_on(&parts, 9), LCKV_ERROR_INTERRUPTED, "after step 9");
        assert_int_equal(parts.summary.first_step, 4);
        OK(run_go(&parts));
        assert_string_equal(logged, "");
        expect_same_checkpoint(&whole, &parts, "checkpoint-12");
        assert_true(weights_differ(&whole, &parts) == 0);
        assert_true(whole.result.eval_loss == parts.result.eval_loss);
        assert_true(whole.result.train_loss == parts.result.train_loss);
    }
}

static void a_log_goes_on_where_the_checkpoint_was(void **state) {
    run t;
    char *path, *text;
    size_t bytes;
    begin(&t, state, "out");
    t.options.logging_steps = 2;
    t.options.save_steps = 4;
    FAILS(stop_and_go_on(&t, 7), LCKV_ERROR_INTERRUPTED, "");
    OK(folder_remove(in(t.folder, "out/checkpoint-7")));
    OK(run_go(&t));
    assert_int_equal(t.summary.first_step, 4);
    OK(path_join(t.options.output_dir, "train_log.jsonl", &path));
    OK(file_read(path, &text, &bytes));
    char *line = text;
    for (long long step = 2, found; step <= 12; step += 2, line = strchr(line, '\n') + 1) {
        assert_int_equal(sscanf(line, "{\"step\": %lld", &found), 1);
        assert_int_equal(found, step);
    }
    assert_true(*line == '\0');
    free(text);
    free(path);
}

static void max_steps_may_grow(void **state) {
    run longer, grown;
    begin(&longer, state, "longer");
    longer.options.lr_scheduler_type = LCKV_SCHEDULE_CONSTANT;
    grown = longer;
    OK(run_go(&longer));
    use_output(&grown, "grown");
    grown.options.max_steps = 5;
    OK(run_go(&grown));
    grown.options.max_steps = 12;
    OK(run_go(&grown));
    assert_int_equal(grown.summary.first_step, 5);
    expect_same_checkpoint(&longer, &grown, "checkpoint-12");
    OK(run_go(&grown)); /* nothing is left to do */
    assert_int_equal(grown.story.count, 0);
    assert_int_equal(grown.result.steps, 12);
}

static void other_threads_are_said_in_one_line(void **state) {
    run t;
    begin(&t, state, "out");
    FAILS(stop_and_go_on(&t, 4), LCKV_ERROR_INTERRUPTED, "");
    t.options.threads = 2;
    OK(run_go(&t));
    WARNED_OF(
        "checkpoint-4' was written with threads 1 (now 2): the resumed run matches it up to rounding, not bit for bit");
    assert_ptr_equal(strchr(logged, '\n'), logged + strlen(logged) - 1);
}

/* The order of the blocks depends on the seed. */
static void another_seed_is_not_called_rounding(void **state) {
    run t;
    begin(&t, state, "out");
    FAILS(stop_and_go_on(&t, 4), LCKV_ERROR_INTERRUPTED, "");
    t.options.seed++;
    OK(run_go(&t));
    WARNED_OF("): the resumed run continues on other blocks than an uninterrupted one");
}

/* As on an asynchronous device: launches a step before the results of the previous one are read. */
static int run_ahead(run *t, int64_t stop_after) {
    lckv_trainer *trainer;
    t->story = (story){.stop_after = stop_after};
    t->options.callback = listen;
    t->options.user = &t->story;
    OK(lckv_trainer_create(&t->options, &trainer));
    trainer->run_ahead = true;
    int status = lckv_trainer_run(trainer, &t->result);
    lckv_trainer_free(trainer);
    return status;
}

static void results_that_are_read_a_step_late_change_nothing(void **state) {
    run whole, ahead, parts;
    begin(&whole, state, "whole");
    validate(&whole);
    whole.options.eval_strategy = LCKV_INTERVAL_STEPS;
    whole.options.eval_steps = 3;
    ahead = parts = whole;
    OK(run_go(&whole));
    use_output(&ahead, "ahead");
    OK(run_ahead(&ahead, 0));
    assert_int_equal(ahead.story.count, 12);
    for (int i = 0; i < 12; i++) {
        lckv_train_progress *p = &whole.story.steps[i], *q = &ahead.story.steps[i];
        assert_true(p->step == q->step && p->loss == q->loss && p->learning_rate == q->learning_rate);
    }
    for (int step = 3; step <= 12; step += 3) {
        char name[32];
        snprintf(name, sizeof name, "checkpoint-%d", step);
        expect_same_checkpoint(&whole, &ahead, name);
    }
    /* the step that was launched when the callback stops is completed and in the checkpoint */
    use_output(&parts, "parts");
    FAILS(run_ahead(&parts, 4), LCKV_ERROR_INTERRUPTED, "after step 5");
    FAILS(run_ahead(&parts, 8), LCKV_ERROR_INTERRUPTED, "after step 9"); /* the step of the next evaluation */
    OK(run_ahead(&parts, 0));
    assert_int_equal(parts.story.count, 3);
    expect_same_checkpoint(&whole, &parts, "checkpoint-9");
    expect_same_checkpoint(&whole, &parts, "checkpoint-12");
}

static void a_step_that_has_begun_after_a_bad_one_is_harmless(void **state) {
    run t;
    begin(&t, state, "out");
    t.options.adam_epsilon = 0; /* 0 / 0 in the embeddings of ids that do not occur in a step */
    t.options.per_device_train_batch_size = 1;
    FAILS(run_ahead(&t, 0), LCKV_ERROR_NUMERIC, "step ");
    assert_true(t.story.count >= 1 && t.story.count < 12);
}

/* ---------------------------------------------------------------- which checkpoint is loaded */

static void damage(const run *t, const char *file) {
    char path[2 * PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", t->options.output_dir, file);
    FILE *stream = fopen(path, "r+b");
    assert_non_null(stream);
    fseek(stream, -3, SEEK_END);
    int byte = fgetc(stream);
    fseek(stream, -3, SEEK_END);
    fputc(byte ^ 4, stream);
    fclose(stream);
}

static void damaged_checkpoints_are_named_and_passed_over(void **state) {
    run whole, t;
    begin(&whole, state, "whole");
    t = whole;
    OK(run_go(&whole));
    use_output(&t, "out");
    FAILS(stop_and_go_on(&t, 10), LCKV_ERROR_INTERRUPTED, "");
    damage(&t, "checkpoint-10/model.safetensors");
    damage(&t, "checkpoint-9/training_state.json");
    OK(run_go(&t));
    WARNED_OF("checkpoint-10/model.safetensors' is damaged");
    WARNED_OF("checkpoint-9/training_state.json' is damaged");
    assert_int_equal(t.summary.first_step, 6);
    expect_same_checkpoint(&whole, &t, "checkpoint-9");
    expect_same_checkpoint(&whole, &t, "checkpoint-12");
    assert_false(folder_exists(in(t.folder, "out/checkpoint-10"))); /* superseded */
    const char *const all[] = {"3", "6", "9", "12"};
    for (int i = 0; i < 4; i++) {
        char file[64];
        snprintf(file, sizeof file, "checkpoint-%s/checksums.json", all[i]);
        damage(&t, file);
    }
    FAILS(run_go(&t), LCKV_ERROR_FORMAT, "every checkpoint");
    t.options.resume_from_checkpoint = in(t.folder, "out/checkpoint-3");
    FAILS(run_go(&t), LCKV_ERROR_FORMAT, "checkpoint-3");
    t.options.resume_from_checkpoint = t.folder->path;
    FAILS(run_go(&t), LCKV_ERROR_FILE, "is not a checkpoint of a run: it has no checksums.json");
}

static void half_a_checkpoint_is_never_taken(void **state) {
    run t;
    begin(&t, state, "out");
    FAILS(stop_and_go_on(&t, 7), LCKV_ERROR_INTERRUPTED, "");
    OK(folder_move(in(t.folder, "out/checkpoint-7"), in(t.folder, "out/checkpoint-7.partial")));
    OK(run_go(&t));
    assert_int_equal(t.summary.first_step, 6);
    assert_false(folder_exists(in(t.folder, "out/checkpoint-7.partial")));
}

static void an_asked_for_checkpoint_is_taken(void **state) {
    run t, other;
    begin(&t, state, "out");
    t.options.resume_from_checkpoint = "True";
    FAILS(run_go(&t), LCKV_ERROR_FILE, "no checkpoint");
    t.options.resume_from_checkpoint = NULL;
    OK(run_go(&t));
    other = t;
    use_output(&other, "other");
    other.options.resume_from_checkpoint = in(t.folder, "out/checkpoint-6");
    OK(run_go(&other));
    assert_int_equal(other.summary.first_step, 6);
    expect_same_checkpoint(&t, &other, "checkpoint-12");
    t.options.resume_from_checkpoint = in(t.folder, "out/checkpoint-3");
    OK(run_go(&t)); /* resume from an earlier checkpoint, which supersedes the later ones */
    assert_int_equal(t.summary.first_step, 3);
    expect_same_checkpoint(&other, &t, "checkpoint-12");
    t.options.config_overrides = "hidden_size=32";
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "another model");
}

static void one_run_at_a_time_writes_into_a_folder(void **state) {
    run t;
    lckv_trainer *first;
    begin(&t, state, "out");
    OK(lckv_trainer_create(&t.options, &first));
    FAILS(run_go(&t), LCKV_ERROR_FILE, "another run");
    lckv_trainer_free(first);
    assert_false(output_has(&t, "run.lock"));
    OK(run_go(&t));
    assert_false(output_has(&t, "run.lock"));
}

/* ---------------------------------------------------------------- deleting checkpoints */

static int count_checkpoints(const run *t) {
    int count = 0;
    DIR *place = opendir(t->options.output_dir);
    for (struct dirent *e; (e = readdir(place));) count += !strncmp(e->d_name, "checkpoint-", 11);
    closedir(place);
    return count;
}

static void overwriting_deletes_nothing_before_its_first_checkpoint(void **state) {
    run old, new;
    begin(&old, state, "out");
    OK(run_go(&old));
    assert_int_equal(count_checkpoints(&old), 4);
    new = old;
    new.options.overwrite_output_dir = true;
    new.options.learning_rate = NAN; /* refused */
    FAILS(run_go(&new), LCKV_ERROR_ARGUMENT, "learning_rate");
    new.options.learning_rate = 0.5;
    new.options.save_strategy = LCKV_INTERVAL_NO;
    new.options.max_steps = 2;
    OK(run_go(&new)); /* has none itself */
    assert_int_equal(count_checkpoints(&old), 4);
    new.options.save_strategy = LCKV_INTERVAL_STEPS;
    OK(run_go(&new));
    assert_int_equal(count_checkpoints(&new), 1);
    assert_true(folder_exists(in(new.folder, "out/checkpoint-2")));
}

static void a_limit_keeps_the_newest_and_the_best(void **state) {
    run t;
    begin(&t, state, "newest");
    t.options.save_total_limit = 2;
    OK(run_go(&t));
    assert_int_equal(count_checkpoints(&t), 2);
    assert_true(folder_exists(in(t.folder, "newest/checkpoint-9")));
    assert_true(folder_exists(in(t.folder, "newest/checkpoint-12")));
}

/* Improves for a few steps, until the learning rate is far too high. */
static void ruin(run *t) {
    validate(t);
    t->options.lr_scheduler_type = LCKV_SCHEDULE_LINEAR;
    t->options.warmup_steps = 1000;
    t->options.learning_rate = 120; /* 0.12 more per step */
    t->options.max_grad_norm = 0;
    t->options.eval_strategy = t->options.save_strategy = LCKV_INTERVAL_STEPS;
    t->options.eval_steps = t->options.save_steps = 1;
    t->options.max_steps = 16;
    t->options.load_best_model_at_end = true;
}

static double loss_of(run *t, const char *place) {
    run alone = *t;
    alone.options = lckv_train_defaults();
    alone.options.do_train = false;
    alone.options.model_name_or_path = in(t->folder, place);
    alone.options.validation_files = &t->validation;
    alone.options.validation_file_count = 1;
    alone.options.block_size = 16;
    alone.options.threads = 1;
    alone.options.device = "cpu";
    alone.options.output_dir = in(t->folder, "evaluated");
    OK(run_go(&alone));
    assert_int_equal(alone.story.count, 0);
    return alone.result.eval_loss;
}

static void the_best_model_is_taken_and_patience_ends_a_run(void **state) {
    run t;
    begin(&t, state, "out");
    ruin(&t);
    OK(run_go(&t));
    double best = INFINITY;
    int at = 0;
    for (int step = 1; step <= 16; step++) {
        char place[64];
        snprintf(place, sizeof place, "out/checkpoint-%d", step);
        double loss = loss_of(&t, place);
        if (loss < best) best = loss, at = step;
    }
    if (at <= 1 || at >= 13) fail_msg("the best of 16 steps is %d: nothing was ruined", at);
    assert_true(t.result.eval_loss == best && loss_of(&t, "out") == best);

    run patient = t;
    use_output(&patient, "patient");
    patient.options.early_stopping_patience = 3;
    patient.options.save_total_limit = 1;
    OK(run_go(&patient));
    assert_true(patient.result.eval_loss == best);
    assert_int_equal(patient.result.steps, at + 3);
    assert_int_equal(count_checkpoints(&patient), 2); /* the best and the newest */
    OK(run_go(&patient));                             /* early stopping still applies */
    assert_int_equal(patient.story.count, 0);
    assert_true(patient.result.eval_loss == best);
}

/* ---------------------------------------------------------------- failures */

/* Simulates a full disk by a limit on file sizes, which is set after a step and removed later. */
typedef struct small_disk {
    int64_t from, to;
    int steps;
} small_disk;

static bool fill_disk(void *user, const lckv_train_progress *p) {
    small_disk *s = user;
    struct rlimit limit;
    if (p->phase != LCKV_TRAIN_STEPPING) return true;
    s->steps++;
    getrlimit(RLIMIT_FSIZE, &limit);
    if (p->step == s->from) limit.rlim_cur = 12000;
    if (p->step == s->to) limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
    return true;
}

static void a_full_disk_keeps_the_run_going(void **state) {
    run t, whole;
    lckv_trainer *trainer;
    small_disk disk = {.from = 4, .to = 10};
    signal(SIGXFSZ, SIG_IGN);
    begin(&whole, state, "whole");
    OK(run_go(&whole));
    begin(&t, state, "out");
    t.options.callback = fill_disk;
    t.options.user = &disk;
    OK(lckv_trainer_create(&t.options, &trainer));
    OK(lckv_trainer_run(trainer, &t.result));
    lckv_trainer_free(trainer);
    assert_int_equal(disk.steps, 12);
    WARNED_OF("no checkpoint of step 6: cannot write");
    WARNED_OF("no checkpoint of step 9: cannot write");
    WARNED_OF("the newest checkpoint is checkpoint-3");
    assert_int_equal(count_checkpoints(&t), 2);
    expect_same_checkpoint(&whole, &t, "checkpoint-12");
    signal(SIGXFSZ, SIG_DFL);
}

/* Sets a NaN in the gradient that the next step accumulates to. */
typedef struct poison {
    lckv_trainer *trainer;
    int64_t after[4]; /* steps */
    int skipped;
} poison;

static bool poison_gradient(void *user, const lckv_train_progress *p) {
    poison *s = user;
    if (p->phase != LCKV_TRAIN_STEPPING) return true;
    s->skipped += p->skipped;
    for (int i = 0; i < 4; i++)
        if (p->step == s->after[i]) *(float *)s->trainer->model->params->table[1].tensor.grad.data = NAN;
    return true;
}

static void steps_that_are_not_finite_are_skipped_up_to_a_limit(void **state) {
    for (int64_t limit = 2; limit >= 1; limit--) {
        run t;
        poison p = {.after = {4, 7}};
        begin(&t, state, limit == 2 ? "two" : "one");
        t.options.max_skipped_steps = limit;
        t.options.callback = poison_gradient;
        t.options.user = &p;
        OK(lckv_trainer_create(&t.options, &p.trainer));
        if (limit == 2) {
            OK(lckv_trainer_run(p.trainer, &t.result));
            assert_int_equal(t.result.skipped_steps, 2);
            assert_int_equal(p.skipped, 2);
            assert_true(isfinite(t.result.train_loss));
            WARNED_OF("step 5: skipped");
            WARNED_OF("(2 of at most 2)");
            safetensors_file weights;
            open_weights(&t, &weights);
            float first;
            memcpy(&first, weights.entries[0].data, sizeof first);
            assert_true(isfinite(first));
            safetensors_close(&weights);
        } else {
            FAILS(lckv_trainer_run(p.trainer, &t.result), LCKV_ERROR_NUMERIC, "step 8:");
            assert_non_null(strstr(lckv_last_error(), "checkpoint-6"));
        }
        lckv_trainer_free(p.trainer);
    }
}

static void long_gradients_are_skipped_where_asked_for(void **state) {
    run t, all;
    begin(&all, state, "all");
    OK(run_go(&all));
    double first = all.story.steps[0].grad_norm;
    begin(&t, state, "out");
    t.options.skip_grad_norm = first * 0.999999;
    OK(run_go(&t));
    assert_true(t.story.steps[0].skipped && t.story.steps[0].grad_norm == first);
    assert_int_equal(t.result.skipped_steps, 0); /* counts only steps that are not finite */
    WARNED_OF("above skip_grad_norm");
    int skipped = 0;
    double losses = 0;
    for (int i = 0; i < t.story.count; i++) {
        losses += t.story.steps[i].skipped ? 0 : t.story.steps[i].loss;
        assert_true(t.story.steps[i].skipped == (t.story.steps[i].grad_norm > (double)(float)(first * 0.999999)));
        skipped += t.story.steps[i].skipped;
    }
    assert_true(skipped >= 1 && skipped < 12);
    assert_true(fabs(t.result.train_loss - losses / (12 - skipped)) < 1e-12); /* of the steps that were not skipped */
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, test_begin, test_end)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(a_run_that_was_stopped_ends_with_the_same_bytes),
        CASE(a_log_goes_on_where_the_checkpoint_was),
        CASE(max_steps_may_grow),
        CASE(results_that_are_read_a_step_late_change_nothing),
        CASE(a_step_that_has_begun_after_a_bad_one_is_harmless),
        CASE(other_threads_are_said_in_one_line),
        CASE(another_seed_is_not_called_rounding),
        CASE(damaged_checkpoints_are_named_and_passed_over),
        CASE(half_a_checkpoint_is_never_taken),
        CASE(an_asked_for_checkpoint_is_taken),
        CASE(one_run_at_a_time_writes_into_a_folder),
        CASE(overwriting_deletes_nothing_before_its_first_checkpoint),
        CASE(a_limit_keeps_the_newest_and_the_best),
        CASE(the_best_model_is_taken_and_patience_ends_a_run),
        CASE(a_full_disk_keeps_the_run_going),
        CASE(steps_that_are_not_finite_are_skipped_up_to_a_limit),
        CASE(long_gradients_are_skipped_where_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
