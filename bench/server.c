/* The same requests to the engine itself and, streamed over HTTP, to a server on the same model, in turns, see main.c.
 * Nothing is read of the answers but that they are whole. */
#include "bench.h"

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

enum { LEAST_ROUNDS = 3, MOST_ROUNDS = 50, MOST_CLIENTS = 256, REQUEST_BYTES = 16384 };

typedef struct server {
    lckv_model *model;
    serve_options options;
    _Atomic int port;
    _Atomic bool ends;
    bool served;
    char error[SERVE_ERROR_BYTES];
    pthread_t thread;
} server;

static bool stopping(void *user) {
    server *s = user;
    return s->ends;
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
                                 .max_connections = MOST_CLIENTS + 8,
                                 .timeout = 600,
                                 .engine = *engine,
                                 .stopping = stopping,
                                 .started = started,
                                 .user = s};
    REQUIRE(pthread_create(&s->thread, NULL, serve, s) == 0, LCKV_ERROR_MEMORY, "no thread for a server");
    while (!s->port) usleep(1000);
    REQUIRE(s->port > 0, LCKV_ERROR_DEVICE, "%s", s->error);
    return LCKV_OK;
}

static void server_stop(server *s) {
    s->ends = true;
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

/* Reads until all have closed: an event for each token at least. */
static int read_all(struct pollfd *clients, int count, int new_tokens) {
    enum { EVENT_BYTES = 64 };
    int64_t bytes[MOST_CLIENTS] = {0};
    char piece[65536];
    for (int open = count; open;) {
        poll(clients, (nfds_t)count, -1);
        for (int i = 0; i < count; i++) {
            if (clients[i].fd < 0 || !clients[i].revents) continue;
            ssize_t got = recv(clients[i].fd, piece, sizeof piece, 0);
            bytes[i] += got > 0 ? got : 0;
            if (got > 0) continue;
            close(clients[i].fd);
            clients[i].fd = -1;
            open--;
            REQUIRE(!got && bytes[i] > EVENT_BYTES * new_tokens, LCKV_ERROR_FORMAT,
                    "the answer to client %d has %lld bytes", i, (long long)bytes[i]);
        }
    }
    return LCKV_OK;
}

static int ask_server(server *s, const bench_options *o, const int32_t *ids, double *seconds) {
    struct pollfd clients[MOST_CLIENTS];
    double begin = bench_now();
    for (int i = 0; i < o->batch; i++) {
        int fd = send_request(s->port, ids + (int64_t)i * o->prompt, o->prompt, o->length);
        REQUIRE(fd >= 0, LCKV_ERROR_FORMAT, "the server takes no connection");
        clients[i] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    TRY(read_all(clients, o->batch, o->length));
    *seconds = bench_now() - begin;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- in turns */

typedef struct rounds {
    double alone[MOST_ROUNDS], served[MOST_ROUNDS], ratios[MOST_ROUNDS], cpu_ratios[MOST_ROUNDS];
} rounds;

/* Seconds on the clock and of the processors, the client's included. */
static int take_round(const bench_options *o, const bench_model *m, lckv_engine *e, server *s, const int32_t *ids,
                      rounds *r, int round) {
    double begin = bench_cpu(), middle;
    TRY(bench_engine_run(m, e, ids, o->prompt, o->length, o->batch, &r->alone[round]));
    middle = bench_cpu();
    TRY(ask_server(s, o, ids, &r->served[round]));
    r->ratios[round] = r->served[round] / r->alone[round];
    r->cpu_ratios[round] = (bench_cpu() - middle) / (middle - begin);
    return LCKV_OK;
}

static int take_rounds(const bench_options *o, const bench_model *m, lckv_engine *e, server *s, int32_t *ids) {
    static rounds r;
    double begin = 0;
    int count = 0;
    for (int round = -1; round < MOST_ROUNDS; round++) { /* the first makes primitives */
        if (round == 0) begin = bench_now();
        if (round >= LEAST_ROUNDS && bench_now() - begin > o->seconds) break;
        bench_random_ids(m, (uint64_t)(round + 1), ids, o->batch * o->prompt);
        TRY(take_round(o, m, e, s, ids, &r, round < 0 ? 0 : round));
        count = round + 1;
    }
    printf("{\"bench\": \"server\", \"config\": \"%s\", \"compute\": \"%s\", \"clients\": %d, \"prompt\": %d, "
           "\"length\": %d, \"rounds\": %d, \"engine_seconds\": %.3f, \"server_seconds\": %.3f, \"ratio\": %.4f, "
           "\"cpu_ratio\": %.4f}\n",
           o->config, dtype_name(o->compute), o->batch, o->prompt, o->length, count, bench_median(r.alone, count),
           bench_median(r.served, count), bench_median(r.ratios, count), bench_median(r.cpu_ratios, count));
    return LCKV_OK;
}

int bench_server(const bench_options *o) {
    static server s;
    bench_model m;
    lckv_engine *e = NULL;
    lckv_engine_options options = lckv_engine_defaults();
    options.max_num_seqs = o->batch;
    options.max_model_len = o->prompt + o->length;
    options.bf16 = o->compute == DTYPE_BF16;
    REQUIRE(o->batch <= MOST_CLIENTS && o->prompt <= 1024, LCKV_ERROR_ARGUMENT,
            "at most %d clients with prompts of 1024 tokens", MOST_CLIENTS);
    int32_t *ids = malloc((size_t)o->batch * (size_t)o->prompt * sizeof *ids);
    int status = bench_model_open(o, NULL, &m);
    if (status >= 0 && !ids) status = fail(LCKV_ERROR_MEMORY, "no memory for prompts");
    if (status >= 0) status = lckv_engine_create(m.model, NULL, &options, &e);
    if (status >= 0) status = server_start(&s, m.model, &options);
    if (status >= 0) status = take_rounds(o, &m, e, &s, ids);
    if (s.port) server_stop(&s);
    lckv_engine_free(e);
    bench_model_close(&m);
    free(ids);
    return status;
}

#else

int bench_server(const bench_options *o) {
    (void)o;
    return fail(LCKV_ERROR_UNSUPPORTED, "this was built without libmicrohttpd");
}

#endif
