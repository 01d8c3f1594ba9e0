/* SIGTERM at random times during many requests: the server exits with code 0 within a bounded time, and every client
 * that had sent a complete request gets a response: the regular one or 503.
 *
 * A few rounds; LCKV_STOP_ROUNDS sets more. */
#include "served.h"

#include "base/rng.h"

#include <pthread.h>
#include <time.h>

enum { CLIENTS = 16, ROUNDS = 8, LARGE = 3 << 20, BOUND_SECONDS = 60 };

typedef struct round_of {
    served s;
    int number;
    _Atomic bool over; /* the signal has been sent */
    double killed;     /* clock time; valid if `over` */
    char *large;       /* a body of LARGE bytes for /tokenize */
} round_of;

typedef struct client {
    round_of *round;
    int number;
    uint64_t draws;
    int64_t answers[6]; /* by status / 100; [0]: none */
    char wrong[700];
    pthread_t thread;
} client;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint64_t draw(client *c, uint64_t below) {
    uint64_t stream = (uint64_t)(c->round->number * CLIENTS + c->number);
    return (uint64_t)(rng_uniform(23, stream, c->draws++) * (double)below);
}

typedef struct question {
    const char *path, *body;
} question;

static const question QUESTIONS[] = {
    {"/v1/completions", "{\"prompt\":[1,260,261],\"max_tokens\":40,\"ignore_eos\":true}"},
    {"/v1/completions", "{\"prompt\":[1,260,261],\"max_tokens\":40,\"ignore_eos\":true,\"stream\":true}"},
    {"/v1/completions", "{\"prompt\":\"the cat\",\"max_tokens\":40,\"echo\":true,\"stream\":true}"},
    {"/v1/completions", "{\"prompt\":\"the cat\",\"max_tokens\":1,\"logprobs\":3,\"echo\":true,\"n\":4}"},
    {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"the cat\"}],\"max_tokens\":20}"},
    {"/apply_template", "{\"messages\":[{\"role\":\"user\",\"content\":\"the cat\"}]}"},
    {"/tokenize", "{\"prompt\":\"the cat sat on the cat\"}"},
    {"/tokenize", NULL}, /* the large request */
    {"/v1/completions", "{\"prompt\":"},
};

/* Whether the client must get a response: the request was complete a moment before the signal. */
static bool owed(const client *c, double sent) {
    return !c->round->over || sent < c->round->killed - 0.25;
}

static bool is_whole(const http_answer *a) {
    if (a->status != 200) return a->status == 503 || a->status == 400 || a->status == 429;
    if (strstr(a->head, "event-stream")) return strstr(a->body, "[DONE]") != NULL;
    json_t *json = json_loadb(a->body, a->body_bytes, JSON_ALLOW_NUL, NULL); /* sampled text may contain NUL */
    bool whole = json != NULL;
    json_decref(json);
    return whole;
}

static void ask_something(client *c) {
    const question *q = &QUESTIONS[draw(c, sizeof QUESTIONS / sizeof *QUESTIONS)];
    size_t length = q->body ? strlen(q->body) : LARGE;
    bool whole_request = draw(c, 8) > 0;
    int fd = http_connect(c->round->s.port);
    if (fd < 0) return;
    if (!whole_request) { /* disconnects, or stops sending, in the middle of a request */
        char head[160];
        snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n", q->path,
                 length);
        http_send(fd, head, draw(c, 2) ? strlen(head) : draw(c, strlen(head)));
        usleep((useconds_t)(1000 * draw(c, 30)));
        close(fd);
        return;
    }
    bool sent = http_ask(fd, "POST", q->path, "", q->body ? q->body : c->round->large, length);
    double at = now();
    if (draw(c, 10) == 0) { /* disconnects while waiting */
        close(fd);
        return;
    }
    http_answer a = http_read(fd);
    c->answers[a.status / 100 % 6]++;
    if (sent && owed(c, at) && !is_whole(&a) && !*c->wrong)
        snprintf(c->wrong, sizeof c->wrong, "%s: status %d, %zu bytes: %.500s", q->path, a.status, a.body_bytes,
                 a.body);
    http_free(&a);
}

