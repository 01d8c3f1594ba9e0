/* Several processes: the program against one process, and failures, interruption and death of one of them. The
 * processes are started by mpirun; those tests are skipped if there is none or lckv was built without MPI. With the
 * argument --num_processes, lckv starts them itself, or with_ranks.sh does where they get different arguments. */
#include "ranks_fixture.h"

/* ---------------------------------------------------------------- the same training */

enum { STEPS = 100 };

/* 60 blocks in steps of 8: the last step of an epoch has 4. In f32 the gradient is the same sum in another order, with
 * roundings of 2^-24, and AdamW turns a rounding into a step of the learning rate times a ratio. How much these
 * differences grow in 100 steps depends on the model. With weights of transformers' initialization, one process with
 * other batch sizes differs from itself by 1e-8 of the loss, far below the tolerance of 1e-6. With the weights of the
 * other tests here, ten times as large, it differs by 9e-7, so that an error in the number of processes would not be
 * noticed. */
static void processes_equal_accumulation(void **state) {
    need_launcher();
    static const struct {
        int processes;
        const char *accumulation;
    } WAYS[] = {{1, "4"}, {2, "2"}, {4, "1"}};
    double losses[3][STEPS], evaluations[3];
    const folder *f = *state;
    for (int i = 0; i < 3; i++) {
        TRAIN(f, WAYS[i].processes, "out", "--per_device_train_batch_size", "2", "--gradient_accumulation_steps",
              WAYS[i].accumulation, "--learning_rate", "1e-3", "--max_steps", "100", "--validation_file",
              in(f, "data.jsonl"), "--config_overrides", "initializer_range=0.02");
        assert_int_equal(read_losses(f, "out", losses[i], STEPS), STEPS);
        evaluations[i] = printed(f, "eval_loss");
    }
    for (int i = 1; i < 3; i++) {
        for (int s = 0; s < STEPS; s++)
            if (!(fabs(losses[i][s] - losses[0][s]) <= 1e-6 * losses[0][s]))
                fail_msg("%d processes, step %d: loss %.9g, of one %.9g", WAYS[i].processes, s + 1, losses[i][s],
                         losses[0][s]);
        assert_true(fabs(evaluations[i] - evaluations[0]) <= 1e-6 * evaluations[0]);
    }
    assert_true(losses[0][STEPS - 1] < 0.9 * losses[0][0]); /* it has learned: the losses are worth comparing */
}

/* In the exact form, each process fills the slots of its share of a step. 16 tokens: 15 iterations before the recorded
 * ones are exact as well, with one rounding more. */
static void processes_train_exactly(void **state) {
    need_launcher();
    static const struct {
        int processes;
        const char *accumulation, *form, *overrides;
    } WAYS[] = {{1, "4", "plan", "forward_passes=15,initializer_range=0.02"},
                {1, "4", "exact", "initializer_range=0.02"},
                {2, "2", "exact", "initializer_range=0.02"}};
    double losses[3][10];
    const folder *f = *state;
    for (int i = 0; i < 3; i++) {
        TRAIN(f, WAYS[i].processes, "out", "--per_device_train_batch_size", "2", "--gradient_accumulation_steps",
              WAYS[i].accumulation, "--learning_rate", "1e-3", "--max_steps", "10", "--loop_form", WAYS[i].form,
              "--config_overrides", WAYS[i].overrides);
        assert_int_equal(read_losses(f, "out", losses[i], 10), 10);
    }
    for (int i = 1; i < 3; i++)
        for (int s = 0; s < 10; s++) assert_true(fabs(losses[i][s] - losses[0][s]) <= 1e-6 * losses[0][s]);
    assert_true(losses[0][9] < losses[0][0]);
}

