/* Runs lckv serve as a process for tests that use it over HTTP. It serves the small model of model_folder.h, with many
 * positions and no EOS, so that responses can be long. */
#ifndef TESTS_SERVED_H
#define TESTS_SERVED_H

#include "program.h"

#include "http_client.h"
#include "model_folder.h"

typedef struct served {
    folder *f;
    pid_t process;
    int port;
} served;

/* Reads the port from the line that reports the address. */
static inline int port_of(const folder *f) {
    for (int i = 0; i < 2400; i++) {
        size_t bytes;
        char *text = file_exists(in(f, "stderr")) ? get(in(f, "stderr"), &bytes) : NULL;
        const char *at = text ? strstr(text, "http://127.0.0.1:") : NULL;
        int port = at && strchr(at, '\n') ? atoi(at + 17) : 0;
        free(text);
        if (port) return port;
        usleep(50000);
    }
    fail_msg("the server does not listen");
    return 0;
}

/* `words` starts with "serve" and ends with NULL. */
static inline served serve_words(void **state, const char *const *words) {
    served s = {.f = *state};
    unlink(in(*state, "stderr"));
    int output = open(in(*state, "stdout"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    s.process = program_start(*state, words, output);
    close(output);
    s.port = port_of(*state);
    return s;
}

/* The model's name is the default one, unless `flags` set it. */
static inline served serve_named(void **state, const char *model, const char *const *flags) {
    const char *words[32] = {"serve", "--model_name_or_path", model, "--port", "0", "--device", "cpu", "--threads",
                             "1"};
    int count = 9;
    while (*flags) words[count++] = *flags++;
    return serve_words(state, words);
}

static inline served serve(void **state, const char *const *flags) {
    const char *words[64] = {"serve",
                             "--model_name_or_path",
                             in(*state, "model"),
                             "--port",
                             "0",
                             "--device",
                             "cpu",
                             "--threads",
                             "2",
                             "--served_model_name",
                             "small",
                             "--config_overrides",
                             "max_position_embeddings=20000,eos_token_id=null"};
    int count = 13;
    while (*flags) words[count++] = *flags++;
    return serve_words(state, words);
}

/* Flags for requests that must still be running when the test ends them. Each new token attends to all earlier ones, so
 * that the request would take minutes. */
#define WRITES_ON "--config_overrides", "max_position_embeddings=200000,eos_token_id=null"
#define MANY_TOKENS "190000"

#define SERVE(state, ...) serve(state, (const char *const[]){__VA_ARGS__, NULL})

static inline void stop(served *s) {
    kill(s->process, SIGTERM);
    assert_int_equal(program_wait(s->process), 0);
}

static inline json_t *json_of(http_answer *a) {
    json_t *json;
    OK(json_parse(a->body, a->body_bytes, "the answer", &json));
    http_free(a);
    return json;
}

/* POST; expects status 200. */
static inline json_t *ask(const served *s, const char *path, const char *body) {
    http_answer a = http_do(s->port, "POST", path, "Content-Type: application/json\r\n", body);
    if (a.status != 200) fail_msg("%s: status %d: %s", body, a.status, a.body ? a.body : "");
    return json_of(&a);
}

static inline double metric(const served *s, const char *name) {
    http_answer a = http_do(s->port, "GET", "/metrics", "", "");
    char line[128];
    snprintf(line, sizeof line, "\nlckv_%s ", name);
    const char *at = a.body ? strstr(a.body, line) : NULL;
    if (!at) fail_msg("no metric %s", name);
    double value = atof(at + strlen(line));
    http_free(&a);
    return value;
}

static inline void expect_metric_soon(const served *s, const char *name, double value) {
    for (int i = 0; i < 2400 && metric(s, name) != value; i++) usleep(50000);
    assert_true(metric(s, name) == value);
}

#endif
