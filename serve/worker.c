/* The worker, see worker.h. */
#include "worker.h"

#include "cli/output/timer.h"
#include "serve/endpoints/json_text.h"

#include <pthread.h>

struct worker {
    lckv_engine *engine;
    lckv_encoding encoding; /* of all requests */
    suspended_connections *suspended;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t job_queued;
    /* Protected by the lock. */
    job *queued; /* newest first */
    int jobs, max_jobs;
    bool stop;
    worker_status view;
    lckv_slot_usage *slots; /* [slot_count] */
    int slot_count;
    /* Used by the worker thread only. */
    job *running;
    double last_client_check; /* timer_seconds() */
    bool stepped;             /* a step has started since the last update_status() */
};

enum { CLIENT_CHECK_MS = 100 };

/* ---------------------------------------------------------------- with the lock held */

static void resume(worker *w, job *j) {
    if (!j->suspended) return;
    j->suspended = false;
    suspended_resume(w->suspended, j->connection);
}

static void release(job *j) {
    if (--j->references == 0) job_free(j);
}

static bool ended(const job *j) {
    return j->state == JOB_REJECTED || j->state == JOB_FAILED || j->state == JOB_DONE;
}

static void end_job(worker *w, job *j, job_state state, int status, const char *why) {
    metrics *m = &w->view.metrics;
    j->state = state;
    j->status = status;
    string_copy(j->error, sizeof j->error, why);
    if (j->abandoned)
        m->abandoned++;
    else if (state == JOB_DONE)
        m->finished++, histogram_add(&m->request_latency, timer_seconds() - j->queued_at);
    else if (state == JOB_REJECTED)
        m->rejected++;
    else
        m->failed++;
    resume(w, j);
}

/* ---------------------------------------------------------------- events of the engine */

/* Call it with the lock held. It also runs at the first token of a step, so that the reported memory belongs to the
 * reported tokens. */
static void update_status(worker *w) {
    w->view.engine = lckv_engine_describe(w->engine);
    lckv_engine_describe_slots(w->engine, w->slots);
    w->stepped = false;
}

static void count_token(worker *w, job *j) {
    metrics *m = &w->view.metrics;
    double clock = timer_seconds();
    m->new_tokens++;
    histogram_add(j->last_token_at > 0 ? &m->inter_token_latency : &m->time_to_first_token,
                  clock - (j->last_token_at > 0 ? j->last_token_at : j->queued_at));
    j->last_token_at = clock;
}

static bool add_token(worker *w, job_prompt *p, const lckv_event *e) {
    job *j = p->job;
    if (e->token >= 0) count_token(w, j);
    if (e->new_tokens == 1 && e->sample == 0) {
        j->cached_tokens += e->cached_tokens;
        if (e->encoding == LCKV_ENCODING_SEQUENTIAL) j->sequential_tokens += e->prompt_tokens - e->cached_tokens;
        w->view.metrics.cached_tokens += e->cached_tokens;
    }
    return job_add_token(p, e);
}

static void on_event(void *user, const lckv_event *e) {
    worker *w = user;
    job_prompt *p = e->mark;
    job *j = p->job;
    worker_lock(w);
    if (w->stepped) update_status(w);
    if (!ended(j)) {
        bool taken = e->of_prompt ? job_add_prompt_logprob(p, e) : add_token(w, p, e);
        if (!taken)
            end_job(w, j, JOB_FAILED, LCKV_ERROR_MEMORY, "not enough memory for the response");
        else if (e->finish == LCKV_FINISH_ERROR)
            end_job(w, j, JOB_FAILED, LCKV_ERROR_NUMERIC, "the model's logits are not finite");
        else if (e->finish != LCKV_FINISH_NONE && --j->running == 0)
            end_job(w, j, JOB_DONE, LCKV_OK, "");
    }
    worker_unlock(w);
}

/* ---------------------------------------------------------------- jobs */

static void cancel(worker *w, const job *j) {
    for (int i = 0; i < j->prompt_count; i++)
        if (j->prompts[i].request) lckv_engine_cancel(w->engine, j->prompts[i].request);
}

/* Submits all prompts of the job, or none. */
static int submit(worker *w, job *j) {
    for (int i = 0; i < j->prompt_count; i++) {
        lckv_request r = j->request;
        r.prompt = (lckv_prompt){j->prompts[i].ids, j->prompts[i].count};
        r.stream = (uint64_t)i;
        r.mark = &j->prompts[i];
        r.encoding = w->encoding;
        int status = lckv_engine_submit(w->engine, &r, &j->prompts[i].request);
        if (status < 0) {
            cancel(w, j);
            return status;
        }
    }
    return LCKV_OK;
}

static void start_job(worker *w, job *j) {
    int status = submit(w, j);
    j->next = w->running;
    w->running = j;
    worker_lock(w);
    if (status < 0) {
        end_job(w, j, JOB_REJECTED, status, lckv_last_error());
    } else {
        j->state = JOB_RUNNING;
        for (int i = 0; i < j->prompt_count; i++) w->view.metrics.prompt_tokens += j->prompts[i].count;
        if (j->streaming) resume(w, j);
    }
    worker_unlock(w);
}

static void start_queued_jobs(worker *w) {
    job *list = NULL;
    worker_lock(w);
    while (w->queued) { /* oldest first */
        job *j = w->queued;
        w->queued = j->next;
        j->next = list;
        list = j;
    }
    worker_unlock(w);
    while (list) {
        job *j = list;
        list = j->next;
        start_job(w, j);
    }
}

static void check_clients(worker *w) {
    if (timer_seconds() - w->last_client_check < 1e-3 * CLIENT_CHECK_MS) return;
    w->last_client_check = timer_seconds();
    for (job *j = w->running; j; j = j->next)
        if (j->suspended && !ended(j) && connection_client_gone(j->connection)) j->abandoned = true;
}

