/* Limits on what clients can consume: bodies without a key, many large bodies, long prompts, long computations. /health
 * is answered meanwhile. */
/* prlimit() */
#define _GNU_SOURCE
#include "served.h"

#include <pthread.h>
#include <sys/resource.h>
#include <time.h>

enum { MEGABYTE = 1 << 20 };

/* Skips a test that needs memory_of(), before it starts a server. */
static void need_memory(void) {
    if (access("/proc/self/status", R_OK) != 0) SKIP("there is no /proc, which tells the server's memory");
}

static int64_t memory_of(const served *s, const char *key) {
    char path[64], line[256];
    int64_t kilobytes = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)s->process);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, key, strlen(key))) kilobytes = atoll(line + strlen(key) + 1);
    fclose(file);
    return kilobytes * 1024;
}

static bool answers_health(const served *s) {
    http_answer a = http_do(s->port, "GET", "/health", "", "");
    bool answers = a.status == 200;
    http_free(&a);
    return answers;
}

/* {"prompt":"aaaa.."} of this many bytes; release with free(). */
static char *long_prompt(size_t bytes) {
    static const char BEGIN[] = "{\"prompt\":\"", END[] = "\"}";
    char *body = malloc(bytes + 1);
    assert_non_null(body);
    memset(body, 'a', bytes);
    memcpy(body, BEGIN, sizeof BEGIN - 1);
    memcpy(body + bytes - (sizeof END - 1), END, sizeof END);
    return body;
}

static int send_head(const served *s, const char *path, const char *headers) {
    char head[512];
    int fd = http_connect(s->port);
    assert_true(fd >= 0);
    snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path, headers);
    assert_true(http_send(fd, head, strlen(head)));
    return fd;
}

static void expect_answer(int fd, int status, const char *part) {
    http_answer a = http_read(fd);
    if (a.status != status || !strstr(a.body, part))
        fail_msg("%d %s; expected %d with '%s'", a.status, a.body ? a.body : "", status, part);
    http_free(&a);
}

/* ---------------------------------------------------------------- checks before the body is read */

static void heads_are_enough_to_refuse(void **state) {
    served s = SERVE(state, "--api_key", "secret", "--max_body_bytes", "1000000");
    static const struct {
        const char *path, *headers;
        int status;
        const char *part;
    } cases[] = {
        {"/v1/completions", "Content-Length: 30000000\r\n", 401, "API key"},
        {"/v1/completions", "Transfer-Encoding: chunked\r\n", 401, "API key"},
        {"/v1/completions", "Content-Length: 999\r\nAuthorization: Bearer guess\r\n", 401, "API key"},
        {"/v1/completions", "Content-Length: 30000000\r\nAuthorization: Bearer secret\r\n", 413, "1000000 bytes"},
        {"/v1/completions", "Content-Length: 99\r\nAuthorization: Bearer secret\r\nOrigin: http://a.example\r\n", 403,
         "origin"},
        {"/no/path", "Content-Length: 99\r\nAuthorization: Bearer secret\r\n", 404, "not found"},
        {"/v1/models", "Content-Length: 99\r\nAuthorization: Bearer secret\r\n", 405, "GET"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) /* the body is never sent */
        expect_answer(send_head(&s, cases[i].path, cases[i].headers), cases[i].status, cases[i].part);
    stop(&s);
}

/* Sends the whole body before it reads the response, as many clients do. */
static void *send_without_key(void *user) {
    const served *s = user;
    char *body = long_prompt(20 * MEGABYTE), headers[64];
    snprintf(headers, sizeof headers, "Content-Length: %d\r\n", 20 * MEGABYTE);
    int fd = send_head(s, "/v1/completions", headers);
    bool sent = http_send(fd, body, 20 * MEGABYTE);
    http_answer a = http_read(fd);
    intptr_t status = sent ? a.status : -1;
    http_free(&a);
    free(body);
    return (void *)status;
}

static void bodies_without_a_key_take_no_memory(void **state) {
    enum { CLIENTS = 8, ROUNDS = 3 };
    need_memory();
    served s = SERVE(state, "--api_key", "secret");
    int64_t before = memory_of(&s, "VmHWM:");
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[CLIENTS];
        for (int i = 0; i < CLIENTS; i++) assert_int_equal(pthread_create(&threads[i], NULL, send_without_key, &s), 0);
        for (int i = 0; i < CLIENTS; i++) {
            void *status;
            pthread_join(threads[i], &status);
            assert_int_equal((intptr_t)status, 401);
        }
    }
    assert_true(answers_health(&s));
#ifndef SANITIZED
    assert_true(memory_of(&s, "VmHWM:") < before + 16 * MEGABYTE);
#else
    (void)before;
#endif
    stop(&s);
}