static void *be_client(void *user) {
    client *c = user;
    while (!c->round->over) ask_something(c);
    return NULL;
}

static void run_round(void **state, int number, char *large, int64_t answers[6]) {
    static client clients[CLIENTS];
    static round_of r;
    r = (round_of){.number = number, .large = large};
    r.s = SERVE(state, "--max_num_seqs", "4", "--max_queue", "16", "--access_log", "none");
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (client){.round = &r, .number = i};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, be_client, &clients[i]), 0);
    }
    usleep((useconds_t)(1e6 * 0.5 * rng_uniform(29, 0, (uint64_t)number)));
    r.killed = now();
    kill(r.s.process, SIGTERM);
    r.over = true;
    int code = program_wait(r.s.process);
    double seconds = now() - r.killed;
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        for (int k = 0; k < 6; k++) answers[k] += clients[i].answers[k];
    }
    if (code) {
        size_t bytes;
        fail_msg("round %d: exit code %d: %s", number, code, get(in(*state, "stderr"), &bytes));
    }
    if (seconds > BOUND_SECONDS) fail_msg("round %d: it took %.1f s to end", number, seconds);
    for (int i = 0; i < CLIENTS; i++)
        if (*clients[i].wrong) fail_msg("round %d, client %d: %s", number, i, clients[i].wrong);
}

static void sigterm_at_random_moments(void **state) {
    const char *asked = getenv("LCKV_STOP_ROUNDS");
    int rounds = asked ? atoi(asked) : ROUNDS;
    int64_t answers[6] = {0};
    char *large = malloc(LARGE + 1);
    assert_non_null(large);
    memset(large, 'a', LARGE);
    memcpy(large, "{\"prompt\":\"", 11);
    memcpy(large + LARGE - 2, "\"}", 3);
    put_text(in(*state, "model/chat_template.jinja"), "{% for m in messages %}{{ m.content }}{% endfor %}");
    for (int i = 0; i < rounds; i++) run_round(state, i, large, answers);
    if (asked)
        print_message("%d rounds: %lld answers of 200, %lld of 4xx, %lld of 5xx, %lld without\n", rounds,
                      (long long)answers[2], (long long)answers[4], (long long)answers[5], (long long)answers[0]);
    assert_true(answers[2] > 0);
    free(large);
}

static void wait_until_stopping(const served *s) {
    for (int status = 200; status == 200;) {
        http_answer a = http_do(s->port, "GET", "/health", "", "");
        status = a.status;
        http_free(&a);
    }
}

/* A request whose body is still arriving when the server stops gets 503. */
static void late_bodies_are_refused(void **state) {
    static const char BODY[] = "{\"prompt\":\"the cat\"}";
    served s = SERVE(state, "--max_num_seqs", "1", WRITES_ON);
    char head[160], byte;
    int keeps_busy = http_connect(s.port), fd = http_connect(s.port);
    static const char BUSY[] = "{\"prompt\":\"a\",\"max_tokens\":" MANY_TOKENS ",\"ignore_eos\":true,\"stream\":true}";
    assert_true(http_ask(keeps_busy, "POST", "/v1/completions", "", BUSY, sizeof BUSY - 1));
    assert_int_equal(recv(keeps_busy, &byte, 1, 0), 1);
    snprintf(head, sizeof head,
             "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
             sizeof BODY - 1);
    assert_true(http_send(fd, head, strlen(head)) && http_send(fd, BODY, 5));
    kill(s.process, SIGTERM);
    wait_until_stopping(&s);
    assert_true(http_send(fd, BODY + 5, sizeof BODY - 6));
    http_answer a = http_read(fd);
    assert_int_equal(a.status, 503);
    assert_non_null(strstr(a.body, "the server is stopping"));
    http_free(&a);
    close(keeps_busy);
    assert_int_equal(program_wait(s.process), 0);
}

#define WITH_MODEL(test) cmocka_unit_test_setup_teardown(test, model_folder_open, folder_close)

int main(void) {
    const struct CMUnitTest tests[] = {WITH_MODEL(sigterm_at_random_moments), WITH_MODEL(late_bodies_are_refused)};
    unsetenv("LCKV_API_KEY");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
