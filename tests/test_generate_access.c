/* Access control of the server, and what it reports about itself: hosts, origins, API keys, model names, the access
 * log. */
#include "served.h"

#include <ctype.h>

static int status_of(const served *s, const char *method, const char *path, const char *headers, const char *part) {
    char request[8192];
    snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n%s", method,
             path, *method == 'P' ? 2 : 0, headers, *method == 'P' ? "{}" : "");
    http_answer a = http_raw(s->port, request);
    int status = a.status;
    if (!a.body || !strstr(a.body, part)) fail_msg("%s%s: %d '%s' has no '%s'", path, headers, status, a.body, part);
    if (status >= 400) {
        json_t *json;
        OK(json_parse(a.body, a.body_bytes, "the error", &json));
        assert_true(json_is_string(json_object_get(json_object_get(json, "error"), "message")));
        json_decref(json);
    }
    http_free(&a);
    return status;
}

static void expect_host(const served *s, const char *host, int expected) {
    static const char *const METHODS[] = {"GET", "POST"};
    for (int i = 0; i < 2; i++) {
        char headers[512];
        snprintf(headers, sizeof headers, "Host: %s\r\n", host);
        int wanted = expected == 200 && i ? 405 : expected;
        int status = status_of(s, METHODS[i], "/health", headers, expected == 403 ? "--allowed_hosts" : "");
        if (status != wanted) fail_msg("%s, Host: '%s': %d, expected %d", METHODS[i], host, status, wanted);
    }
}

/* ---------------------------------------------------------------- hosts and origins */

/* A host name that anybody can point to this machine is rejected (DNS rebinding); addresses and localhost are accepted.
 */
static void hosts_are_addresses_or_named(void **state) {
    static const char *const RIGHT[] = {"127.0.0.1",        "127.0.0.1:8000",
                                        "localhost",        "LocalHost:1",
                                        "localhost.",       "localhost.:80",
                                        "app.localhost:80", "10.1.2.3:8000",
                                        "192.168.0.7",      "[::1]",
                                        "[::1]:8000",       "[FE80::1%25eth0]:80",
                                        "[2001:db8::1]",    "::1",
                                        "127.0.0.1.",       "127.1:8000",
                                        "localhost:",       ""};
    static const char *const WRONG[] = {"evil.example",
                                        "evil.example:8000",
                                        "127.0.0.1.evil.example",
                                        "127.0.0.1.evil.example:8000",
                                        "localhost.evil.example",
                                        "evillocalhost",
                                        ".localhost",
                                        "localhost..",
                                        "example.org.evil.example",
                                        "evil.example.org",
                                        "[evil.example]",
                                        "[127.0.0.1]",
                                        "[::1",
                                        "[::1]evil.example",
                                        "[::1].evil.example:80",
                                        "127.0.0.1:80@evil.example",
                                        "127.0.0.1:8000x",
                                        "127.0.0.1:123456",
                                        "localhost:80:80",
                                        "evil.example, localhost",
                                        "localhost evil.example",
                                        "\xc3\xa9vil.example",
                                        "\xff\xfe",
                                        "*"};
    served s = SERVE(state, "--allowed_hosts", "Example.ORG,other.example:8080");
    for (size_t i = 0; i < sizeof RIGHT / sizeof *RIGHT; i++) expect_host(&s, RIGHT[i], 200);
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) expect_host(&s, WRONG[i], 403);
    static const char *const NAMED[] = {"example.org", "EXAMPLE.org.:99", "other.example", "other.example:1"};
    for (size_t i = 0; i < 4; i++) expect_host(&s, NAMED[i], 200);
    assert_int_equal(status_of(&s, "GET", "/health", "Host: localhost\r\nHost: evil.example\r\n", "evil.example"), 403);
    http_answer old =
        http_raw(s.port, "GET /health HTTP/1.0\r\n\r\n"); /* older clients, which do not send the header */
    assert_int_equal(old.status, 200);
    http_free(&old);
    stop(&s);
    s = SERVE(state, "--allowed_hosts", "*");
    expect_host(&s, "evil.example", 200);
    stop(&s);
}

