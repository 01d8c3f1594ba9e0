/* The worker: the thread that owns the model and the engine. It takes jobs, steps the engine and stores the tokens.
 *
 * Between steps it checks whether the clients are still connected. If a client has closed its socket, its job is
 * cancelled and its KV pages are freed. */
#ifndef SERVE_WORKER_H
#define SERVE_WORKER_H

#include "job.h"
#include "serve.h"
#include "serve/http/suspended.h"
#include "server_metrics.h"

typedef struct worker worker;

/* Returns false with a message in `error` on failure. */
bool worker_start(lckv_model *model, lckv_tokenizer *tokenizer, const serve_options *options, suspended_connections *h,
                  worker **out, char error[SERVE_ERROR_BYTES]);
/* Waits until all jobs have ended, then stops the thread and frees the worker. */
void worker_stop(worker *w);

/* Queues a job. The worker takes a reference, and resumes the connection if j->suspended is set. Returns false, and
 * does nothing, if the queue is full. Callable from any thread. */
bool worker_submit(worker *w, job *j);
/* Releases the caller's reference; a job that has not ended is cancelled. */
void worker_release(worker *w, job *j);
int worker_job_count(worker *w); /* jobs that have not ended */

void worker_lock(worker *w);
void worker_unlock(worker *w);

typedef struct worker_status {
    metrics metrics;
    lckv_engine_stats engine;
    bool failed; /* the engine has failed and will generate no more tokens */
    char error[SERVE_ERROR_BYTES];
} worker_status;

void worker_get_status(worker *w, worker_status *out);
/* KV memory of each slot of the model: [*count], released with free(). NULL and a count of 0 if memory runs out. */
lckv_slot_usage *worker_get_slots(worker *w, int *count);

#endif
