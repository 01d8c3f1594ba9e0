/* Result files of a run: the files and keys of transformers' Trainer (4.45), and a history that is the same for resumed
 * and uninterrupted runs. */
#include "base/text/json.h"

#include "train_run_fixture.h"

#include <ctype.h>
#include <sys/stat.h>

static json_t *read_json(const run *t, const char *name) {
    char *path;
    json_t *object;
    OK(path_join(t->options.output_dir, name, &path));
    OK(json_read_file(path, &object));
    free(path);
    return object;
}

static double number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value)) fail_msg("'%s' is no number", key);
    return json_number_value(value);
}

/* 12 blocks in steps of 5: an epoch is 3 steps, of which the last has 2. */
static void begin(run *t, void **state) {
    run_begin(t, state);
    use_validation(t, 5);
    t->options.per_device_train_batch_size = 5;
    t->options.per_device_eval_batch_size = 2;
    t->options.max_steps = 10;
    t->options.logging_steps = 2;
    t->options.eval_strategy = t->options.save_strategy = LCKV_INTERVAL_STEPS;
    t->options.eval_steps = t->options.save_steps = 4;
    t->options.load_best_model_at_end = true;
    t->options.command = "lckv train --bf16 'False'";
}

/* ---------------------------------------------------------------- trainer_state.json */

/* The fields of transformers.trainer_callback.TrainerState (4.45), whose load_from_json accepts no others. */
static const char *const STATE_KEYS[] = {"best_metric",
                                         "best_model_checkpoint",
                                         "epoch",
                                         "eval_steps",
                                         "global_step",
                                         "is_hyper_param_search",
                                         "is_local_process_zero",
                                         "is_world_process_zero",
                                         "log_history",
                                         "logging_steps",
                                         "max_steps",
                                         "num_input_tokens_seen",
                                         "num_train_epochs",
                                         "save_steps",
                                         "stateful_callbacks",
                                         "total_flos",
                                         "train_batch_size",
                                         "trial_name",
                                         "trial_params"};

static void expect_keys(const json_t *object, const char *const *keys, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!json_object_get(object, keys[i])) fail_msg("there is no '%s'", keys[i]);
    assert_int_equal(json_object_size(object), count);
}

static void a_state_has_the_keys_of_trainer_state(void **state) {
    run t;
    begin(&t, state);
    OK(run_go(&t));
    const char *const files[] = {"checkpoint-8/trainer_state.json", "trainer_state.json"};
    for (int i = 0; i < 2; i++) {
        json_t *found = read_json(&t, files[i]);
        expect_keys(found, STATE_KEYS, sizeof STATE_KEYS / sizeof *STATE_KEYS);
        assert_int_equal(number(found, "global_step"), i ? 10 : 8);
        assert_true(number(found, "epoch") == (i ? 3 + 5.0 / 12 : 2 + 10.0 / 12));
        assert_int_equal(number(found, "max_steps"), 10);
        assert_int_equal(number(found, "num_train_epochs"), 4);
        assert_int_equal(number(found, "train_batch_size"), 5);
        assert_int_equal(number(found, "num_input_tokens_seen"), (i ? 36 + 5 : 24 + 10) * 16);
        assert_int_equal(number(found, "logging_steps"), 2);
        assert_int_equal(number(found, "eval_steps"), 4);
        assert_int_equal(number(found, "save_steps"), 4);
        /* the cost of six products per weight and token, plus attention and iterations without gradient */
        assert_true(number(found, "total_flos") >
                    6.0 * (double)t.summary.parameters * number(found, "num_input_tokens_seen"));
        assert_true(json_is_true(json_object_get(found, "is_world_process_zero")));
        json_decref(found);
    }
}

