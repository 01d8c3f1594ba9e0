/* ZeRO stage 3: weights and gradients divided between processes, against stage 1, against one process, and through
 * checkpoints of other numbers of processes; deaths and hangs of one of them. The processes are started by mpirun, or
 * with the argument --num_processes by lckv itself, which also runs the slower tests. */
#include "base/rng.h"

#include "ranks_runs.h"

/* ---------------------------------------------------------------- the same numbers */

/* With one micro-batch per step, both stages add the same numbers in the same order: every rank's gradient is summed
 * over the uses of a weight, then over ranks. More micro-batches are summed before the ranks in stage 1, after them in
 * stage 3. */
static void stage_3_equals_stage_1_bit_for_bit(void **state) {
    need_launcher();
    static const struct {
        int processes;
        bool with_mpi;
        const char *flags, *file, *of_three; /* flags of stage 3 alone; NULL: none */
    } FORMS[] = {
        {2, true, "", "model.safetensors"},
        {4, false, "", "model.safetensors"},
        {2, false, "--gradient_checkpointing --config_overrides tie_word_embeddings=true", "model.safetensors"},
        {3, true, "--bf16", "model.safetensors"},
        {3, false, "--bf16 --torch_dtype bfloat16 --gradient_checkpointing", "model.safetensors"},
        {3, false, "--loop_form exact --loop_group_size 2 --per_device_train_batch_size 1", "model.safetensors"},
        {2, false, "--loop_form exact", "model.safetensors", "--zero_regather_loops"},
        {2, false, "--loop_form sequential --config_overrides tie_word_embeddings=true", "model.safetensors"},
        {2, false, "--loop_start", "loop_start.safetensors"},
        {2, false, "--loop_start --loop_form exact --gradient_checkpointing", "loop_start.safetensors"},
        {2, false, "--loop_form exact --loop_plan_share 0.3 --loop_iteration_weight 0.3", "model.safetensors"},
        {2, false, "--loop_form exact --loop_start --loop_iteration_weight 0.3 --gradient_checkpointing",
         "model.safetensors"},
    };
    const folder *f = *state;
    double losses[2][4];
    for (size_t i = 0; i < sizeof FORMS / sizeof *FORMS; i++) {
        if (!by_lckv && !FORMS[i].with_mpi) continue;
        for (int zero = 1; zero <= 3; zero += 2) {
            const char *more = zero == 3 && FORMS[i].of_three ? FORMS[i].of_three : "";
            run(f, FORMS[i].processes, zero == 1 ? "one" : "three",
                "--max_steps 4 --learning_rate 1e-3 --zero %d %s %s", zero, FORMS[i].flags, more);
            assert_int_equal(read_losses(f, zero == 1 ? "one" : "three", losses[zero / 2], 4), 4);
        }
        assert_memory_equal(losses[0], losses[1], sizeof losses[0]);
        same_file(f, "one", "three", FORMS[i].file, FORMS[i].flags);
    }
}

/* An adapter is whole in every process: only the frozen weights are divided, so that stages are equal with any number
 * of micro-batches. */
static void frozen_weights_are_divided_below_an_adapter(void **state) {
    const folder *f = *state;
    if (!by_lckv) SKIP("once is enough");
    run(f, 1, "base", "--max_steps 1");
    for (int zero = 1; zero <= 3; zero += 2) {
        outcome o = RUN(f, "train", "--model_name_or_path", in(f, "base"), "--train_file", in(f, "data.jsonl"),
                        "--block_size", "16", "--output_dir", in(f, zero == 1 ? "one" : "three"), "--num_processes",
                        "2", "--use_peft", "--lora_r", "4", "--lora_dropout", "0.1", "--lora_target_modules",
                        "all-linear", "--bf16", "--device", "cpu", "--threads", "1", "--max_steps", "3",
                        "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "2",
                        "--gradient_checkpointing", "--learning_rate", "1e-3", "--zero", zero == 1 ? "1" : "3");
        if (o.code) fail_msg("exit code %d: %s", o.code, o.messages);
        outcome_free(&o);
    }
    same_file(f, "one", "three", "adapter_model.safetensors", "use_peft");
}

