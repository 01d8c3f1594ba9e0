/* lckv train as a program: its output, exit codes, and Ctrl-C. */
#include "base/text/json.h"

#include "folder_fixture.h"

#include "id_rows.h"
#include "program_path.h"
#include "terminal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

typedef struct outcome {
    int code; /* exit code, or 128 + the signal that ended it */
    char *output, *messages;
} outcome;

static pid_t start_command(folder *r, const char *command, const char *const *arguments) {
    char *words[64] = {(char *)(uintptr_t)program_path(), (char *)(uintptr_t)command};
    int count = 2;
    while (*arguments) words[count++] = (char *)(uintptr_t)*arguments++;
    const char *output = in(r, "stdout"), *messages = in(r, "stderr");
    pid_t child = fork();
    if (child) return child;
    if (dup2(open(output, O_WRONLY | O_CREAT | O_TRUNC, 0666), 1) < 0) _exit(99);
    if (dup2(open(messages, O_WRONLY | O_CREAT | O_TRUNC, 0666), 2) < 0) _exit(99);
    execv(words[0], words);
    _exit(99);
}

static pid_t start(folder *r, const char *const *arguments) {
    return start_command(r, "train", arguments);
}

static outcome finish(folder *r, pid_t child) {
    int status;
    size_t bytes;
    outcome o = {0};
    assert_int_equal(waitpid(child, &status, 0), child);
    o.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    OK(file_read(in(r, "stdout"), &o.output, &bytes));
    OK(file_read(in(r, "stderr"), &o.messages, &bytes));
    return o;
}

static void forget(outcome *o) {
    free(o->output);
    free(o->messages);
}

static outcome train(folder *r, const char *const *arguments) {
    return finish(r, start(r, arguments));
}

static const char CONFIG[] = ID_ROWS_CONFIG("2", "");

static const char *write_ids(folder *r) {
    char text[ID_ROWS_BYTES];
    id_rows(text);
    return put_text_in(r, "ids.jsonl", text);
}

static int count_lines(const char *text, const char *begin) {
    int count = 0;
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL)
        count += !strncmp(line, begin, strlen(begin));
    return count;
}

static void a_run_tells_people_on_stderr_and_programs_on_stdout(void **state) {
    program_path(); /* or the test is skipped */
    folder *r = *state;
    json_t *result;
    const char *out = in(r, "out"), *ids = write_ids(r), *config = put_text_in(r, "config.json", CONFIG);
    const char *const arguments[] = {"--config_name",
                                     config,
                                     "--train_file",
                                     ids,
                                     "--validation-file",
                                     ids,
                                     "--output-dir",
                                     out,
                                     "--block_size",
                                     "16",
                                     "--max_steps=6",
                                     "--bf16",
                                     "False",
                                     "--json",
                                     "--logging_steps",
                                     "2",
                                     NULL};
    outcome o = train(r, arguments);
    if (o.code) fail_msg("exit code %d: %s", o.code, o.messages);
    assert_int_equal(count_lines(o.messages, "step "), 3);
    assert_null(strchr(o.messages, '\r')); /* no progress bar without a terminal */
    OK(json_parse(o.output, strlen(o.output), "stdout", &result));
    assert_int_equal(json_integer_value(json_object_get(result, "steps")), 6);
    assert_int_equal(json_integer_value(json_object_get(result, "tokens")), (8 + 4) * 16 * 3);
    double loss = json_real_value(json_object_get(result, "eval_loss"));
    double perplexity = json_real_value(json_object_get(result, "perplexity"));
    assert_true(loss > 1 && loss < 4 && fabs(log(perplexity) - loss) < 1e-6);
    json_decref(result);
    forget(&o);
}

/* ---------------------------------------------------------------- on a terminal */

static pid_t start_on_terminal(int inside, const char *const *arguments) {
    char *words[64] = {(char *)(uintptr_t)program_path(), (char[]){"train"}};
    int count = 2;
    while (*arguments) words[count++] = (char *)(uintptr_t)*arguments++;
    pid_t child = fork();
    if (child) return child;
    if (dup2(inside, 2) < 0 || dup2(open("/dev/null", O_WRONLY), 1) < 0) _exit(99);
    execv(words[0], words);
    _exit(99);
}

/* Length of the longest progress line, which must not wrap, because it is overwritten. */
static size_t widest(const char *text) {
    size_t largest = 0;
    while (*text) {
        size_t length = strcspn(text, "\r\n");
        size_t shown = strncmp(text, "\033[K", 3) ? length : length - 3;
        if (strstr(text, " tok/s") && shown > largest && strstr(text, " tok/s") < text + length) largest = shown;
        text += length + (text[length] != '\0');
    }
    return largest;
}

