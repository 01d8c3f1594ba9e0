/* HTTP: which path is meant, the life of a request, and how the server begins and ends. */
#include "server.h"

#include "access.h"
#include "answer.h"
#include "clock.h"
#include "intake.h"
#include "listen.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------- paths */

typedef struct path {
    const char *name;
    bool open; /* needs no key */
    enum MHD_Result (*get)(server *s, const asker *a);
    enum MHD_Result (*post)(server *s, const asker *a, const bytes *body);
    bool (*ask)(server *s, const asker *a, visit *v);
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

/* The name of a model follows. */
static const path ONE_MODEL = {"/v1/models/", false, .get = all_models};

static const char *model_in(const char *url) {
    return url + strlen(ONE_MODEL.name);
}

static const path *find_path(const char *url) {
    for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++)
        if (!strcmp(PATHS[i].name, url)) return &PATHS[i];
    return strncmp(url, ONE_MODEL.name, strlen(ONE_MODEL.name)) ? NULL : &ONE_MODEL;
}

/* ---------------------------------------------------------------- who is let in */

static const char *header(struct MHD_Connection *c, const char *name) {
    return MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
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

static enum MHD_Result refuse_host(const asker *a, const char *host) {
    char message[2 * STRING_SHORT_BYTES + 128], given[STRING_SHORT_BYTES];
    snprintf(
        message, sizeof message,
        "host \"%s\" is not allowed: name it with --allowed_hosts when the server is started, or use its IP address",
        string_short(given, host));
    return reply_error(a, MHD_HTTP_FORBIDDEN, NULL, "host_not_allowed", message);
}

static enum MHD_Result refuse_origin(const asker *a, const char *origin) {
    char message[2 * STRING_SHORT_BYTES + 128], given[STRING_SHORT_BYTES];
    snprintf(message, sizeof message,
             "origin \"%s\" is not allowed: name it with --allowed_origins when the server is started",
             string_short(given, origin));
    return reply_error(a, MHD_HTTP_FORBIDDEN, NULL, "origin_not_allowed", message);
}

static enum MHD_Result refuse_stopping(const asker *a) {
    return reply_error(a, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, "stopping", "the server is stopping");
}

static enum MHD_Result refuse_body(const server *s, const asker *a, body_problem problem) {
    char message[256];
    long long most = s->shared->bodies.most_body;
    switch (problem) {
    case BODY_TOO_LARGE:
        snprintf(message, sizeof message, "the body is larger than the %lld bytes that this server takes", most);
        return reply_error(a, MHD_HTTP_CONTENT_TOO_LARGE, NULL, "too_large", message);
    case BODY_TOO_MANY_VALUES:
        snprintf(message, sizeof message,
                 "the body has too many JSON values: they would take more than %d times the %lld bytes of the largest "
                 "body",
                 BODY_VALUES_FACTOR, most);
        return reply_error(a, MHD_HTTP_CONTENT_TOO_LARGE, NULL, "too_large", message);
    case BODY_NO_ROOM:
        return reply_error(a, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, "bodies_full",
                           "the bodies of other requests take all the memory for bodies: try again later");
    default:
        return reply_error(a, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, "no_memory",
                           "not enough memory for a request of this size");
    }
}

static enum MHD_Result wrong_method(const asker *a, const path *p) {
    return reply_error(a, MHD_HTTP_METHOD_NOT_ALLOWED, NULL, "method_not_allowed",
                       p->get ? "this path is for GET" : "this path is for POST");
}

static enum MHD_Result admit_to_path(server *s, visit *v) {
    const asker *a = &v->asker;
    const path *p = v->path = find_path(v->url);
    bool get = !strcmp(v->method, MHD_HTTP_METHOD_GET) || !strcmp(v->method, MHD_HTTP_METHOD_HEAD);
    if (!(p && p->open) && !access_key(s->options, header(a->connection, MHD_HTTP_HEADER_AUTHORIZATION)))
        return reply_error(a, MHD_HTTP_UNAUTHORIZED, NULL, "invalid_api_key",
                           "an API key is needed: Authorization: Bearer KEY");
    if (!p) return reply_error(a, MHD_HTTP_NOT_FOUND, NULL, "unknown_path", "there is no such path");
    if (p->get ? !get : strcmp(v->method, MHD_HTTP_METHOD_POST) != 0) return wrong_method(a, p);
    if (!p->get && s->shared->draining) return refuse_stopping(a);
    body_problem problem = p->get ? BODY_FINE : body_begin(&s->shared->bodies, v->body_count.announced);
    if (problem != BODY_FINE) return refuse_body(s, a, problem);
    v->admitted = true;
    return MHD_YES;
}

typedef struct host_check {
    const serve_options *options;
    const char *wrong; /* the first Host header that is not allowed */
} host_check;

static enum MHD_Result check_host(void *user, enum MHD_ValueKind kind, const char *name, const char *value) {
    host_check *check = user;
    (void)kind;
    if (strcasecmp(name, MHD_HTTP_HEADER_HOST) || access_host(check->options, value ? value : "")) return MHD_YES;
    check->wrong = value;
    return MHD_NO;
}

/* By its head alone: sets v->path and v->admitted, or replies. */
static enum MHD_Result admit(server *s, visit *v) {
    asker *a = &v->asker;
    const char *host = header(a->connection, MHD_HTTP_HEADER_HOST);
    const char *origin = header(a->connection, MHD_HTTP_HEADER_ORIGIN);
    host_check check = {.options = s->options};
    MHD_get_connection_values(a->connection, MHD_HEADER_KIND, check_host, &check);
    if (check.wrong) return refuse_host(a, check.wrong);
    if (origin && !access_origin(s->options, host, origin)) return refuse_origin(a, origin);
    a->origin = origin;
    if (origin && !strcmp(v->method, MHD_HTTP_METHOD_OPTIONS)) return preflight(a);
    return admit_to_path(s, v);
}

/* ---------------------------------------------------------------- work for the intake */

bool server_defer(server *s, visit *v, bool (*work)(server *s, visit *v), bool large) {
    v->work = work;
    if (!holds_take(&s->shared->holds, v->asker.connection)) return false;
    intake_post(s->shared->intake, v, large);
    return true;
}

void visit_drop_body(server *s, visit *v) {
    body_drop(&s->shared->bodies, &v->body_count, &v->body);
}

/* On a thread of the intake. */
static bool work_on_request(server *s, visit *v) {
    const asker *a = &v->asker;
    body_problem problem = body_check(&s->shared->bodies, &v->body);
    bool posted = false;
    if (s->shared->draining)
        refuse_stopping(a);
    else if (problem != BODY_FINE)
        refuse_body(s, a, problem);
    else if (v->path->post)
        v->path->post(s, a, &v->body);
    else
        posted = v->path->ask(s, a, v);
    if (posted) return false; /* the visit may have ended */
    visit_drop_body(s, v);
    return true;
}

/* ---------------------------------------------------------------- one request */

/* Bytes of the body that will come; -1: unknown. */
static int64_t announced(struct MHD_Connection *c) {
    const char *length = header(c, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (header(c, MHD_HTTP_HEADER_TRANSFER_ENCODING)) return -1;
    return length ? strtoll(length, NULL, 10) : 0;
}

/* Its head has come. Where a body will follow, it is admitted before, or refused at once and its body not read. */
static enum MHD_Result begin(server *s, struct MHD_Connection *c, const char *url, const char *method, void **state) {
    visit *v = *state = calloc(1, sizeof *v);
    if (!v) return MHD_NO;
    v->asker = (asker){.connection = c, .reply = &v->reply};
    v->method = method;
    v->url = url;
    v->since = clock_now();
    v->body_count.announced = announced(c);
    s->shared->in_flight++;
    if (v->body_count.announced == 0) return MHD_YES;
    enum MHD_Result result = admit(s, v);
    if (v->reply.status) patience_refused(&s->shared->patience, c);
    return result;
}

/* Its body has come. */
static enum MHD_Result answer_now(server *s, visit *v) {
    const asker *a = &v->asker;
    v->whole = true;
    patience_asked(&s->shared->patience, a->connection);
    if (!v->admitted) {
        enum MHD_Result result = admit(s, v);
        if (!v->admitted) return result;
    }
    if (v->path == &ONE_MODEL) return models_answer(s, a, model_in(v->url));
    if (v->path->get) return v->path->get(s, a);
    if (v->body_count.problem != BODY_FINE) return refuse_body(s, a, v->body_count.problem);
    v->reply.later = true;
    if (!s->shared->draining && server_defer(s, v, work_on_request, v->body.length > BODY_SMALL)) return MHD_YES;
    v->reply.later = false;
    return refuse_stopping(a);
}

static enum MHD_Result handle(void *user, struct MHD_Connection *c, const char *url, const char *method,
                              const char *version, const char *data, size_t *size, void **state) {
    server *s = user;
    visit *v = *state;
    (void)version;
    if (!v) return begin(s, c, url, method, state);
    if (*size) {
        if (v->admitted && !v->path->get) body_add(&s->shared->bodies, &v->body_count, &v->body, data, *size);
        *size = 0;
        return MHD_YES;
    }
    if (!v->whole) return answer_now(s, v);
    if (v->left) return MHD_NO;
    if (v->reply.response) return reply_send(&v->asker);
    if (!v->answer) return MHD_NO;
    v->reply.later = false;
    v->answer->server = s; /* from here on this thread's own tokenizer reads tokens */
    return answer_continue(v->answer, &v->asker);
}

static void log_access(server *s, const visit *v, bool aborted) {
    access_line line = {.connection = v->asker.connection,
                        .method = v->method,
                        .url = v->url,
                        .status = v->reply.status,
                        .bytes = v->reply.bytes,
                        .aborted = aborted,
                        .has_tokens = v->answer != NULL,
                        .seconds = clock_now() - v->since};
    if (v->path && v->path->get == state_answer && line.status == MHD_HTTP_OK) return; /* the page asks all the time */
    if (v->answer) answer_count_tokens(v->answer, &line.prompt_tokens, &line.new_tokens);
    access_log_add(&s->shared->log, &line);
}

static void finished(void *user, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode how) {
    visit *v = *state;
    server *s = user;
    patience_answered(&s->shared->patience, c);
    if (!v) return;
    log_access(s, v, how != MHD_REQUEST_TERMINATED_COMPLETED_OK);
    if (v->reply.response) MHD_destroy_response(v->reply.response);
    answer_free(v->answer);
    visit_drop_body(s, v);
    free(v);
    *state = NULL;
    s->shared->in_flight--;
}

/* ---------------------------------------------------------------- from beginning to end */

enum { HEADERS_MOST = 32768, TICK_MS = 100, GRACE_SECONDS = 5 };

static bool start_daemon(server *s, int fd, char error[SERVE_ERROR_BYTES]) {
    const serve_options *o = s->options;
    /* poll() and not epoll, of whose edges libmicrohttpd loses one where a connection's end comes with part of a
     * request */
    unsigned flags = MHD_USE_POLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO;
    s->shared->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, handle, s, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, finished, s,
        MHD_OPTION_NOTIFY_CONNECTION, patience_notified, &s->shared->patience, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)o->max_connections, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)o->timeout,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADERS_MOST, MHD_OPTION_END);
    if (!s->shared->daemon) snprintf(error, SERVE_ERROR_BYTES, "cannot start the HTTP server: %s", strerror(errno));
    return s->shared->daemon != NULL;
}

