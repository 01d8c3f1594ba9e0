/* HTTP: listening, who may ask, which path is meant, limits, and how it ends. */
#include "answer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------- who may ask */

static const char *header(struct MHD_Connection *c, const char *name) {
    return MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
}

/* A page of the server itself, or of an origin that was named. */
static bool origin_may(const server *s, struct MHD_Connection *c, const char *origin) {
    const char *host = header(c, MHD_HTTP_HEADER_HOST);
    const char *after = strstr(origin, "://");
    if (host && after && !strcmp(after + 3, host)) return true;
    for (int i = 0; i < s->options->origin_count; i++)
        if (!strcmp(s->options->origins[i], "*") || !strcmp(s->options->origins[i], origin)) return true;
    return false;
}

/* In a time that does not tell how much of it is right. */
static bool same_secret(const char *a, const char *b) {
    size_t length = strlen(a);
    unsigned char different = strlen(b) != length;
    for (size_t i = 0; i < length; i++) different |= (unsigned char)(a[i] ^ b[i < strlen(b) ? i : 0]);
    return !different;
}

static bool has_key(const server *s, struct MHD_Connection *c) {
    const char *said = header(c, MHD_HTTP_HEADER_AUTHORIZATION);
    if (!s->options->api_key) return true;
    return said && !strncmp(said, "Bearer ", 7) && same_secret(s->options->api_key, said + 7);
}

static enum MHD_Result preflight(const asker *a) {
    struct MHD_Response *response = MHD_create_response_from_buffer(0, (char[]){0}, MHD_RESPMEM_MUST_COPY);
    if (response) {
        MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST");
        MHD_add_response_header(response, "Access-Control-Allow-Headers", "authorization, content-type");
        MHD_add_response_header(response, "Access-Control-Max-Age", "600");
    }
    return reply_queue(a, MHD_HTTP_NO_CONTENT, "text/plain", response);
}

/* ---------------------------------------------------------------- paths */

typedef struct path {
    const char *name;
    bool open; /* needs no key */
    enum MHD_Result (*get)(server *s, const asker *a);
    enum MHD_Result (*post)(server *s, const asker *a, const bytes *body);
    enum MHD_Result (*ask)(server *s, const asker *a, visit *v);
} path;

static enum MHD_Result all_models(server *s, const asker *a) {
    return models_answer(s, a, NULL);
}

static enum MHD_Result no_embeddings(server *s, const asker *a, const bytes *body) {
    (void)s, (void)body;
    return reply_error(a, MHD_HTTP_BAD_REQUEST, NULL, "not_supported",
                       "embeddings are not supported: this server has a model that writes text");
}

static const path PATHS[] = {
    {"/", true, .get = page_answer},
    {"/health", true, .get = health_answer},
    {"/layers.svg", false, .get = layers_answer},
    {"/metrics", false, .get = metrics_answer},
    {"/state", false, .get = state_answer},
    {"/v1/models", false, .get = all_models},
    {"/tokenizer_info", false, .get = tokenizer_info_answer},
    {"/v1/completions", false, .ask = completions_ask},
    {"/v1/chat/completions", false, .ask = chat_ask},
    {"/apply_template", false, .post = apply_template_answer},
    {"/v1/embeddings", false, .post = no_embeddings},
    {"/tokenize", false, .post = tokenize_answer},
    {"/detokenize", false, .post = detokenize_answer},
};

static const path *find_path(const char *url) {
    for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++)
        if (!strcmp(PATHS[i].name, url)) return &PATHS[i];
    return NULL;
}

static enum MHD_Result wrong_method(const asker *a, const path *p) {
    return reply_error(a, MHD_HTTP_METHOD_NOT_ALLOWED, NULL, "method_not_allowed",
                       p->get ? "this path is for GET" : "this path is for POST");
}

