/* A job becomes an answer, see answer.h: waiting, streaming, errors. */
#include "answer.h"

#include <stdio.h>
#include <time.h>

/* ---------------------------------------------------------------- making one */

answer *answer_create(server *s, job *j, bool chat) {
    answer *a = calloc(1, sizeof *a);
    if (!a) {
        job_free(j);
        return NULL;
    }
    *a = (answer){.server = s, .job = j, .chat = chat, .created = (int64_t)time(NULL)};
    a->told = calloc((size_t)j->prompt_count * (size_t)j->request.n, sizeof *a->told);
    snprintf(a->id, sizeof a->id, "%s-%llx-%llx", chat ? "chatcmpl" : "cmpl", (long long)s->started,
             (unsigned long long)++s->shared->numbered);
    if (a->told) return a;
    answer_free(a);
    return NULL;
}

void answer_free(answer *a) {
    if (!a) return;
    for (int i = 0; a->prompt_texts && i < a->job->prompt_count; i++) free(a->prompt_texts[i].text);
    free(a->prompt_texts);
    for (int i = 0; a->prompt_entries && i < a->job->prompt_count; i++) json_decref(a->prompt_entries[i]);
    free(a->prompt_entries);
    for (int i = 0; a->told && i < a->job->prompt_count * a->job->request.n; i++) json_decref(a->told[i].held);
    free(a->told);
    bytes_free(&a->out);
    worker_let_go(a->server->worker, a->job);
    free(a);
}

void answer_count_tokens(const answer *a, int64_t *prompt, int64_t *new_tokens) {
    *prompt = 0;
    for (int i = 0; i < a->job->prompt_count; i++) *prompt += a->job->prompts[i].count;
    worker_lock(a->server->worker);
    *new_tokens = a->job->new_tokens;
    worker_unlock(a->server->worker);
}

/* ---------------------------------------------------------------- waiting */

/* Under the lock. */
static void wait_for_job(answer *a) {
    a->job->suspended = holds_take(&a->server->shared->holds, a->job->connection);
}

/* Whether it is posted. Then the hold of the connection is the job's, and the HTTP thread may be at work on the answer,
 * or have freed it. */
static bool post(answer *a, const asker *who) {
    job *j = a->job;
    worker *w = a->server->worker;
    j->connection = who->connection;
    j->streaming = a->stream;
    j->suspended = true;
    if (worker_post(w, j)) return true;
    worker_view view;
    j->suspended = false;
    worker_look(w, &view);
    if (view.failed)
        reply_error(who, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, "engine_lost", view.error);
    else
        reply_error(who, MHD_HTTP_TOO_MANY_REQUESTS, NULL, "queue_full", "too many requests wait: try again later");
    return false;
}