/* What this thread does while the others work. */
static void tick(server *s) {
    discards_wait(&s->shared->discards, TICK_MS);
    patience_end(&s->shared->patience, s->options->timeout);
    access_log_flush(&s->shared->log);
}

/* Answers what is there and refuses what comes, until no connection is on hold and none ever will be. Clients get some
 * seconds to send the rest of a request, which is refused, and to read the rest of an answer. */
static void finish_requests(server *s) {
    double end = 0;
    s->shared->draining = true;
    for (;;) {
        tick(s);
        /* in this order: what is on hold can become a job, and not the other way round */
        bool busy = holds_count(&s->shared->holds) > 0 || worker_jobs(s->worker) > 0;
        if (busy || end == 0) end = clock_now() + GRACE_SECONDS;
        bool waits = s->shared->in_flight > 0 && clock_now() < end;
        if (!busy && !waits && holds_close(&s->shared->holds)) return;
    }
}

/* What comes at the last moment is still refused, and the last bytes of answers go out. */
static void end_daemon(server *s) {
    MHD_socket listening = MHD_quiesce_daemon(s->shared->daemon);
    double end = clock_now() + GRACE_SECONDS;
    do tick(s);
    while (s->shared->in_flight > 0 && clock_now() < end);
    MHD_stop_daemon(s->shared->daemon);
    if (listening != MHD_INVALID_SOCKET) close(listening);
}

