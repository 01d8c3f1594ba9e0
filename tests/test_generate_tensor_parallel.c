/* --tensor_parallel: the commands with several processes against one, started by lckv, by mpirun and by a launcher that
 * sets variables; requests to a server; and processes that die, hang or are too many. */
#include "served.h"

#include "base/clock.h"

#include <math.h>

enum { WORDS = 48 };

/* ---------------------------------------------------------------- starting */

/* Appends lists of words that end with NULL. */
static void join(const char *words[WORDS], const char *const *first, const char *const *second,
                 const char *const *third) {
    const char *const *lists[] = {first, second, third};
    int count = 0;
    for (int i = 0; i < 3; i++)
        for (const char *const *w = lists[i]; w && *w; w++) words[count++] = *w;
    assert_true(count < WORDS);
    words[count] = NULL;
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define DIVIDED(n) LIST("--tensor_parallel", n)
#define ON_CPU "--device", "cpu", "--threads", "1"

/* The output of a command that succeeds; release with free(). */
static char *output_of(const folder *f, const char *const *words, const char *const *more) {
    const char *all[WORDS];
    join(all, words, more, NULL);
    outcome o = program_run(f, all);
    if (o.code) fail_msg("exit code %d: %s", o.code, o.messages);
    free(o.messages);
    return o.output;
}

/* Another program, such as mpirun, with the variables that it needs in a container. Output goes to a file. */
static outcome run_launcher(const folder *f, const char *const *words) {
    size_t bytes;
    const char *output = in(f, "stdout"), *messages = in(f, "stderr");
    pid_t child = fork();
    if (!child) {
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
        setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
        setenv("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe", 1);
        setenv("OMPI_MCA_btl", "vader,self", 1);
        setenv("OMPI_MCA_mpi_yield_when_idle", "0", 1);
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
        if (dup2(open("/dev/null", O_RDONLY), 0) < 0) _exit(99);
        if (dup2(open(output, O_WRONLY | O_CREAT | O_TRUNC, 0666), 1) < 0) _exit(99);
        if (dup2(open(messages, O_WRONLY | O_CREAT | O_TRUNC, 0666), 2) < 0) _exit(99);
        execv(words[0], (char *const *)(uintptr_t)words);
        _exit(99);
    }
    outcome o = {.code = program_wait(child)};
    o.output = get(output, &bytes);
    o.messages = get(messages, &bytes);
    return o;
}

/* ---------------------------------------------------------------- commands */

static void test_generate_gives_the_same_tokens(void **state) {
    const char *const words[] = {"generate",
                                 "--model_name_or_path",
                                 in(*state, "model"),
                                 "--prompt_ids",
                                 "5,9,200,31,77",
                                 "--prompt_ids",
                                 "8",
                                 "--length",
                                 "40",
                                 "--temperature",
                                 "0",
                                 ON_CPU,
                                 NULL};
    char *alone = output_of(*state, words, NULL);
    for (int n = 2; n <= 4; n++) {
        char number[] = {(char)('0' + n), '\0'};
        char *divided = output_of(*state, words, DIVIDED(number));
        assert_string_equal(divided, alone);
        free(divided);
    }
    free(alone);
}

static void test_launchers(void **state) {
    const char *const words[] = {program_path(),
                                 "generate",
                                 "--model_name_or_path",
                                 in(*state, "model"),
                                 "--prompt_ids",
                                 "5,9,200,31,77",
                                 "--length",
                                 "40",
                                 "--temperature",
                                 "0",
                                 ON_CPU,
                                 NULL};
    const char *all[WORDS];
    char *alone = output_of(*state, words + 1, NULL);
    join(all, LIST("/bin/sh", SOURCE_DIR "/tests/with_ranks.sh", "2"), words, DIVIDED("2"));
    outcome o = run_launcher(*state, all);
    if (o.code) fail_msg("exit code %d: %s", o.code, o.messages);
    assert_string_equal(o.output, alone);
    outcome_free(&o);
    join(all, LIST("/bin/sh", SOURCE_DIR "/tests/with_ranks.sh", "2"), words, DIVIDED("3"));
    o = run_launcher(*state, all);
    assert_int_equal(o.code, 2);
    assert_non_null(strstr(o.messages, "--tensor_parallel is 3, but the launcher started 2 processes"));
    outcome_free(&o);
    if (access(MPIRUN, X_OK) == 0) {
        join(all, LIST(MPIRUN, "-n", "2"), words, DIVIDED("2"));
        o = run_launcher(*state, all);
        if (o.code) fail_msg("exit code %d: %s", o.code, o.messages);
        assert_string_equal(o.output, alone);
        outcome_free(&o);
        join(all, LIST(MPIRUN, "-n", "2"), words, LIST("--tensor_parallel", "2", "--stop_token", ""));
        o = run_launcher(*state, all);
        assert_int_equal(o.code, 2);
        assert_non_null(strstr(o.messages, "--stop_token is empty"));
        outcome_free(&o);
    }
    free(alone);
}

static double nll_of(const folder *f, const char *const *words, const char *const *more) {
    char *output = output_of(f, words, more);
    json_t *json;
    OK(json_parse(output, strlen(output), "stdout", &json));
    const json_t *value = json_object_get(json, "mean_nll");
    double nll = json_number_value(value ? value : json_object_get(json, "loss"));
    assert_true(nll > 0);
    json_decref(json);
    free(output);
    return nll;
}

/* Sums in another order: f32 rounding of about 1e-7 per term, over some hundred terms. */
static void test_score_and_eval_agree(void **state) {
    const char *text = put_text_in(*state, "text.txt", "It is a truth universally acknowledged, that it rains.");
    const char *const score[] = {"score", "--model_name_or_path", in(*state, "model"), "--file", text, "--json", ON_CPU,
                                 NULL};
    assert_true(fabs(nll_of(*state, score, NULL) - nll_of(*state, score, DIVIDED("2"))) < 1e-4);
    const char *const eval[] = {"eval",
                                "--model_name_or_path",
                                in(*state, "model"),
                                "--file",
                                text,
                                "--json",
                                "--num_eval_tokens",
                                "40",
                                ON_CPU,
                                NULL};
    char *alone = output_of(*state, eval, NULL), *divided = output_of(*state, eval, DIVIDED("2"));
    assert_memory_equal(alone, divided, 20); /* the keys, and the first digits */
    free(alone);
    free(divided);
    program_refuses(*state, 1, "dump is not possible with tensor_parallel",
                    LIST("score", "--model_name_or_path", in(*state, "model"), "--prompt_ids", "1,2", "--dump",
                         "layers.*.hidden", in(*state, "dump"), "--tensor_parallel", "2", ON_CPU));
}

static void test_chat_and_bench_run(void **state) {
    const char *questions = put_text_in(*state, "questions.jsonl", "{\"turns\":[\"a\"]}\n{\"turns\":[\"b\"]}\n");
    const char *const chat[] = {"chat",
                                "--model_name_or_path",
                                in(*state, "model"),
                                "--questions",
                                questions,
                                "--json",
                                "--config_overrides",
                                "max_position_embeddings=999",
                                "--temperature",
                                "0",
                                "--max_new_tokens",
                                "8",
                                ON_CPU,
                                NULL};
    char *alone = output_of(*state, chat, NULL), *divided = output_of(*state, chat, DIVIDED("2"));
    assert_string_equal(alone, divided);
    free(alone);
    free(divided);
    const char *const bench[] = {"bench",
                                 "--config_name",
                                 in(*state, "config.json"),
                                 "--prompt_lengths",
                                 "8",
                                 "--new_lengths",
                                 "4",
                                 "--repetitions",
                                 "1",
                                 "--cost_table",
                                 "none",
                                 "--json",
                                 ON_CPU,
                                 NULL};
    divided = output_of(*state, bench, DIVIDED("2"));
    assert_non_null(strstr(divided, "tokens_per_second"));
    free(divided);
    divided = output_of(*state, bench, LIST("--tensor_parallel", "2", "--profile", in(*state, "trace.json")));
    assert_non_null(strstr(divided, "\"op\":\"all_reduce\""));
    free(divided);
    program_refuses(
        *state, 2, "--tensor_parallel requires --measure speed, stream or costs",
        LIST("bench", "--measure", "batch", "--config_name", in(*state, "config.json"), "--tensor_parallel", "2"));
}

static void test_errors_are_reported_once(void **state) {
    outcome o = RUN(*state, "generate", "--model_name_or_path", in(*state, "model"), "--prompt_ids", "1",
                    "--tensor_parallel", "5", ON_CPU);
    assert_int_equal(o.code, 1);
    assert_string_equal(o.messages,
                        "lckv generate: tensor_parallel is 5, but layer 0 has 4 attention heads: every rank "
                        "needs one\n");
    outcome_free(&o);
    o = RUN(*state, "generate", "--model_name_or_path", in(*state, "model"), "--tensor_parallel", "2", ON_CPU);
    assert_int_equal(o.code, 2);
    assert_string_equal(o.messages, "lckv generate: no prompt given; use --prompt, --prompt_file or --prompt_ids\n");
    outcome_free(&o);
    o = RUN(*state, "generate", "--model_name_or_path", in(*state, "model"), "--prompt_ids", "1", "--weight_dtype",
            "int8", "--tensor_parallel", "2", ON_CPU);
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.messages, "quantized weights (int8, int4) are divided at multiples of 32 columns"));
    outcome_free(&o);
}

