/* Training runs with several processes from flags in one string, and comparisons of what they wrote. */
#ifndef TESTS_RANKS_RUNS_H
#define TESTS_RANKS_RUNS_H

#include "ranks_fixture.h"

#include <stdarg.h>

enum { FLAG_BYTES = 512 };

/* Starts a run. `text`: memory for its words. */
static inline pid_t start(const folder *f, int processes, const char *output, const char *flags,
                          char text[FLAG_BYTES]) {
    const char *words[MAX_WORDS / 2];
    int count = 0;
    snprintf(text, FLAG_BYTES, "%s", flags);
    for (char *at = strtok(text, " "); at; at = strtok(NULL, " ")) words[count++] = at;
    words[count] = NULL;
    return train(f, processes, output, NULL, words);
}

/* Runs it to its end. */
static inline void run(const folder *f, int processes, const char *output, const char *format, ...) {
    char flags[FLAG_BYTES], text[FLAG_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(flags, sizeof flags, format, arguments);
    va_end(arguments);
    finish_well(f, start(f, processes, output, flags, text));
}

/* `name`: of a file in the output folders of two runs, or in their checkpoints; `what`: for the message. */
static inline void same_file(const folder *f, const char *one, const char *other, const char *name, const char *what) {
    char a[2 * PATH_BYTES], b[2 * PATH_BYTES];
    size_t x, y;
    snprintf(a, sizeof a, "%s/%s", in(f, one), name);
    snprintf(b, sizeof b, "%s/%s", in(f, other), name);
    char *left = get(a, &x), *right = get(b, &y);
    if (x != y || memcmp(left, right, x)) fail_msg("%s: %s of %s and %s differ", what, name, one, other);
    free(left);
    free(right);
}

static inline void same_checkpoint(const folder *f, const char *one, const char *other, const char *what) {
    static const char *const FILES[] = {"model.safetensors", "optimizer.safetensors", "training_state.json",
                                        "checksums.json"};
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) same_file(f, one, other, FILES[i], what);
}

#endif
