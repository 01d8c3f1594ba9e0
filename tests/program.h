/* Runs the program that was built together with the tests, in the test's folder (folder_fixture.h). */
#ifndef TESTS_PROGRAM_H
#define TESTS_PROGRAM_H

#include "base/text/json.h"

#include "folder_fixture.h"
#include "program_path.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

typedef struct outcome {
    int code; /* exit code, or 128 + the signal that ended it */
    char *output, *messages;
} outcome;

/* `words` starts with the command and ends with NULL. Output goes to the files `stdout` and `stderr`. */
static inline pid_t program_start(const folder *f, const char *const *words, int output) {
    char *arguments[128] = {(char *)(uintptr_t)program_path()};
    int count = 1;
    while (*words) arguments[count++] = (char *)(uintptr_t)*words++;
    const char *messages = in(f, "stderr");
    pid_t child = fork();
    if (child) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failing test must not leave a server running */
    if (dup2(open("/dev/null", O_RDONLY), 0) < 0 || dup2(output, 1) < 0) _exit(99);
    unlink(messages); /* a server that is still running keeps its file */
    if (dup2(open(messages, O_WRONLY | O_CREAT | O_TRUNC, 0666), 2) < 0) _exit(99);
    execv(arguments[0], arguments);
    _exit(99);
}

static inline int program_wait(pid_t child) {
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline outcome program_run(const folder *f, const char *const *words) {
    size_t bytes;
    outcome o;
    int output = open(in(f, "stdout"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    assert_true(output >= 0);
    o.code = program_wait(program_start(f, words, output));
    close(output);
    o.output = get(in(f, "stdout"), &bytes);
    o.messages = get(in(f, "stderr"), &bytes);
    return o;
}

#define RUN(f, ...) program_run((f), (const char *const[]){__VA_ARGS__, NULL})

static inline void outcome_free(outcome *o) {
    free(o->output);
    free(o->messages);
}

/* Runs the program, expects exit code 0, and parses its output as JSON; release with json_decref(). */
static inline json_t *program_json(const folder *f, const char *const *words) {
    json_t *json;
    outcome o = program_run(f, words);
    if (o.code) fail_msg("exit code %d: %s", o.code, o.messages);
    OK(json_parse(o.output, strlen(o.output), "stdout", &json));
    outcome_free(&o);
    return json;
}

#define RUN_JSON(f, ...) program_json((f), (const char *const[]){__VA_ARGS__, "--json", NULL})

/* Runs the program, expects this exit code, these words on stderr, and an empty stdout. */
static inline void program_refuses(const folder *f, int code, const char *part, const char *const *words) {
    outcome o = program_run(f, words);
    if (o.code != code) fail_msg("exit code %d, expected %d: %s", o.code, code, o.messages);
    if (!strstr(o.messages, part)) fail_msg("'%s' does not say '%s'", o.messages, part);
    assert_string_equal(o.output, "");
    outcome_free(&o);
}

#define REFUSES(f, code, part, ...) program_refuses((f), (code), (part), (const char *const[]){__VA_ARGS__, NULL})

#endif