/* ---------------------------------------------------------------- serving */

static char *completion(const served *s, int request) {
    char body[256];
    snprintf(body, sizeof body, "{\"prompt\":[%d,9,200,%d,77],\"max_tokens\":%d,\"temperature\":0,\"n\":%d}",
             request + 3, 2 * request + 5, 10 + request, 1 + request % 2);
    json_t *a = ask(s, "/v1/completions", body);
    char *choices = json_dumps(json_object_get(a, "choices"), JSON_SORT_KEYS);
    json_decref(a);
    return choices;
}

/* Requests of clients that disconnect leave the server as it was. */
static void abandon(const served *s) {
    static const char BODY[] = "{\"prompt\":[5,9],\"max_tokens\":15000,\"temperature\":0,\"stream\":true}";
    char piece[256];
    int fd = http_connect(s->port);
    assert_true(http_ask(fd, "POST", "/v1/completions", "", BODY, strlen(BODY)));
    assert_true(recv(fd, piece, sizeof piece, 0) > 0);
    expect_metric_soon(s, "samples_running", 1);
    close(fd);
    expect_metric_soon(s, "samples_running", 0);
}

static void test_a_server_gives_the_same_answers(void **state) {
    enum { COUNT = 4 };
    char *alone[COUNT];
    served s = SERVE(state, "--max_num_seqs", "4");
    for (int i = 0; i < COUNT; i++) alone[i] = completion(&s, i);
    stop(&s);
    s = SERVE(state, "--max_num_seqs", "4", "--tensor_parallel", "2");
    for (int i = 0; i < COUNT; i++) {
        if (i == 1) abandon(&s);
        char *divided = completion(&s, i);
        assert_string_equal(divided, alone[i]);
        free(divided);
        free(alone[i]);
    }
    stop(&s);
}