static void origins_are_the_server_or_named(void **state) {
    served s = SERVE(state, "--allowed_origins", "https://good.example", "--allowed_hosts", "here.example");
    static const struct {
        const char *headers;
        int status;
    } cases[] = {
        {"Host: localhost:8000\r\nOrigin: http://localhost:8000\r\n", 200},
        {"Host: LOCALHOST:8000\r\nOrigin: http://localhost:8000\r\n", 200},
        {"Host: [::1]:8000\r\nOrigin: http://[::1]:8000\r\n", 200},
        {"Host: here.example\r\nOrigin: https://here.example\r\n", 200}, /* behind a proxy with the certificate */
        {"Host: localhost:8000\r\nOrigin: https://good.example\r\n", 200},
        {"Host: localhost:8000\r\nOrigin: HTTPS://Good.example\r\n", 200},
        {"Host: localhost:8000\r\nOrigin: https://bad.example\r\n", 403},
        {"Host: localhost:8000\r\nOrigin: http://good.example\r\n", 403},
        {"Host: localhost:8000\r\nOrigin: https://good.example.bad.example\r\n", 403},
        {"Host: localhost:8000\r\nOrigin: http://localhost:3000\r\n", 403},
        {"Host: localhost:8000\r\nOrigin: http://localhost\r\n", 403},
        {"Host: localhost:8000\r\nOrigin: null\r\n", 403},
        {"Host: localhost:8000\r\nOrigin: localhost:8000\r\n", 403},
        {"Host: localhost:8000\r\nOrigin: \xe6\x97\xa5://\xe6\x97\r\n", 403},
        {"Host: evil.example:8000\r\nOrigin: http://evil.example:8000\r\n",
         403}, /* a name that was rebound to this machine */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = status_of(&s, "GET", "/health", cases[i].headers, "");
        if (status != cases[i].status) fail_msg("%s: %d, expected %d", cases[i].headers, status, cases[i].status);
    }
    assert_int_equal(
        status_of(&s, "GET", "/health", "Host: localhost\r\nOrigin: https://bad.example\r\n", "--allowed_origins"),
        403);
    http_answer a = http_raw(s.port, "OPTIONS /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                                     "Origin: https://good.example\r\n\r\n");
    assert_int_equal(a.status, 204);
    assert_non_null(strstr(a.head, "Access-Control-Allow-Origin: https://good.example"));
    http_free(&a);
    stop(&s);
}

/* ---------------------------------------------------------------- keys */

static int status_with(const served *s, const char *authorization) {
    char headers[512];
    snprintf(headers, sizeof headers, "Host: localhost\r\n%s%s%s", authorization ? "Authorization: " : "",
             authorization ? authorization : "", authorization ? "\r\n" : "");
    return status_of(s, "GET", "/v1/models", headers, "");
}

static void expect_key(const served *s, const char *key) {
    static const char *const RIGHT[] = {"Bearer %s",   "bearer %s",  "BEARER %s",
                                        "Bearer   %s", "Bearer\t%s", "Bearer %s  "};
    static const char *const WRONG[] = {"Bearer %sx", "Bearer x%s", "Bearer%s", "Basic %s", "%s", "Bearer %s %s"};
    char text[256];
    for (size_t i = 0; i < sizeof RIGHT / sizeof *RIGHT; i++) {
        snprintf(text, sizeof text, RIGHT[i], key);
        if (status_with(s, text) != 200) fail_msg("'%s' is refused", text);
    }
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        snprintf(text, sizeof text, WRONG[i], key, key);
        if (status_with(s, text) != 401) fail_msg("'%s' is taken", text);
    }
    snprintf(text, sizeof text, "Bearer %s", key);
    text[strlen(text) - 1] = '\0';
    assert_int_equal(status_with(s, text), 401);
    assert_int_equal(status_with(s, "Bearer "), 401);
    assert_int_equal(status_with(s, "Bearer"), 401);
    assert_int_equal(status_with(s, NULL), 401);
}

