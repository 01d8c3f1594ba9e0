/* Every error response of the server is complete and valid JSON, whatever characters it quotes, wherever it is
 * truncated, and also for invalid UTF-8. */
#include "served.h"

enum { QUOTED_BYTES = 4000 };

/* Texts of one to 1,300 characters, each shifted by 0 to 3 bytes, so that a limit may fall inside a character. */
static const char *const CHARACTERS[] = {"\xc3\xa9", "\xe6\x97\xa5", "\xf0\x9f\x98\x80", "a\xcc\x81"};
enum { CHARACTER_COUNT = 4, SHIFTS = 4 };

static void write_text(char to[QUOTED_BYTES], int character, int shift, int count) {
    *to = '\0';
    for (int i = 0; i < shift; i++) strcat(to, "x");
    char *at = to + shift;
    for (int i = 0; i < count; i++) at = stpcpy(at, CHARACTERS[character]);
}

static void check_error(http_answer *a, int least, const char *what) {
    if (a->status < least || a->status > 599 || !a->body || !a->body_bytes)
        fail_msg("%.200s: status %d, %zu bytes", what, a->status, a->body_bytes);
    json_t *json = json_loadb(a->body, a->body_bytes, 0, NULL);
    const json_t *error = json_object_get(json, "error");
    if (!json_string_length(json_object_get(error, "message"))) fail_msg("%.200s: no error: %s", what, a->body);
    json_decref(json);
    http_free(a);
}

/* Requests whose errors quote the text, which replaces %s. */
typedef struct quoting {
    const char *path, *body;
} quoting;

static const quoting QUOTING[] = {
    {"/v1/completions", "{\"prompt\":\"a\",\"model\":\"%s\"}"},
    {"/v1/completions", "{\"prompt\":\"a\",\"%s\":1}"},
    {"/v1/completions", "{\"prompt\":\"a\",\"logit_bias\":{\"%s\":1}}"},
    {"/v1/completions", "{\"prompt\":\"a\",\"stream\":true,\"stream_options\":{\"%s\":1}}"},
    {"/v1/completions", "{\"prompt\":\"a\",\"suffix\":\"%s\"}"},
    {"/v1/completions", "{\"prompt\":\"a\",\"%s\":1,\"%s\":1}"},
    {"/v1/completions", "{\"prompt\":\"a\", %s}"},
    {"/v1/completions", "%s"},
    {"/v1/completions", "{\"prompt\":\"a\",\"seed\":\"%s\"}"},
    {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}"},
    {"/v1/chat/completions", "{\"messages\":[{\"role\":\"%s\",\"content\":\"a\"}],\"chat_template_kwargs\":1}"},
    {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"%s\"}]}]}"},
    {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":[\"%s\"]}"},
    {"/apply_template", "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}"},
    {"/apply_template", "{\"messages\":[],\"%s\":0}"},
    {"/tokenize", "{\"prompt\":\"a\",\"%s\":0}"},
    {"/detokenize", "{\"tokens\":[\"%s\"]}"},
    {"/detokenize", "{\"tokens\":[],\"%s\":\"\"}"},
};

static void ask_quoting(const served *s, const quoting *q, const char *text) {
    char body[2 * QUOTED_BYTES + 256];
    snprintf(body, sizeof body, q->body, text, text);
    http_answer a = http_do(s->port, "POST", q->path, "", body);
    check_error(&a, 400, body);
}

static void bodies_are_quoted(void **state) {
    static const int COUNTS[] = {1, 19, 20, 23, 24, 31, 32, 40, 47, 48, 95, 96, 127, 128, 191, 250, 341, 512, 900};
    put_text(in(*state, "model/chat_template.jinja"),
             "{% for m in messages %}{{ raise_exception('no: ' + m.content) }}{% endfor %}");
    served s = SERVE(state, "--access_log", "none");
    for (size_t q = 0; q < sizeof QUOTING / sizeof *QUOTING; q++) {
        for (size_t n = 0; n < sizeof COUNTS / sizeof *COUNTS; n++) {
            for (int shift = 0; shift < SHIFTS; shift++) {
                char text[QUOTED_BYTES];
                write_text(text, (int)(q + n) % CHARACTER_COUNT, shift, COUNTS[n]);
                ask_quoting(&s, &QUOTING[q], text);
            }
        }
    }
    stop(&s);
}