/* "Expect: 100-continue" asks for permission to send the body. */
static void clients_can_ask_before_they_send(void **state) {
    static const char BODY[] = "{\"prompt\":[1,260],\"max_tokens\":1}", CONTINUE[] = "HTTP/1.1 100 Continue\r\n\r\n";
    served s = SERVE(state, "--api_key", "secret");
    char headers[256], got[sizeof CONTINUE] = {0};
    snprintf(headers, sizeof headers, "Content-Length: %zu\r\nExpect: 100-continue\r\nConnection: close\r\n",
             sizeof BODY - 1);
    expect_answer(send_head(&s, "/v1/completions", headers), 401, "API key"); /* without a 100 before */
    strcat(headers, "Authorization: Bearer secret\r\n");
    int fd = send_head(&s, "/v1/completions", headers);
    assert_int_equal(recv(fd, got, sizeof CONTINUE - 1, MSG_WAITALL), sizeof CONTINUE - 1);
    assert_string_equal(got, CONTINUE);
    assert_true(http_send(fd, BODY, sizeof BODY - 1));
    expect_answer(fd, 200, "choices");
    stop(&s);
}

/* ---------------------------------------------------------------- bounds */

static void bodies_share_a_budget(void **state) {
    served s = SERVE(state, "--max_body_bytes", "1000000", "--max_bodies_bytes", "1200000");
    char *body = long_prompt(900000);
    int first = send_head(&s, "/tokenize", "Content-Length: 900000\r\nConnection: close\r\n");
    assert_true(http_send(first, body, 800000));
    expect_metric_soon(&s, "body_bytes", 900000); /* room is reserved for all announced bytes */
    int fd = send_head(&s, "/tokenize", "Content-Length: 900000\r\nConnection: close\r\n");
    expect_answer(fd, 503, "bodies_full"); /* before any of it comes */
    fd = send_head(&s, "/tokenize", "Content-Length: 900000\r\nConnection: close\r\n");
    assert_true(http_send(fd, body, 900000));
    http_answer a = http_read(fd);
    assert_int_equal(a.status, 503);
    assert_non_null(strstr(a.body, "bodies_full"));
    assert_non_null(strstr(a.head, "Retry-After"));
    http_free(&a);
    json_decref(ask(&s, "/tokenize", "{\"prompt\":\"small ones have room\"}"));
    assert_true(http_send(first, body + 800000, 100000));
    expect_answer(first, 200, "\"count\":");
    fd = send_head(&s, "/tokenize", "Content-Length: 900000\r\nConnection: close\r\n");
    assert_true(http_send(fd, body, 900000));
    expect_answer(fd, 200, "\"count\":");
    expect_metric_soon(&s, "body_bytes", 0);
    free(body);
    stop(&s);
}

/* A chunked body has no Content-Length. */
static void chunked_bodies_are_bounded(void **state) {
    served s = SERVE(state, "--max_body_bytes", "100000");
    char *piece = malloc(10000);
    assert_non_null(piece);
    memset(piece, ' ', 10000);
    for (int pieces = 9; pieces <= 11; pieces += 2) {
        int fd = send_head(&s, "/tokenize", "Transfer-Encoding: chunked\r\nConnection: close\r\n");
        for (int i = 0; i < pieces; i++)
            assert_true(http_send(fd, "2710\r\n", 6) && http_send(fd, piece, 10000) && http_send(fd, "\r\n", 2));
        assert_true(http_send(fd, "e\r\n{\"prompt\":\"a\"}\r\n0\r\n\r\n", 24));
        expect_answer(fd, pieces == 9 ? 200 : 413, pieces == 9 ? "\"count\":2" : "too_large");
    }
    free(piece);
    stop(&s);
}

/* 33 MB of empty lists would become a few GB of JSON values. */
static void values_are_bounded(void **state) {
    static const char *const PIECES[] = {"[],", "{},", "\"\",", "1,"};
    enum { BYTES = 4 * MEGABYTE };
    need_memory();
    served s = SERVE(state, "--max_body_bytes", "4194304");
    char *body = malloc(BYTES + 1);
    assert_non_null(body);
    for (size_t p = 0; p < sizeof PIECES / sizeof *PIECES; p++) {
        size_t at = (size_t)sprintf(body, "{\"prompt\":["), length = strlen(PIECES[p]);
        while (at + length + 2 < BYTES) at += (size_t)sprintf(body + at, "%s", PIECES[p]);
        at += (size_t)sprintf(body + at - 1, "]}") - 1;
        int fd = http_connect(s.port);
        assert_true(fd >= 0 && http_ask(fd, "POST", "/v1/completions", "", body, at));
        expect_answer(fd, 413, "too many JSON values");
    }
    size_t at = (size_t)sprintf(body, "{\"prompt\":["); /* a usual number of ids is accepted */
    while (at + 8 < BYTES) at += (size_t)sprintf(body + at, "12345,");
    at += (size_t)sprintf(body + at - 1, "]}") - 1;
    int fd = http_connect(s.port);
    assert_true(fd >= 0 && http_ask(fd, "POST", "/v1/completions", "", body, at));
    expect_answer(fd, 400, "token 0 of the prompt is 12345");
    free(body);
#ifndef SANITIZED
    assert_true(memory_of(&s, "VmHWM:") < 400 * MEGABYTE);
#endif
    stop(&s);
}