/* A learned start is sharded, gathered and written like the other weights. */
static void processes_train_a_start(void **state) {
    need_launcher();
    static const struct {
        int processes;
        const char *accumulation, *output;
    } WAYS[] = {{1, "4", "one"}, {2, "2", "two"}};
    const folder *f = *state;
    safetensors_file files[2];
    for (int i = 0; i < 2; i++) {
        TRAIN(f, WAYS[i].processes, WAYS[i].output, "--per_device_train_batch_size", "2",
              "--gradient_accumulation_steps", WAYS[i].accumulation, "--learning_rate", "1e-3", "--max_steps", "10",
              "--loop_start", "--config_overrides", "initializer_range=0.02");
        char path[2 * PATH_BYTES];
        snprintf(path, sizeof path, "%s/loop_start.safetensors", in(f, WAYS[i].output));
        OK(safetensors_open(path, &files[i]));
    }
    assert_int_equal(files[0].count, files[1].count);
    for (int i = 0; i < files[0].count; i++)
        for (int64_t k = 0; k < files[0].entries[i].elements; k++) {
            float a, b;
            memcpy(&a, files[0].entries[i].data + 4 * k, sizeof a);
            memcpy(&b, files[1].entries[i].data + 4 * k, sizeof b);
            /* ten steps of 1e-3: a rounding may turn the sign of a gradient near 0 */
            if (!(fabsf(a - b) <= 2e-3f)) fail_msg("%s: %g and %g", files[0].entries[i].name, (double)a, (double)b);
        }
    for (int i = 0; i < 2; i++) safetensors_close(&files[i]);
}

/* Products in bf16: a sum in another order may round differently, by 2^-8 of an activation in a few places, and AdamW
 * turns its share of a gradient into a part of the learning rate per step. Weights that are swapped, or not updated,
 * are wrong by their own size of 0.2. */
static void masters_are_divided_and_saved_whole(void **state) {
    need_launcher();
    const folder *f = *state;
    const double STEP_BOUND = 0.25 * 20 * 1e-3, LOSS_BOUND = 1e-3;
    double one[20], three[20];
    int64_t fine = 0, all = 0;
    TRAIN(f, 1, "one", "--bf16", "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "3",
          "--learning_rate", "1e-3", "--max_steps", "20");
    TRAIN(f, 3, "three", "--bf16", "--per_device_train_batch_size", "2", "--learning_rate", "1e-3", "--max_steps",
          "20");
    assert_int_equal(read_losses(f, "one", one, 20), 20);
    assert_int_equal(read_losses(f, "three", three, 20), 20);
    for (int s = 0; s < 20; s++) assert_true(fabs(three[s] - one[s]) <= LOSS_BOUND * one[s]);
    safetensors_file a = weights_of(f, "one"), b = weights_of(f, "three");
    assert_int_equal(a.count, b.count);
    for (int i = 0; i < a.count; i++) {
        for (int64_t k = 0; k < a.entries[i].elements; k++) {
            float x, y;
            uint32_t bits;
            memcpy(&x, a.entries[i].data + k * 4, 4);
            memcpy(&y, b.entries[i].data + k * 4, 4);
            memcpy(&bits, &y, 4);
            assert_true(fabs((double)x - (double)y) <= STEP_BOUND);
            fine += (bits & 0xffff) != 0;
            all++;
        }
    }
    assert_true(fine > all / 2); /* master weights, not rounded to bf16 */
    safetensors_close(&a);
    safetensors_close(&b);
}

/* The rounding of bf16 weights depends on seed, step and index in the model, not on the shard. What remains are sums in
 * another order, as above; if they change the direction of a rounding, one weight among many differs by 2^-8 of itself.
 * Three processes give the same result twice. */