/* The tolerance is that of processes_equal_accumulation() in test_train_ranks.c: gradients are the same sums in other
 * orders. Of 50 blocks in steps of 16, the last step of an epoch has 2: with four processes, two have none and run
 * idle. */
static void stage_3_equals_accumulation(void **state) {
    need_launcher();
    enum { STEPS = 8 };
    static const struct {
        int processes, accumulation;
        bool with_mpi;
        const char *flags;
    } WAYS[] = {{1, 16, true, ""},
                {2, 8, false, ""},
                {4, 4, true, ""},
                {2, 8, false, "--zero_regather_loops"},
                {4, 4, false, "--zero_regather_loops --gradient_checkpointing"}};
    double losses[5][STEPS], evaluations[5];
    const folder *f = *state;
    for (int i = 0; i < 5; i++) {
        if (!by_lckv && !WAYS[i].with_mpi) continue;
        run(f, WAYS[i].processes, "out",
            "--max_steps 8 --learning_rate 1e-3 --per_device_train_batch_size 1 --gradient_accumulation_steps %d "
            "--zero 3 "
            "--max_train_samples 50 --max_eval_samples 33 --validation_file %s --config_overrides "
            "initializer_range=0.02 %s",
            WAYS[i].accumulation, in(f, "data.jsonl"), WAYS[i].flags);
        assert_int_equal(read_losses(f, "out", losses[i], STEPS), STEPS);
        evaluations[i] = printed(f, "eval_loss");
        for (int s = 0; s < STEPS; s++)
            if (!(fabs(losses[i][s] - losses[0][s]) <= 1e-6 * losses[0][s]))
                fail_msg("%d processes%s, step %d: loss %.9g, of one %.9g", WAYS[i].processes, WAYS[i].flags, s + 1,
                         losses[i][s], losses[0][s]);
        assert_true(fabs(evaluations[i] - evaluations[0]) <= 1e-6 * evaluations[0]);
    }
}

/* ---------------------------------------------------------------- checkpoints */

/* Steps of 8 blocks on 4, 2, 1 and 4 processes, of which each resumes from the one before, against one process. A
 * constant learning rate, because the schedule depends on the number of steps. */
static void checkpoints_go_from_any_number_to_any_other(void **state) {
    need_launcher();
    static const struct { int processes, zero; } PARTS[] = {{4, 3}, {2, 3}, {1, 1}, {4, 3}, {2, 1}};
    enum { EACH = 2, COUNT = sizeof PARTS / sizeof *PARTS };
    static const char FLAGS[] = "--learning_rate 1e-3 --lr_scheduler_type constant --save_steps 2 "
                                "--per_device_train_batch_size 2 --config_overrides initializer_range=0.02";
    double whole[EACH * COUNT], parts[EACH * COUNT];
    const folder *f = *state;
    run(f, 1, "whole", "%s --max_steps %d --gradient_accumulation_steps 4", FLAGS, EACH * COUNT);
    for (int i = 0; i < COUNT; i++)
        run(f, PARTS[i].processes, "out", "%s --max_steps %d --gradient_accumulation_steps %d --zero %d %s", FLAGS,
            EACH * (i + 1), 4 / PARTS[i].processes, PARTS[i].zero, i ? "--resume_from_checkpoint True" : "");
    assert_int_equal(read_losses(f, "whole", whole, EACH * COUNT), EACH * COUNT);
    assert_int_equal(read_losses(f, "out", parts, EACH * COUNT), EACH * COUNT);
    for (int s = 0; s < EACH * COUNT; s++)
        if (!(fabs(parts[s] - whole[s]) <= 1e-6 * whole[s]))
            fail_msg("step %d: loss %.9g, of one process %.9g", s + 1, parts[s], whole[s]);
}

