/* Warnings and errors at limits: blocks longer than the model, unsupported dropout, and a damaged best checkpoint. */
#include "train/checkpoint/checkpoint.h"
#include "train/trainer.h"

#include "log_capture.h"
#include "train_run_fixture.h"

static int test_begin(void **state) {
    capture_log(LCKV_LOG_INFO);
    return folder_open(state);
}

static int test_end(void **state) {
    end_capture();
    return folder_close(state);
}

/* As run_clm.py does it. */
static void blocks_end_where_the_model_does(void **state) {
    run t;
    lckv_trainer *trainer;
    run_begin(&t, state);
    t.options.block_size = 65;
    OK(lckv_trainer_create(&t.options, &trainer));
    assert_int_equal(trainer->train->block_size, 64);
    assert_non_null(
        strstr(logged, "block_size 65 is more than the model's 64 positions (max_position_embeddings): using 64"));
    lckv_trainer_free(trainer);
    logged[0] = '\0';
    t.options.block_size = 64;
    t.options.overwrite_output_dir = true;
    OK(lckv_trainer_create(&t.options, &trainer));
    assert_int_equal(trainer->train->block_size, 64);
    assert_null(strstr(logged, "block_size"));
    lckv_trainer_free(trainer);
}

static void dropout_is_warned_of(void **state) {
    run t;
    run_begin(&t, state);
    t.options.config_overrides = "attention_dropout=0.25";
    t.options.max_steps = 1;
    OK(run_go(&t));
    assert_non_null(strstr(logged, "has attention_dropout 0.25: lckv trains without it"));
    logged[0] = '\0';
    use_output(&t, "without");
    t.options.config_overrides = "attention_dropout=0";
    OK(run_go(&t));
    assert_null(strstr(logged, "attention_dropout"));
}

static void a_warmup_longer_than_the_run_is_warned_of(void **state) {
    run t;
    run_begin(&t, state);
    t.options.max_steps = 4;
    t.options.learning_rate = 0.01;
    t.options.lr_scheduler_type = LCKV_SCHEDULE_COSINE;
    t.options.warmup_steps = 300;
    OK(run_go(&t));
    assert_non_null(strstr(logged,
                           "the warmup (300 steps) is as long as the run (4 steps) or longer: the learning rate "
                           "rises to 0.0001 of 0.01"));
    logged[0] = '\0';
    use_output(&t, "shorter");
    t.options.warmup_steps = 3;
    OK(run_go(&t));
    use_output(&t, "without");
    t.options.warmup_steps = 300;
    t.options.lr_scheduler_type = LCKV_SCHEDULE_CONSTANT;
    OK(run_go(&t));
    assert_null(strstr(logged, "warmup"));
}

/* Numbers of steps become doubles in schedules and intervals. */
static void numbers_of_steps_have_a_limit(void **state) {
    run t;
    lckv_trainer *trainer;
    run_begin(&t, state);
    int64_t *const options[] = {&t.options.max_steps, &t.options.logging_steps, &t.options.warmup_steps,
                                &t.options.num_decay_steps};
    t.options.lr_scheduler_type = LCKV_SCHEDULE_WARMUP_STABLE_DECAY;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        int64_t usual = *options[i];
        *options[i] = INT64_MAX;
        FAILS(lckv_trainer_create(&t.options, &trainer), LCKV_ERROR_ARGUMENT,
              "to 9007199254740992, found 9223372036854775807");
        *options[i] = INT64_C(1) << 53;
        OK(lckv_trainer_create(&t.options, &trainer));
        lckv_trainer_free(trainer);
        *options[i] = usual;
    }
}

/* ---------------------------------------------------------------- the best checkpoint */

static int zero(void *user, int index, element_range range, void *bytes) {
    (void)user, (void)index, (void)range;
    memset(bytes, 0, 4);
    return LCKV_OK;
}

/* Writes tensors with the names of the weights but without dimensions. */
static void write_scalars(const params *p, const char *path) {
    safetensors_item *items = calloc((size_t)p->count, sizeof *items);
    new_file file;
    assert_non_null(items);
    for (int i = 0; i < p->count; i++) items[i] = (safetensors_item){.name = p->table[i].name, .type = DTYPE_F32};
    OK(file_begin(path, &file));
    OK(safetensors_write(&file, items, p->count, zero, NULL));
    OK(file_commit(&file));
    free(items);
}

static lckv_trainer *running;

/* Step 8 is the best checkpoint; its weights are replaced by scalars before the run ends. */
static bool spoil(void *user, const lckv_train_progress *p) {
    const run *t = user;
    if (p->phase == LCKV_TRAIN_STEPPING && p->step == 10)
        write_scalars(running->model->params, in(t->folder, "out/checkpoint-8/model.safetensors"));
    return true;
}

static void a_best_checkpoint_that_is_lost_is_an_error(void **state) {
    run t;
    run_begin(&t, state);
    use_validation(&t, 5);
    t.options.max_steps = 10;
    t.options.eval_strategy = t.options.save_strategy = LCKV_INTERVAL_STEPS;
    t.options.eval_steps = t.options.save_steps = 4;
    t.options.load_best_model_at_end = true;
    t.options.callback = spoil;
    t.options.user = &t;
    OK(lckv_trainer_create(&t.options, &running));
    FAILS(lckv_trainer_run(running, &t.result), LCKV_ERROR_FORMAT, "should have the shape [37, 24]");
    assert_null(strstr(logged, "loaded the weights of step"));
    lckv_trainer_free(running);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(blocks_end_where_the_model_does, test_begin, test_end),
        cmocka_unit_test_setup_teardown(dropout_is_warned_of, test_begin, test_end),
        cmocka_unit_test_setup_teardown(a_warmup_longer_than_the_run_is_warned_of, test_begin, test_end),
        cmocka_unit_test_setup_teardown(numbers_of_steps_have_a_limit, test_begin, test_end),
        cmocka_unit_test_setup_teardown(a_best_checkpoint_that_is_lost_is_an_error, test_begin, test_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
