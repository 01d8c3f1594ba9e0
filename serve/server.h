/* Internals of the server: types and functions that all endpoints need. */
#ifndef SERVE_SERVER_H
#define SERVE_SERVER_H

#include "serve.h"
#include "serve/endpoints/fields.h"
#include "serve/endpoints/json_text.h"
#include "serve/http/access_log.h"
#include "serve/http/lingering_close.h"
#include "serve/http/reply.h"
#include "serve/http/request_body.h"
#include "serve/http/request_timeout.h"
#include "serve/http/suspended.h"
#include "worker.h"

/* State that all threads share. */
typedef struct shared {
    struct MHD_Daemon *daemon;
    struct request_threads *threads;
    suspended_connections suspended;
    lingering_sockets lingering;
    request_timeouts timeouts;
    body_budget bodies;
    access_log log;
    _Atomic bool draining;     /* running requests are finished, new ones are rejected */
    _Atomic uint64_t numbered; /* completions so far, for their ids */
    _Atomic int in_flight;     /* requests whose headers were received and whose reply was not sent yet */
} shared;

/* The server as seen by one thread: the HTTP thread or a request thread. */
typedef struct server {
    const serve_options *options;
    lckv_model *model; /* owned by the worker; other threads read only its config */
    worker *worker;
    int64_t started;                   /* seconds since the Unix epoch */
    lckv_tokenizer *tokenizer;         /* of this thread; NULL: none */
    lckv_chat_template *chat_template; /* of this thread; NULL: none */
    shared *shared;
} server;

struct completion;
struct route;

/* One HTTP request, from its headers to the last byte of its reply. It belongs to the HTTP thread, and to a request
 * thread while that works on it. */
typedef struct http_request {
    client client;
    reply reply;
    const char *method, *url; /* owned by the connection */
    double started;           /* timer_seconds() when its headers had arrived */
    const struct route *route;
    bytes body;
    body_state body_state;
    bool admitted;                 /* Access control passed and `route` is set. */
    bool received;                 /* The body is complete and was passed to the route. */
    bool client_gone;              /* The client closed the connection meanwhile. */
    struct completion *completion; /* of a route that uses the engine; NULL: none */

    bool (*work)(server *s, struct http_request *r); /* request_threads.h */
    struct http_request *next;
} http_request;

/* Endpoints. Those with a body run on a request thread, the others on the HTTP thread. `body` is complete. */
enum MHD_Result apply_template_endpoint(server *s, const client *to, const bytes *body);
enum MHD_Result tokenize_endpoint(server *s, const client *to, const bytes *body);
enum MHD_Result detokenize_endpoint(server *s, const client *to, const bytes *body);
enum MHD_Result tokenizer_info_endpoint(server *s, const client *to);
enum MHD_Result models_endpoint(server *s, const client *to, const char *name); /* NULL: list all models */
enum MHD_Result health_endpoint(server *s, const client *to);
enum MHD_Result page_endpoint(server *s, const client *to);
enum MHD_Result layers_endpoint(server *s, const client *to);
enum MHD_Result state_endpoint(server *s, const client *to);
enum MHD_Result metrics_endpoint(server *s, const client *to);

/* Endpoints that use the engine. They return true if a job was submitted; the job then resumes the connection and the
 * caller must not touch `r` any more. They return false if there is a reply. */
bool completions_endpoint(server *s, const client *to, http_request *r);
bool chat_endpoint(server *s, const client *to, http_request *r);

/* Callbacks of libmicrohttpd (http_request.c); `user` is the server. */
enum MHD_Result http_request_handle(void *user, struct MHD_Connection *c, const char *url, const char *method,
                                    const char *version, const char *data, size_t *size, void **state);
void http_request_completed(void *user, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode how);

/* Suspends the connection and runs `work` on a request thread. Call it on the HTTP thread. Returns false, and the
 * connection is not suspended, if the server is stopping. */
bool server_defer(server *s, http_request *r, bool (*work)(server *s, http_request *r), bool large);

void http_request_free_body(server *s, http_request *r);

/* Opens the tokenizer and the chat template, if there are any. Returns false with a message in `error` on failure. */
bool server_open_tokenizer(server *s, char error[SERVE_ERROR_BYTES]);
void server_close_tokenizer(server *s);

/* Whether requests may use this name for the model. */
bool server_has_model(const server *s, const char *name);

/* Replies 400, or 404 for an unknown model, with the error of `f`. */
enum MHD_Result reply_field_error(const client *to, const fields *f);

#endif
