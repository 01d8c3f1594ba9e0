/* Drives a headless Chromium in tests of web pages, over two pipes with the DevTools protocol (JSON messages that end
 * in NUL). Leaves out: windows, downloads, several tabs. */
#ifndef TESTS_BROWSER_H
#define TESTS_BROWSER_H

#include "base/text/json.h"
#include "base/text/text_buffer.h"

#include "folder_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BROWSER_PATIENCE_MS = 120000, BROWSER_READS = 3, BROWSER_WRITES = 4 };

typedef struct browser {
    pid_t process;
    int to, from;
    char *session; /* session of the page; NULL: messages go to the browser */
    int messages;
    text_buffer heard; /* bytes of incomplete messages */
} browser;

/* Path of the browser; NULL if it is not installed. */
static inline const char *browser_path(void) {
    static const char *const PATHS[] = {"/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"};
    for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++)
        if (access(PATHS[i], X_OK) == 0) return PATHS[i];
    return NULL;
}

/* In the child process. Moves the pipes first, so that their numbers do not collide with 3 and 4, which the browser
 * uses. */
static inline void browser_become(int reads, int writes, const char *profile) {
    char data[600];
    int quiet = open("/dev/null", O_WRONLY);
    snprintf(data, sizeof data, "--user-data-dir=%s", profile);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(quiet, 1);
    dup2(quiet, 2);
    dup2(reads, BROWSER_READS);
    dup2(writes, BROWSER_WRITES);
    execl(browser_path(), "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
          "--disable-dev-shm-usage", "--disable-background-networking", "--remote-debugging-pipe", data, "about:blank",
          (char *)NULL);
    _exit(99);
}

/* Reads the next message; release with json_decref(). */
static inline json_t *browser_hear(browser *b) {
    for (;;) {
        const char *end = b->heard.length ? memchr(b->heard.data, 0, b->heard.length) : NULL;
        if (end) {
            size_t bytes = (size_t)(end - b->heard.data) + 1;
            json_t *message = json_loadb(b->heard.data, bytes - 1, 0, NULL);
            assert_non_null(message);
            memmove(b->heard.data, b->heard.data + bytes, b->heard.length -= bytes);
            return message;
        }
        struct pollfd ready = {.fd = b->from, .events = POLLIN};
        char piece[65536];
        if (poll(&ready, 1, BROWSER_PATIENCE_MS) <= 0) fail_msg("the browser says nothing");
        ssize_t got = read(b->from, piece, sizeof piece);
        if (got <= 0) fail_msg("the browser has gone");
        OK(text_append(&b->heard, piece, (size_t)got));
    }
}

/* An uncaught error in the page's script fails the test. */
static inline void browser_check_event(const json_t *message) {
    const char *method = json_string_value(json_object_get(message, "method"));
    if (!method || strcmp(method, "Runtime.exceptionThrown")) return;
    char *text = json_dumps(message, 0);
    fail_msg("the page's script: %s", text);
}

/* Sends a command with these parameters (steals the reference) and waits for its result. */
static inline json_t *browser_call(browser *b, const char *method, json_t *parameters) {
    int id = ++b->messages;
    json_t *message = json_pack("{si ss so}", "id", id, "method", method, "params", parameters), *result = NULL;
    if (b->session) json_object_set_new(message, "sessionId", json_string(b->session));
    char *text = json_dumps(message, JSON_COMPACT);
    assert_int_equal(write(b->to, text, strlen(text) + 1), strlen(text) + 1);
    free(text);
    json_decref(message);
    while (!result) {
        message = browser_hear(b);
        browser_check_event(message);
        if (json_integer_value(json_object_get(message, "id")) == id) {
            result = json_incref(json_object_get(message, "result"));
            if (!result) fail_msg("%s: %s", method, json_dumps(message, 0));
        }
        json_decref(message);
    }
    return result;
}

static inline void browser_do(browser *b, const char *method, json_t *parameters) {
    json_decref(browser_call(b, method, parameters));
}

/* Starts a browser with an empty page and a profile in the test's folder. */
static inline void browser_open(const folder *f, browser *b) {
    int down[2], up[2];
    assert_true(pipe(down) == 0 && pipe(up) == 0);
    for (int i = 0; i < 2; i++) fcntl(down[i], F_SETFD, FD_CLOEXEC), fcntl(up[i], F_SETFD, FD_CLOEXEC);
    int reads = fcntl(down[0], F_DUPFD_CLOEXEC, 10), writes = fcntl(up[1], F_DUPFD_CLOEXEC, 10);
    const char *profile = in(f, "profile");
    *b = (browser){.process = fork(), .to = down[1], .from = up[0]};
    if (!b->process) browser_become(reads, writes, profile);
    int ends[] = {down[0], up[1], reads, writes};
    for (int i = 0; i < 4; i++) close(ends[i]);
    json_t *page = browser_call(b, "Target.createTarget", json_pack("{ss}", "url", "about:blank"));
    json_t *session = browser_call(b, "Target.attachToTarget",
                                   json_pack("{sO sb}", "targetId", json_object_get(page, "targetId"), "flatten", 1));
    b->session = strdup(json_string_value(json_object_get(session, "sessionId")));
    browser_do(b, "Page.enable", json_object());
    browser_do(b, "Runtime.enable", json_object());
    json_decref(session);
    json_decref(page);
}

/* Asks the browser to quit, so that none of its processes still writes to the profile. */
static inline void browser_close(browser *b) {
    free(b->session);
    b->session = NULL;
    browser_do(b, "Browser.close", json_object());
    waitpid(b->process, NULL, 0);
    close(b->to);
    close(b->from);
    text_free(&b->heard);
}

/* Evaluates an expression, and awaits it if it is a promise. */
static inline json_t *browser_value(browser *b, const char *expression) {
    json_t *answer =
        browser_call(b, "Runtime.evaluate",
                     json_pack("{ss sb sb}", "expression", expression, "awaitPromise", 1, "returnByValue", 1));
    if (json_object_get(answer, "exceptionDetails")) fail_msg("%s: %s", expression, json_dumps(answer, 0));
    json_t *value = json_incref(json_object_get(json_object_get(answer, "result"), "value"));
    json_decref(answer);
    return value;
}

static inline bool browser_true(browser *b, const char *expression) {
    json_t *value = browser_value(b, expression);
    bool is = json_is_true(value);
    json_decref(value);
    return is;
}

/* Waits until a condition holds. */
static inline void browser_wait(browser *b, const char *condition) {
    for (int ms = 0; ms < BROWSER_PATIENCE_MS; ms += 20) {
        if (browser_true(b, condition)) return;
        usleep(20000);
    }
    json_t *shown = browser_value(b, "document.body.innerText");
    fail_msg("this never came to be: %s; the page says: %s", condition, json_string_value(shown));
}

static inline void browser_type(browser *b, const char *text) {
    browser_do(b, "Input.insertText", json_pack("{ss}", "text", text));
}

/* "Enter", "Escape" or "Tab". */
static inline void browser_press(browser *b, const char *key) {
    int code = *key == 'T' ? 9 : key[1] == 'n' ? 13 : 27;
    json_t *down =
        json_pack("{ss ss ss si}", "type", "keyDown", "key", key, "code", key, "windowsVirtualKeyCode", code);
    if (code == 13) json_object_set_new(down, "text", json_string("\r"));
    browser_do(b, "Input.dispatchKeyEvent", down);
    browser_do(b, "Input.dispatchKeyEvent",
               json_pack("{ss ss ss si}", "type", "keyUp", "key", key, "code", key, "windowsVirtualKeyCode", code));
}

#endif