/* Near its memory limit the server rejects a large body, continues, and exits normally. */
static void little_memory_is_said(void **state) {
#ifdef SANITIZED
    (void)state;
    print_message("skipped: a sanitizer needs all addresses\n");
    skip();
#else
    need_memory();
    served s = SERVE(state, "--max_num_seqs", "2");
    assert_true(answers_health(&s));
    char *body = long_prompt(30 * MEGABYTE), headers[64];
    snprintf(headers, sizeof headers, "Content-Length: %d\r\nConnection: close\r\n", 30 * MEGABYTE);
    for (int room = 8; room <= 128; room *= 2) {
        rlim_t limit = (rlim_t)memory_of(&s, "VmSize:") + (rlim_t)room * MEGABYTE;
        assert_int_equal(prlimit(s.process, RLIMIT_AS, &(struct rlimit){limit, RLIM_INFINITY}, NULL), 0);
        int fd = send_head(&s, "/v1/completions", headers);
        assert_true(http_send(fd, body, 30 * MEGABYTE));
        expect_answer(fd, 503, "no_memory");
        assert_true(answers_health(&s));
    }
    free(body);
    stop(&s);
#endif
}

/* ---------------------------------------------------------------- long computations */

static void prompts_that_are_too_long_are_not_encoded_whole(void **state) {
    put_text(in(*state, "model/chat_template.jinja"), "{% for m in messages %}{{ m.content }}{% endfor %}");
    served s = SERVE(state, "--max_model_len", "100");
    char *body = long_prompt(30 * MEGABYTE);
    int fd = http_connect(s.port);
    assert_true(fd >= 0 && http_ask(fd, "POST", "/v1/completions", "", body, 30 * MEGABYTE));
    expect_answer(fd, 400, "\"param\":\"prompt\",\"code\":\"context_length_exceeded\"");
    static const char CHAT[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"", END[] = "\"}]}";
    memset(body, 'a', 10 * MEGABYTE);
    memcpy(body, CHAT, sizeof CHAT - 1);
    memcpy(body + 10 * MEGABYTE - (sizeof END - 1), END, sizeof END);
    fd = http_connect(s.port);
    assert_true(fd >= 0 && http_ask(fd, "POST", "/v1/chat/completions", "", body, 10 * MEGABYTE));
    expect_answer(fd, 400, "\"param\":\"messages\",\"code\":\"context_length_exceeded\"");
    free(body);
    stop(&s);
}

/* While 20 MB are tokenized, the server answers /health and small requests. */
static void long_work_holds_nobody_up(void **state) {
    served s = SERVE(state, "--max_num_seqs", "2");
    char *body = long_prompt(20 * MEGABYTE), byte;
    int fd = http_connect(s.port), answered = 0;
    assert_true(fd >= 0 && http_ask(fd, "POST", "/tokenize", "", body, 20 * MEGABYTE));
    while (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0) {
        assert_true(answers_health(&s));
        json_decref(ask(&s, "/tokenize", "{\"prompt\":\"a\"}"));
        json_decref(ask(&s, "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1}"));
        answered++;
    }
    expect_answer(fd, 200, "\"count\":");
    assert_true(answered >= 3);
    free(body);
    stop(&s);
}

#define WITH_MODEL(test) cmocka_unit_test_setup_teardown(test, model_folder_open, folder_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_MODEL(heads_are_enough_to_refuse),
        WITH_MODEL(bodies_without_a_key_take_no_memory),
        WITH_MODEL(clients_can_ask_before_they_send),
        WITH_MODEL(bodies_share_a_budget),
        WITH_MODEL(chunked_bodies_are_bounded),
        WITH_MODEL(values_are_bounded),
        WITH_MODEL(little_memory_is_said),
        WITH_MODEL(prompts_that_are_too_long_are_not_encoded_whole),
        WITH_MODEL(long_work_holds_nobody_up),
    };
    unsetenv("LCKV_API_KEY");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
