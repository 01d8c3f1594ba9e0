/* The thread that owns model and engine: takes jobs, steps the engine, hands out what comes.
 *
 * Between steps it looks whether clients that wait are still there: a socket whose other end is closed ends its job,
 * and its pages come back at once. Leaves out: HTTP itself. */
#ifndef SERVE_WORKER_H
#define SERVE_WORKER_H

#include "holds.h"
#include "job.h"
#include "metrics.h"
#include "serve.h"

typedef struct worker worker;

/* False with a sentence in `error`. */
bool worker_start(lckv_model *model, lckv_tokenizer *tokenizer, const serve_options *options, holds *h, worker **out,
                  char error[SERVE_ERROR_BYTES]);
/* Ends when all jobs are done, and frees it. */
void worker_stop(worker *w);

/* The worker holds the job from now on, too, and ends the connection's hold, which j->suspended says is the job's.
 * False: there are too many already, and it does not. From any thread. */
bool worker_post(worker *w, job *j);
/* The HTTP thread lets go of a job; one that has not ended is cancelled. */
void worker_let_go(worker *w, job *j);
int worker_jobs(worker *w); /* that have not ended */

void worker_lock(worker *w);
void worker_unlock(worker *w);

typedef struct worker_view {
    metrics metrics;
    lckv_engine_stats engine;
    bool failed; /* the engine is lost: there will be no more answers */
    char error[SERVE_ERROR_BYTES];
} worker_view;

void worker_look(worker *w, worker_view *out);
/* What each KV slot of the model takes: [*count], released with free(); NULL, and a count of 0, without memory. */
lckv_slot_usage *worker_look_slots(worker *w, int *count);

#endif
