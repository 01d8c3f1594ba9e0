/* lckv serve with 64 concurrent clients: responses, streams, chats, scores, clients that disconnect at any point, read
 * slowly, or send invalid requests. With --batch_invariant every response equals, bit for bit, that of the same request
 * alone. At the end pages, memory and file descriptors are as at the start.
 *
 * Takes a few seconds; LCKV_SOAK_SECONDS sets a longer time and prints statistics. */
#include "served.h"

#include "base/rng.h"

#include <math.h>
#include <pthread.h>
#include <time.h>

enum {
    CLIENTS = 64,
    MIN_ROUNDS = 6 /* minimum per client, regardless of time */,
    QUESTIONS = 10,
    LONG_PROMPT = 150,
    BODY_BYTES = 2048,
    RESIDENT_SLACK_KB = 8192
};

static const char TEMPLATE[] = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]";
static const char LONG[] = "{\"prompt\":\"a\",\"max_tokens\":15000,\"stream\":true}";

/* A request, its response if it runs alone, and the request as a stream if it has one. */
typedef struct question {
    const char *path;
    char body[BODY_BYTES], streamed[BODY_BYTES];
    json_t *choices;
    char *text; /* of choice 0 */
} question;

typedef struct soak {
    served s;
    question questions[QUESTIONS];
    double end; /* clock time */
} soak;

enum outcome_kind { WHOLE, STREAMED, REFUSED, LEFT, NONSENSE, LOOKED, BUSY, OUTCOMES };
static const char *const OUTCOME_NAMES[] = {"whole", "streamed", "refused", "left", "nonsense", "looked", "busy"};

typedef struct client {
    soak *soak;
    int number;
    uint64_t draws;
    int64_t counts[OUTCOMES];
    char wrong[512]; /* the first wrong response */
    pthread_t thread;
} client;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---------------------------------------------------------------- requests */

/* Ids with a common prefix within a `family`. */
static void write_prompt(char *to, int count, int family, int own_tail) {
    for (int i = 0; i < count; i++) {
        int own = i < 100 ? family : own_tail;
        to += sprintf(to, i ? ",%d" : "[%d", 259 + (i * 7 + own * 5) % 15);
    }
    sprintf(to, "]");
}

static void write_question(question *q, int i) {
    static const char *const HOW[] = {
        "\"max_tokens\":24,\"temperature\":0",
        "\"max_tokens\":40,\"seed\":5,\"top_p\":0.9",
        "\"max_tokens\":8,\"n\":3,\"seed\":7,\"logprobs\":2",
        "\"max_tokens\":1,\"temperature\":0,\"logprobs\":1,\"echo\":true",
        "\"max_tokens\":60,\"seed\":9,\"stop\":[\"e\"],\"presence_penalty\":0.5,\"top_k\":20",
    };
    char prompt[6 * LONG_PROMPT];
    const char *how = HOW[i % 5];
    write_prompt(prompt, i < 5 ? 3 + i : LONG_PROMPT - i, i % 2, i);
    q->path = "/v1/completions";
    snprintf(q->body, sizeof q->body, "{\"prompt\":%s,%s}", prompt, how);
    if (!strstr(how, "echo") && !strstr(how, "\"n\""))
        snprintf(q->streamed, sizeof q->streamed, "{\"prompt\":%s,%s,\"stream\":true}", prompt, how);
    if (i != QUESTIONS - 1) return;
    static const char CHAT[] =
        "\"messages\":[{\"role\":\"user\",\"content\":\"the cat\"}],\"max_tokens\":20,\"seed\":3";
    q->path = "/v1/chat/completions";
    snprintf(q->body, sizeof q->body, "{%s}", CHAT);
    snprintf(q->streamed, sizeof q->streamed, "{%s,\"stream\":true}", CHAT);
}

/* The text of a choice, or of a chunk of one. */
static const char *choice_text(const json_t *choice) {
    const char *text = json_string_value(json_object_get(choice, "text"));
    static const char *const HOLDERS[] = {"message", "delta"};
    for (int i = 0; i < 2 && !text; i++)
        text = json_string_value(json_object_get(json_object_get(choice, HOLDERS[i]), "content"));
    return text ? text : "";
}

static void ask_alone(soak *s) {
    for (int i = 0; i < QUESTIONS; i++) {
        question *q = &s->questions[i];
        write_question(q, i);
        json_t *answer = ask(&s->s, q->path, q->body);
        q->choices = json_incref(json_object_get(answer, "choices"));
        q->text = strdup(choice_text(json_array_get(q->choices, 0)));
        json_decref(answer);
    }
}

/* ---------------------------------------------------------------- clients */