static void bf16_weights_round_alike_in_all_processes(void **state) {
    need_launcher();
    const folder *f = *state;
    const double LOSS_BOUND = 1e-3;
    static const struct {
        const char *output, *accumulation;
        int processes;
    } RUNS[] = {{"one", "3", 1}, {"three", "1", 3}, {"again", "1", 3}};
    double losses[3][20];
    for (int i = 0; i < 3; i++) {
        TRAIN(f, RUNS[i].processes, RUNS[i].output, "--bf16", "--torch_dtype", "bfloat16",
              "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", RUNS[i].accumulation,
              "--learning_rate", "1e-3", "--max_steps", "20");
        assert_int_equal(read_losses(f, RUNS[i].output, losses[i], 20), 20);
    }
    for (int s = 0; s < 20; s++) assert_true(fabs(losses[1][s] - losses[0][s]) <= LOSS_BOUND * losses[0][s]);
    assert_memory_equal(losses[1], losses[2], sizeof losses[1]);
    safetensors_file a = weights_of(f, "one"), b = weights_of(f, "three"), c = weights_of(f, "again");
    int64_t same = 0, all = 0;
    for (int i = 0; i < a.count; i++) {
        size_t bytes = (size_t)a.entries[i].elements * 2;
        assert_memory_equal(b.entries[i].data, c.entries[i].data, bytes);
        for (size_t k = 0; k < bytes; k += 2) same += !memcmp(a.entries[i].data + k, b.entries[i].data + k, 2);
        all += a.entries[i].elements;
    }
    assert_true(same > 0.9 * (double)all); /* rounded by other random numbers, most would differ */
    safetensors_close(&a);
    safetensors_close(&b);
    safetensors_close(&c);
}

/* ---------------------------------------------------------------- ends of a run */

/* The second process gets a file that does not exist; the first one reports its error. */
static void a_failure_of_one_is_that_of_all(void **state) {
    need_launcher();
    const folder *f = *state;
    put_text(in(f, "start.sh"),
             "[ ${OMPI_COMM_WORLD_RANK:-$RANK} = 1 ] && set -- \"$@\" --train_file absent.jsonl\nexec \"$@\"\n");
    pid_t child = train(f, 2, "out", in(f, "start.sh"), (const char *const[]){"--max_steps", "3", NULL});
    assert_int_equal(program_wait(child), 1);
    contains(f, "process 1 of 2: ", 1);
    contains(f, "absent.jsonl", 1);
    contains(f, "lckv train:", 1);
}

static void what_stops_one_stops_all(void **state) {
    need_launcher();
    need_proc();
    const folder *f = *state;
    pid_t job = train_on_and_on(f, 2, "1", "600");
    assert_int_equal(kill(child_of(job), SIGINT), 0);
    assert_int_equal(program_wait(job), 130); /* long before the run is complete */
    contains(f, "interrupted", 1);
}

/* Signals to the program that started the processes reach all of them, more than once if they come more than once. */
static void signals_are_passed_on(void **state) {
    static const int SIGNALS[] = {SIGINT, SIGTERM, SIGUSR1};
    const folder *f = *state;
    if (!by_lckv) SKIP("mpirun has its own way");
    for (int i = 0; i < 3; i++) {
        pid_t job = train_on_and_on(f, 2, "1", "600");
        assert_int_equal(kill(job, SIGNALS[i]), 0);
        if (SIGNALS[i] == SIGTERM) kill(job, SIGTERM);
        assert_int_equal(program_wait(job), 128 + SIGNALS[i]);
        if (SIGNALS[i] != SIGTERM) contains(f, "interrupted", 1); /* the second one may come before the message */
    }
}

/* The parent's end ends the processes, too. */
static void processes_do_not_outlive_their_parent(void **state) {
    need_proc();
    const folder *f = *state;
    if (!by_lckv) SKIP("mpirun has its own way");
    pid_t job = train_on_and_on(f, 2, "1", "600"), child = child_of(job);
    assert_int_equal(kill(job, SIGKILL), 0);
    assert_int_equal(program_wait(job), 128 + SIGKILL);
    for (int i = 0; i < 1000 && !kill(child, 0); i++) usleep(10000);
    assert_true(kill(child, 0) && errno == ESRCH);
}

