/* A terminal for a program to write to. The test is skipped if the system has no pseudo-terminals (a root without
 * /dev/pts). */
#ifndef TESTS_TERMINAL_H
#define TESTS_TERMINAL_H

#include "skipping.h"

#include <pty.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Returns the end that the test reads; *inside is the end for the program. */
static inline int terminal_open(int columns, int *inside) {
    struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
    int terminal;
    if (openpty(&terminal, inside, NULL, NULL, &size) < 0) SKIP("this system has no pseudo-terminals (/dev/pts)");
    return terminal;
}

/* Reads until the program has closed its end. */
static inline void terminal_read(int terminal, char *text, size_t capacity) {
    size_t length = 0;
    for (ssize_t got; length + 1 < capacity && (got = read(terminal, text + length, capacity - length - 1)) > 0;)
        length += (size_t)got;
    text[length] = '\0';
}

/* Runs the program with the path words[0], with its standard output on a terminal; returns its exit code. */
static inline int terminal_run(const char *const *words, int columns, char *text, size_t capacity) {
    int inside, terminal = terminal_open(columns, &inside), status;
    pid_t child = fork();
    if (!child) {
        if (dup2(inside, 1) < 0) _exit(99);
        execv(words[0], (char *const *)(uintptr_t)words);
        _exit(99);
    }
    close(inside);
    terminal_read(terminal, text, capacity);
    close(terminal);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#endif
