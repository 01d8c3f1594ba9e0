/* One HTTP request: its route, access control, and its handling from the headers to the last byte of the reply. */
#include "access_control.h"
#include "cli/output/timer.h"
#include "request_threads.h"
#include "serve/endpoints/completion.h"
#include "serve/server.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* ---------------------------------------------------------------- routes */

typedef struct route {
    const char *name;
    bool no_key; /* works without an API key */
    /* One of these. */
    enum MHD_Result (*get)(server *s, const client *to);
    enum MHD_Result (*post)(server *s, const client *to, const bytes *body);
    bool (*generate)(server *s, const client *to, http_request *r);
} route;

static enum MHD_Result all_models(server *s, const client *to) {
    return models_endpoint(s, to, NULL);
}

static enum MHD_Result no_embeddings(server *s, const client *to, const bytes *body) {
    (void)s, (void)body;
    return reply_error(to, MHD_HTTP_BAD_REQUEST, NULL, "not_supported",
                       "embeddings are not supported: the model of this server generates text");
}

static const route ROUTES[] = {
    {"/", true, .get = page_endpoint},
    {"/health", true, .get = health_endpoint},
    {"/layers.svg", false, .get = layers_endpoint},
    {"/metrics", false, .get = metrics_endpoint},
    {"/state", false, .get = state_endpoint},
    {"/v1/models", false, .get = all_models},
    {"/tokenizer_info", false, .get = tokenizer_info_endpoint},
    {"/v1/completions", false, .generate = completions_endpoint},
    {"/v1/chat/completions", false, .generate = chat_endpoint},
    {"/apply_template", false, .post = apply_template_endpoint},
    {"/v1/embeddings", false, .post = no_embeddings},
    {"/tokenize", false, .post = tokenize_endpoint},
    {"/detokenize", false, .post = detokenize_endpoint},
};

/* A prefix: the name of a model follows. */
static const route MODEL_ROUTE = {"/v1/models/", false, .get = all_models};

static const char *model_name_in(const char *url) {
    return url + strlen(MODEL_ROUTE.name);
}

static const route *find_route(const char *url) {
    for (size_t i = 0; i < sizeof ROUTES / sizeof *ROUTES; i++)
        if (!strcmp(ROUTES[i].name, url)) return &ROUTES[i];
    return strncmp(url, MODEL_ROUTE.name, strlen(MODEL_ROUTE.name)) ? NULL : &MODEL_ROUTE;
}

/* ---------------------------------------------------------------- access control */

static const char *header(struct MHD_Connection *c, const char *name) {
    return MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
}

static enum MHD_Result preflight(const client *to) {
    struct MHD_Response *response = MHD_create_response_from_buffer(0, (char[]){0}, MHD_RESPMEM_MUST_COPY);
    if (response) {
        MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST");
        MHD_add_response_header(response, "Access-Control-Allow-Headers", "authorization, content-type");
        MHD_add_response_header(response, "Access-Control-Max-Age", "600");
    }
    return reply_queue(to, MHD_HTTP_NO_CONTENT, "text/plain", response);
}

static enum MHD_Result reject_host(const client *to, const char *host) {
    char message[2 * STRING_SHORT_BYTES + 128], given[STRING_SHORT_BYTES];
    snprintf(message, sizeof message,
             "host \"%s\" is not allowed: start the server with --allowed_hosts and this name, or use its IP address",
             string_short(given, host));
    return reply_error(to, MHD_HTTP_FORBIDDEN, NULL, "host_not_allowed", message);
}

static enum MHD_Result reject_origin(const client *to, const char *origin) {
    char message[2 * STRING_SHORT_BYTES + 128], given[STRING_SHORT_BYTES];
    snprintf(message, sizeof message,
             "origin \"%s\" is not allowed: start the server with --allowed_origins and this origin",
             string_short(given, origin));
    return reply_error(to, MHD_HTTP_FORBIDDEN, NULL, "origin_not_allowed", message);
}

static enum MHD_Result reject_stopping(const client *to) {
    return reply_error(to, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, "stopping", "the server is stopping");
}

