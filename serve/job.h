/* A job: what one HTTP request asks of the engine, and the tokens generated so far.
 *
 * A request thread creates a job and submits it to the worker, which adds the tokens. Fields that both use are
 * protected by the worker's lock. The job has a reference from each; the last one to release it frees it. */
#ifndef SERVE_JOB_H
#define SERVE_JOB_H

#include "lckv.h"
#include "serve/endpoints/bytes.h"

struct MHD_Connection;

enum { JOB_MAX_TOP_LOGPROBS = 20, JOB_ERROR_BYTES = 512 };

typedef struct job_prompt {
    struct job *job;
    int32_t *ids;
    int64_t count;
    uint64_t request;              /* id of the engine's request; 0: not submitted */
    lckv_logprob *prompt_logprobs; /* with request.prompt_logprobs, [prompt_logprob_count, 1 + top_logprobs]: ids[i + 1]
                                      itself, then the most probable tokens at its position */
    int64_t prompt_logprob_count;  /* so far */
} job_prompt;

/* A generated token. */
typedef struct job_token {
    int choice;    /* prompt * n + sample */
    int32_t token; /* -1: the choice ended without a token */
    double logprob;
    char *text; /* not NUL-terminated */
    size_t text_bytes;
    lckv_finish finish;
    int top_count;
    lckv_logprob top[JOB_MAX_TOP_LOGPROBS];
} job_token;

typedef enum job_state {
    JOB_QUEUED,
    JOB_RUNNING,
    JOB_REJECTED, /* `status` and `error` say why; no token was generated */
    JOB_FAILED,   /* likewise, but tokens may have been generated */
    JOB_DONE
} job_state;

typedef struct job {
    /* Set before the job is submitted. */
    lckv_request request; /* without its prompt */
    job_prompt *prompts;
    int prompt_count;
    bool streaming;    /* resume the connection for each new token */
    char **stops;      /* [request.stop_count] owned; request.stop points to them */
    int32_t *bias_ids; /* [request.bias_count] owned; request.bias_ids points to them */
    float *bias_values;
    struct MHD_Connection *connection;

    /* Protected by the lock. */
    job_state state;
    int status; /* lckv_status, if rejected or failed */
    char error[JOB_ERROR_BYTES];
    job_token *tokens; /* [token_count] in order of generation */
    size_t token_count, token_capacity, tokens_read;
    int64_t new_tokens;              /* of all choices */
    int running;                     /* choices that have not ended */
    int64_t cached_tokens;           /* prompt tokens that came from the prefix cache */
    int64_t sequential_tokens;       /* prompt tokens that were processed one at a time, in the exact form */
    bool suspended;                  /* the connection is suspended until this job resumes it */
    bool abandoned;                  /* the client has disconnected */
    int references;                  /* worker and request; 0 frees the job */
    double queued_at, last_token_at; /* timer_seconds(); 0: no token yet */
    struct job *next;                /* in the worker's lists */
} job;

job *job_create(int prompt_count); /* NULL if memory runs out */
void job_free(job *j);

/* Append what an event of the engine reports. Return false if memory runs out. */
bool job_add_token(job_prompt *p, const lckv_event *e);
bool job_add_prompt_logprob(job_prompt *p, const lckv_event *e);

#endif
