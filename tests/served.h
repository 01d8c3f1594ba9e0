/* A server of the small model (model_folder.h) in a process of its own, on a free port. */
#ifndef TESTS_SERVED_H
#define TESTS_SERVED_H

#include "program.h"

typedef struct served {
    folder *f;
    pid_t process;
    int port;
} served;

/* The port is in the line that says that it listens. */
static inline int port_of(const folder *f) {
    for (int i = 0; i < 600; i++) {
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
                             "max_position_embeddings=20000"};
    int count = 13;
    while (*flags) words[count++] = *flags++;
    served s = {.f = *state};
    unlink(in(*state, "stderr"));
    int output = open(in(*state, "stdout"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    s.process = program_start(*state, words, output);
    close(output);
    s.port = port_of(*state);
    return s;
}

#define SERVE(state, ...) serve(state, (const char *const[]){__VA_ARGS__, NULL})

static inline void stop(served *s) {
    kill(s->process, SIGTERM);
    assert_int_equal(program_wait(s->process), 0);
}

#endif