static enum MHD_Result reject_body(const server *s, const client *to, body_status status) {
    char message[256];
    long long max = s->shared->bodies.max_body;
    switch (status) {
    case BODY_TOO_LARGE:
        snprintf(message, sizeof message, "the body is too large: this server accepts at most %lld bytes", max);
        return reply_error(to, MHD_HTTP_CONTENT_TOO_LARGE, NULL, "too_large", message);
    case BODY_TOO_MANY_VALUES:
        snprintf(
            message, sizeof message,
            "the body has too many JSON values: parsed, they would take more than %d times the limit of %lld bytes",
            BODY_VALUES_FACTOR, max);
        return reply_error(to, MHD_HTTP_CONTENT_TOO_LARGE, NULL, "too_large", message);
    case BODY_BUDGET_FULL:
        return reply_error(to, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, "bodies_full",
                           "other request bodies take all the memory for bodies: try again later");
    default:
        return reply_error(to, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, "no_memory", "not enough memory for this request");
    }
}

static enum MHD_Result reject_path(const client *to, const char *url) {
    char message[STRING_SHORT_BYTES + 32], given[STRING_SHORT_BYTES];
    snprintf(message, sizeof message, "path \"%s\" not found", string_short(given, url));
    return reply_error(to, MHD_HTTP_NOT_FOUND, NULL, "unknown_path", message);
}

static enum MHD_Result reject_method(const client *to, const route *p) {
    return reply_error(to, MHD_HTTP_METHOD_NOT_ALLOWED, NULL, "method_not_allowed",
                       p->get ? "this path requires GET" : "this path requires POST");
}

static enum MHD_Result admit_to_route(server *s, http_request *r) {
    const client *to = &r->client;
    const route *p = r->route = find_route(r->url);
    bool get = !strcmp(r->method, MHD_HTTP_METHOD_GET) || !strcmp(r->method, MHD_HTTP_METHOD_HEAD);
    if (!(p && p->no_key) && !access_key_matches(s->options, header(to->connection, MHD_HTTP_HEADER_AUTHORIZATION)))
        return reply_error(to, MHD_HTTP_UNAUTHORIZED, NULL, "invalid_api_key",
                           "API key required: send the header Authorization: Bearer KEY");
    if (!p) return reject_path(to, r->url);
    if (p->get ? !get : strcmp(r->method, MHD_HTTP_METHOD_POST) != 0) return reject_method(to, p);
    if (!p->get && s->shared->draining) return reject_stopping(to);
    body_status status = p->get ? BODY_OK : body_check_length(&s->shared->bodies, r->body_state.content_length);
    if (status != BODY_OK) return reject_body(s, to, status);
    r->admitted = true;
    return MHD_YES;
}

typedef struct host_check {
    const serve_options *options;
    const char *rejected; /* the first Host header that is not allowed */
} host_check;

static enum MHD_Result check_host(void *user, enum MHD_ValueKind kind, const char *name, const char *value) {
    host_check *check = user;
    (void)kind;
    if (strcasecmp(name, MHD_HTTP_HEADER_HOST) || access_host_allowed(check->options, value ? value : ""))
        return MHD_YES;
    check->rejected = value;
    return MHD_NO;
}

/* Checks the headers alone. Sets r->route and r->admitted, or replies with an error. */
static enum MHD_Result admit(server *s, http_request *r) {
    client *to = &r->client;
    const char *host = header(to->connection, MHD_HTTP_HEADER_HOST);
    const char *origin = header(to->connection, MHD_HTTP_HEADER_ORIGIN);
    host_check check = {.options = s->options};
    MHD_get_connection_values(to->connection, MHD_HEADER_KIND, check_host, &check);
    if (check.rejected) return reject_host(to, check.rejected);
    if (origin && !access_origin_allowed(s->options, host, origin)) return reject_origin(to, origin);
    to->origin = origin;
    if (origin && !strcmp(r->method, MHD_HTTP_METHOD_OPTIONS)) return preflight(to);
    return admit_to_route(s, r);
}

/* ---------------------------------------------------------------- request threads */

bool server_defer(server *s, http_request *r, bool (*work)(server *s, http_request *r), bool large) {
    r->work = work;
    if (!suspended_add(&s->shared->suspended, r->client.connection)) return false;
    request_threads_submit(s->shared->threads, r, large);
    return true;
}

void http_request_free_body(server *s, http_request *r) {
    body_free(&s->shared->bodies, &r->body_state, &r->body);
}