/* The largest difference of an element in a file of two checkpoints, over the largest element of its tensor. */
static double difference(const folder *f, const char *one, const char *other, const char *name) {
    char path[2 * PATH_BYTES];
    safetensors_file files[2];
    double most = 0;
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", in(f, i ? other : one), name);
        OK(safetensors_open(path, &files[i]));
    }
    assert_int_equal(files[0].count, files[1].count);
    for (int i = 0; i < files[0].count; i++) {
        const safetensors_entry *a = &files[0].entries[i], *b = &files[1].entries[i];
        double largest = 0, apart = 0;
        assert_string_equal(a->name, b->name);
        for (int64_t k = 0; k < a->elements; k++) {
            float x, y;
            memcpy(&x, a->data + 4 * k, sizeof x);
            memcpy(&y, b->data + 4 * k, sizeof y);
            largest = fmax(largest, fabs((double)x));
            apart = fmax(apart, fabs((double)x - (double)y));
        }
        if (apart > most * largest) most = apart / largest;
    }
    for (int i = 0; i < 2; i++) safetensors_close(&files[i]);
    return most;
}

/* Eight processes write a checkpoint after 2 of 4 steps; 4 and 1 resume from it, with as many blocks per step. A
 * gradient is a sum over 128 tokens (8 blocks of 16), whose order has changed: it differs by at most 128 roundings of
 * 2^-24, relative to the sum of absolute values, and by 3e-7 of the largest element here. Weights and moments that
 * follow from it are compared to BOUND; the two steps change them by more than a thousand times that. Losses: as
 * above. */
static void eight_processes_continue_as_four_and_as_one(void **state) {
    enum { STEPS = 4, SAVED = 2 };
    static const struct {
        const char *form, *resumed;
    } FORMS[] = {
        {"--zero 1", "--zero 1"},
        {"--zero 3", "--zero 3"},
        {"--zero 3", "--zero 1"},
        {"--zero 1 --loop_form exact", "--zero 3 --loop_form exact"},
        {"--zero 3 --loop_form exact", "--zero 3 --loop_form exact"},
    };
    static const char *const FILES[] = {"model.safetensors", "optimizer.safetensors"};
    static const char FLAGS[] = "--learning_rate 1e-3 --save_steps 2 --max_steps 4 --per_device_train_batch_size 1 "
                                "--config_overrides initializer_range=0.02";
    const double BOUND = 128.0 / (1 << 24);
    double whole[STEPS], rest[STEPS - SAVED];
    const folder *f = *state;
    if (!by_lckv) SKIP("once is enough");
    for (size_t i = 0; i < sizeof FORMS / sizeof *FORMS; i++) {
        run(f, 8, "whole", "%s %s", FLAGS, FORMS[i].form);
        assert_int_equal(read_losses(f, "whole", whole, STEPS), STEPS);
        for (int file = 0; file < 2; file++)
            assert_true(difference(f, "whole/checkpoint-2", "whole/checkpoint-4", FILES[file]) > 1000 * BOUND);
        for (int processes = 4; processes >= 1; processes -= 3) {
            run(f, processes, "out", "%s %s --gradient_accumulation_steps %d --resume_from_checkpoint %s", FLAGS,
                FORMS[i].resumed, 8 / processes, in(f, "whole/checkpoint-2"));
            contains(f, "checkpoint-2' was written with processes 8 (now", 1);
            assert_int_equal(read_losses(f, "out", rest, STEPS - SAVED), STEPS - SAVED);
            for (int s = 0; s < STEPS - SAVED; s++)
                if (!(fabs(rest[s] - whole[SAVED + s]) <= 1e-6 * whole[SAVED + s]))
                    fail_msg("%s, now %d: loss %.9g, of eight %.9g", FORMS[i].form, processes, rest[s],
                             whole[SAVED + s]);
            for (int file = 0; file < 2; file++) {
                double apart = difference(f, "whole/checkpoint-4", "out/checkpoint-4", FILES[file]);
                if (apart > BOUND) fail_msg("%s, now %d: %s: %g", FORMS[i].form, processes, FILES[file], apart);
            }
        }
    }
}