static void a_terminal_shows_a_line_that_is_written_over(void **state) {
    program_path(); /* or the test is skipped */
    folder *r = *state;
    enum { MAX_TEXT = 1 << 20 };
    const unsigned short columns[] = {120, 50};
    const char *ids = write_ids(r), *config = put_text_in(r, "config.json", CONFIG);
    char *text = malloc(MAX_TEXT);
    for (int i = 0; i < 2; i++) {
        int inside, terminal = terminal_open(columns[i], &inside);
        const char *const arguments[] = {"--config_name",
                                         config,
                                         "--train_file",
                                         ids,
                                         "--output_dir",
                                         in(r, i ? "narrow" : "wide"),
                                         "--block_size",
                                         "16",
                                         "--max_steps",
                                         "40",
                                         "--validation_file",
                                         ids,
                                         "--eval_strategy",
                                         "steps",
                                         "--eval_steps",
                                         "20",
                                         "--device",
                                         "cpu",
                                         "--threads",
                                         "1",
                                         NULL};
        pid_t child = start_on_terminal(inside, arguments);
        assert_int_equal(terminal_finish(terminal, inside, child, text, MAX_TEXT), 0);
        assert_true(widest(text) > 20 && widest(text) < columns[i]);
        assert_non_null(strstr(text, "evaluation at step 20: loss "));
        char *last = strstr(text, "40/40  loss ");
        double loss, smoothed;
        assert_non_null(last);
        assert_int_equal(sscanf(last, "40/40  loss %lf ~%lf", &loss, &smoothed), 2);
        assert_true(loss > 1 && loss < 4 && smoothed > loss && smoothed < 4); /* it learns */
        if (i == 0) assert_true(strstr(last, "% of peak)") && strstr(last, " left  ") && strstr(last, "MiB"));
    }
    free(text);
}

/* ---------------------------------------------------------------- signals and errors */

/* Whether a folder has an entry with this prefix. */
static bool has_entry(const char *place, const char *begin) {
    DIR *entries = opendir(place);
    bool found = false;
    for (struct dirent *e; entries && (e = readdir(entries));) found |= !strncmp(e->d_name, begin, strlen(begin));
    if (entries) closedir(entries);
    return found;
}

static void wait_for_a_step(const char *log) {
    char *lines;
    size_t bytes = 0;
    for (int wait = 0; wait < 12000 && !bytes; wait++) { /* until one has been logged */
        usleep(10000);
        if (!file_exists(log)) continue;
        OK(file_read(log, &lines, &bytes));
        free(lines);
    }
}

static void signals_write_a_checkpoint(void **state) {
    program_path(); /* or the test is skipped */
    folder *r = *state;
    const int signals[] = {SIGINT, SIGTERM, SIGUSR1, SIGHUP}, codes[] = {130, 143, 138, 129};
    const char *ids = write_ids(r), *config = put_text_in(r, "config.json", CONFIG);
    for (int i = 0; i < 4; i++) {
        const char *const outs[] = {"int", "term", "usr1", "hup"};
        const char *const logs[] = {"int/train_log.jsonl", "term/train_log.jsonl", "usr1/train_log.jsonl",
                                    "hup/train_log.jsonl"};
        const char *out = in(r, outs[i]), *log = in(r, logs[i]);
        const char *const arguments[] = {"--config_name",
                                         config,
                                         "--train_file",
                                         ids,
                                         "--output_dir",
                                         out,
                                         "--block_size",
                                         "16",
                                         "--max_steps",
                                         "100000000",
                                         "--logging_steps",
                                         "1",
                                         NULL};
        pid_t child = start(r, arguments);
        wait_for_a_step(log);
        assert_false(has_entry(out, "checkpoint-"));
        assert_int_equal(kill(child, signals[i]), 0);
        outcome o = finish(r, child);
        assert_int_equal(o.code, codes[i]);
        assert_non_null(strstr(o.messages, "interrupted"));
        assert_true(has_entry(out, "checkpoint-"));
        assert_false(has_entry(out, "model.safetensors"));
        assert_string_equal(o.output, "");
        forget(&o);
    }
}

