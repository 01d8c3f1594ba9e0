/* Help: width, examples, and how to request it. */
#define _GNU_SOURCE /* memmem */
#include "program.h"

#include "cli_capture.h"
#include "terminal.h"

/* ---------------------------------------------------------------- width */

static int columns_of(const char *line, size_t bytes) {
    int count = 0;
    for (size_t i = 0; i < bytes; i++) count += ((unsigned char)line[i] & 0xC0) != 0x80;
    return count;
}

/* A word, or the part of an example up to its next flag: text that is not broken. */
static bool is_one_piece(const char *line, size_t bytes) {
    size_t begin = strspn(line, " ");
    bool example = (begin == 6 && line[6] == '-') || (begin == 2 && line[2] >= 'a' && line[2] <= 'z');
    return !(example ? memmem(line + begin, bytes - begin, " --", 3) : memchr(line + begin, ' ', bytes - begin));
}

/* No line is wider than necessary, and each flag of the table appears unbroken. */
static void check_width(const char *command, const char *text, int width) {
    for (const char *line = text; *line;) {
        size_t bytes = strcspn(line, "\r\n");
        if (columns_of(line, bytes) > width && !is_one_piece(line, bytes))
            fail_msg("%s, %d columns: %.*s", command, width, (int)bytes, line);
        line += bytes;
        line += strspn(line, "\r\n");
    }
    captured rows;
    CAPTURE(&rows, command, "--help", "--markdown");
    for (const char *row = rows.output; (row = strstr(row, "| `--")); row++) {
        char name[128];
        snprintf(name, sizeof name, "  %.*s", (int)strcspn(row + 3, "`"), row + 3);
        const char *kind = strchr(row + 3, '`');
        bool listed = !strncmp(kind, "` | acts | ", 11) && strncmp(kind + 11, "as --", 5) != 0;
        if (listed && !strstr(text, name)) fail_msg("%s: %s is broken or missing", command, name);
    }
}

static void help_is_80_columns_wide_where_nothing_is_known(void **state) {
    (void)state;
    captured c;
    for (const struct cli_command *command = CLI_COMMANDS; command->name; command++) {
        CAPTURE(&c, command->name, "--help");
        assert_int_equal(c.code, 0);
        check_width(command->name, c.output, HELP_DEFAULT_WIDTH);
    }
}

static void help_is_as_wide_as_the_terminal_but_no_wider_than_100(void **state) {
    (void)state;
    static const struct { int terminal, help; } widths[] = {{10, 40}, {60, 60}, {99, 99}, {200, 100}};
    char text[1 << 16];
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        for (const struct cli_command *command = CLI_COMMANDS; command->name; command++) {
            const char *const words[] = {program_path(), "help", command->name, NULL};
            assert_int_equal(terminal_run(words, widths[i].terminal, text, sizeof text), 0);
            check_width(command->name, text, widths[i].help);
        }
}

static void help_uses_the_columns_that_there_are(void **state) {
    (void)state;
    char narrow[1 << 16], wide[1 << 16];
    const char *const words[] = {program_path(), "help", "train", NULL};
    assert_int_equal(terminal_run(words, 60, narrow, sizeof narrow), 0);
    assert_int_equal(terminal_run(words, 100, wide, sizeof wide), 0);
    int lines[2] = {0};
    for (const char *c = narrow; *c; c++) lines[0] += *c == '\n';
    for (const char *c = wide; *c; c++) lines[1] += *c == '\n';
    assert_true(lines[0] > lines[1] + lines[1] / 4);
}

/* ---------------------------------------------------------------- examples */

/* The command lines under "Examples", with continued lines joined. The caller frees it. */
static char *examples_of(const char *help) {
    const char *at = strstr(help, "\nExamples\n");
    assert_non_null(at);
    at += strlen("\nExamples\n");
    char *text = malloc(strlen(at) + 1), *to = text;
    for (; *at; at++) {
        if (at[0] == '\\' && at[1] == '\n')
            at++;
        else
            *to++ = *at;
    }
    *to = '\0';
    return text;
}

/* Runs `lckv COMMAND ...` as a shell would, but only parses the flags. */
static int check_line(const folder *f, const char *line) {
    char script[4096];
    const char *at = strstr(line, "lckv ");
    assert_non_null(at);
    snprintf(script, sizeof script, "'%s' help --check %s", program_path(), at + strlen("lckv "));
    put_text(in(f, "example.sh"), script);
    snprintf(script, sizeof script, "cd '%s' && sh ./example.sh 2>>messages", in(f, "."));
    return system(script);
}