/* Also from masters in f32 and from weights in bf16. */
static void resuming_is_bit_equal(void **state) {
    need_launcher();
    static const char *const FORMS[] = {"", "--bf16", "--bf16 --torch_dtype bfloat16"};
    const folder *f = *state;
    for (int i = 0; i < (by_lckv ? 3 : 1); i++) {
        const char *always = "--learning_rate 1e-3 --lr_scheduler_type constant --save_steps 2 --zero 3 "
                             "--gradient_accumulation_steps 2 --per_device_train_batch_size 2";
        run(f, 2, "whole", "%s %s --max_steps 4", always, FORMS[i]);
        run(f, 2, "out", "%s %s --max_steps 2", always, FORMS[i]);
        run(f, 2, "out", "%s %s --max_steps 4 --resume_from_checkpoint True", always, FORMS[i]);
        same_checkpoint(f, "whole/checkpoint-4", "out/checkpoint-4", FORMS[i]);
    }
}

/* One of two processes is killed at random times, often while process 0 writes. */
static void checkpoints_survive_kills(void **state) {
    need_proc();
    enum { KILLS = 6, SHORTEST = 60000, LONGEST = 500000 /* microseconds */ };
    static const char FLAGS[] = "--zero 3 --max_steps 40 --save_steps 1 --save_total_limit 2 --learning_rate 1e-3 "
                                "--per_device_train_batch_size 2 --overwrite_output_dir False";
    const folder *f = *state;
    if (!by_lckv) SKIP("once is enough");
    run(f, 2, "whole", "%s", FLAGS);
    for (uint64_t i = 0; i < KILLS; i++) {
        char text[FLAG_BYTES];
        pid_t job = start(f, 2, "out", FLAGS, text);
        usleep((useconds_t)(SHORTEST + rng_uniform((uint64_t)getpid(), 1, i) * (LONGEST - SHORTEST)));
        pid_t last = child_of(job);
        pid_t first = last ? child_before(job, last) : 0;
        if (first) assert_int_equal(kill(i % 2 ? last : first, SIGKILL), 0);
        program_wait(job);
    }
    run(f, 2, "out", "%s", FLAGS);
    same_checkpoint(f, "whole/checkpoint-40", "out/checkpoint-40", "after kills");
}

/* ---------------------------------------------------------------- ends */

static void a_process_that_dies_ends_the_job(void **state) {
    need_proc();
    const folder *f = *state;
    if (!by_lckv) SKIP("MPI has no time limit");
    pid_t job = train_on_and_on(f, 3, "3", "600");
    pid_t child = child_of(job);
    assert_true(child > 0 && !kill(child, SIGKILL));
    double begin = clock_seconds();
    assert_int_equal(program_wait(job), 128 + SIGKILL);
    assert_true(clock_seconds() - begin < 10);
    contains(f, "lckv train: process 2 of 3 is lost", 1);
    assert_true(newest_checkpoint(f) > 0);
}

static void a_process_that_hangs_ends_the_job(void **state) {
    need_proc();
    const folder *f = *state;
    if (!by_lckv) SKIP("MPI has no time limit");
    pid_t job = train_on_and_on(f, 3, "3", "10"), child = child_of(job);
    assert_true(child > 0 && !kill(child, SIGSTOP));
    double begin = clock_seconds();
    assert_int_equal(program_wait(job), 1);
    assert_true(clock_seconds() - begin < 40);
    contains(f, "lckv train: process 2 of 3 has not answered for 10 s (ddp_timeout)", 1);
    assert_true(newest_checkpoint(f) > 0);
}

/* Two layers are gathered at a time, so the loop has six. */
#define LONG_LOOP "hidden_size=256,num_hidden_layers=8,layer_types=0_6_6_6_6_6_6_7"

/* Total memory of a process in bytes, as lckv inspect says. */
static double planned(const folder *f, const char *batch_size, bool regather) {
    outcome o = RUN(f, "inspect", "--config_name", in(f, "tiny.json"), "--block_size", "16", "--num_processes", "2",
                    "--zero", "3", "--per_device_train_batch_size", batch_size, "--config_overrides", LONG_LOOP,
                    "--json", "--zero_regather_loops", regather ? "True" : "False");
    if (o.code) fail_msg("%s", o.messages);
    json_t *report;
    OK(json_parse(o.output, strlen(o.output), "stdout", &report));
    double bytes = log_number(json_object_get(json_object_get(report, "memory"), "training"), "total");
    json_decref(report);
    outcome_free(&o);
    return bytes;
}

