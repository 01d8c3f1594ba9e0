/* The initial model of a run: a plain checkpoint that is converted to another config, and the sequential form. */
#include "train_run_fixture.h"

/* A plain model of RUN_CONFIG's sizes, written to the test's folder `plain` after a few steps. */
static const char *write_plain(void **state) {
    run t;
    run_begin(&t, state);
    use_output(&t, "plain");
    t.options.config_overrides = "layer_types=0_1_2_3";
    OK(run_go(&t));
    return t.options.output_dir;
}

/* One step with learning rate 0: the written model is the initial one. */
static void warm_start(run *t, void **state, const char *plain, lckv_convert_kv kv) {
    run_begin(t, state);
    use_output(t, "warm");
    t->options.model_name_or_path = plain;
    t->options.kv = kv;
    t->options.learning_rate = 0;
    t->options.max_steps = 1;
    t->options.overwrite_output_dir = true;
    OK(run_go(t));
}

/* Runs lckv_convert() into the test's folder `name`, for comparison. */
static run convert(void **state, const char *plain, const char *config, lckv_convert_kv kv, const char *name) {
    run t = {.folder = *state};
    use_output(&t, name);
    lckv_convert_options options = {.struct_size = sizeof options,
                                    .model_name_or_path = plain,
                                    .config_name = config,
                                    .kv = kv,
                                    .output_dir = t.options.output_dir};
    OK(lckv_convert(&options));
    return t;
}

static void a_plain_checkpoint_becomes_the_model_that_convert_makes(void **state) {
    const char *plain = write_plain(state);
    run warm;
    warm_start(&warm, state, plain, LCKV_KV_AVERAGE);
    run averaged = convert(state, plain, warm.options.config_name, LCKV_KV_AVERAGE, "averaged");
    assert_true(weights_differ(&warm, &averaged) == 0);
    warm_start(&warm, state, plain, LCKV_KV_COPY);
    run copied = convert(state, plain, warm.options.config_name, LCKV_KV_COPY, "copied");
    assert_true(weights_differ(&warm, &copied) == 0);
    assert_true(weights_differ(&averaged, &copied) > 0);
}

static void a_checkpoint_of_other_sizes_is_refused(void **state) {
    run t;
    const char *plain = write_plain(state);
    run_begin(&t, state);
    use_output(&t, "warm");
    t.options.model_name_or_path = plain;
    t.options.config_overrides = "hidden_size=32";
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "hidden_size 32");
}

/* The flag is part of the config of the written model. */
static void the_exact_form_is_asked_for_by_flag_or_config(void **state) {
    run flag, config;
    char *text, *path;
    size_t bytes;
    run_begin(&flag, state);
    flag.options.loop_form = LCKV_LOOP_SEQUENTIAL;
    OK(run_go(&flag));
    run_begin(&config, state);
    use_output(&config, "config");
    config.options.config_overrides = "use_sequential=true";
    OK(run_go(&config));
    assert_true(weights_differ(&flag, &config) == 0);
    OK(path_join(flag.options.output_dir, "config.json", &path));
    OK(file_read(path, &text, &bytes));
    assert_non_null(strstr(text, "\"use_sequential\": true"));
    free(text);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_plain_checkpoint_becomes_the_model_that_convert_makes),
        IN_FOLDER(a_checkpoint_of_other_sizes_is_refused),
        IN_FOLDER(the_exact_form_is_asked_for_by_flag_or_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