/* Process `rank` of those that the program has started. */
static pid_t started_process(pid_t parent, int rank) {
    char path[64];
    int found = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
    FILE *list = fopen(path, "r");
    if (!list) SKIP("this system has no list of child processes");
    for (int i = 0; i <= rank; i++) assert_int_equal(fscanf(list, "%d", &found), 1);
    fclose(list);
    return found;
}

static void test_a_process_that_dies_ends_the_server(void **state) {
    static const char BODY[] = "{\"prompt\":[5,9],\"max_tokens\":15000,\"temperature\":0}";
    served s = SERVE(state, "--tensor_parallel", "3");
    pid_t victim = started_process(s.process, 2);
    int fd = http_connect(s.port);
    assert_true(http_ask(fd, "POST", "/v1/completions", "Content-Type: application/json\r\n", BODY, strlen(BODY)));
    expect_metric_soon(&s, "samples_running", 1);
    double begin = clock_seconds();
    kill(victim, SIGKILL);
    http_answer a = http_read(fd);
    if (a.status != 500 && a.status != 503) fail_msg("status %d: %s", a.status, a.body ? a.body : "");
    assert_non_null(strstr(a.body, "process 2 of 3 is lost"));
    http_free(&a);
    assert_int_equal(program_wait(s.process), 128 + SIGKILL);
    assert_true(clock_seconds() - begin < 60);
    assert_file_says(in(*state, "stderr"), "process 2 of 3 was killed by signal 9");
}