/* Cancels jobs whose client has disconnected and releases jobs that have ended. */
static void remove_ended_jobs(worker *w) {
    worker_lock(w);
    check_clients(w);
    for (job **at = &w->running; *at;) {
        job *j = *at;
        if (j->abandoned && !ended(j)) {
            cancel(w, j);
            end_job(w, j, JOB_FAILED, LCKV_ERROR_INTERRUPTED, "the client has disconnected");
        }
        if (ended(j)) {
            if (j->state == JOB_FAILED) cancel(w, j);
            *at = j->next;
            w->jobs--;
            release(j);
        } else {
            if (j->streaming && j->tokens_read < j->token_count) resume(w, j);
            at = &j->next;
        }
    }
    update_status(w);
    worker_unlock(w);
}

/* ---------------------------------------------------------------- the thread */

static void wait_for_work(worker *w) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += CLIENT_CHECK_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) until.tv_sec++, until.tv_nsec -= 1000000000L;
    worker_lock(w);
    if (!w->queued && !w->stop) pthread_cond_timedwait(&w->job_queued, &w->lock, &until);
    worker_unlock(w);
}

/* The engine has failed: ends all jobs. */
static void fail_all(worker *w) {
    start_queued_jobs(w);
    worker_lock(w);
    if (!w->view.failed) string_copy(w->view.error, sizeof w->view.error, lckv_last_error());
    w->view.failed = true;
    for (job *j = w->running; j; j = j->next)
        if (!ended(j)) end_job(w, j, JOB_FAILED, LCKV_ERROR_DEVICE, w->view.error);
    worker_unlock(w);
}

static bool should_run(worker *w) {
    worker_lock(w);
    bool on = !w->stop || w->jobs > 0;
    worker_unlock(w);
    return on;
}

static void *run(void *user) {
    worker *w = user;
    while (should_run(w)) {
        start_queued_jobs(w);
        bool idle = lckv_engine_idle(w->engine);
        w->stepped = !idle;
        if (!idle && lckv_engine_step(w->engine) < 0) fail_all(w);
        remove_ended_jobs(w);
        if (idle) wait_for_work(w);
    }
    return NULL;
}

/* ---------------------------------------------------------------- called by other threads */

bool worker_start(lckv_model *model, lckv_tokenizer *tokenizer, const serve_options *options, suspended_connections *h,
                  worker **out, char error[SERVE_ERROR_BYTES]) {
    lckv_engine_options engine = options->engine;
    worker *w = calloc(1, sizeof *w);
    const lckv_step_cost *costs;
    int cost_count;
    *out = NULL;
    string_copy(error, SERVE_ERROR_BYTES, "not enough memory for the server");
    if (!w) return false;
    engine.callback = on_event;
    engine.user = w;
    w->suspended = h;
    w->encoding = options->encoding;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->job_queued, NULL);
    w->slot_count = lckv_config_describe(lckv_model_config(model)).kv_slots;
    w->slots = calloc((size_t)w->slot_count, sizeof *w->slots);
    bool made = w->slots && lckv_engine_create(model, tokenizer, &engine, &w->engine) >= 0;
    if (made && w->encoding == LCKV_ENCODING_AUTO) made = lckv_engine_costs(w->engine, &costs, &cost_count) >= 0;
    if (!made && w->slots) string_copy(error, SERVE_ERROR_BYTES, lckv_last_error());
    if (made) w->max_jobs = engine.max_queue + lckv_engine_describe(w->engine).max_num_seqs;
    if (made) update_status(w);
    if (made && pthread_create(&w->thread, NULL, run, w) == 0) {
        *out = w;
        return true;
    }
    lckv_engine_free(w->engine);
    free(w->slots);
    free(w);
    return false;
}

void worker_stop(worker *w) {
    if (!w) return;
    worker_lock(w);
    w->stop = true;
    pthread_cond_signal(&w->job_queued);
    worker_unlock(w);
    pthread_join(w->thread, NULL);
    lckv_engine_free(w->engine);
    pthread_cond_destroy(&w->job_queued);
    pthread_mutex_destroy(&w->lock);
    free(w->slots);
    free(w);
}

bool worker_submit(worker *w, job *j) {
    worker_lock(w);
    bool room = w->jobs < w->max_jobs && !w->view.failed;
    w->view.metrics.requests++;
    if (room) {
        w->jobs++;
        j->references++;
        j->queued_at = timer_seconds();
        j->running = j->prompt_count * j->request.n;
        j->next = w->queued;
        w->queued = j;
        pthread_cond_signal(&w->job_queued);
    } else {
        w->view.metrics.rejected++;
    }
    worker_unlock(w);
    return room;
}

void worker_release(worker *w, job *j) {
    worker_lock(w);
    if (!ended(j)) j->abandoned = true;
    release(j);
    worker_unlock(w);
}

int worker_job_count(worker *w) {
    worker_lock(w);
    int jobs = w->jobs;
    worker_unlock(w);
    return jobs;
}

void worker_lock(worker *w) {
    pthread_mutex_lock(&w->lock);
}

void worker_unlock(worker *w) {
    pthread_mutex_unlock(&w->lock);
}

void worker_get_status(worker *w, worker_status *out) {
    worker_lock(w);
    *out = w->view;
    worker_unlock(w);
}

lckv_slot_usage *worker_get_slots(worker *w, int *count) {
    lckv_slot_usage *slots = malloc((size_t)w->slot_count * sizeof *slots);
    worker_lock(w);
    if (slots) memcpy(slots, w->slots, (size_t)w->slot_count * sizeof *slots);
    worker_unlock(w);
    *count = slots ? w->slot_count : 0;
    return slots;
}
