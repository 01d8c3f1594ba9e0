/* What one HTTP request asks of the engine, and what has come of it so far.
 *
 * The HTTP thread makes a job and hands it to the worker, which fills it. What both touch is read and written under the
 * worker's lock. Both hold it; the last one to let go frees it. */
#ifndef SERVE_JOB_H
#define SERVE_JOB_H

#include "bytes.h"
#include "lckv.h"

struct MHD_Connection;

enum { JOB_TOP_MOST = 20, JOB_ERROR_BYTES = 512 };

typedef struct job_prompt {
    struct job *job;
    int32_t *ids;
    int64_t count;
    uint64_t request;     /* the engine's number; 0: not submitted */
    lckv_logprob *scored; /* with prompt_logprobs, [scored_count, 1 + top_logprobs]: ids[i + 1] itself, and the most
                             probable ones in its place */
    int64_t scored_count; /* so far */
} job_prompt;

/* A token that came, in the order of coming. */
typedef struct job_token {
    int choice;    /* prompt * n + sample */
    int32_t token; /* -1: only the end */
    double logprob;
    char *text; /* not ended by NUL */
    size_t text_bytes;
    lckv_finish finish;
    int top_count;
    lckv_logprob top[JOB_TOP_MOST];
} job_token;

typedef enum job_state {
    JOB_POSTED,
    JOB_RUNNING,
    JOB_REFUSED, /* status and error say why; nothing came */
    JOB_FAILED,  /* the same, after something may have come */
    JOB_DONE
} job_state;

typedef struct job {
    /* set before it is posted */
    lckv_request request; /* without its prompt */
    job_prompt *prompts;
    int prompt_count;
    bool streaming;    /* the connection wants to know of each token */
    char **stops;      /* [request.stop_count], which request.stop points to */
    int32_t *bias_ids; /* [request.bias_count], as request.bias_ids */
    float *bias_values;
    struct MHD_Connection *connection;

    /* under the lock */
    job_state state;
    int status; /* of the library, where refused or failed */
    char error[JOB_ERROR_BYTES];
    job_token *tokens; /* [token_count] */
    size_t token_count, token_capacity, tokens_read;
    int64_t new_tokens;  /* of all choices */
    int running;         /* choices that have not ended */
    int64_t cached;      /* tokens of the prompts that had been read before */
    bool suspended;      /* the connection is on hold for this job */
    bool abandoned;      /* the client has gone */
    int holders;         /* 2, 1, 0 */
    double posted, last; /* seconds on the clock: of posting, and of the last token */
    struct job *next;    /* in the worker's lists */
} job;

job *job_create(int prompt_count); /* NULL: no memory */
void job_free(job *j);

/* What an event of the engine tells, appended; false: no memory. */
bool job_add_token(job_prompt *p, const lckv_event *e);
bool job_add_scored(job_prompt *p, const lckv_event *e);

#endif