static enum MHD_Result route(server *s, const asker *a, const char *url, const char *method, visit *v) {
    static const char MODEL[] = "/v1/models/";
    const path *p = find_path(url);
    bool get = !strcmp(method, MHD_HTTP_METHOD_GET) || !strcmp(method, MHD_HTTP_METHOD_HEAD);
    if (!strcmp(method, MHD_HTTP_METHOD_OPTIONS) && a->origin) return preflight(a);
    if (!(p && p->open) && !has_key(s, a->connection))
        return reply_error(a, MHD_HTTP_UNAUTHORIZED, NULL, "invalid_api_key",
                           "an API key is needed: Authorization: Bearer KEY");
    if (!p && get && !strncmp(url, MODEL, sizeof MODEL - 1)) return models_answer(s, a, url + sizeof MODEL - 1);
    if (!p) return reply_error(a, MHD_HTTP_NOT_FOUND, NULL, "unknown_path", "there is no such path");
    if (p->get) return get ? p->get(s, a) : wrong_method(a, p);
    if (strcmp(method, MHD_HTTP_METHOD_POST)) return wrong_method(a, p);
    if (p->post) return p->post(s, a, &v->body);
    if (s->draining) return reply_error(a, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, "stopping", "the server is stopping");
    return p->ask(s, a, v);
}

/* ---------------------------------------------------------------- one request */

static enum MHD_Result take_body(server *s, visit *v, const char *data, size_t *size) {
    if (v->body.length + *size > (size_t)s->options->max_body) {
        v->too_large = true;
        bytes_free(&v->body);
    }
    if (!v->too_large) bytes_add(&v->body, data, *size);
    *size = 0;
    return MHD_YES;
}

static enum MHD_Result handle(void *user, struct MHD_Connection *c, const char *url, const char *method,
                              const char *version, const char *data, size_t *size, void **state) {
    server *s = user;
    visit *v = *state;
    (void)version;
    if (!v) return (*state = calloc(1, sizeof *v)) ? MHD_YES : MHD_NO;
    if (*size) return take_body(s, v, data, size);
    patience_asked(&s->patience, c);
    const char *origin = header(c, MHD_HTTP_HEADER_ORIGIN);
    asker a = {.connection = c, .origin = origin && origin_may(s, c, origin) ? origin : NULL};
    if (v->answer) return answer_continue(v->answer, &a);
    if (v->too_large)
        return reply_error(&a, MHD_HTTP_CONTENT_TOO_LARGE, NULL, "too_large",
                           "the body is larger than this server takes");
    if (v->body.failed) return MHD_NO;
    if (origin && !a.origin)
        return reply_error(&a, MHD_HTTP_FORBIDDEN, NULL, "origin_not_allowed", "pages of this origin may not ask here");
    return route(s, &a, url, method, v);
}

static void finished(void *user, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode how) {
    visit *v = *state;
    server *s = user;
    (void)how;
    patience_answered(&s->patience, c);
    if (!v) return;
    answer_free(v->answer);
    bytes_free(&v->body);
    free(v);
    *state = NULL;
}

/* ---------------------------------------------------------------- listening */

enum { HEADERS_MOST = 32768 };

static bool listen_on(const serve_options *o, int *out, int *port, char error[SERVE_ERROR_BYTES]) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found = NULL;
    char service[16];
    snprintf(service, sizeof service, "%d", o->port);
    int problem = getaddrinfo(o->host, service, &hints, &found);
    if (problem) {
        snprintf(error, SERVE_ERROR_BYTES, "no address '%s': %s", o->host, gai_strerror(problem));
        return false;
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    bool listens = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
                   bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, 511) == 0 &&
                   getsockname(fd, (struct sockaddr *)&address, &length) == 0;
    if (!listens) {
        snprintf(error, SERVE_ERROR_BYTES, "cannot listen on %s port %d: %s", o->host, o->port, strerror(errno));
        if (fd >= 0) close(fd);
    }
    freeaddrinfo(found);
    *out = fd;
    *port = address.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&address)->sin6_port)
                                          : ntohs(((struct sockaddr_in *)&address)->sin_port);
    return listens;
}