static void memory_decides_about_loops_and_batches(void **state) {
    static const char ALWAYS[] = "--zero 3 --max_steps 1 --config_overrides " LONG_LOOP;
    const folder *f = *state;
    if (!by_lckv) SKIP("once is enough");
    const double MARGIN = 1.05;
    double held = MARGIN * planned(f, "4", false), regathered = MARGIN * planned(f, "4", true);
    assert_true(regathered < 0.9 * held);
    run(f, 2, "out", "%s --per_device_train_batch_size 4 --memory_limit %.0f", ALWAYS, (held + regathered) / 2);
    contains(f, "gathering them in each iteration (zero_regather_loops)", 1);
    run(f, 2, "out", "%s --per_device_train_batch_size 4 --memory_limit %.0f", ALWAYS, held + 1e6);
    contains(f, "zero_regather_loops", 0);
    run(f, 2, "out", "%s --per_device_train_batch_size 24 --auto_find_batch_size --memory_limit %.0f", ALWAYS,
        held + 1e5);
    contains(f, "auto_find_batch_size: micro-batches of ", 1);
    char text[FLAG_BYTES];
    pid_t job = start(f, 2, "out", "--zero 1 --max_steps 1 --memory_limit 1000000", text);
    assert_int_equal(program_wait(job), 1);
    contains(f, " in each process, ", 1);
    contains(f, ", or zero 3", 1);
}

/* The sum of gradients in bf16 is rounded once per micro-batch, by 2^-9 of itself. */
static void gradients_may_be_summed_in_bf16(void **state) {
    static const char ALWAYS[] = "--zero 3 --bf16 --torch_dtype bfloat16 --max_steps 10 --learning_rate 1e-3 "
                                 "--per_device_train_batch_size 2 --gradient_accumulation_steps 2";
    const folder *f = *state;
    double fine[10], coarse[10];
    if (!by_lckv) SKIP("once is enough");
    run(f, 2, "fine", "%s", ALWAYS);
    run(f, 2, "coarse", "%s --grad_accum_dtype bfloat16", ALWAYS);
    assert_int_equal(read_losses(f, "fine", fine, 10), 10);
    assert_int_equal(read_losses(f, "coarse", coarse, 10), 10);
    assert_true(fine[0] == coarse[0] && fine[9] != coarse[9]);
    for (int s = 0; s < 10; s++) assert_true(fabs(fine[s] - coarse[s]) < 0.01 * fine[s]);
}

static void other_stages_are_refused(void **state) {
    static const struct {
        const char *zero, *more, *error;
    } CASES[] = {{"0", "--do_train", "zero: expected 1 (the optimizer state is divided between the processes) or 3"},
                 {"2", "--do_train", "found 2; 0 and 2 would need more memory and communicate no less"},
                 {"1", "--zero_regather_loops", "zero_regather_loops needs zero 3"},
                 {"3", "--grad_accum_dtype=bfloat16", "grad_accum_dtype bfloat16 needs zero 3 and torch_dtype"}};
    const folder *f = *state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        REFUSES(f, 1, CASES[i].error, "train", "--config_name", in(f, "tiny.json"), "--train_file", in(f, "data.jsonl"),
                "--output_dir", in(f, "out"), "--zero", CASES[i].zero, CASES[i].more);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        RANKS_TEST(stage_3_equals_stage_1_bit_for_bit),
        RANKS_TEST(frozen_weights_are_divided_below_an_adapter),
        RANKS_TEST(stage_3_equals_accumulation),
        RANKS_TEST(checkpoints_go_from_any_number_to_any_other),
        RANKS_TEST(eight_processes_continue_as_four_and_as_one),
        RANKS_TEST(resuming_is_bit_equal),
        RANKS_TEST(checkpoints_survive_kills),
        RANKS_TEST(a_process_that_dies_ends_the_job),
        RANKS_TEST(a_process_that_hangs_ends_the_job),
        RANKS_TEST(memory_decides_about_loops_and_batches),
        RANKS_TEST(gradients_may_be_summed_in_bf16),
        RANKS_TEST(other_stages_are_refused),
    };
    by_lckv = argc > 1 && !strcmp(argv[1], "--num_processes");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
