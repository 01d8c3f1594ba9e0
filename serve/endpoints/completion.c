/* Completions, see completion.h: waiting for the job, streaming, errors. */
#include "completion.h"

#include <stdio.h>
#include <time.h>

/* ---------------------------------------------------------------- creating */

completion *completion_create(server *s, job *j, bool chat) {
    completion *a = calloc(1, sizeof *a);
    if (!a) {
        job_free(j);
        return NULL;
    }
    *a = (completion){.server = s, .job = j, .chat = chat, .created = (int64_t)time(NULL)};
    a->choices = calloc((size_t)j->prompt_count * (size_t)j->request.n, sizeof *a->choices);
    snprintf(a->id, sizeof a->id, "%s-%llx-%llx", chat ? "chatcmpl" : "cmpl", (long long)s->started,
             (unsigned long long)++s->shared->numbered);
    if (a->choices) return a;
    completion_free(a);
    return NULL;
}

void completion_free(completion *a) {
    if (!a) return;
    for (int i = 0; a->prompt_texts && i < a->job->prompt_count; i++) free(a->prompt_texts[i].text);
    free(a->prompt_texts);
    for (int i = 0; a->prompt_entries && i < a->job->prompt_count; i++) json_decref(a->prompt_entries[i]);
    free(a->prompt_entries);
    for (int i = 0; a->choices && i < a->job->prompt_count * a->job->request.n; i++) json_decref(a->choices[i].held);
    free(a->choices);
    bytes_free(&a->unsent);
    worker_release(a->server->worker, a->job);
    free(a);
}

void completion_count_tokens(const completion *a, int64_t *prompt, int64_t *new_tokens) {
    *prompt = 0;
    for (int i = 0; i < a->job->prompt_count; i++) *prompt += a->job->prompts[i].count;
    worker_lock(a->server->worker);
    *new_tokens = a->job->new_tokens;
    worker_unlock(a->server->worker);
}

/* ---------------------------------------------------------------- waiting */

/* Call it with the worker's lock held. */
static void wait_for_job(completion *a) {
    a->job->suspended = suspended_add(&a->server->shared->suspended, a->job->connection);
}

/* Returns true if the job was submitted. The job then resumes the connection, so the HTTP thread may already work on
 * the completion, or have freed it. */
static bool submit(completion *a, const client *to) {
    job *j = a->job;
    worker *w = a->server->worker;
    j->connection = to->connection;
    j->streaming = a->stream;
    j->suspended = true;
    if (worker_submit(w, j)) return true;
    worker_status view;
    j->suspended = false;
    worker_get_status(w, &view);
    if (view.failed)
        reply_error(to, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, "engine_lost", view.error);
    else
        reply_error(to, MHD_HTTP_TOO_MANY_REQUESTS, NULL, "queue_full", "the queue is full: try again later");
    return false;
}

bool completion_submit(server *s, const client *to, http_request *r, completion *(*read)(fields *f, server *s)) {
    fields f;
    json_t *object;
    if (!fields_parse(&f, r->body.data, r->body.length, &object)) {
        reply_field_error(to, &f);
        return false;
    }
    r->completion = read(&f, s);
    json_decref(object);
    http_request_free_body(s, r);
    if (r->completion) {
        r->completion->http = r;
        return submit(r->completion, to);
    }
    if (!f.failed) fields_no_memory(&f, "");
    reply_field_error(to, &f);
    return false;
}

/* ---------------------------------------------------------------- errors */

