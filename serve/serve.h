/* lckv serve: the OpenAI-style API over HTTP, and a web page, on an engine (lckv.h).
 *
 * One thread reads and answers HTTP (server.c) and never does work that depends on the size of a request. Two threads
 * parse and tokenize requests (intake.c; a file for each kind of path). One owns model and engine (worker.c); a job
 * (job.h) carries a request to it and the tokens back. Leaves out: TLS, and balancing load between
 * several servers, which a proxy in front does (docs/serving.md). */
#ifndef SERVE_SERVE_H
#define SERVE_SERVE_H

#include "lckv.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct serve_options {
    const char *host;       /* address to listen on: "127.0.0.1" */
    int port;               /* 0: any free one */
    const char *model_name; /* what answers call the model */
    const char *const
        *model_names; /* [model_name_count] what /v1/models lists and requests may use, model_name first */
    int model_name_count;
    const char *model_path; /* requests may use this, too; NULL: none */
    const char *api_key;    /* NULL: whoever reaches the port may ask */
    const char *const
        *hosts; /* [host_count] names of this server that a Host header may have, see access.h; "*": all */
    int host_count;
    const char *const *origins; /* [origin_count] web origins whose pages may ask; "*": all */
    int origin_count;
    const char *access_log;       /* file; "-": standard error; NULL: none */
    int64_t max_body;             /* bytes of a request */
    int64_t max_bodies;           /* bytes of all requests that are held at a time; 0: 8 * max_body */
    int64_t max_connections;      /* at a time */
    int timeout;                  /* seconds after which a connection is closed that is silent, or has not said a whole
                                     request */
    lckv_engine_options engine;   /* callback and user are the server's */
    const char *chat_template;    /* a file with a template, instead of the tokenizer's; NULL: that */
    const char *tokenizer_name;   /* folder; NULL: there is none, and requests are ids */
    bool (*stopping)(void *user); /* asked some ten times a second; true: answer what runs, then end */
    void (*started)(void *user, const char *host, int port); /* it listens */
    void *user;
} serve_options;

enum { SERVE_ERROR_BYTES = 512 };

/* Serves until `stopping` says so and what runs is answered. The model is the caller's. False with a sentence in
 * `error` where it cannot begin, or the engine failed. */
bool serve_run(lckv_model *model, const serve_options *options, char error[SERVE_ERROR_BYTES]);

#endif