/* Invalid UTF-8 in a body is invalid JSON; in headers it is shown as U+FFFD. */
static void bytes_that_are_no_text(void **state) {
    static const char *const BYTES[] = {"\xff",     "a\xc3",        "\xe6\x97",         "\xf0\x9f\x98",
                                        "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80\x80\x80\x80\x80"};
    served s = SERVE(state, "--allowed_origins", "https://good.example");
    for (size_t b = 0; b < sizeof BYTES / sizeof *BYTES; b++) {
        char request[512];
        for (size_t q = 0; q < sizeof QUOTING / sizeof *QUOTING; q++) ask_quoting(&s, &QUOTING[q], BYTES[b]);
        snprintf(request, sizeof request, "GET /v1/models/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                 BYTES[b]);
        http_answer a = http_raw(s.port, request);
        check_error(&a, 404, request);
        snprintf(request, sizeof request, "GET /health HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", BYTES[b]);
        a = http_raw(s.port, request);
        check_error(&a, 403, request);
        snprintf(request, sizeof request,
                 "GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: %s\r\nConnection: close\r\n\r\n", BYTES[b]);
        a = http_raw(s.port, request);
        check_error(&a, 403, request);
    }
    stop(&s);
}

static void heads_are_quoted(void **state) {
    static const char *const HEADS[] = {
        "GET /v1/models/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: %s\r\nConnection: close\r\n\r\n",
        "GET /%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    };
    char text[QUOTED_BYTES], request[QUOTED_BYTES + 256];
    served s = SERVE(state, "--max_num_seqs", "1");
    for (size_t h = 0; h < sizeof HEADS / sizeof *HEADS; h++) {
        for (int count = 20; count < 60; count++) {
            write_text(text, (int)h % CHARACTER_COUNT, count % SHIFTS, count);
            snprintf(request, sizeof request, HEADS[h], text);
            http_answer a = http_raw(s.port, request);
            check_error(&a, 400, request);
        }
    }
    stop(&s);
}

/* A model whose name is not valid UTF-8 is served under its name with U+FFFD. */
static void names_are_quoted(void **state) {
    static const char *const NAMES[] = {"caf\xe9", "\xe6\x97\xa5\xe6\x9c\xac", "\xe6\x97"};
    for (size_t i = 0; i < 3; i++) {
        served s =
            serve_named(state, in(*state, "model"), (const char *const[]){"--served_model_name", NAMES[i], NULL});
        json_t *answer = ask(&s, "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1}");
        const char *name = json_string_value(json_object_get(answer, "model"));
        assert_string_equal(name, i == 1 ? NAMES[1] : i ? "\xef\xbf\xbd\xef\xbf\xbd" : "caf\xef\xbf\xbd");
        char body[128];
        snprintf(body, sizeof body, "{\"prompt\":\"a\",\"max_tokens\":1,\"model\":\"%s\"}", name);
        json_decref(ask(&s, "/v1/completions", body));
        json_decref(answer);
        http_answer a = http_do(s.port, "POST", "/v1/completions", "", "{\"prompt\":\"a\",\"model\":\"x\"}");
        check_error(&a, 404, "model x");
        static const char *const PATHS[] = {"/v1/models", "/state"};
        for (size_t p = 0; p < 2; p++) {
            a = http_do(s.port, "GET", PATHS[p], "", "");
            assert_int_equal(a.status, 200);
            json_decref(json_of(&a));
        }
        stop(&s);
    }
}

#define WITH_MODEL(test) cmocka_unit_test_setup_teardown(test, model_folder_open, folder_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_MODEL(bodies_are_quoted),
        WITH_MODEL(bytes_that_are_no_text),
        WITH_MODEL(heads_are_quoted),
        WITH_MODEL(names_are_quoted),
    };
    unsetenv("LCKV_API_KEY");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