/* Runs on a request thread. */
static bool work_on_request(server *s, http_request *r) {
    const client *to = &r->client;
    body_status status = body_check_parse(&s->shared->bodies, &r->body);
    bool submitted = false;
    if (s->shared->draining)
        reject_stopping(to);
    else if (status != BODY_OK)
        reject_body(s, to, status);
    else if (r->route->post)
        r->route->post(s, to, &r->body);
    else
        submitted = r->route->generate(s, to, r);
    if (submitted) return false; /* `r` may already be freed */
    http_request_free_body(s, r);
    return true;
}

/* ---------------------------------------------------------------- callbacks of libmicrohttpd */

/* Size of the body in bytes; -1: unknown. */
static int64_t content_length(struct MHD_Connection *c) {
    const char *length = header(c, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (header(c, MHD_HTTP_HEADER_TRANSFER_ENCODING)) return -1;
    return length ? strtoll(length, NULL, 10) : 0;
}

/* The headers have arrived. A request with a body is checked now, so that a rejected body is never read. */
static enum MHD_Result begin_request(server *s, struct MHD_Connection *c, const char *url, const char *method,
                                     void **state) {
    http_request *r = *state = calloc(1, sizeof *r);
    if (!r) return MHD_NO;
    r->client = (client){.connection = c, .reply = &r->reply};
    r->method = method;
    r->url = url;
    r->started = timer_seconds();
    r->body_state.content_length = content_length(c);
    s->shared->in_flight++;
    if (r->body_state.content_length == 0) return MHD_YES;
    enum MHD_Result result = admit(s, r);
    if (r->reply.status) request_timeouts_rejected(&s->shared->timeouts, c);
    return result;
}

/* The body is complete. */
static enum MHD_Result answer_request(server *s, http_request *r) {
    const client *to = &r->client;
    r->received = true;
    request_timeouts_received(&s->shared->timeouts, to->connection);
    if (!r->admitted) {
        enum MHD_Result result = admit(s, r);
        if (!r->admitted) return result;
    }
    if (r->route == &MODEL_ROUTE) return models_endpoint(s, to, model_name_in(r->url));
    if (r->route->get) return r->route->get(s, to);
    if (r->body_state.status != BODY_OK) return reject_body(s, to, r->body_state.status);
    r->reply.deferred = true;
    if (!s->shared->draining && server_defer(s, r, work_on_request, r->body.length > BODY_SMALL)) return MHD_YES;
    r->reply.deferred = false;
    return reject_stopping(to);
}

enum MHD_Result http_request_handle(void *user, struct MHD_Connection *c, const char *url, const char *method,
                                    const char *version, const char *data, size_t *size, void **state) {
    server *s = user;
    http_request *r = *state;
    (void)version;
    if (!r) return begin_request(s, c, url, method, state);
    if (*size) {
        if (r->admitted && !r->route->get) body_append(&s->shared->bodies, &r->body_state, &r->body, data, *size);
        *size = 0;
        return MHD_YES;
    }
    if (!r->received) return answer_request(s, r);
    if (r->client_gone) return MHD_NO;
    if (r->reply.response) return reply_send(&r->client);
    if (!r->completion) return MHD_NO;
    r->reply.deferred = false;
    r->completion->server = s; /* use the tokenizer of this thread from here on */
    return completion_continue(r->completion, &r->client);
}

static void log_access(server *s, const http_request *r, bool aborted) {
    access_line line = {.connection = r->client.connection,
                        .method = r->method,
                        .url = r->url,
                        .status = r->reply.status,
                        .bytes = r->reply.bytes,
                        .aborted = aborted,
                        .has_tokens = r->completion != NULL,
                        .seconds = timer_seconds() - r->started};
    if (r->route && r->route->get == state_endpoint && line.status == MHD_HTTP_OK) return; /* polled by the web page */
    if (r->completion) completion_count_tokens(r->completion, &line.prompt_tokens, &line.new_tokens);
    access_log_add(&s->shared->log, &line);
}

void http_request_completed(void *user, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode how) {
    http_request *r = *state;
    server *s = user;
    request_timeouts_restart(&s->shared->timeouts, c);
    if (!r) return;
    log_access(s, r, how != MHD_REQUEST_TERMINATED_COMPLETED_OK);
    if (r->reply.response) MHD_destroy_response(r->reply.response);
    completion_free(r->completion);
    http_request_free_body(s, r);
    free(r);
    *state = NULL;
    s->shared->in_flight--;
}