static bool serve_on(server *s, int fd, int port, char error[SERVE_ERROR_BYTES]) {
    worker_view view = {0};
    if (!start_daemon(s, fd, error)) {
        close(fd);
        return false;
    }
    if (s->options->started) s->options->started(s->options->user, s->options->host, port);
    while (!s->options->stopping(s->options->user) && !view.failed) {
        tick(s);
        worker_look(s->worker, &view);
    }
    finish_requests(s);
    worker_look(s->worker, &view);
    if (view.failed) string_copy(error, SERVE_ERROR_BYTES, view.error);
    end_daemon(s);
    return !view.failed;
}

bool server_open_texts(server *s, char error[SERVE_ERROR_BYTES]) {
    const char *name = s->options->tokenizer_name;
    s->tokenizer = NULL;
    s->chat_template = NULL;
    if (!name) return true;
    char *folder;
    int status = lckv_find_folder(name, &folder);
    if (status >= 0) status = lckv_tokenizer_open(folder, &s->tokenizer);
    if (status >= 0) status = lckv_chat_template_open(folder, s->options->chat_template, &s->chat_template);
    if (status < 0) string_copy(error, SERVE_ERROR_BYTES, lckv_last_error());
    lckv_free(folder);
    return status >= 0;
}

void server_close_texts(server *s) {
    lckv_tokenizer_free(s->tokenizer);
    lckv_chat_template_free(s->chat_template);
}