static bool start_daemon(server *s, int fd, char error[SERVE_ERROR_BYTES]) {
    const serve_options *o = s->options;
    /* poll() and not epoll, of whose edges libmicrohttpd loses one where a connection's end comes with part of a
     * request */
    unsigned flags = MHD_USE_POLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO;
    s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, handle, s, MHD_OPTION_LISTEN_SOCKET, fd,
                                 MHD_OPTION_NOTIFY_COMPLETED, finished, s, MHD_OPTION_NOTIFY_CONNECTION,
                                 patience_notified, &s->patience, MHD_OPTION_CONNECTION_LIMIT,
                                 (unsigned)o->max_connections, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)o->timeout,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADERS_MOST, MHD_OPTION_END);
    if (!s->daemon) snprintf(error, SERVE_ERROR_BYTES, "cannot start the HTTP server: %s", strerror(errno));
    return s->daemon != NULL;
}

/* ---------------------------------------------------------------- from beginning to end */

static void pause_briefly(void) {
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
}

/* Until it is asked to stop; then what runs is answered, and what comes is refused. */
static void serve_until_stopped(server *s) {
    worker_view view = {0};
    while (!s->options->stopping(s->options->user) && !view.failed) {
        pause_briefly();
        patience_end(&s->patience, s->options->timeout);
        worker_look(s->worker, &view);
    }
    s->draining = true;
    while (worker_jobs(s->worker) > 0) pause_briefly();
}

/* The last bytes of answers get a moment to go out. */
static void end_daemon(server *s) {
    MHD_socket listening = MHD_quiesce_daemon(s->daemon);
    pause_briefly();
    MHD_stop_daemon(s->daemon);
    if (listening != MHD_INVALID_SOCKET) close(listening);
}

static bool open_texts(server *s, lckv_tokenizer **of_engine, char error[SERVE_ERROR_BYTES]) {
    const char *name = s->options->tokenizer_name;
    *of_engine = NULL;
    if (!name) return true;
    char *folder;
    int status = lckv_find_folder(name, &folder);
    if (status >= 0) status = lckv_tokenizer_open(folder, &s->tokenizer);
    if (status >= 0) status = lckv_tokenizer_open(folder, of_engine);
    if (status >= 0) status = lckv_chat_template_open(folder, s->options->chat_template, &s->chat_template);
    if (status < 0) snprintf(error, SERVE_ERROR_BYTES, "%s", lckv_last_error());
    lckv_free(folder);
    return status >= 0;
}

static bool serve_on(server *s, int fd, int port, char error[SERVE_ERROR_BYTES]) {
    if (!start_daemon(s, fd, error)) {
        close(fd);
        return false;
    }
    if (s->options->started) s->options->started(s->options->user, s->options->host, port);
    serve_until_stopped(s);
    worker_view view;
    worker_look(s->worker, &view);
    if (view.failed) snprintf(error, SERVE_ERROR_BYTES, "%s", view.error);
    end_daemon(s);
    return !view.failed;
}

bool serve_run(lckv_model *model, const serve_options *options, char error[SERVE_ERROR_BYTES]) {
    server s = {.options = options, .model = model, .patience = PATIENCE_AT_FIRST, .started = (int64_t)time(NULL)};
    lckv_tokenizer *of_engine;
    int fd, port;
    bool served = open_texts(&s, &of_engine, error) && worker_start(model, of_engine, options, &s.worker, error) &&
                  listen_on(options, &fd, &port, error) && serve_on(&s, fd, port, error);
    worker_stop(s.worker);
    lckv_tokenizer_free(of_engine);
    lckv_tokenizer_free(s.tokenizer);
    lckv_chat_template_free(s.chat_template);
    return served;
}
