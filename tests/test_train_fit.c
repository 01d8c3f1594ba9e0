/* The memory check before a run: batches that do not fit are rejected, and auto_find_batch_size finds one that fits. */
#include "train/trainer.h"

#include "train_run_fixture.h"

/* A model whose activations are larger than the minimum size of a memory pool. */
static const char WIDE[] = "hidden_size=64,intermediate_size=128,max_position_embeddings=256";
enum { LENGTH = 128, ROWS = 64 };

static void begin(run *t, void **state) {
    run_begin(t, state);
    t->train = write_ids(t->folder, "long.jsonl", ROWS, LENGTH);
    t->options.config_overrides = WIDE;
    t->options.block_size = LENGTH;
    t->options.per_device_train_batch_size = 6;
    t->options.gradient_accumulation_steps = 2;
    t->options.max_steps = 2;
}

/* Bytes needed for a batch size, with the 5 % overhead. */
static int64_t needed(const run *t, int64_t batch_size) {
    lckv_config *c;
    lckv_memory m;
    const lckv_training_shape shape = {.struct_size = sizeof shape, .batch_size = batch_size, .block_size = LENGTH};
    OK(lckv_config_load(t->options.config_name, WIDE, &c));
    OK(lckv_memory_for_training(c, &shape, &m));
    lckv_config_free(c);
    return (int64_t)(1.05 * (double)m.total) + 1;
}

static void what_does_not_fit_is_refused_before_anything_is_written(void **state) {
    run t;
    begin(&t, state);
    t.options.memory_limit = needed(&t, 6) - 1000;
    FAILS(run_go(&t), LCKV_ERROR_MEMORY, "training with micro-batches of 6 blocks of 128 tokens needs ");
    assert_non_null(strstr(lckv_last_error(), " MiB, 0.00 MiB more than the "));
    assert_false(output_has(&t, "."));
    t.options.memory_limit = needed(&t, 6);
    OK(run_go(&t));
}

/* A step has 12 blocks; the largest micro-batch that fits is a divisor of it. */
static void the_largest_batch_that_fits_is_found(void **state) {
    static const int64_t room_for[][2] = {{12, 12}, {11, 6}, {5, 4}, {3, 3}, {1, 1}};
    run t;
    begin(&t, state);
    t.options.auto_find_batch_size = true;
    for (int i = 0; i < 5; i++) {
        lckv_trainer *trainer;
        t.options.memory_limit = needed(&t, room_for[i][0]);
        OK(lckv_trainer_create(&t.options, &trainer));
        assert_int_equal(trainer->batch_size, room_for[i][1]);
        assert_int_equal(trainer->stepper->batch_size, room_for[i][1]);
        assert_int_equal(trainer->examples_per_step, 12);
        lckv_trainer_free(trainer);
    }
    t.options.memory_limit = needed(&t, 1) - 1000;
    FAILS(run_go(&t), LCKV_ERROR_MEMORY, "training with micro-batches of 1 block of 128 tokens");
}

/* The number of batch sizes that are tried grows with what fits, not with the blocks of a step. */
static void huge_steps(void **state) {
    run t;
    lckv_trainer *trainer;
    begin(&t, state);
    t.options.auto_find_batch_size = true;
    t.options.per_device_train_batch_size = INT32_MAX;
    t.options.gradient_accumulation_steps = 1 << 30;
    t.options.memory_limit = needed(&t, 5);
    OK(lckv_trainer_create(&t.options, &trainer)); /* 2^31 - 1 is prime */
    assert_int_equal(trainer->batch_size, 4);
    lckv_trainer_free(trainer);
}

static void checkpointing_makes_room(void **state) {
    run t;
    begin(&t, state);
    t.options.memory_limit = needed(&t, 6) - 1000;
    t.options.gradient_checkpointing = true;
    OK(run_go(&t));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(what_does_not_fit_is_refused_before_anything_is_written),
        IN_FOLDER(the_largest_batch_that_fits_is_found),
        IN_FOLDER(huge_steps),
        IN_FOLDER(checkpointing_makes_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