static void keys_come_from_flags_files_and_the_environment(void **state) {
    const folder *f = *state;
    served s = SERVE(state, "--api_key", "by-flag");
    expect_key(&s, "by-flag");
    stop(&s);
    put_text(in(f, "key"), "by-file\n");
    s = SERVE(state, "--api_key_file", in(f, "key"));
    expect_key(&s, "by-file");
    stop(&s);
    setenv("LCKV_API_KEY", "by-environment", 1);
    s = SERVE(state, "--max_num_seqs", "1");
    expect_key(&s, "by-environment");
    stop(&s);
    s = SERVE(state, "--api_key", "by-flag"); /* which is more similar */
    expect_key(&s, "by-flag");
    stop(&s);
    setenv("LCKV_API_KEY", "", 1);
    s = SERVE(state, "--max_num_seqs", "1");
    assert_int_equal(status_with(&s, NULL), 200);
    stop(&s);
    unsetenv("LCKV_API_KEY");
}

static void keys_that_cannot_be_are_refused(void **state) {
    const folder *f = *state;
#define REFUSED_KEY(code, part, ...)                                                                                   \
    REFUSES(f, code, part, "serve", "--model_name_or_path", in(f, "model"), __VA_ARGS__)
    put_text(in(f, "key"), "one\ntwo\n");
    REFUSED_KEY(1, "expected one line", "--api_key_file", in(f, "key"));
    REFUSED_KEY(1, "No such file", "--api_key_file", in(f, "absent"));
    assert_int_equal(mkfifo(in(f, "key_pipe"), 0600), 0);
    alarm(60);
    REFUSED_KEY(1, "it is a pipe or a device, not a regular file", "--api_key_file", in(f, "key_pipe"));
    alarm(0);
    put_text(in(f, "key"), "\n");
    REFUSED_KEY(2, "from --api_key_file", "--api_key_file", in(f, "key"));
    REFUSED_KEY(2, "blanks (from --api_key)", "--api_key", "a b");
    REFUSED_KEY(2, "cannot be combined", "--api_key", "a", "--api_key_file", in(f, "key"));
}

/* ---------------------------------------------------------------- names */

static void expect_name(const served *s, const char *name, int status) {
    char body[1024];
    snprintf(body, sizeof body, "{\"prompt\":\"a\",\"max_tokens\":1,\"model\":\"%s\"}", name);
    http_answer a = http_do(s->port, "POST", "/v1/completions", "", body);
    if (a.status != status) fail_msg("model '%s': %d %s", name, a.status, a.body);
    if (status == 404) assert_non_null(strstr(a.body, "\\\" not found; this server serves \\\""));
    http_free(&a);
}

static void expect_listed(const served *s, const char *first, size_t count) {
    http_answer a = http_do(s->port, "GET", "/v1/models", "", "");
    json_t *list = json_of(&a), *data = json_object_get(list, "data");
    assert_int_equal(json_array_size(data), count);
    assert_string_equal(json_string_value(json_object_get(json_array_get(data, 0), "id")), first);
    json_decref(list);
    json_t *answer = ask(s, "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1}");
    assert_string_equal(json_string_value(json_object_get(answer, "model")), first);
    json_decref(answer);
}

static void models_have_short_names(void **state) {
    const folder *f = *state;
    char slash[512];
    served s = serve_named(state, in(f, "model"), (const char *const[]){NULL});
    expect_listed(&s, "model", 1);
    expect_name(&s, "model", 200);
    expect_name(&s, in(f, "model"), 200);
    expect_name(&s, "other", 404);
    stop(&s);
    snprintf(slash, sizeof slash, "%s//", in(f, "model"));
    s = serve_named(state, slash, (const char *const[]){NULL});
    expect_listed(&s, "model", 1);
    expect_name(&s, slash, 200);
    stop(&s);
    s = serve_named(state, in(f, "model"), (const char *const[]){"--served_model_name", "gpt-x", "org/y", NULL});
    expect_listed(&s, "gpt-x", 2);
    expect_name(&s, "gpt-x", 200);
    expect_name(&s, "org/y", 200);
    expect_name(&s, in(f, "model"), 200);
    expect_name(&s, "model", 404);
    assert_int_equal(status_of(&s, "GET", "/v1/models/org/y", "Host: localhost\r\n", "\"id\":\"org/y\""), 200);
    assert_int_equal(status_of(&s, "GET", "/v1/models/z", "Host: localhost\r\n", "this server serves \\\"gpt-x\\\""),
                     404);
    stop(&s);
}

