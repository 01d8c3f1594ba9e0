/* The server: startup, the HTTP daemon, periodic work, and shutdown. */
#include "server.h"

#include "cli/output/timer.h"
#include "serve/http/listen.h"
#include "serve/http/request_threads.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------- running */

enum { MAX_HEADER_BYTES = 32768, TICK_MS = 100, GRACE_SECONDS = 5 };

static bool start_daemon(server *s, int fd, char error[SERVE_ERROR_BYTES]) {
    const serve_options *o = s->options;
    /* poll() instead of epoll: with epoll, libmicrohttpd loses an edge if a connection's end arrives together with part
     * of a request. */
    unsigned flags = MHD_USE_POLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO;
    s->shared->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, http_request_handle, s, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED,
        http_request_completed, s, MHD_OPTION_NOTIFY_CONNECTION, request_timeouts_notify, &s->shared->timeouts,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)o->max_connections, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)o->timeout,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MAX_HEADER_BYTES, MHD_OPTION_END);
    if (!s->shared->daemon) snprintf(error, SERVE_ERROR_BYTES, "cannot start the HTTP server: %s", strerror(errno));
    return s->shared->daemon != NULL;
}

/* Periodic work of the thread that called serve_run(). */
static void tick(server *s) {
    lingering_poll(&s->shared->lingering, TICK_MS);
    request_timeouts_enforce(&s->shared->timeouts, s->options->timeout);
    access_log_flush(&s->shared->log);
}

/* Finishes running requests and rejects new ones, until no connection is suspended and none can be suspended again.
 * Clients get GRACE_SECONDS to send the rest of a request, which is then rejected, and to read the rest of a reply. */
static void finish_requests(server *s) {
    double end = 0;
    s->shared->draining = true;
    for (;;) {
        tick(s);
        /* In this order: a suspended request can become a job, but not the other way round. */
        bool busy = suspended_count(&s->shared->suspended) > 0 || worker_job_count(s->worker) > 0;
        if (busy || end == 0) end = timer_seconds() + GRACE_SECONDS;
        bool waits = s->shared->in_flight > 0 && timer_seconds() < end;
        if (!busy && !waits && suspended_close(&s->shared->suspended)) return;
    }
}

/* Rejects requests that arrive now and sends the last bytes of replies. */
static void end_daemon(server *s) {
    MHD_socket listening = MHD_quiesce_daemon(s->shared->daemon);
    double end = timer_seconds() + GRACE_SECONDS;
    do tick(s);
    while (s->shared->in_flight > 0 && timer_seconds() < end);
    MHD_stop_daemon(s->shared->daemon);
    if (listening != MHD_INVALID_SOCKET) close(listening);
}

/* Closes fd. */
static bool serve_on(server *s, int fd, int port, char error[SERVE_ERROR_BYTES]) {
    worker_status view = {0};
    if (!listen_on(s->options, fd, error)) return false;
    if (!start_daemon(s, fd, error)) {
        close(fd);
        return false;
    }
    if (s->options->started) s->options->started(s->options->user, s->options->host, port);
    while (!s->options->stopping(s->options->user) && !view.failed) {
        tick(s);
        worker_get_status(s->worker, &view);
    }
    finish_requests(s);
    worker_get_status(s->worker, &view);
    if (view.failed) string_copy(error, SERVE_ERROR_BYTES, view.error);
    end_daemon(s);
    return !view.failed;
}

bool server_open_tokenizer(server *s, char error[SERVE_ERROR_BYTES]) {
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

void server_close_tokenizer(server *s) {
    lckv_tokenizer_free(s->tokenizer);
    lckv_chat_template_free(s->chat_template);
}

static bool open_log(server *s, char error[SERVE_ERROR_BYTES]) {
    const char *file = s->options->access_log;
    bool opened = access_log_open(&s->shared->log, file);
    if (!opened) snprintf(error, SERVE_ERROR_BYTES, "cannot open the access log \"%.300s\": %s", file, strerror(errno));
    return opened;
}

bool serve_run(lckv_model *model, const serve_options *options, char error[SERVE_ERROR_BYTES]) {
    shared all = {.suspended = SUSPENDED_INIT, .lingering = LINGERING_INIT, .timeouts = REQUEST_TIMEOUTS_INIT};
    server s = {.options = options, .model = model, .started = (int64_t)time(NULL), .shared = &all};
    server engine = s; /* only its tokenizer is used: that of the worker thread */
    int fd, port;
    if (!listen_bind(options, &fd, &port, error)) return false; /* before costs are measured, which takes seconds */
    all.timeouts.lingering = &all.lingering;
    all.bodies.max_body = options->max_body;
    all.bodies.max_total = options->max_bodies ? options->max_bodies : 8 * options->max_body;
    bool started = open_log(&s, error) && server_open_tokenizer(&s, error) && server_open_tokenizer(&engine, error) &&
                   worker_start(model, engine.tokenizer, options, &all.suspended, &s.worker, error) &&
                   request_threads_start(&s, &all.threads, error);
    bool served = started && serve_on(&s, fd, port, error);
    if (!started) close(fd);
    request_threads_stop(all.threads);
    worker_stop(s.worker);
    server_close_tokenizer(&engine);
    server_close_tokenizer(&s);
    lingering_close_all(&all.lingering);
    access_log_close(&all.log);
    return served;
}