static uint64_t draw(client *c, uint64_t below) {
    return (uint64_t)(rng_uniform(11, (uint64_t)c->number, c->draws++) * (double)below);
}

static void complain(client *c, const char *what, const char *body, const http_answer *a) {
    if (!*c->wrong)
        snprintf(c->wrong, sizeof c->wrong, "%s: %.200s: status %d, %.200s", what, body, a->status,
                 a->body ? a->body : "nothing");
}

/* A full queue is a valid response if it says when to retry. */
static bool is_busy(client *c, const http_answer *a) {
    if (a->status != 429 || !strstr(a->head, "Retry-After")) return false;
    c->counts[BUSY]++;
    usleep(20000);
    return true;
}

static void ask_whole(client *c, const question *q) {
    http_answer a = http_do(c->soak->s.port, "POST", q->path, "", q->body);
    json_t *json = a.status == 200 ? json_loads(a.body, 0, NULL) : NULL;
    if (json_equal(json_object_get(json, "choices"), q->choices))
        c->counts[WHOLE]++;
    else if (!is_busy(c, &a))
        complain(c, "not what it gets alone", q->body, &a);
    json_decref(json);
    http_free(&a);
}

/* Whether the events' texts form `text` and the last event is [DONE]. */
static bool streams(const char *body, const char *text) {
    bool done = false;
    for (const char *at = body; (at = strstr(at, "data: ")) && !done;) {
        const char *data = at + 6, *end = strstr(data, "\n\n");
        if (!end) return false;
        at = end;
        done = !strncmp(data, "[DONE]", 6);
        if (done) break;
        json_t *event = json_loadb(data, (size_t)(end - data), 0, NULL);
        const char *piece = choice_text(json_array_get(json_object_get(event, "choices"), 0));
        size_t length = strlen(piece);
        bool fits = !strncmp(text, piece, length);
        json_decref(event);
        if (!fits) return false;
        text += length;
    }
    return done && !*text;
}

static void ask_streamed(client *c, const question *q) {
    http_answer a = http_do(c->soak->s.port, "POST", q->path, "", q->streamed);
    if (a.status == 200 && streams(a.body, q->text))
        c->counts[STREAMED]++;
    else if (!is_busy(c, &a))
        complain(c, "not the stream of what it gets alone", q->streamed, &a);
    http_free(&a);
}

/* Disconnects immediately, in the middle of the request, while waiting, or after slowly reading a part of the response.
 */
static void leave(client *c) {
    char piece[64];
    size_t length = sizeof LONG - 1, sent = draw(c, 4) ? length : draw(c, length);
    int fd = http_connect(c->soak->s.port);
    if (fd < 0) return;
    char head[128];
    snprintf(head, sizeof head, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n",
             length);
    http_send(fd, head, strlen(head));
    http_send(fd, LONG, sent);
    for (uint64_t i = draw(c, 20); i && sent == length; i--) {
        if (recv(fd, piece, 1 + (size_t)draw(c, sizeof piece), MSG_DONTWAIT) == 0) break;
        usleep((useconds_t)(1000 * draw(c, 10)));
    }
    if (draw(c, 2)) shutdown(fd, SHUT_WR);
    close(fd);
    c->counts[LEFT]++;
}

static void be_refused(client *c) {
    static const char *const BODIES[] = {"{",
                                         "[]",
                                         "{\"prompt\":[-1]}",
                                         "{\"prompt\":\"a\",\"n\":0}",
                                         "{\"prompt\":\"a\",\"max_tokens\":99999}",
                                         "{\"prompt\":\"a\",\"tools\":[1]}"};
    const char *body = BODIES[draw(c, sizeof BODIES / sizeof *BODIES)];
    http_answer a = http_do(c->soak->s.port, "POST", "/v1/completions", "", body);
    if (a.status == 400)
        c->counts[REFUSED]++;
    else if (!is_busy(c, &a))
        complain(c, "not refused", body, &a);
    http_free(&a);
}

/* Invalid requests. The server may answer or close the connection, and continues. */
static void send_nonsense(client *c) {
    static const char *const BYTES[] = {
        "\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nContent-",
        "POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        "\x16\x03\x01\x02",
        "GET /health HTTP/1.1\r\nHost: [::1]\r\n\r\nGET /health HTTP/1.1\r\nHost: [::1]\r\n\r\n"};
    const char *bytes = BYTES[draw(c, sizeof BYTES / sizeof *BYTES)];
    char ignored[256];
    int fd = http_connect(c->soak->s.port);
    if (fd < 0) return;
    http_send(fd, bytes, strlen(bytes));
    usleep((useconds_t)(1000 * draw(c, 20)));
    while (recv(fd, ignored, sizeof ignored, MSG_DONTWAIT) > 0) continue;
    close(fd);
    c->counts[NONSENSE]++;
}

