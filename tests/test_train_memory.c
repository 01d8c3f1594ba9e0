/* The memory of training runs against the plan: starting, training, saving and resuming. What the system reports as the
 * most that a process has had resident, less what a run of a tiny model has, is compared with
 * lckv_memory_for_training(). */
#include "ranks_fixture.h"

#include <sys/resource.h>

enum { BLOCK = 64, BATCH = 2, MEBI = 1 << 20 };

/* 39 million parameters: 590 MiB with gradients and moments. */
static const char MODEL[] =
    "{\"model_type\":\"lckv-llama\",\"hidden_size\":512,\"intermediate_size\":1024,\"num_attention_heads\":8,"
    "\"num_key_value_heads\":4,\"num_hidden_layers\":6,\"vocab_size\":24000,\"max_position_embeddings\":64,"
    "\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\",\"initializer_range\":0.02,\"torch_dtype\":\"float32\"%s}";
static const char LOOP[] = ",\"layer_types\":\"0_4_4_4_4_5\",\"forward_passes\":3,\"backward_passes\":2";

/* Bytes above the plan. lckv adds 5 % itself when it checks whether a run fits. The plan does not count the logits of
 * BATCH * BLOCK tokens, with --bf16 also as bf16, and the end of the last huge page (2 MiB) of about ten allocations, a
 * half of it on average. A copy of the embedding (47 MiB) or of the master weights is more than that. */
static const double MOST = 1.05, FIXED = 6.0 * BATCH * BLOCK * 24000 + 10.0 * MEBI;

/* Below the plan: what of the pool of activations and its last growth by a half is not used. */
static const double LEAST = 0.9;

static void need_measurements(void) {
#ifdef SANITIZED
    SKIP("sanitizers need memory of their own");
#endif
    need_proc();
}

/* Bytes of the largest of a run's processes. */
static double run(const folder *f, const char *config, int processes, const char *const *more) {
    const char *words[MAX_WORDS];
    char number[16];
    int count = 0, code;
    struct rusage used;
    snprintf(number, sizeof number, "%d", processes);
    const char *const always[] = {program_path(),
                                  "train",
                                  "--config_name",
                                  config,
                                  "--train_file",
                                  in(f, "data.jsonl"),
                                  "--block_size",
                                  "64",
                                  "--per_device_train_batch_size",
                                  "2",
                                  "--threads",
                                  "1",
                                  "--device",
                                  "cpu",
                                  "--output_dir",
                                  in(f, "out"),
                                  "--num_processes",
                                  number};
    for (size_t i = 0; i < sizeof always / sizeof *always; i++) words[count++] = always[i];
    while (*more) words[count++] = *more++;
    words[count] = NULL;
    pid_t child = launch(f, words);
    assert_int_equal(wait4(child, &code, 0, &used), child);
    if (!WIFEXITED(code) || WEXITSTATUS(code)) fail_msg("a run has failed: %s", messages_of(f));
    return 1024.0 * (double)used.ru_maxrss;
}

#define RUN_BYTES(f, config, processes, ...)                                                                           \
    run((f), in((f), config), (processes), (const char *const[]){__VA_ARGS__, NULL})

static void write_config(const folder *f, const char *name, const char *extra) {
    char text[1024];
    snprintf(text, sizeof text, MODEL, extra);
    put_text(in(f, name), text);
}

/* Bytes of the same run with a tiny model. */
static double of_program(const folder *f, int processes) {
    return RUN_BYTES(f, "tiny.json", processes, "--max_steps", "2", "--save_strategy", "no", "--overwrite_output_dir");
}

static double planned(const folder *f, const char *config, lckv_training_shape shape) {
    lckv_config *c;
    lckv_memory m;
    shape.struct_size = sizeof shape;
    shape.batch_size = BATCH;
    shape.block_size = BLOCK;
    OK(lckv_config_load(in(f, config), NULL, &c));
    OK(lckv_memory_for_training(c, &shape, &m));
    lckv_config_free(c);
    return (double)m.total;
}

static void expect(const char *what, double bytes, double plan) {
    print_message("%s: planned %.0f MiB, resident %.0f MiB (%+.1f %%)\n", what, plan / MEBI, bytes / MEBI,
                  100 * (bytes / plan - 1));
    if (!(bytes <= MOST * plan + FIXED && bytes >= LEAST * plan))
        fail_msg("%s: planned %.0f, resident %.0f", what, plan, bytes);
}

static void one_process(void **state) {
    const folder *f = *state;
    need_measurements();
    double own = of_program(f, 1);
    write_config(f, "plain.json", "");
    write_config(f, "loop.json", LOOP);
    write_config(f, "plain.json", "");
    write_config(f, "loop.json", LOOP);
    double bytes = RUN_BYTES(f, "plain.json", 1, "--max_steps", "2", "--save_strategy", "no", "--overwrite_output_dir");
    expect("plain", bytes - own, planned(f, "plain.json", (lckv_training_shape){0}));
    bytes = RUN_BYTES(f, "loop.json", 1, "--max_steps", "2", "--save_strategy", "no", "--overwrite_output_dir",
                      "--gradient_checkpointing");
    expect("checkpointed loop", bytes - own,
           planned(f, "loop.json", (lckv_training_shape){.gradient_checkpointing = true}));
}

static void several_processes(void **state) {
    const folder *f = *state;
    need_measurements();
    double own = of_program(f, 2);
    write_config(f, "plain.json", "");
    double bytes =
        RUN_BYTES(f, "plain.json", 2, "--max_steps", "3", "--save_steps", "2", "--zero", "3", "--overwrite_output_dir");
    lckv_training_shape shape = {.num_processes = 2, .zero = 3};
    expect("zero 3", bytes - own, planned(f, "plain.json", shape));
    bytes = RUN_BYTES(f, "plain.json", 2, "--max_steps", "4", "--zero", "3");
    expect("zero 3, resumed", bytes - own, planned(f, "plain.json", shape));
    bytes =
        RUN_BYTES(f, "plain.json", 2, "--max_steps", "2", "--save_strategy", "no", "--bf16", "--overwrite_output_dir");
    expect("zero 1 with bf16", bytes - own,
           planned(f, "plain.json", (lckv_training_shape){.num_processes = 2, .bf16 = true}));
}

int main(void) {
    const struct CMUnitTest tests[] = {RANKS_TEST(one_process), RANKS_TEST(several_processes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
