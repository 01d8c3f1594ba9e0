/* Training with several processes, for tests that start the program: a small model and its data, launchers, and what a
 * run has written. */
#ifndef TESTS_RANKS_FIXTURE_H
#define TESTS_RANKS_FIXTURE_H

#include "base/clock.h"
#include "io/tensors/safetensors.h"

#include "program.h"

#include <errno.h>
#include <math.h>

static const char CONFIG[] =
    "{\"model_type\":\"lckv-llama\",\"hidden_size\":24,\"intermediate_size\":36,\"num_attention_heads\":4,"
    "\"num_key_value_heads\":2,\"num_hidden_layers\":4,\"vocab_size\":37,\"max_position_embeddings\":64,"
    "\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\",\"initializer_range\":0.2,\"layer_types\":\"0_2_2_3\","
    "\"forward_passes\":3,\"backward_passes\":2}";
enum { VOCAB = 37, ROWS = 60, LENGTH = 16, MAX_WORDS = 96 };

static inline int open_with_data(void **state) {
    if (folder_open(state)) return -1;
    const folder *f = *state;
    FILE *file = fopen(in(f, "data.jsonl"), "w");
    if (!file) return -1;
    for (int row = 0, id = 0; row < ROWS; row++) {
        for (int i = 0; i < LENGTH; i++) {
            fprintf(file, i ? ",%d" : "{\"input_ids\":[%d", id);
            id = (id * (i % 5 ? 2 : 5) + row % 7 + 1) % VOCAB;
        }
        fprintf(file, "]}\n");
    }
    put_text(in(f, "tiny.json"), CONFIG);
    return fclose(file);
}

#define RANKS_TEST(test) cmocka_unit_test_setup_teardown(test, open_with_data, folder_close)

/* ---------------------------------------------------------------- starting */

/* Settings for containers, where all users are root, and for more processes than cores. lckv sleeps while it waits; if
 * MPI also yields, a rank loses its turn to other programs with each test for a message. Leaks of MPI itself are not
 * reported. */
static inline void prepare_environment(void) {
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);                  /* Open MPI 4 */
    setenv("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe", 1); /* Open MPI 5 */
    setenv("OMPI_MCA_btl", "vader,self", 1);
    setenv("OMPI_MCA_mpi_yield_when_idle", "0", 1);
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
}

static bool by_lckv; /* lckv starts its processes itself */

static inline void need_launcher(void) {
    if (by_lckv || access(MPIRUN, X_OK) == 0) return;
    print_message("skipped: built without MPI, or there is no mpirun\n");
    skip();
}

/* `words` end with NULL. Standard output and error go to the files "stdout" and "stderr". */
static inline pid_t launch(const folder *f, const char *const *words) {
    const char *output = in(f, "stdout"), *messages = in(f, "stderr");
    pid_t child = fork();
    if (child) return child;
    prepare_environment();
    if (dup2(open("/dev/null", O_RDONLY), 0) < 0) _exit(99);
    if (dup2(open(output, O_WRONLY | O_CREAT | O_TRUNC, 0666), 1) < 0) _exit(99);
    if (dup2(open(messages, O_WRONLY | O_CREAT | O_TRUNC, 0666), 2) < 0) _exit(99);
    execv(words[0], (char *const *)(uintptr_t)words);
    _exit(99);
}

/* Starts lckv train with this number of processes, the flags that all runs share, and `more` (ends with NULL).
 * `wrapper`: a script that starts the program; NULL: none. */
static inline pid_t train(const folder *f, int processes, const char *output, const char *wrapper,
                          const char *const *more) {
    const char *words[MAX_WORDS], *config = in(f, "tiny.json"), *data = in(f, "data.jsonl"), *out = in(f, output);
    char number[16];
    int count = 0;
    snprintf(number, sizeof number, "%d", processes);
    const char *const by_mpi[] = {MPIRUN, "-n", number, "/bin/sh", wrapper};
    const char *const by_script[] = {"/bin/sh", SOURCE_DIR "/tests/with_ranks.sh", number, "/bin/sh", wrapper};
    const char *const *begin = by_lckv ? by_script : by_mpi;
    int launcher_words = wrapper ? 5 : by_lckv ? 0 : 3;
    for (int i = 0; processes > 1 && i < launcher_words; i++) words[count++] = begin[i];
    const char *const always[] = {
        program_path(), "train", "--config_name", config, "--train_file",    data,
        "--block_size", "16",    "--threads",     "1",    "--logging_steps", "1",
        "--device",     "cpu",   "--output_dir",  out,    "--json",          "--overwrite_output_dir"};
    for (size_t i = 0; i < sizeof always / sizeof *always; i++) words[count++] = always[i];
    const char *const own[] = {"--num_processes", number};
    for (int i = 0; by_lckv && !wrapper && i < 2; i++) words[count++] = own[i];
    while (*more) words[count++] = *more++;
    words[count] = NULL;
    return launch(f, words);
}

static inline char *messages_of(const folder *f) {
    size_t bytes;
    return get(in(f, "stderr"), &bytes);
}

static inline void finish_well(const folder *f, pid_t child) {
    int code = program_wait(child);
    if (code) fail_msg("exit code %d: %s", code, messages_of(f));
}