static void a_history_has_logged_steps_and_evaluations(void **state) {
    run t;
    begin(&t, state);
    OK(run_go(&t));
    json_t *found = read_json(&t, "trainer_state.json"), *entry;
    const json_t *log = json_object_get(found, "log_history");
    const int steps[] = {2, 4, 4, 6, 8, 8, 10};
    const bool evaluations[] = {false, false, true, false, false, true, false};
    size_t i;
    json_array_foreach(log, i, entry) {
        if (i == 7) break;
        assert_int_equal(number(entry, "step"), steps[i]);
        if (evaluations[i]) {
            assert_true(isfinite(number(entry, "eval_loss")) && isfinite(number(entry, "eval_accuracy")));
            continue;
        }
        double mean = (t.story.steps[steps[i] - 2].loss + t.story.steps[steps[i] - 1].loss) / 2;
        assert_true(fabs(number(entry, "loss") - mean) < 1e-12);
        assert_true(number(entry, "grad_norm") == t.story.steps[steps[i] - 1].grad_norm);
        assert_true(number(entry, "learning_rate") == 0.01);
    }
    /* the best model was loaded, and evaluated again if it is not the last; then the training results */
    const json_t *last = json_array_get(log, json_array_size(log) - 1);
    assert_true(number(last, "train_loss") == t.result.train_loss);
    assert_int_equal(number(last, "step"), 10);
    double best = number(found, "best_metric"), four = number(json_array_get(log, 2), "eval_loss");
    double eight = number(json_array_get(log, 5), "eval_loss");
    assert_true(best <= four && best <= eight && best >= t.result.eval_loss);
    const char *named = json_string_value(json_object_get(found, "best_model_checkpoint"));
    assert_int_equal(strncmp(named, t.options.output_dir, strlen(t.options.output_dir)), 0);
    assert_true(folder_exists(named));
    json_decref(found);
}

static void a_run_that_was_stopped_tells_the_whole_story(void **state) {
    run whole, parts;
    begin(&whole, state);
    parts = whole;
    OK(run_go(&whole));
    use_output(&parts, "parts");
    parts.story.stop_after = 5;
    FAILS(run_go(&parts), LCKV_ERROR_INTERRUPTED, "");
    parts.story.stop_after = 0;
    OK(run_go(&parts));
    json_t *one = read_json(&whole, "trainer_state.json"), *two = read_json(&parts, "trainer_state.json");
    json_t *left = json_object_get(one, "log_history"), *right = json_object_get(two, "log_history");
    size_t count = json_array_size(left);
    assert_int_equal(json_array_size(right), count);
    for (size_t i = 0; i + 1 < count; i++) assert_true(json_equal(json_array_get(left, i), json_array_get(right, i)));
    json_decref(one);
    json_decref(two);
}

/* ---------------------------------------------------------------- results */

static void results_have_the_keys_of_run_clm(void **state) {
    const char *const training[] = {"epoch",
                                    "skipped_steps",
                                    "total_flos",
                                    "train_loss",
                                    "train_runtime",
                                    "train_samples",
                                    "train_samples_per_second",
                                    "train_steps_per_second",
                                    "train_tokens_per_second"};
    const char *const evaluation[] = {"epoch",
                                      "eval_accuracy",
                                      "eval_loss",
                                      "eval_runtime",
                                      "eval_samples",
                                      "eval_samples_per_second",
                                      "eval_steps_per_second",
                                      "perplexity"};
    run t;
    begin(&t, state);
    OK(run_go(&t));
    json_t *trained = read_json(&t, "train_results.json"), *evaluated = read_json(&t, "eval_results.json");
    json_t *all = read_json(&t, "all_results.json");
    expect_keys(trained, training, sizeof training / sizeof *training);
    expect_keys(evaluated, evaluation, sizeof evaluation / sizeof *evaluation);
    assert_true(number(trained, "train_loss") == t.result.train_loss);
    assert_int_equal(number(trained, "train_samples"), 12);
    double seconds = number(trained, "train_runtime");
    assert_true(fabs(number(trained, "train_steps_per_second") * seconds - 10) < 1e-6);
    assert_true(fabs(number(trained, "train_samples_per_second") * seconds - 41) < 1e-6);
    assert_true(number(evaluated, "eval_loss") == t.result.eval_loss);
    assert_true(number(evaluated, "eval_accuracy") == t.result.eval_accuracy);
    assert_true(number(evaluated, "perplexity") == t.result.perplexity);
    assert_int_equal(number(evaluated, "eval_samples"), 5);
    seconds = number(evaluated, "eval_runtime");
    assert_true(fabs(number(evaluated, "eval_steps_per_second") * seconds - 3) < 1e-6); /* 2, 2 and 1 */
    assert_true(json_object_update(trained, evaluated) == 0 && json_equal(trained, all));
    json_decref(trained);
    json_decref(evaluated);
    json_decref(all);
}

