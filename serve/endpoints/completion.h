/* Completions: the responses of /v1/completions and /v1/chat/completions, whole or as a stream of server-sent events,
 * made from the tokens of a job.
 *
 * The JSON has the shape of OpenAI's API. Parsing of requests is in completions_endpoint.c and chat_endpoint.c. */
#ifndef SERVE_COMPLETION_H
#define SERVE_COMPLETION_H

#include "logprobs_json.h"
#include "serve/server.h"

/* One choice of a completion: what was sent so far. */
typedef struct choice_state {
    int64_t tokens;
    int64_t characters;     /* of its text, including an echoed prompt */
    text_position position; /* where the next token starts */
    json_t *held;           /* log-probability entries whose text a stop string may still cut off; NULL: none */
    bool begun;             /* its first chunk was sent */
} choice_state;

/* A text that may contain NUL. */
typedef struct echo_text {
    char *text;
    size_t bytes;
} echo_text;

typedef struct completion {
    server *server; /* of the thread that works on it */
    struct http_request *http;
    job *job;
    bool chat, stream, include_usage, echo;
    bool logprobs;           /* report log-probabilities; job->request.top_logprobs is the number of alternatives */
    echo_text *prompt_texts; /* [prompt_count]; NULL without echo */
    json_t **prompt_entries; /* [prompt_count] log-probabilities of echoed prompts; NULL until they are made */
    char id[64];
    int64_t created;       /* seconds since the Unix epoch */
    choice_state *choices; /* [prompt_count * n] */
    bytes unsent;          /* stream data that was not sent yet */
    bool ended;            /* The end of the stream is in `unsent`. */
} completion;

/* Takes ownership of the job. Returns NULL if memory runs out; the job is then freed. */
completion *completion_create(server *s, job *j, bool chat);
void completion_free(completion *a); /* releases the job */

/* Parse the body of a request. Return NULL after fields_error(). */
completion *completions_read(fields *f, server *s);
completion *chat_read(fields *f, server *s);

/* Parses the body of `r` with `read` and submits the job. Returns what completions_endpoint() returns. */
bool completion_submit(server *s, const client *to, http_request *r, completion *(*read)(fields *f, server *s));
/* Called on the HTTP thread when the connection was resumed: replies, or suspends the connection again. */
enum MHD_Result completion_continue(completion *a, const client *to);

/* Token counts for the access log. */
void completion_count_tokens(const completion *a, int64_t *prompt, int64_t *new_tokens);

/* ---- completion_json.c */

json_t *completion_full_json(completion *a);
/* Stream chunk with one token. */
json_t *completion_chunk(completion *a, const job_token *t);
/* First stream chunk of a choice: the role (chat) or the echoed prompt. NULL if the choice needs none. */
json_t *completion_first_chunk(completion *a, int choice);
json_t *completion_usage_chunk(completion *a);

#endif