static bool open_log(server *s, char error[SERVE_ERROR_BYTES]) {
    const char *file = s->options->access_log;
    bool opened = access_log_open(&s->shared->log, file);
    if (!opened)
        snprintf(error, SERVE_ERROR_BYTES, "cannot write the access log \"%.300s\": %s", file, strerror(errno));
    return opened;
}

bool serve_run(lckv_model *model, const serve_options *options, char error[SERVE_ERROR_BYTES]) {
    shared all = {.holds = HOLDS_AT_FIRST, .discards = DISCARDS_AT_FIRST, .patience = PATIENCE_AT_FIRST};
    server s = {.options = options, .model = model, .started = (int64_t)time(NULL), .shared = &all};
    server engine = s; /* of which only the tokenizer is needed */
    int fd, port;
    all.patience.discards = &all.discards;
    all.bodies.most_body = options->max_body;
    all.bodies.most_all = options->max_bodies ? options->max_bodies : 8 * options->max_body;
    bool served = open_log(&s, error) && server_open_texts(&s, error) && server_open_texts(&engine, error) &&
                  worker_start(model, engine.tokenizer, options, &all.holds, &s.worker, error) &&
                  intake_start(&s, &all.intake, error) && listen_on(options, &fd, &port, error) &&
                  serve_on(&s, fd, port, error);
    intake_stop(all.intake);
    worker_stop(s.worker);
    server_close_texts(&engine);
    server_close_texts(&s);
    discards_end(&all.discards);
    access_log_close(&all.log);
    return served;
}
