/* lckv serve: an OpenAI-compatible HTTP API and a web page on top of the engine of lckv.h.
 *
 * The HTTP thread (server.c, http_request.c) reads requests and sends replies; it never does work whose time depends
 * on the size of a request. Two request threads (request_threads.c) parse and tokenize; each group of paths has an
 * ..._endpoint(s).c. The worker thread (worker.c) owns the model and the engine. A job (job.h) carries a request to it
 * and the tokens back. TLS and load balancing are left to a reverse proxy (docs/serving.md). */
#ifndef SERVE_SERVE_H
#define SERVE_SERVE_H

#include "lckv.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct serve_options {
    const char *host;               /* Address to listen on, for example "127.0.0.1". */
    int port;                       /* Port to listen on; 0 uses any free port. */
    const char *model_name;         /* Model name in responses. */
    const char *const *model_names; /* [model_name_count] names that requests may use, model_name first. */
    int model_name_count;
    const char *model_path;   /* Another name that requests may use; NULL: none. */
    const char *api_key;      /* API key that clients must send; NULL disables the check. */
    const char *const *hosts; /* [host_count] allowed names in the Host header (access_control.h); "*": all. */
    int host_count;
    const char *const *origins; /* [origin_count] allowed web origins; "*": all. */
    int origin_count;
    const char *access_log;       /* File to append to; "-": standard error; NULL: no log. */
    int64_t max_body;             /* Maximum size of a request body, in bytes. */
    int64_t max_bodies;           /* Maximum size of all bodies in memory, in bytes; 0: 8 * max_body. */
    int64_t max_connections;      /* Maximum number of simultaneous connections. */
    int timeout;                  /* Seconds until an idle connection or an incomplete request is closed. */
    lckv_engine_options engine;   /* Engine options; the server sets callback and user. */
    lckv_encoding encoding;       /* How prompts are processed. */
    const char *chat_template;    /* File with a chat template; NULL: that of the tokenizer. */
    const char *tokenizer_name;   /* Tokenizer folder; NULL: prompts must be token ids. */
    bool (*stopping)(void *user); /* Polled about ten times per second; true: finish running requests, then return. */
    void (*started)(void *user, const char *host, int port); /* Called when the server listens. */
    void *user;
} serve_options;

enum { SERVE_ERROR_BYTES = 512 };

/* Serves until `stopping` returns true and running requests are finished. The caller keeps the model. Returns false
 * with a message in `error` if the server cannot start or the engine fails. */
bool serve_run(lckv_model *model, const serve_options *options, char error[SERVE_ERROR_BYTES]);

#endif
