/* Overhead of the HTTP server: the same requests to an engine and, streamed, to a server on the same model. Responses
 * are only checked for their size. See perf_main.c. */
#include "perf.h"

#ifdef LCKV_SERVE

#include "serve/serve.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MIN_ROUNDS = 3, MAX_ROUNDS = 50, MAX_CLIENTS = 256, REQUEST_BYTES = 16384 };

typedef struct server {
    lckv_model *model;
    serve_options options;
    _Atomic int port;
    _Atomic bool stop;
    bool served;
    char error[SERVE_ERROR_BYTES];
    pthread_t thread;
} server;

static bool stopping(void *user) {
    server *s = user;
    return s->stop;
}

static void started(void *user, const char *host, int port) {
    server *s = user;
    (void)host;
    s->port = port;
}

static void *serve(void *user) {
    server *s = user;
    s->served = serve_run(s->model, &s->options, s->error);
    if (!s->port) s->port = -1;
    return NULL;
}

static int server_start(server *s, lckv_model *m, const lckv_engine_options *engine) {
    s->model = m;
    s->options = (serve_options){.host = "127.0.0.1",
                                 .model_name = "bench",
                                 .max_body = 1 << 24,
                                 .max_connections = MAX_CLIENTS + 8,
                                 .timeout = 600,
                                 .engine = *engine,
                                 .stopping = stopping,
                                 .started = started,
                                 .user = s};
    REQUIRE(pthread_create(&s->thread, NULL, serve, s) == 0, LCKV_ERROR_MEMORY, "cannot start a thread for the server");
    while (!s->port) usleep(1000);
    REQUIRE(s->port > 0, LCKV_ERROR_DEVICE, "%s", s->error);
    return LCKV_OK;
}

static void server_stop(server *s) {
    s->stop = true;
    pthread_join(s->thread, NULL);
}

/* ---------------------------------------------------------------- clients */

static int send_request(int port, const int32_t *ids, int count, int new_tokens) {
    char body[REQUEST_BYTES], head[256];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int length =
        snprintf(body, sizeof body,
                 "{\"max_tokens\":%d,\"logprobs\":0,\"temperature\":0,\"ignore_eos\":true,\"stream\":true,\"prompt\":[",
                 new_tokens);
    for (int i = 0; i < count && length < REQUEST_BYTES - 32; i++)
        length += snprintf(body + length, sizeof body - (size_t)length, i ? ",%d" : "%d", (int)ids[i]);
    length += snprintf(body + length, sizeof body - (size_t)length, "]}");
    int head_length = snprintf(
        head, sizeof head,
        "POST /v1/completions HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", length);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    bool sent = connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
                send(fd, head, (size_t)head_length, MSG_NOSIGNAL) == head_length &&
                send(fd, body, (size_t)length, MSG_NOSIGNAL) == length;
    if (sent) return fd;
    close(fd);
    return -1;
}

/* Reads until all connections are closed. A complete response has at least one event per token. */
static int read_all(struct pollfd *clients, int count, int new_tokens) {
    enum { EVENT_BYTES = 64 };
    int64_t bytes[MAX_CLIENTS] = {0};
    char buffer[65536];
    for (int open = count; open;) {
        poll(clients, (nfds_t)count, -1);
        for (int i = 0; i < count; i++) {
            if (clients[i].fd < 0 || !clients[i].revents) continue;
            ssize_t got = recv(clients[i].fd, buffer, sizeof buffer, 0);
            bytes[i] += got > 0 ? got : 0;
            if (got > 0) continue;
            close(clients[i].fd);
            clients[i].fd = -1;
            open--;
            REQUIRE(!got && bytes[i] > EVENT_BYTES * new_tokens, LCKV_ERROR_FORMAT,
                    "the response to client %d is incomplete: %lld bytes", i, (long long)bytes[i]);
        }
    }
    return LCKV_OK;
}