static void an_evaluation_alone_leaves_what_training_came_to(void **state) {
    run t;
    begin(&t, state);
    OK(run_go(&t));
    json_t *before = read_json(&t, "all_results.json");
    t.options.model_name_or_path = t.options.output_dir;
    t.options.config_name = NULL;
    t.options.do_train = t.options.load_best_model_at_end = false;
    t.options.eval_strategy = LCKV_INTERVAL_NO;
    t.options.validation_files = &t.train;
    OK(run_go(&t));
    json_t *after = read_json(&t, "all_results.json");
    assert_true(number(after, "train_loss") == number(before, "train_loss"));
    assert_int_equal(number(after, "eval_samples"), 12);
    json_decref(before);
    json_decref(after);
}

static char *read_text(const run *t, const char *name) {
    char *path, *text;
    size_t bytes;
    OK(path_join(t->options.output_dir, name, &path));
    OK(file_read(path, &text, &bytes));
    free(path);
    return text;
}

/* With evaluation, which runs again, and without; also after the results of training were deleted. */
static void a_command_that_has_nothing_to_do_leaves_what_was_done(void **state) {
    static const char *const FILES[] = {"train_results.json", "all_results.json", "trainer_state.json", "report.html"};
    enum { FILE_COUNT = 4 };
    for (int evaluates = 0; evaluates < 2; evaluates++) {
        run t;
        char *before[FILE_COUNT];
        begin(&t, state);
        use_output(&t, evaluates ? "evaluated" : "trained");
        if (!evaluates) {
            t.options.do_eval = t.options.load_best_model_at_end = false;
            t.options.eval_strategy = LCKV_INTERVAL_NO;
        }
        OK(run_go(&t));
        double loss = t.result.train_loss;
        assert_int_equal(t.result.new_steps, 10);
        assert_true(t.result.new_tokens == t.result.tokens && t.result.seconds > 0);
        for (int i = 0; i < FILE_COUNT; i++) before[i] = read_text(&t, FILES[i]);
        OK(run_go(&t));
        assert_int_equal(t.summary.first_step, 10);
        assert_int_equal(t.result.steps, 10);
        assert_true(t.result.train_loss == loss);
        assert_true(t.result.new_steps == 0 && t.result.new_tokens == 0 && t.result.seconds == 0);
        assert_true(isnan(t.result.tokens_per_second));
        for (int i = 0; i < FILE_COUNT; i++) {
            char *after = read_text(&t, FILES[i]);
            if (i == 0 || !evaluates) assert_string_equal(after, before[i]);
            free(after);
            free(before[i]);
        }
        json_t *all = read_json(&t, "all_results.json");
        assert_true(number(all, "train_runtime") > 0 && number(all, "train_tokens_per_second") > 0);
        json_decref(all);
        char *path;
        OK(path_join(t.options.output_dir, "train_results.json", &path));
        unlink(path);
        free(path);
        OK(run_go(&t)); /* unknown values are null */
        json_t *again = read_json(&t, "train_results.json");
        assert_true(number(again, "train_loss") == loss && number(again, "train_runtime") == 0);
        assert_true(json_is_null(json_object_get(again, "train_tokens_per_second")));
        assert_true(json_is_null(json_object_get(again, "train_steps_per_second")));
        json_decref(again);
    }
}

static void the_arguments_are_kept(void **state) {
    run t;
    begin(&t, state);
    OK(run_go(&t));
    json_t *found = read_json(&t, "training_args.json");
    assert_string_equal(json_string_value(json_object_get(found, "lckv_version")), lckv_version());
    assert_string_equal(json_string_value(json_object_get(found, "command")), "lckv train --bf16 'False'");
    assert_string_equal(json_string_value(json_object_get(found, "lr_scheduler_type")), "constant");
    assert_string_equal(json_string_value(json_object_get(found, "eval_strategy")), "steps");
    assert_string_equal(json_string_value(json_array_get(json_object_get(found, "train_files"), 0)), t.train);
    assert_true(json_is_null(json_object_get(found, "model_name_or_path")));
    assert_true(json_is_false(json_object_get(found, "bf16")));
    assert_true(json_is_true(json_object_get(found, "keep_linebreaks")));
    assert_int_equal(number(found, "max_steps"), 10);
    assert_true(number(found, "learning_rate") == 0.01);
    json_decref(found);
}