static unsigned http_status(int status) {
    switch (status) {
    case LCKV_ERROR_ARGUMENT:
    case LCKV_ERROR_TOO_LONG:
        return MHD_HTTP_BAD_REQUEST;
    case LCKV_ERROR_BUSY:
        return MHD_HTTP_TOO_MANY_REQUESTS;
    default:
        return MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
}

static const char *error_code(int status) {
    return status == LCKV_ERROR_TOO_LONG ? "context_length_exceeded" : status == LCKV_ERROR_BUSY ? "queue_full" : NULL;
}

static enum MHD_Result reply_job_error(const client *to, const job *j) {
    return reply_error(to, http_status(j->status), NULL, error_code(j->status), j->error);
}

/* ---------------------------------------------------------------- streaming */

static void add_event(completion *a, json_t *object) {
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (!text) {
        a->unsent.failed = true;
        return;
    }
    bytes_add_text(&a->unsent, "data: ");
    bytes_add_text(&a->unsent, text);
    bytes_add_text(&a->unsent, "\n\n");
    free(text);
}

static void add_token(completion *a, const job_token *t) {
    if (!a->choices[t->choice].begun) {
        json_t *first = completion_first_chunk(a, t->choice);
        if (first) add_event(a, first);
    }
    a->choices[t->choice].begun = true;
    a->choices[t->choice].tokens += t->token >= 0;
    if (t->text_bytes || t->finish != LCKV_FINISH_NONE || a->logprobs) add_event(a, completion_chunk(a, t));
}

static void end_stream(completion *a, job_state state) {
    const job *j = a->job;
    a->ended = true;
    if (state != JOB_DONE) {
        add_event(a, error_object(http_status(j->status), NULL, error_code(j->status), j->error));
        return;
    }
    if (a->include_usage) add_event(a, completion_usage_chunk(a));
    bytes_add_text(&a->unsent, "data: [DONE]\n\n");
}

enum { TOKENS_AT_ONCE = 64 };

/* Appends the events of new tokens to `unsent`. If there are none, leaves it to the job to resume the connection
 * (`suspended`: whether the connection is already suspended) and returns true; the HTTP thread may then already work on
 * the completion. */
static bool read_job(completion *a, bool suspended) {
    job *j = a->job;
    job_token tokens[TOKENS_AT_ONCE];
    size_t count = 0;
    worker *w = a->server->worker;
    worker_lock(w);
    while (count < TOKENS_AT_ONCE && j->tokens_read < j->token_count) tokens[count++] = j->tokens[j->tokens_read++];
    job_state state = j->state;
    bool all = j->tokens_read == j->token_count && state != JOB_QUEUED && state != JOB_RUNNING;
    bool waits = !count && !all;
    if (waits && suspended)
        j->suspended = true;
    else if (waits)
        wait_for_job(a);
    worker_unlock(w);
    if (waits) return true;
    for (size_t i = 0; i < count; i++) add_token(a, &tokens[i]);
    if (all) end_stream(a, state);
    return false;
}

/* Runs on a request thread. */
static bool read_for_stream(server *s, http_request *r) {
    r->completion->server = s;
    return !read_job(r->completion, true);
}

/* Chunks that echo a prompt can be long and are therefore written on a request thread. Returns true if the connection
 * was suspended. */
static bool read_more(completion *a) {
    if (a->echo && server_defer(a->server, a->http, read_for_stream, true)) return true;
    return read_job(a, false);
}

static ssize_t read_stream(void *user, uint64_t at, char *buffer, size_t size) {
    completion *a = user;
    (void)at;
    if (a->http->client_gone) return MHD_CONTENT_READER_END_WITH_ERROR;
    if (!a->unsent.length && a->ended) return MHD_CONTENT_READER_END_OF_STREAM;
    while (!a->unsent.length && !a->unsent.failed)
        if (read_more(a)) return 0;
    if (a->unsent.failed) return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t count = a->unsent.length < size ? a->unsent.length : size;
    memcpy(buffer, a->unsent.data, count);
    a->http->reply.bytes += (int64_t)count;
    bytes_drop(&a->unsent, count);
    return (ssize_t)count;
}

static enum MHD_Result begin_stream(completion *a, const client *to) {
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, read_stream, a, NULL);
    if (response) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
        MHD_add_response_header(response, "X-Accel-Buffering", "no"); /* makes nginx forward events at once */
    }
    return reply_queue(to, MHD_HTTP_OK, "text/event-stream; charset=utf-8", response);
}

/* ---------------------------------------------------------------- replying */

static bool write_whole(server *s, http_request *r) {
    r->completion->server = s;
    reply_json(&r->client, MHD_HTTP_OK, completion_full_json(r->completion));
    return true;
}

/* Writes the JSON on a request thread, because the log-probabilities of a long prompt take a while. */
static enum MHD_Result reply_whole(completion *a, const client *to) {
    enum { LARGE = 4096 };
    const job *j = a->job;
    int64_t rows = (int64_t)j->token_count;
    for (int i = 0; i < j->prompt_count; i++) rows += a->echo ? j->prompts[i].count * j->request.n : 0;
    a->http->reply.deferred = true;
    if (server_defer(a->server, a->http, write_whole, rows * (1 + j->request.top_logprobs) > LARGE)) return MHD_YES;
    a->http->reply.deferred = false;
    return reply_json(to, MHD_HTTP_OK, completion_full_json(a));
}

enum MHD_Result completion_continue(completion *a, const client *to) {
    worker_lock(a->server->worker);
    job_state state = a->job->state;
    bool waits = state == JOB_QUEUED || (state == JOB_RUNNING && !a->stream);
    if (waits) wait_for_job(a);
    worker_unlock(a->server->worker);
    if (waits) return MHD_YES;
    if (state == JOB_REJECTED || (state == JOB_FAILED && !a->stream)) return reply_job_error(to, a->job);
    return a->stream ? begin_stream(a, to) : reply_whole(a, to);
}