/* A process that hangs is found out by the others, and stopped by the parent. */
static void a_process_that_hangs_ends_the_job(void **state) {
    need_proc();
    const folder *f = *state;
    if (!by_lckv) SKIP("MPI has no time limit");
    pid_t job = train_on_and_on(f, 2, "1", "6");
    assert_int_equal(kill(child_of(job), SIGSTOP), 0);
    double stopped = clock_seconds();
    assert_int_equal(program_wait(job), 1);
    assert_true(clock_seconds() - stopped < 60);
    contains(f, "lckv train: process 1 of 2 has not answered for 6 s (ddp_timeout)", 1);
    assert_true(newest_checkpoint(f) > 0);
}

static void a_process_that_dies_takes_the_job_down(void **state) {
    need_launcher();
    need_proc();
    const folder *f = *state;
    pid_t job = train_on_and_on(f, 2, "1", "600");
    assert_int_equal(kill(child_of(job), SIGKILL), 0);
    double killed = clock_seconds();
    int code = program_wait(job);
    assert_true(code != 0);
    if (by_lckv) {
        assert_int_equal(code, 128 + SIGKILL);
        assert_true(clock_seconds() - killed < 10);
        contains(f, "lckv train: process 1 of 2 is lost", 1);
        contains(f, "lckv train: process 1 of 2 was killed by signal 9", 1);
    }
    /* the checkpoint is intact, and three processes resume from a checkpoint of two */
    char to_do[32], going_on[96];
    long step = newest_checkpoint(f);
    snprintf(to_do, sizeof to_do, "%ld", step + 2);
    snprintf(going_on, sizeof going_on, "checkpoint-%ld', step %ld of %ld", step, step, step + 2);
    TRAIN(f, 3, "out", "--resume_from_checkpoint", "True", "--max_steps", to_do, "--per_device_train_batch_size", "1");
    contains(f, going_on, 1);
    contains(f, "processes 2 (now 3)", 1);
    assert_true(newest_checkpoint(f) == step + 2);
}

/* The written model is that of the best checkpoint, also with sharded f32 master weights. */
static void the_best_model_is_taken_by_all(void **state) {
    need_launcher();
    const folder *f = *state;
    TRAIN(f, 2, "out", "--bf16", "--per_device_train_batch_size", "4", "--learning_rate", "0.5", "--warmup_steps", "3",
          "--max_steps", "6", "--validation_file", in(f, "data.jsonl"), "--eval_strategy", "steps", "--eval_steps", "1",
          "--save_steps", "1", "--load_best_model_at_end");
    contains(f, "loaded the weights of step ", 1);
    char best[64];
    json_t *state_of_run;
    OK(json_read_file(in(f, "out/checkpoint-6/training_state.json"), &state_of_run));
    json_t *evaluation = json_object_get(state_of_run, "evaluation");
    snprintf(best, sizeof best, "out/checkpoint-%d", (int)log_number(evaluation, "best_step"));
    json_decref(state_of_run);
    safetensors_file a = weights_of(f, best), b = weights_of(f, "out");
    assert_int_equal(a.count, b.count);
    for (int i = 0; i < a.count; i++) {
        assert_int_equal(a.entries[i].bytes, b.entries[i].bytes);
        assert_memory_equal(a.entries[i].data, b.entries[i].data, a.entries[i].bytes);
    }
    safetensors_close(&a);
    safetensors_close(&b);
}

/* Wrong variables are errors before any work. */
static void wrong_variables_are_refused(void **state) {
    static const struct {
        const char *name, *value, *error;
        int code;
    } CASES[] = {{"WORLD_SIZE", "2", "WORLD_SIZE is \"2\", but RANK is not set", 1},
                 {"RANK", "1", "WORLD_SIZE is not set", 1},
                 {"SLURM_PROCID", "0", "SLURM_NTASKS is not set", 1}};
    const folder *f = *state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        setenv(CASES[i].name, CASES[i].value, 1);
        REFUSES(f, CASES[i].code, CASES[i].error, "train", "--config_name", in(f, "tiny.json"), "--train_file",
                in(f, "data.jsonl"), "--output_dir", in(f, "out"), "--num_processes", "2");
        unsetenv(CASES[i].name);
        assert_false(folder_exists(in(f, "out")));
    }
}