/* A path of a file system or an argument may have any bytes. */
static void arguments_may_be_other_than_utf8(void **state) {
    run t;
    begin(&t, state);
    t.options.run_name = "caf\xe9";
    OK(run_go(&t));
    json_t *found = read_json(&t, "training_args.json");
    assert_string_equal(json_string_value(json_object_get(found, "run_name")), "caf\xef\xbf\xbd");
    json_decref(found);
}

/* Options that are not in training_args.json, or under another name. */
static bool is_no_argument(const char *name) {
    const char *const names[] = {"struct_size", "callback", "user", "train_file_count", "validation_file_count"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) return true;
    return false;
}

/* `declaration` is "type a, *b": each name in it is a key. Returns how many. */
static int expect_names(char *declaration, const json_t *found) {
    int count = 0;
    for (char *part = strtok(declaration, ","); part; part = strtok(NULL, ",")) {
        char *name = part + strlen(part);
        while (name > part && (name[-1] == '_' || isalnum((unsigned char)name[-1]))) name--;
        if (!is_no_argument(name) && !json_object_get(found, name))
            fail_msg("training_args.json has no %s, which lckv_train_options has", name);
        count++;
    }
    return count;
}

static void remove_comments(char *text) {
    for (char *begin; (begin = strstr(text, "/*"));) {
        char *end = strstr(begin, "*/");
        assert_non_null(end);
        memset(begin, ' ', (size_t)(end + 2 - begin));
    }
}

static void no_option_is_forgotten(void **state) {
    run t;
    char *header, *at, *end;
    size_t bytes;
    int count = 0;
    begin(&t, state);
    OK(run_go(&t));
    json_t *found = read_json(&t, "training_args.json");
    OK(file_read(SOURCE_DIR "/include/lckv/training.h", &header, &bytes));
    remove_comments(header);
    at = strstr(header, "typedef struct lckv_train_options {");
    assert_non_null(at);
    *strstr(at, "} lckv_train_options;") = '\0';
    for (at = strchr(at, '{') + 1; (end = strchr(at, ';')); at = end + 1) {
        *end = '\0';
        count += expect_names(at, found);
    }
    assert_true(count > 40);
    free(header);
    json_decref(found);
}

/* ---------------------------------------------------------------- steps that were skipped */

/* A pipe in place of the log is not opened. */
static void a_log_that_is_no_file(void **state) {
    run t;
    char *path;
    begin(&t, state);
    t.options.overwrite_output_dir = true;
    OK(folder_create(t.options.output_dir));
    OK(path_join(t.options.output_dir, "train_log.jsonl", &path));
    assert_int_equal(mkfifo(path, 0666), 0);
    alarm(120);
    FAILS(run_go(&t), LCKV_ERROR_FILE, "train_log.jsonl' is not a regular file");
    alarm(0);
    free(path);
}

static void skipped_steps_are_logged_and_counted(void **state) {
    run t;
    char *path, *text;
    size_t bytes;
    begin(&t, state);
    t.options.load_best_model_at_end = false;
    t.options.skip_grad_norm = 1e-9;
    OK(run_go(&t));
    OK(path_join(t.options.output_dir, "train_log.jsonl", &path));
    OK(file_read(path, &text, &bytes));
    int skipped = 0, evaluations = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        skipped += strstr(line, "\"skipped\": true") != NULL;
        evaluations += strstr(line, "\"eval_loss\": ") != NULL;
    }
    assert_int_equal(skipped, 10);
    assert_int_equal(evaluations, 3); /* at 4, at 8, at the end */
    free(text);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_state_has_the_keys_of_trainer_state),
        IN_FOLDER(a_history_has_logged_steps_and_evaluations),
        IN_FOLDER(a_run_that_was_stopped_tells_the_whole_story),
        IN_FOLDER(results_have_the_keys_of_run_clm),
        IN_FOLDER(an_evaluation_alone_leaves_what_training_came_to),
        IN_FOLDER(a_command_that_has_nothing_to_do_leaves_what_was_done),
        IN_FOLDER(the_arguments_are_kept),
        IN_FOLDER(arguments_may_be_other_than_utf8),
        IN_FOLDER(no_option_is_forgotten),
        IN_FOLDER(a_log_that_is_no_file),
        IN_FOLDER(skipped_steps_are_logged_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
