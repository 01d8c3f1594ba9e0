/* The answer to a request for text: made of a job's tokens, whole at the end or as a stream of events.
 *
 * Shapes as OpenAI's API has them, of /v1/completions and /v1/chat/completions. Leaves out: what was asked for
 * (completions.c, chat.c). */
#ifndef SERVE_ANSWER_H
#define SERVE_ANSWER_H

#include "logprobs.h"
#include "server.h"

/* What has been told of a choice. */
typedef struct told {
    int64_t tokens;
    int64_t characters; /* of its text, prompt included where that is echoed */
    text_place place;   /* where in it the next token begins */
    json_t *held;       /* entries of log-probabilities whose text may yet be cut by a stop string; NULL: none */
    bool begun;
} told;

/* A text that may have NUL in it. */
typedef struct answer_text {
    char *text;
    size_t bytes;
} answer_text;

typedef struct answer {
    server *server; /* of the thread that works on it */
    struct visit *visit;
    job *job;
    bool chat, stream, include_usage, echo;
    bool logprobs;             /* of each token; the request says how many top ones */
    answer_text *prompt_texts; /* [prompt_count]; NULL without echo */
    json_t **prompt_entries;   /* [prompt_count] log-probabilities of echoed prompts; NULL, each: not made yet */
    char id[64];
    int64_t created;
    told *told; /* [prompt_count * n] */
    bytes out;  /* of a stream: not sent yet */
    bool ended; /* all of it is in `out` */
} answer;

/* Takes the job; NULL without memory, and the job is freed. */
answer *answer_create(server *s, job *j, bool chat);
void answer_free(answer *a); /* lets go of the job */

/* What a body asks for, by path; NULL after fields_wrong(). */
answer *completions_read(fields *f, server *s);
answer *chat_read(fields *f, server *s);

/* What a body asks for, read by `read` (NULL after fields_wrong()), is posted; returns what completions_ask() does. */
bool answer_ask(server *s, const asker *who, visit *v, answer *(*read)(fields *f, server *s));
/* On the HTTP thread, the connection goes on: answers, or waits again. */
enum MHD_Result answer_continue(answer *a, const asker *who);

/* What the access log says of it. */
void answer_count_tokens(const answer *a, int64_t *prompt, int64_t *new_tokens);

/* ---- answer_json.c: the pieces of it */

json_t *answer_whole(answer *a);
/* The chunk of a stream that tells of a token. */
json_t *answer_chunk(answer *a, const job_token *t);
/* Its first chunk for a choice: the role of a chat, the echoed prompt. NULL: there is none. */
json_t *answer_first_chunk(answer *a, int choice);
json_t *answer_usage_chunk(answer *a);

#endif