static void every_command_has_examples_whose_flags_are_right(void **state) {
    const folder *f = *state;
    captured c;
    put_text(in(f, "flags.json"), "{\"train_file\": [\"a b.txt\"], \"output_dir\": \"out\"}");
    for (const struct cli_command *command = CLI_COMMANDS; command->name; command++) {
        CAPTURE(&c, command->name, "--help");
        char *examples = examples_of(c.output);
        int count = 0;
        for (char *line = strtok(examples, "\n"); line; line = strtok(NULL, "\n")) {
            if (line[2] == '#' || !strncmp(line, "    ", 4)) continue; /* its description */
            if (check_line(f, line)) fail_msg("%s: %s", command->name, line);
            count++;
        }
        if (count < 2 || count > 3) fail_msg("%s has %d examples", command->name, count);
        free(examples);
    }
}

/* docs/file-formats.md says so. */
static void every_command_but_serve_has_json(void **state) {
    (void)state;
    captured c;
    for (const struct cli_command *command = CLI_COMMANDS; command->name; command++) {
        CAPTURE(&c, command->name, "--help", "--markdown");
        bool has = strstr(c.output, "| `--json` | acts |") != NULL;
        assert_true(has == (strcmp(command->name, "serve") != 0));
    }
}

/* ---------------------------------------------------------------- requests for help */

static void ends_with(const folder *f, int code, const char *begins, const char *const *words) {
    outcome o = program_run(f, words);
    assert_int_equal(o.code, code);
    if (strncmp(o.output, begins, strlen(begins))) fail_msg("expected '%s', found '%.80s'", begins, o.output);
    assert_string_equal(o.messages, "");
    outcome_free(&o);
}
#define BEGINS(f, code, begins, ...) ends_with((f), (code), (begins), (const char *const[]){__VA_ARGS__, NULL})

static void help_and_version_are_found_under_all_their_names(void **state) {
    const folder *f = *state;
    BEGINS(f, 0, "lckv 0.", "-V");
    BEGINS(f, 0, "lckv 0.", "--version");
    BEGINS(f, 0, "lckv 0.", "help");
    BEGINS(f, 0, "lckv 0.", "help", "help");
    BEGINS(f, 0, "lckv 0.", "help", "--help");
    BEGINS(f, 0, "lckv 0.", "--help");
    BEGINS(f, 0, "lckv 0.", "-h");
    BEGINS(f, 0, "usage: lckv train ", "help", "train");
    BEGINS(f, 0, "usage: lckv train ", "--help", "train");
    BEGINS(f, 0, "usage: lckv train ", "-h", "train");
    BEGINS(f, 0, "usage: lckv train ", "train", "-h");
    BEGINS(f, 0, "usage: lckv fetch ", "fetch", "a/b", "--help");
    const char *const nothing[] = {NULL};
    ends_with(f, 2, "lckv 0.", nothing);
    REFUSES(f, 2, "unknown command \"trian\"; did you mean lckv train?", "help", "trian");
    REFUSES(f, 2, "unknown command \"finetune\"; did you mean lckv sft?", "finetune");
    REFUSES(f, 2, "unknown command \"version\"; did you mean lckv --version?", "version");
    REFUSES(f, 2, "unknown command \"xyzzy\"; see lckv help", "xyzzy");
    REFUSES(f, 2, "the command comes before its flags: lckv generate --bf16", "--bf16", "generate");
}

static void flags_can_be_checked_without_running_them(void **state) {
    const folder *f = *state;
    BEGINS(f, 0, "", "help", "--check", "generate", "--model_name_or_path", "absent", "--prompt", "a");
    BEGINS(f, 0, "", "help", "--check", "fetch", "a/b", "--repo_type", "dataset");
    REFUSES(f, 2, "unknown flag \"--lr\"; did you mean --learning_rate?", "help", "--check", "train", "--lr", "1");
    REFUSES(f, 2, "--length: expected at least 1", "help", "--check", "generate", "--length", "0");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_is_80_columns_wide_where_nothing_is_known),
        cmocka_unit_test(help_is_as_wide_as_the_terminal_but_no_wider_than_100),
        cmocka_unit_test(help_uses_the_columns_that_there_are),
        IN_FOLDER(every_command_has_examples_whose_flags_are_right),
        cmocka_unit_test(every_command_but_serve_has_json),
        IN_FOLDER(help_and_version_are_found_under_all_their_names),
        IN_FOLDER(flags_can_be_checked_without_running_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