bool answer_ask(server *s, const asker *who, visit *v, answer *(*read)(fields *f, server *s)) {
    fields f;
    json_t *object;
    if (!fields_begin(&f, v->body.data, v->body.length, &object)) {
        reply_wrong(who, &f);
        return false;
    }
    v->answer = read(&f, s);
    json_decref(object);
    visit_drop_body(s, v);
    if (v->answer) {
        v->answer->visit = v;
        return post(v->answer, who);
    }
    if (!f.wrong) fields_no_memory(&f, "");
    reply_wrong(who, &f);
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

static enum MHD_Result reply_job_error(const asker *who, const job *j) {
    return reply_error(who, http_status(j->status), NULL, error_code(j->status), j->error);
}

/* ---------------------------------------------------------------- streaming */

static void add_event(answer *a, json_t *object) {
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (!text) {
        a->out.failed = true;
        return;
    }
    bytes_add_text(&a->out, "data: ");
    bytes_add_text(&a->out, text);
    bytes_add_text(&a->out, "\n\n");
    free(text);
}

static void add_token(answer *a, const job_token *t) {
    if (!a->told[t->choice].begun) {
        json_t *first = answer_first_chunk(a, t->choice);
        if (first) add_event(a, first);
    }
    a->told[t->choice].begun = true;
    a->told[t->choice].tokens += t->token >= 0;
    if (t->text_bytes || t->finish != LCKV_FINISH_NONE || a->logprobs) add_event(a, answer_chunk(a, t));
}

static void end_stream(answer *a, job_state state) {
    const job *j = a->job;
    a->ended = true;
    if (state != JOB_DONE) {
        add_event(a, error_object(http_status(j->status), NULL, error_code(j->status), j->error));
        return;
    }
    if (a->include_usage) add_event(a, answer_usage_chunk(a));
    bytes_add_text(&a->out, "data: [DONE]\n\n");
}

enum { TOKENS_AT_ONCE = 64 };

/* Puts what has come into `out`. Where nothing has, the job gets the hold of the connection (`held`: there is one
 * already) and the result is true; then the HTTP thread may be at work on the answer. */
static bool read_job(answer *a, bool held) {
    job *j = a->job;
    job_token tokens[TOKENS_AT_ONCE];
    size_t count = 0;
    worker *w = a->server->worker;
    worker_lock(w);
    while (count < TOKENS_AT_ONCE && j->tokens_read < j->token_count) tokens[count++] = j->tokens[j->tokens_read++];
    job_state state = j->state;
    bool all = j->tokens_read == j->token_count && state != JOB_POSTED && state != JOB_RUNNING;
    bool waits = !count && !all;
    if (waits && held)
        j->suspended = true;
    else if (waits)
        wait_for_job(a);
    worker_unlock(w);
    if (waits) return true;
    for (size_t i = 0; i < count; i++) add_token(a, &tokens[i]);
    if (all) end_stream(a, state);
    return false;
}

/* On a thread of the intake. */
static bool read_for_stream(server *s, visit *v) {
    v->answer->server = s;
    return !read_job(v->answer, true);
}

/* Chunks that echo a prompt may be long, and are written on a thread of the intake. True: the connection is on hold. */
static bool read_more(answer *a) {
    if (a->echo && server_defer(a->server, a->visit, read_for_stream, true)) return true;
    return read_job(a, false);
}

static ssize_t read_stream(void *user, uint64_t at, char *buffer, size_t most) {
    answer *a = user;
    (void)at;
    if (a->visit->left) return MHD_CONTENT_READER_END_WITH_ERROR;
    if (!a->out.length && a->ended) return MHD_CONTENT_READER_END_OF_STREAM;
    while (!a->out.length && !a->out.failed)
        if (read_more(a)) return 0;
    if (a->out.failed) return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t count = a->out.length < most ? a->out.length : most;
    memcpy(buffer, a->out.data, count);
    a->visit->reply.bytes += (int64_t)count;
    bytes_drop(&a->out, count);
    return (ssize_t)count;
}

static enum MHD_Result begin_stream(answer *a, const asker *who) {
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, read_stream, a, NULL);
    if (response) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
        MHD_add_response_header(response, "X-Accel-Buffering", "no"); /* nginx passes events on as they come */
    }
    return reply_queue(who, MHD_HTTP_OK, "text/event-stream; charset=utf-8", response);
}

/* ---------------------------------------------------------------- going on */

static bool write_whole(server *s, visit *v) {
    v->answer->server = s;
    reply_json(&v->asker, MHD_HTTP_OK, answer_whole(v->answer));
    return true;
}

/* On a thread of the intake: the log-probabilities of a long prompt take a while. */
static enum MHD_Result reply_whole(answer *a, const asker *who) {
    enum { LARGE = 4096 };
    const job *j = a->job;
    int64_t rows = (int64_t)j->token_count;
    for (int i = 0; i < j->prompt_count; i++) rows += a->echo ? j->prompts[i].count * j->request.n : 0;
    a->visit->reply.later = true;
    if (server_defer(a->server, a->visit, write_whole, rows * (1 + j->request.top_logprobs) > LARGE)) return MHD_YES;
    a->visit->reply.later = false;
    return reply_json(who, MHD_HTTP_OK, answer_whole(a));
}

enum MHD_Result answer_continue(answer *a, const asker *who) {
    worker_lock(a->server->worker);
    job_state state = a->job->state;
    bool waits = state == JOB_POSTED || (state == JOB_RUNNING && !a->stream);
    if (waits) wait_for_job(a);
    worker_unlock(a->server->worker);
    if (waits) return MHD_YES;
    if (state == JOB_REFUSED || (state == JOB_FAILED && !a->stream)) return reply_job_error(who, a->job);
    return a->stream ? begin_stream(a, who) : reply_whole(a, who);
}