static void another_number_than_the_launchers_is_refused(void **state) {
    const folder *f = *state;
    if (!by_lckv) SKIP("mpirun sets other variables");
    put_text(in(f, "start.sh"), "exec \"$@\"\n");
    pid_t child = train(f, 2, "out", in(f, "start.sh"), (const char *const[]){"--num_processes", "3", NULL});
    assert_int_equal(program_wait(child), 2);
    contains(f, "lckv train: --num_processes is 3, but the launcher started 2", 1);
    assert_false(folder_exists(in(f, "out")));
}

/* Environments of a process that is one of two, while MPI does not find the other or is not built in. */
static void nobody_trains_alone_who_should_not(void **state) {
    const folder *f = *state;
    setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
    outcome o = RUN(f, "train", "--config_name", in(f, "tiny.json"), "--train_file", in(f, "data.jsonl"),
                    "--output_dir", in(f, "out"));
    unsetenv("OMPI_COMM_WORLD_SIZE");
    assert_int_equal(o.code, 1);
    bool told = strstr(o.messages, "built without MPI") || strstr(o.messages, "but MPI finds 1");
    if (!told) fail_msg("'%s' does not say what is wrong", o.messages);
    assert_false(folder_exists(in(f, "out")));
    outcome_free(&o);
}

/* ---------------------------------------------------------------- time of communication */

static json_t *read_results(const folder *f, const char *output) {
    char path[2 * PATH_BYTES];
    json_t *results;
    snprintf(path, sizeof path, "%s/train_results.json", in(f, output));
    OK(json_read_file(path, &results));
    return results;
}

/* With one process there are no such numbers. */
static void the_log_has_the_time_of_communication(void **state) {
    need_launcher();
    static const char KEY[] = "communication_wait_seconds", OF_RUN[] = "train_communication_wait_seconds";
    enum { COUNT = 6 };
    const folder *f = *state;
    for (int processes = 1; processes <= 2; processes++) {
        double waits[COUNT], sum = 0;
        TRAIN(f, processes, "out", "--max_steps", "6");
        int count = read_log(f, "out", KEY, waits, COUNT);
        assert_int_equal(count, processes == 1 ? 0 : COUNT);
        for (int i = 0; i < count; i++) {
            assert_true(waits[i] >= 0);
            sum += waits[i];
        }
        json_t *results = read_results(f, "out");
        if (processes == 1) assert_null(json_object_get(results, OF_RUN));
        if (processes == 2) {
            assert_true(sum > 0 && sum <= log_number(results, "train_runtime"));
            assert_true(fabs(log_number(results, OF_RUN) * COUNT - sum) < 1e-6);
            assert_true(fabs(printed(f, KEY) * COUNT - sum) < 1e-6);
        }
        json_decref(results);
        contains(f, "communication that computation did not hide", processes == 2);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        RANKS_TEST(nobody_trains_alone_who_should_not),
        RANKS_TEST(wrong_variables_are_refused),
        RANKS_TEST(another_number_than_the_launchers_is_refused),
        RANKS_TEST(processes_equal_accumulation),
        RANKS_TEST(processes_train_exactly),
        RANKS_TEST(processes_train_a_start),
        RANKS_TEST(the_log_has_the_time_of_communication),
        RANKS_TEST(masters_are_divided_and_saved_whole),
        RANKS_TEST(bf16_weights_round_alike_in_all_processes),
        RANKS_TEST(a_failure_of_one_is_that_of_all),
        RANKS_TEST(what_stops_one_stops_all),
        RANKS_TEST(signals_are_passed_on),
        RANKS_TEST(processes_do_not_outlive_their_parent),
        RANKS_TEST(a_process_that_hangs_ends_the_job),
        RANKS_TEST(a_process_that_dies_takes_the_job_down),
        RANKS_TEST(the_best_model_is_taken_by_all),
    };
    by_lckv = argc > 1 && !strcmp(argv[1], "--num_processes");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