static void models_of_the_hub_have_their_names(void **state) {
    const folder *f = *state;
    char snapshot[512];
    OK(folder_create(in(f, "hub")));
    OK(folder_create(in(f, "hub/models--org--name")));
    OK(folder_create(in(f, "hub/models--org--name/refs")));
    OK(folder_create(in(f, "hub/models--org--name/snapshots")));
    put_text(in(f, "hub/models--org--name/refs/main"), "abc123");
    assert_int_equal(symlink(in(f, "model"), in(f, "hub/models--org--name/snapshots/abc123")), 0);
    setenv("HF_HUB_CACHE", in(f, "hub"), 1);
    served s = serve_named(state, "org/name", (const char *const[]){NULL});
    expect_listed(&s, "org/name", 1);
    expect_name(&s, "org/name", 200);
    stop(&s);
    unsetenv("HF_HUB_CACHE");
    unlink(in(f, "hub/models--org--name/snapshots/abc123"));
    assert_int_equal(rename(in(f, "model"), in(f, "hub/models--org--name/snapshots/abc123")), 0);
    snprintf(snapshot, sizeof snapshot, "%s", in(f, "hub/models--org--name/snapshots/abc123"));
    s = serve_named(state, snapshot, (const char *const[]){NULL});
    expect_listed(&s, "org/name", 1);
    stop(&s);
}

/* ---------------------------------------------------------------- the log and the address */

static void expect_line(const char *log, const char *first, const char *second) {
    for (const char *at = log; (at = strstr(at, first)); at++) {
        const char *end = strchr(at, '\n'), *found = strstr(at, second);
        if (found && end && found < end) return;
    }
    fail_msg("no line with '%s' and '%s' in: %s", first, second, log);
}

static void requests_are_logged(void **state) {
    const folder *f = *state;
    size_t bytes;
    served s = SERVE(state, "--access_log", in(f, "access.log"), "--api_key", "secret");
    http_answer a = http_do(s.port, "POST", "/v1/completions", "Authorization: Bearer secret\r\n",
                            "{\"prompt\":[1,260,261],\"max_tokens\":5,\"ignore_eos\":true}");
    size_t length = a.body_bytes;
    http_free(&a);
    a = http_do(s.port, "POST", "/v1/completions", "Authorization: Bearer secret\r\n",
                "{\"prompt\":[1,260],\"max_tokens\":7,\"ignore_eos\":true,\"stream\":true}");
    http_free(&a);
    a = http_do(s.port, "POST", "/v1/completions", "", "{\"prompt\":[1]}");
    http_free(&a);
    a = http_do(s.port, "GET", "/no%0asuch%22%1b[31m\xc3\xa9", "Authorization: Bearer secret\r\n", "");
    http_free(&a);
    a = http_do(s.port, "GET", "/state", "Authorization: Bearer secret\r\n", "");
    http_free(&a);
    stop(&s);
    char *log = get(in(f, "access.log"), &bytes), expected[64];
    int lines = 0;
    for (const char *at = log; (at = strchr(at, '\n')); at++) lines++;
    assert_int_equal(lines, 4);
    snprintf(expected, sizeof expected, "bytes=%zu prompt_tokens=3 completion_tokens=5 seconds=", length);
    expect_line(log, " 127.0.0.1 \"POST /v1/completions\" 200 ", expected);
    expect_line(log, " 127.0.0.1 \"POST /v1/completions\" 200 ", " prompt_tokens=2 completion_tokens=7 ");
    expect_line(log, " 127.0.0.1 \"POST /v1/completions\" 401 ", "bytes=");
    expect_line(log, " 127.0.0.1 \"GET /no\\x0asuch\\x22\\x1b[31m\\xc3\\xa9\" 404 ", "bytes=");
    for (size_t i = 0; i < bytes; i++) assert_true(log[i] == '\n' || isprint((unsigned char)log[i]));
    assert_null(strstr(log, "secret"));
    free(log);
    log = get(in(f, "stderr"), &bytes);
    assert_null(strstr(log, "GET /no"));
    free(log);
}

