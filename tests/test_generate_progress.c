/* The progress line of each command that may take long: shown on a terminal and cleared at the end; not shown elsewhere
 * in short runs. test_train_command.c tests that of lckv train. */
#define _GNU_SOURCE /* posix_openpt */
#include "program.h"

#include "model_folder.h"

#include <stdlib.h>
#include <sys/ioctl.h>

enum { MAX_TEXT = 1 << 20, COLUMNS = 100 };

/* Returns the outer end; skips the test if the system has no pseudo-terminals. */
static int open_terminal(int *inside) {
    struct winsize size = {.ws_row = 24, .ws_col = COLUMNS};
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    const char *name = terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0 ? ptsname(terminal) : NULL;
    *inside = name ? open(name, O_RDWR | O_NOCTTY) : -1;
    if (*inside < 0) printf("skipped: no pseudo-terminals (/dev/pts)\n"), skip();
    assert_int_equal(ioctl(*inside, TIOCSWINSZ, &size), 0);
    return terminal;
}

/* What the command writes to a terminal as its stderr. */
static char *on_terminal(const folder *f, const char *const *words) {
    char *arguments[64] = {(char *)(uintptr_t)program_path()}, *text = malloc(MAX_TEXT);
    int inside, terminal = open_terminal(&inside), count = 1;
    size_t length = 0;
    for (const char *const *word = words; *word; word++) arguments[count++] = (char *)(uintptr_t)*word;
    const char *output = in(f, "stdout");
    pid_t child = fork();
    if (!child) {
        if (dup2(open("/dev/null", O_RDONLY), 0) < 0 || dup2(inside, 2) < 0) _exit(99);
        if (dup2(open(output, O_WRONLY | O_CREAT | O_TRUNC, 0666), 1) < 0) _exit(99);
        execv(arguments[0], arguments);
        _exit(99);
    }
    close(inside);
    for (ssize_t got; length + 1 < MAX_TEXT && (got = read(terminal, text + length, MAX_TEXT - length - 1)) > 0;)
        length += (size_t)got;
    text[length] = '\0';
    close(terminal);
    int code = program_wait(child);
    if (code) fail_msg("%s: exit code %d: %s", words[0], code, text);
    return text;
}

/* Lines are overwritten and cleared at the end; none is as wide as the terminal. */
static void expect_line(const folder *f, const char *part, const char *const *words) {
    static const char CLEAR[] = "\r\033[K";
    char *text = on_terminal(f, words), *last = NULL;
    if (!strstr(text, part)) fail_msg("%s shows no '%s': %s", words[0], part, text);
    for (char *at = text; (at = strstr(at, CLEAR)); at += 4) {
        assert_true(strcspn(at + 4, "\r\n") < COLUMNS);
        last = at;
    }
    assert_non_null(last);
    assert_null(strstr(last, part)); /* all of it is cleared */
    free(text);
    outcome o = program_run(f, words);
    assert_int_equal(o.code, 0);
    assert_null(strchr(o.messages, '\r'));
    assert_null(strstr(o.messages, part));
    outcome_free(&o);
}

#define SHOWS(f, part, ...) expect_line((f), (part), (const char *const[]){__VA_ARGS__, NULL})

static void write_text(const folder *f) {
    char text[8192] = "";
    for (int i = 0; i < 200; i++) strcat(text, "the cat sat on the mat and ");
    put_text(in(f, "text.txt"), text);
}

static void commands_show_how_far_they_are(void **state) {
    const folder *f = *state;
    char text[600], model[600], config[600], converted[600];
    write_text(f);
    snprintf(text, sizeof text, "%s/text.txt", f->path);
    snprintf(model, sizeof model, "%s/model", f->path);
    snprintf(config, sizeof config, "%s/config.json", f->path);
    snprintf(converted, sizeof converted, "%s/converted", f->path);
    SHOWS(f, "scoring ", "score", "--model_name_or_path", model, "--file", text, "--encoding", "sequential", "--device",
          "cpu", "--threads", "1", "--no_special_tokens", "--sink_cache", "--window_length", "32");
    SHOWS(f, " tokens  mean nll ", "eval", "--model_name_or_path", model, "--file", text, "--device", "cpu",
          "--threads", "1");
    SHOWS(f, "writing ", "convert", "--model_name_or_path", model, "--output_dir", converted, "--config_overrides",
          "layer_types=2_2_2_3");
    SHOWS(f, " tg20", "bench", "--config_name", config, "--prompt_lengths", "20", "--new_lengths", "20", "--device",
          "cpu", "--threads", "1", "--repetitions", "1");
    SHOWS(f, "iterations, block ", "bench", "--measure", "iterations", "--model_name_or_path", model, "--file", text,
          "--block_size", "40", "--num_blocks", "2", "--max_iterations", "3", "--device", "cpu", "--threads", "1");
    SHOWS(f, " of 80 tokens", "bench", "--measure", "stream", "--config_name", config, "--num_tokens", "80",
          "--window_length", "32", "--device", "cpu", "--threads", "1");
}

/* Work of unknown length shows the elapsed time, after one second. */
static void work_of_unknown_length_shows_its_time(void **state) {
    const folder *f = *state;
    char *text = on_terminal(f, (const char *const[]){"inspect", "--config_name", SOURCE_DIR "/configs/lckv-30b.json",
                                                      "--num_sequences", "3000", "--length", "2000", NULL});
    char *shown = strstr(text, "computing the memory footprint of serving  0:0");
    if (!shown) fail_msg("no time is shown: %s", text);
    char *cleared = strrchr(text, '\r');
    assert_string_equal(cleared, "\r\033[K");
    free(text);
    text = on_terminal(f, (const char *const[]){"inspect", "--config_name", in(f, "config.json"), NULL});
    assert_string_equal(text, ""); /* short */
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(commands_show_how_far_they_are, model_folder_open, folder_close),
        cmocka_unit_test_setup_teardown(work_of_unknown_length_shows_its_time, model_folder_open, folder_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