static void look(client *c) {
    static const char *const PATHS[] = {"/health", "/metrics", "/state", "/", "/v1/models"};
    const char *path = PATHS[draw(c, sizeof PATHS / sizeof *PATHS)];
    http_answer a = http_do(c->soak->s.port, "GET", path, "", "");
    if (a.status == 200)
        c->counts[LOOKED]++;
    else
        complain(c, "no answer", path, &a);
    http_free(&a);
}

static void *be_client(void *user) {
    client *c = user;
    for (int done = 0; (done < MIN_ROUNDS || now() < c->soak->end) && !*c->wrong; done++) {
        const question *q = &c->soak->questions[draw(c, QUESTIONS)];
        uint64_t what = draw(c, 20);
        if (what < 8)
            ask_whole(c, q);
        else if (what < 12 && *q->streamed)
            ask_streamed(c, q);
        else if (what < 16)
            leave(c);
        else if (what < 18)
            be_refused(c);
        else if (what < 19)
            send_nonsense(c);
        else
            look(c);
    }
    return NULL;
}

/* ---------------------------------------------------------------- resources at the end */

typedef struct held {
    int64_t resident_kb, files;
} held;

static held look_at_process(const served *s) {
    char path[64], line[256];
    held h = {0};
    snprintf(path, sizeof path, "/proc/%d/status", (int)s->process);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, "VmRSS:", 6)) h.resident_kb = atoll(line + 6);
    fclose(file);
    snprintf(path, sizeof path, "/proc/%d/fd", (int)s->process);
    h.files = files_in(path);
    return h;
}

/* Waits until all is released, including abandoned connections; only the server's own descriptors remain. */
static held look_when_idle(const served *s, int64_t files) {
    expect_metric_soon(s, "samples_running", 0);
    expect_metric_soon(s, "samples_waiting", 0);
    expect_metric_soon(s, "kv_pages_used", 0);
    held h = look_at_process(s);
    for (int i = 0; i < 2400 && h.files != files; i++) {
        usleep(50000);
        h = look_at_process(s);
    }
    assert_int_equal(h.files, files);
    return h;
}

static void run_clients(soak *s, double seconds, int64_t counts[OUTCOMES]) {
    static client clients[CLIENTS];
    static int rounds;
    s->end = now() + seconds;
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (client){.soak = s, .number = i + CLIENTS * rounds};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, be_client, &clients[i]), 0);
    }
    rounds++;
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        for (int k = 0; k < OUTCOMES; k++) counts[k] += clients[i].counts[k];
    }
    for (int i = 0; i < CLIENTS; i++)
        if (*clients[i].wrong) fail_msg("client %d: %s", i, clients[i].wrong);
}

static void print_figures(double seconds, const int64_t counts[OUTCOMES], held before, held after) {
    print_message("%.0f s, %d clients:", seconds, CLIENTS);
    for (int k = 0; k < OUTCOMES; k++) print_message(" %lld %s,", (long long)counts[k], OUTCOME_NAMES[k]);
    print_message(" resident %lld then %lld KiB\n", (long long)before.resident_kb, (long long)after.resident_kb);
}

static void clients_come_and_go(void **state) {
    static soak s;
    const char *asked = getenv("LCKV_SOAK_SECONDS");
    double seconds = asked ? atof(asked) : 4;
    int64_t warm[OUTCOMES] = {0}, counts[OUTCOMES] = {0};
    if (access("/proc/self/status", R_OK) != 0) SKIP("there is no /proc, which tells the server's memory");
    put_text(in(*state, "model/chat_template.jinja"), TEMPLATE);
    s.s = SERVE(state, "--batch_invariant", "--max_num_seqs", "12", "--max_queue", "40", "--kv_cache_memory",
                "20000000", "--max_num_batched_tokens", "256");
    int64_t files = look_at_process(&s.s).files;
    ask_alone(&s);
    run_clients(&s, seconds / 4, warm); /* until memory has grown to what this many clients need */
    held before = look_when_idle(&s.s, files);
    run_clients(&s, seconds, counts);
    held after = look_when_idle(&s.s, files);
    if (asked) print_figures(seconds, counts, before, after);
    for (int k = 0; k < BUSY; k++) assert_true(counts[k] > 0);
#ifndef SANITIZED
    assert_true(after.resident_kb < before.resident_kb + RESIDENT_SLACK_KB);
#endif
    for (int i = 0; i < QUESTIONS; i++) {
        ask_whole(&(client){.soak = &s}, &s.questions[i]);
        json_decref(s.questions[i].choices);
        free(s.questions[i].text);
    }
    stop(&s.s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(clients_come_and_go, model_folder_open, folder_close)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
