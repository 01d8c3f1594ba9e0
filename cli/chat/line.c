/* Lines from standard input, with libedit if available and standard input is a terminal. */
#include "cli/chat/chat.h"
#include "cli/input.h"
#include "cli/output/output.h"

#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef LCKV_EDIT
#include <histedit.h>
#include <wchar.h>
#endif

struct chat_lines {
    bool terminal;
    const char *prompt;
    char *line;      /* the line read last */
    size_t capacity; /* allocated bytes of `line` */
    int failure;     /* exit code of a line that could not be read */
#ifdef LCKV_EDIT
    EditLine *editor; /* NULL: standard input is not a terminal, or libedit does not support it */
    History *history;
    mbstate_t state; /* of a character that is partly read */
#endif
};

/* Copies a line without its line break. */
static const char *keep_line(chat_lines *l, const char *text, size_t bytes) {
    if (bytes && text[bytes - 1] == '\n') bytes--;
    if (bytes && text[bytes - 1] == '\r') bytes--;
    if (text != l->line) {
        l->line = need(realloc(l->line, bytes + 1));
        l->capacity = bytes + 1;
        memcpy(l->line, text, bytes);
    }
    l->line[bytes] = 0;
    return l->line;
}

static const char *empty_line(chat_lines *l) {
    return keep_line(l, "", 0);
}

/* Waits for input; returns false after Ctrl-C. Polls repeatedly, because a signal that arrives just before poll() does
 * not interrupt it. */
static bool wait_for_key(void) {
    enum { POLL_INTERVAL = 200 }; /* milliseconds */
    struct pollfd key = {.fd = STDIN_FILENO, .events = POLLIN};
    while (!interrupted())
        if (poll(&key, 1, POLL_INTERVAL) > 0) return true;
    return false;
}

/* Discards the line in which Ctrl-C was pressed. */
static const char *discard_line(chat_lines *l) {
    print_bytes("\n", 1);
    print_flush();
    return empty_line(l);
}

static const char *read_plain(chat_lines *l, bool *was_interrupted) {
    if (l->terminal) {
        print_bytes(l->prompt, strlen(l->prompt));
        print_flush();
        wait_for_key();
        *was_interrupted = take_interrupt();
        if (*was_interrupted) return discard_line(l);
    }
    ssize_t bytes = read_line("chat", NULL, stdin, &l->line, &l->capacity, &l->failure);
    *was_interrupted = take_interrupt();
    if (*was_interrupted) return empty_line(l);
    return bytes < 0 ? NULL : keep_line(l, l->line, (size_t)bytes);
}

#ifdef LCKV_EDIT
static char *prompt_of(EditLine *editor) {
    chat_lines *l;
    el_get(editor, EL_CLIENTDATA, &l);
    return (char *)(uintptr_t)l->prompt;
}

/* Reads a character. Replaces libedit's own function, which keeps waiting after Ctrl-C. */
static int read_character(EditLine *editor, wchar_t *out) {
    chat_lines *l;
    char byte;
    el_get(editor, EL_CLIENTDATA, &l);
    while (true) {
        if (!wait_for_key()) return -1;
        ssize_t got = read(STDIN_FILENO, &byte, 1);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return (int)got;
        size_t used = mbrtowc(out, &byte, 1, &l->state);
        if (used <= 1) return 1;
        if (used == (size_t)-1) memset(&l->state, 0, sizeof l->state); /* invalid byte: skipped */
    }
}

static void open_editor(chat_lines *l) {
    HistEvent event;
    l->editor = el_init("lckv", stdin, stdout, stderr);
    l->history = history_init();
    if (!l->editor || !l->history) return;
    history(l->history, &event, H_SETSIZE, 1000);
    history(l->history, &event, H_SETUNIQUE, 1);
    el_set(l->editor, EL_CLIENTDATA, l);
    el_set(l->editor, EL_PROMPT, prompt_of);
    el_set(l->editor, EL_EDITOR, "emacs");
    el_set(l->editor, EL_HIST, history, l->history);
    el_set(l->editor, EL_GETCFN, read_character);
    el_source(l->editor, NULL); /* the user's ~/.editrc */
}

static const char *read_edited(chat_lines *l, bool *was_interrupted) {
    int count = 0;
    HistEvent event;
    const char *line = el_gets(l->editor, &count);
    *was_interrupted = take_interrupt();
    if (*was_interrupted) return discard_line(l);
    if (!line || count <= 0) return NULL;
    line = keep_line(l, line, strlen(line));
    if (line[strspn(line, " ")]) history(l->history, &event, H_ENTER, line);
    return line;
}
#endif

chat_lines *chat_lines_open(void) {
    chat_lines *l = need(calloc(1, sizeof *l));
    setlocale(LC_CTYPE, "");
    l->terminal = isatty(STDIN_FILENO);
#ifdef LCKV_EDIT
    if (l->terminal && isatty(STDOUT_FILENO)) open_editor(l);
#endif
    return l;
}

void chat_lines_close(chat_lines *l) {
    if (!l) return;
#ifdef LCKV_EDIT
    if (l->editor) el_end(l->editor);
    if (l->history) history_end(l->history);
#endif
    free(l->line);
    free(l);
}

bool chat_lines_has_terminal(const chat_lines *l) {
    return l->terminal;
}

int chat_lines_failure(const chat_lines *l) {
    return l->failure;
}

const char *chat_lines_read(chat_lines *l, const char *prompt, bool *was_interrupted) {
    *was_interrupted = false;
    l->prompt = prompt;
#ifdef LCKV_EDIT
    if (l->editor && l->history) return read_edited(l, was_interrupted);
#endif
    return read_plain(l, was_interrupted);
}