static int run_clients(server *s, const perf_options *o, const int32_t *ids, double *seconds) {
    struct pollfd clients[MAX_CLIENTS];
    double begin = clock_seconds();
    for (int i = 0; i < o->batch; i++) {
        int fd = send_request(s->port, ids + (int64_t)i * o->prompt, o->prompt, o->length);
        REQUIRE(fd >= 0, LCKV_ERROR_FORMAT, "cannot connect to the server");
        clients[i] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    TRY(read_all(clients, o->batch, o->length));
    *seconds = clock_seconds() - begin;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- rounds */

typedef struct rounds {
    double alone[MAX_ROUNDS], served[MAX_ROUNDS], ratios[MAX_ROUNDS], cpu_ratios[MAX_ROUNDS];
} rounds;

/* Wall-clock and CPU time; the latter includes the clients'. */
static int run_round(const perf_options *o, const perf_model *m, lckv_engine *e, server *s, const int32_t *ids,
                     rounds *r, int round) {
    double begin = cpu_seconds(), middle;
    TRY(perf_engine_run(m, e, ids, o->prompt, o->length, o->batch, LCKV_ENCODING_AUTO, &r->alone[round]));
    middle = cpu_seconds();
    TRY(run_clients(s, o, ids, &r->served[round]));
    r->ratios[round] = r->served[round] / r->alone[round];
    r->cpu_ratios[round] = (cpu_seconds() - middle) / (middle - begin);
    return LCKV_OK;
}

static int measure(const perf_options *o, const perf_model *m, lckv_engine *e, server *s, int32_t *ids) {
    static rounds r;
    double begin = 0;
    int count = 0;
    for (int round = -1; round < MAX_ROUNDS; round++) { /* the first round is a warm-up */
        if (round == 0) begin = clock_seconds();
        if (round >= MIN_ROUNDS && clock_seconds() - begin > o->seconds) break;
        perf_random_ids(m, (uint64_t)(round + 1), ids, o->batch * o->prompt);
        TRY(run_round(o, m, e, s, ids, &r, round < 0 ? 0 : round));
        count = round + 1;
    }
    printf("{\"bench\": \"server\", \"config\": \"%s\", \"compute\": \"%s\", \"clients\": %d, \"prompt\": %d, "
           "\"length\": %d, \"rounds\": %d, \"engine_seconds\": %.3f, \"server_seconds\": %.3f, \"ratio\": %.4f, "
           "\"cpu_ratio\": %.4f}\n",
           o->config, dtype_name(o->compute), o->batch, o->prompt, o->length, count, perf_median(r.alone, count),
           perf_median(r.served, count), perf_median(r.ratios, count), perf_median(r.cpu_ratios, count));
    return LCKV_OK;
}

int perf_http(const perf_options *o) {
    static server s;
    perf_model m;
    lckv_engine *e = NULL;
    lckv_engine_options options = lckv_engine_defaults();
    options.max_num_seqs = o->batch;
    options.max_model_len = o->prompt + o->length;
    options.bf16 = o->compute == DTYPE_BF16;
    REQUIRE(o->batch <= MAX_CLIENTS && o->prompt <= 1024, LCKV_ERROR_ARGUMENT,
            "expected at most %d clients with prompts of at most 1024 tokens", MAX_CLIENTS);
    int32_t *ids = malloc((size_t)o->batch * (size_t)o->prompt * sizeof *ids);
    int status = perf_model_open(o, NULL, &m);
    if (status >= 0 && !ids) status = fail(LCKV_ERROR_MEMORY, "no memory for prompts");
    if (status >= 0) status = lckv_engine_create(m.model, NULL, &options, &e);
    if (status >= 0) status = server_start(&s, m.model, &options);
    if (status >= 0) status = measure(o, &m, e, &s, ids);
    if (s.port) server_stop(&s);
    lckv_engine_free(e);
    perf_model_close(&m);
    free(ids);
    return status;
}

#else

int perf_http(const perf_options *o) {
    (void)o;
    return fail(LCKV_ERROR_UNSUPPORTED, "this build has no server (libmicrohttpd was not found)");
}

#endif