/* ---------------------------------------------------------------- a process that hangs */

static pid_t start_rank(const folder *f, int rank, int port, const char *const *words) {
    char number[2][16], name[16];
    snprintf(number[0], sizeof number[0], "%d", rank);
    snprintf(number[1], sizeof number[1], "%d", port);
    snprintf(name, sizeof name, "stderr%d", rank);
    const char *messages = in(f, name);
    pid_t child = fork();
    if (child) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv("RANK", number[0], 1);
    setenv("WORLD_SIZE", "2", 1);
    setenv("MASTER_ADDR", "127.0.0.1", 1);
    setenv("MASTER_PORT", number[1], 1);
    int null = open("/dev/null", O_RDWR), to = open(messages, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(to, 2) < 0) _exit(99);
    execv(program_path(), (char *const *)(uintptr_t)words);
    _exit(99);
}

#define GENERATE_LONG(f)                                                                                               \
    "generate", "--model_name_or_path", in((f), "model"), "--config_overrides",                                        \
        "max_position_embeddings=200000,eos_token_id=null", "--prompt_ids", "5,9", "--length", "150000"
enum { START_MICROSECONDS = 3000000 }; /* until processes decode, also on a slow machine */

static void test_a_process_that_hangs_is_named(void **state) {
    const char *const words[] = {"lckv", GENERATE_LONG(*state), "--tensor_parallel", "2", "--ddp_timeout", "5", ON_CPU,
                                 NULL};
    int port = 20000 + (int)(getpid() % 10000);
    pid_t leader = start_rank(*state, 0, port, words), follower = start_rank(*state, 1, port, words);
    usleep(START_MICROSECONDS);
    kill(follower, SIGSTOP);
    assert_int_equal(program_wait(leader), 1);
    kill(follower, SIGKILL);
    program_wait(follower);
    assert_file_says(in(*state, "stderr0"), "process 1 of 2 has not answered for 5 s (ddp_timeout)");
}

static void test_ctrl_c_stops_all(void **state) {
    const char *const words[] = {GENERATE_LONG(*state), "--tensor_parallel", "2", ON_CPU, NULL};
    int null = open("/dev/null", O_WRONLY);
    pid_t process = program_start(*state, words, null);
    close(null);
    usleep(START_MICROSECONDS);
    kill(process, SIGINT);
    assert_int_equal(program_wait(process), 130);
    assert_file_says(in(*state, "stderr"), "interrupted");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, model_folder_open, folder_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_generate_gives_the_same_tokens),
        TEST(test_launchers),
        TEST(test_score_and_eval_agree),
        TEST(test_chat_and_bench_run),
        TEST(test_errors_are_reported_once),
        TEST(test_a_server_gives_the_same_answers),
        TEST(test_a_process_that_dies_ends_the_server),
        TEST(test_a_process_that_hangs_is_named),
        TEST(test_ctrl_c_stops_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