static void mistakes_end_before_any_work(void **state) {
    program_path(); /* or the test is skipped */
    folder *r = *state;
    const char *out = in(r, "out"), *ids = write_ids(r), *config = put_text_in(r, "config.json", CONFIG);
    const struct {
        const char *flag, *value, *message;
    } cases[] = {
        {"--block_size", "1", "--block_size: expected 0 or at least 2"},
        {"--learning_rte", "1", "--learning_rate"},
        {"--lr_scheduler_type", "cubic", "--lr_scheduler_type: expected one of"},
        {"--warmup_ratio", "2", "--warmup_ratio: expected a number from 0 to 1"},
        {"--max_steps", "2.5", "--max_steps: expected an integer"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const arguments[] = {
            "--config_name", config, "--train_file", ids, "--output_dir", out, cases[i].flag, cases[i].value, NULL};
        outcome o = train(r, arguments);
        assert_int_equal(o.code, 2);
        if (!strstr(o.messages, cases[i].message)) fail_msg("'%s' does not say '%s'", o.messages, cases[i].message);
        assert_false(folder_exists(out));
        forget(&o);
    }
}

static void a_failure_is_exit_code_1(void **state) {
    program_path(); /* or the test is skipped */
    folder *r = *state;
    const char *out = in(r, "out"), *ids = write_ids(r), *config = put_text_in(r, "config.json", CONFIG);
    const char *const arguments[] = {"--config_name",
                                     config,
                                     "--train_file",
                                     ids,
                                     "--output_dir",
                                     out,
                                     "--config_overrides",
                                     "max_position_embeddings=4096",
                                     "--block_size",
                                     "1000",
                                     NULL};
    outcome o = train(r, arguments);
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.messages, "ids.jsonl"));
    forget(&o);
}

/* ---------------------------------------------------------------- resuming */

static json_t *result_of(const outcome *o) {
    json_t *result;
    if (o->code) fail_msg("exit code %d: %s", o->code, o->messages);
    OK(json_parse(o->output, strlen(o->output), "stdout", &result));
    return result;
}

static int64_t whole(const json_t *result, const char *key) {
    return json_integer_value(json_object_get(result, key));
}

/* A run of 3 steps in two parts, then once more: each process reports its own steps. */
static void expect_own_work(folder *r, const char **arguments, int count, const char *command) {
    const char *const STEPS[] = {"1", "3", "3"};
    const int NEW[] = {1, 2, 0};
    arguments[count++] = "--json";
    arguments[count++] = "--max_steps";
    for (int i = 0; i < 3; i++) {
        arguments[count] = STEPS[i];
        outcome o = finish(r, start_command(r, command, arguments));
        json_t *result = result_of(&o);
        assert_int_equal(whole(result, "steps"), atoi(STEPS[i]));
        assert_int_equal(whole(result, "new_steps"), NEW[i]);
        assert_true((whole(result, "new_tokens") > 0) == (NEW[i] > 0));
        assert_true(json_is_null(json_object_get(result, "tokens_per_second")) == (NEW[i] == 0));
        assert_true((json_real_value(json_object_get(result, "seconds")) > 0) == (NEW[i] > 0));
        assert_true(json_is_real(json_object_get(result, "train_loss")));
        if (i == 0) assert_int_equal(count_lines(o.messages, "1 step, "), 1);
        if (i == 1) assert_int_equal(count_lines(o.messages, "2 steps (3 in total), "), 1);
        if (i == 2) assert_int_equal(count_lines(o.messages, "training was already complete: 3 steps, "), 1);
        if (i == 2) assert_null(strstr(o.messages, "tokens/s"));
        json_decref(result);
        forget(&o);
    }
}

static void a_run_started_again_tells_its_own_work(void **state) {
    program_path();
    folder *r = *state;
    const char *ids = write_ids(r), *config = put_text_in(r, "config.json", CONFIG);
    const char *rows = put_text_in(r, "rows.jsonl",
                                   "{\"prompt\":\"a cat\",\"completion\":\" sat down\"}\n"
                                   "{\"prompt\":\"a dog\",\"completion\":\" stood up\"}\n");
    const char *out[] = {in(r, "plain"), in(r, "evaluated"), in(r, "tuned"), in(r, "tuned-evaluated")};
    for (int i = 0; i < 4; i++) {
        bool tunes = i / 2, evaluates = i % 2;
        const char *words[32] = {tunes ? "--model_name_or_path" : "--config_name",
                                 tunes ? out[0] : config,
                                 "--train_file",
                                 tunes ? rows : ids,
                                 "--output_dir",
                                 out[i],
                                 "--device",
                                 "cpu",
                                 "--threads",
                                 "1"};
        int count = 10;
        if (!tunes) words[count++] = "--block_size", words[count++] = "16";
        if (tunes) words[count++] = "--tokenizer_name", words[count++] = SOURCE_DIR "/data/tokenizer";
        if (evaluates) words[count++] = "--validation_file", words[count++] = tunes ? rows : ids;
        expect_own_work(r, words, count, tunes ? "sft" : "train");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_run_tells_people_on_stderr_and_programs_on_stdout),
        IN_FOLDER(a_terminal_shows_a_line_that_is_written_over),
        IN_FOLDER(signals_write_a_checkpoint),
        IN_FOLDER(mistakes_end_before_any_work),
        IN_FOLDER(a_failure_is_exit_code_1),
        IN_FOLDER(a_run_started_again_tells_its_own_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