/* The default is standard error. The server works if nobody reads it. */
static void the_log_goes_to_stderr(void **state) {
    const folder *f = *state;
    size_t bytes;
    served s = SERVE(state, "--max_num_seqs", "1");
    json_decref(ask(&s, "/v1/completions", "{\"prompt\":[1,260],\"max_tokens\":2,\"ignore_eos\":true}"));
    stop(&s);
    char *log = get(in(f, "stderr"), &bytes);
    expect_line(log, "\"POST /v1/completions\" 200 ", "completion_tokens=2");
    free(log);
    s = SERVE(state, "--access_log", "none");
    json_decref(ask(&s, "/v1/completions", "{\"prompt\":[1,260],\"max_tokens\":2,\"ignore_eos\":true}"));
    stop(&s);
    log = get(in(f, "stderr"), &bytes);
    assert_null(strstr(log, "POST"));
    free(log);
    REFUSES(f, 1, "cannot open the access log", "serve", "--model_name_or_path", in(f, "model"), "--port", "0",
            "--access_log", in(f, "absent/log"));
}

/* A reader that stops reading does not stop the server; an absent reader is an error. */
static void a_log_that_nobody_reads(void **state) {
    const folder *f = *state;
    assert_int_equal(mkfifo(in(f, "pipe"), 0666), 0);
    REFUSES(f, 1, "cannot open the access log", "serve", "--model_name_or_path", in(f, "model"), "--port", "0",
            "--access_log", in(f, "pipe"));
    int reader = open(in(f, "pipe"), O_RDONLY | O_NONBLOCK);
    served s = SERVE(state, "--access_log", in(f, "pipe"));
    for (int i = 0; i < 1000; i++) { /* lines of about 70 bytes into 65,536 */
        http_answer a = http_do(s.port, "GET", "/health", "", "");
        assert_int_equal(a.status, 200);
        http_free(&a);
    }
    stop(&s);
    close(reader);
}

static void a_used_port_is_found_before_costs_are_measured(void **state) {
    const folder *f = *state;
    served s = SERVE(state, "--cost_table", in(f, "costs-1"));
    char port[16];
    snprintf(port, sizeof port, "%d", s.port);
    REFUSES(f, 1, "cannot listen on \"127.0.0.1\", port", "serve", "--model_name_or_path", in(f, "model"), "--device",
            "cpu", "--threads", "1", "--port", port, "--cost_table", in(f, "costs-2"));
    assert_true(file_exists(in(f, "costs-1")) && !file_exists(in(f, "costs-2")));
    stop(&s);
}

static void addresses_are_urls(void **state) {
    const folder *f = *state;
    REFUSES(f, 1, "cannot resolve host \"no such host\"", "serve", "--model_name_or_path", in(f, "model"), "--host",
            "no such host");
    REFUSES(f, 1, "cannot listen on \"192.0.2.1\", port 8000", "serve", "--model_name_or_path", in(f, "model"),
            "--host", "192.0.2.1"); /* assigned to nobody: RFC 5737 */
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 local = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool has_ipv6 = fd >= 0 && bind(fd, (struct sockaddr *)&local, sizeof local) == 0;
    if (fd >= 0) close(fd);
    if (!has_ipv6) {
        print_message("skipped: there is no IPv6\n");
        skip();
    }
    const char *words[] = {"serve", "--model_name_or_path", in(f, "model"), "--port", "0", "--host", "::1", NULL};
    pid_t process = program_start(f, words, STDOUT_FILENO);
    size_t bytes;
    bool said = false;
    for (int i = 0; i < 2400 && !said; i++) {
        usleep(50000);
        char *text = get(in(f, "stderr"), &bytes);
        said = strstr(text, " on http://[::1]:") != NULL;
        free(text);
    }
    assert_true(said);
    kill(process, SIGTERM);
    assert_int_equal(program_wait(process), 0);
}

#define WITH_MODEL(test) cmocka_unit_test_setup_teardown(test, model_folder_open, folder_close)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_MODEL(hosts_are_addresses_or_named),
        WITH_MODEL(origins_are_the_server_or_named),
        WITH_MODEL(keys_come_from_flags_files_and_the_environment),
        WITH_MODEL(keys_that_cannot_be_are_refused),
        WITH_MODEL(models_have_short_names),
        WITH_MODEL(models_of_the_hub_have_their_names),
        WITH_MODEL(requests_are_logged),
        WITH_MODEL(the_log_goes_to_stderr),
        WITH_MODEL(a_log_that_nobody_reads),
        WITH_MODEL(a_used_port_is_found_before_costs_are_measured),
        WITH_MODEL(addresses_are_urls),
    };
    unsetenv("LCKV_API_KEY");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
