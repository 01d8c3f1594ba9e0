/* Calls a command of the program in this process and captures its output. For commands that end before they compute. */
#ifndef TESTS_CLI_CAPTURE_H
#define TESTS_CLI_CAPTURE_H

#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>

#include "skipping.h"

#include "cli/commands/commands.h"
#include "cli/flags/flags.h"

typedef struct captured {
    int code;
    char output[1 << 16], messages[4096]; /* truncated to this size */
} captured;

static const struct cli_command {
    const char *name;
    int (*run)(int argc, char **argv);
} CLI_COMMANDS[] = {
    {"train", cmd_train},
    {"sft", cmd_sft},
    {"convert", cmd_convert},
    {"inspect", cmd_inspect},
    {"generate", cmd_generate},
    {"chat", cmd_chat},
    {"score", cmd_score},
    {"eval", cmd_eval},
    {"bench", cmd_bench},
    {"tokenize", cmd_tokenize},
    {"serve", cmd_serve},
    {"fetch", cmd_fetch},
    {NULL, NULL},
};

static inline const struct cli_command *cli_command(const char *name) {
    const struct cli_command *c = CLI_COMMANDS;
    while (c->name && strcmp(c->name, name)) c++;
    assert_non_null(c->name);
    return c;
}

/* Redirects a stream to an unnamed file. Returns the old descriptor, for capture_end(). */
static inline int capture_begin(FILE *stream) {
    char name[] = "/tmp/lckv-capture-XXXXXX";
    int fd = mkstemp(name), before = dup(fileno(stream));
    assert_true(fd >= 0 && before >= 0);
    unlink(name);
    fflush(stream);
    assert_true(dup2(fd, fileno(stream)) >= 0);
    close(fd);
    return before;
}

static inline void capture_end(FILE *stream, int before, char *text, size_t capacity) {
    fflush(stream);
    ssize_t bytes = pread(fileno(stream), text, capacity - 1, 0);
    assert_true(bytes >= 0);
    text[bytes] = '\0';
    assert_true(dup2(before, fileno(stream)) >= 0);
    close(before);
}

/* `words` begins with the command's name and ends with NULL. */
static inline void capture(captured *c, const char *const *words) {
    char *argv[128];
    int argc = 0;
    while ((argv[argc] = (char *)(uintptr_t)words[argc])) argc++;
    int output = capture_begin(stdout), messages = capture_begin(stderr);
    c->code = cli_command(words[0])->run(argc, argv);
    capture_end(stderr, messages, c->messages, sizeof c->messages);
    capture_end(stdout, output, c->output, sizeof c->output);
}

#define CAPTURE(c, ...) capture((c), (const char *const[]){__VA_ARGS__, NULL})

#endif