#define TRAIN(f, processes, output, ...)                                                                               \
    finish_well((f), train((f), (processes), (output), NULL, (const char *const[]){__VA_ARGS__, NULL}))

/* ---------------------------------------------------------------- output of a run */

static inline double log_number(const json_t *line, const char *key) {
    const json_t *value = json_object_get(line, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

/* Reads a number from the lines of train_log.jsonl that have it; returns their number. */
static inline int read_log(const folder *f, const char *output, const char *key, double *numbers, int capacity) {
    char path[2 * PATH_BYTES];
    size_t bytes;
    int count = 0;
    snprintf(path, sizeof path, "%s/train_log.jsonl", in(f, output));
    char *text = get(path, &bytes), *at = text;
    for (char *end; (end = strchr(at, '\n')); at = end + 1) {
        json_t *line;
        OK(json_parse(at, (size_t)(end - at), path, &line));
        if (json_object_get(line, key) && count < capacity) numbers[count++] = log_number(line, key);
        json_decref(line);
    }
    free(text);
    return count;
}

/* The losses, one per step. */
static inline int read_losses(const folder *f, const char *output, double *losses, int capacity) {
    return read_log(f, output, "loss", losses, capacity);
}

/* The numbers of one JSON object on standard output: one process has printed. */
static inline double printed(const folder *f, const char *key) {
    size_t bytes;
    char *text = get(in(f, "stdout"), &bytes);
    json_t *object;
    OK(json_parse(text, bytes, "stdout", &object));
    double value = log_number(object, key);
    json_decref(object);
    free(text);
    return value;
}

static inline safetensors_file weights_of(const folder *f, const char *output) {
    char path[2 * PATH_BYTES];
    safetensors_file file;
    snprintf(path, sizeof path, "%s/model.safetensors", in(f, output));
    OK(safetensors_open(path, &file));
    return file;
}

/* ---------------------------------------------------------------- while it runs */

static inline void contains(const folder *f, const char *part, int times) {
    char *messages = messages_of(f);
    int found = 0;
    for (const char *at = messages; (at = strstr(at, part)); at++) found++;
    if (found != times) fail_msg("'%s' says '%s' %d times, expected %d", messages, part, found, times);
    free(messages);
}

/* The list of processes. */
static inline void need_proc(void) {
    if (access("/proc/self/stat", R_OK) != 0) SKIP("there is no /proc");
}

/* Increases with the time at which a child was started. After the largest id, ids begin again at small ones. */
static inline int order_of(pid_t parent, pid_t child) {
    enum { MAX_ID = 1 << 22 };
    return child > parent ? child - parent : child - parent + MAX_ID;
}

/* The newest child of a process that is older than `before` (0: any); 0: there is none. */
static inline pid_t child_before(pid_t parent, pid_t before) {
    DIR *processes = opendir("/proc");
    pid_t found = 0;
    for (struct dirent *e; processes && (e = readdir(processes));) {
        char path[PATH_BYTES], text[256] = "";
        int id = atoi(e->d_name), of = 0;
        snprintf(path, sizeof path, "/proc/%d/stat", id);
        FILE *file = id > 0 ? fopen(path, "r") : NULL;
        if (!file) continue;
        if (fgets(text, sizeof text, file) && strrchr(text, ')')) sscanf(strrchr(text, ')'), ") %*c %d", &of);
        fclose(file);
        bool older = !before || order_of(parent, id) < order_of(parent, before);
        if (of == parent && older && (!found || order_of(parent, id) > order_of(parent, found))) found = id;
    }
    if (processes) closedir(processes);
    return found;
}

static inline pid_t child_of(pid_t parent) {
    return child_before(parent, 0);
}

/* The highest step of out/checkpoint-STEP; -1: there is none. */
static inline long newest_checkpoint(const folder *f) {
    DIR *output = opendir(in(f, "out"));
    long newest = -1, step;
    int length;
    for (struct dirent *e; output && (e = readdir(output));)
        if (sscanf(e->d_name, "checkpoint-%ld%n", &step, &length) == 1 && !e->d_name[length] && step > newest)
            newest = step;
    if (output) closedir(output);
    return newest;
}

/* Starts an endless run and returns after it has logged a step and written a checkpoint. */
static inline pid_t train_on_and_on(const folder *f, int processes, const char *zero, const char *time_limit) {
    double losses[1], begin = clock_seconds();
    char log[2 * PATH_BYTES];
    long before = newest_checkpoint(f); /* of an earlier run */
    snprintf(log, sizeof log, "%s/train_log.jsonl", in(f, "out"));
    const char *const words[] = {"--max_steps",
                                 "10000000",
                                 "--per_device_train_batch_size",
                                 "1",
                                 "--save_steps",
                                 "5",
                                 "--ddp_timeout",
                                 time_limit,
                                 "--zero",
                                 zero,
                                 NULL};
    pid_t child = train(f, processes, "out", NULL, words);
    while (!file_exists(log) || !read_losses(f, "out", losses, 1) || newest_checkpoint(f) <= before) {
        bool over = waitpid(child, NULL, WNOHANG) != 0;
        if (over || clock_seconds() - begin > 240)
            fail_msg("no step, %s: %s", over ? "but an end" : "for long", messages_of(f));
        usleep(20000);
    }
    return child;
}

#endif
