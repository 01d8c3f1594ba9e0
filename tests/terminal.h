/* A terminal for a program to write to. The test is skipped if the system has no pseudo-terminals (a root without
 * /dev/pts). */
#ifndef TESTS_TERMINAL_H
#define TESTS_TERMINAL_H

#include "skipping.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdbool.h>
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

enum { TERMINAL_END = 1 }; /* a character that no program writes */

/* Waits for the program, reads all that it wrote, closes both ends, and returns the program's status (of waitpid). Once
 * the program has ended, a last character is written behind its output: a read that fails because the other end was
 * closed can come before the output. */
static inline int terminal_finish(int terminal, int inside, pid_t child, char *text, size_t capacity) {
    size_t length = 0;
    int status = 0;
    bool ended = false, marked = false;
    while (!length || text[length - 1] != TERMINAL_END) {
        assert_true(length + 1 < capacity);
        struct pollfd ready = {.fd = terminal, .events = POLLIN};
        if (poll(&ready, 1, 20) > 0) {
            ssize_t got = read(terminal, text + length, capacity - length - 1);
            assert_true(got > 0);
            length += (size_t)got;
        }
        if (!ended && waitpid(child, &status, WNOHANG) == child)
            ended = !fcntl(inside, F_SETFL, O_NONBLOCK); /* shared with the program's output: not before it has ended */
        if (ended && !marked) marked = write(inside, &(char){TERMINAL_END}, 1) == 1;
    }
    text[length - 1] = '\0';
    close(inside);
    close(terminal);
    return status;
}

/* Runs the program with the path words[0], with its standard output on a terminal; returns its exit code. */
static inline int terminal_run(const char *const *words, int columns, char *text, size_t capacity) {
    int inside, terminal = terminal_open(columns, &inside);
    pid_t child = fork();
    if (!child) {
        if (dup2(inside, 1) < 0) _exit(99);
        execv(words[0], (char *const *)(uintptr_t)words);
        _exit(99);
    }
    int status = terminal_finish(terminal, inside, child, text, capacity);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#endif
