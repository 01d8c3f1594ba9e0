/* The inside of the server: what every path needs. */
#ifndef SERVE_SERVER_H
#define SERVE_SERVER_H

#include "access_log.h"
#include "body.h"
#include "discards.h"
#include "fields.h"
#include "holds.h"
#include "json_text.h"
#include "patience.h"
#include "reply.h"
#include "serve.h"
#include "worker.h"

/* What all threads share. */
typedef struct shared {
    struct MHD_Daemon *daemon;
    struct intake *intake;
    holds holds;
    discards discards;
    patience patience;
    body_budget bodies;
    access_log log;
    _Atomic bool draining;     /* what runs is answered, what comes is refused */
    _Atomic uint64_t numbered; /* requests so far, for their names */
    _Atomic int in_flight;     /* requests whose head has come and whose answer has not been sent */
} shared;

/* The server as one thread sees it: the HTTP thread, or one of intake.h. */
typedef struct server {
    const serve_options *options;
    lckv_model *model; /* the worker's, of which only the config is read here */
    worker *worker;
    int64_t started;                   /* seconds since 1970 */
    lckv_tokenizer *tokenizer;         /* this thread's own; NULL: none */
    lckv_chat_template *chat_template; /* likewise */
    shared *shared;
} server;

struct answer;
struct path;

/* One request from its head to the last byte of its answer. The HTTP thread's, and that of a thread of intake.h while
 * it works on it. */
typedef struct visit {
    asker asker;
    reply reply;
    const char *method, *url; /* the connection's */
    double since;             /* its head had come */
    const struct path *path;
    bytes body;
    body_count body_count;
    bool admitted;         /* It may be answered; there is a path for it. */
    bool whole;            /* Its body has come, and the path has seen it. */
    bool left;             /* The client has closed the connection meanwhile. */
    struct answer *answer; /* of a path that asks the engine; NULL: none */

    bool (*work)(server *s, struct visit *v); /* intake.h */
    struct visit *next;
} visit;

/* The paths. Those with a body run on a thread of intake.h, the others on the HTTP thread. `body` is all of it. */
enum MHD_Result apply_template_answer(server *s, const asker *a, const bytes *body);
enum MHD_Result tokenize_answer(server *s, const asker *a, const bytes *body);
enum MHD_Result detokenize_answer(server *s, const asker *a, const bytes *body);
enum MHD_Result tokenizer_info_answer(server *s, const asker *a);
enum MHD_Result models_answer(server *s, const asker *a, const char *name); /* NULL: the list */
enum MHD_Result health_answer(server *s, const asker *a);
enum MHD_Result page_answer(server *s, const asker *a);
enum MHD_Result layers_answer(server *s, const asker *a);
enum MHD_Result state_answer(server *s, const asker *a);
enum MHD_Result metrics_answer(server *s, const asker *a);

/* Paths that ask the engine. True: a job is posted, which has the connection's hold, and `v` is not to be touched any
 * more; false: there is a reply. */
bool completions_ask(server *s, const asker *a, visit *v);
bool chat_ask(server *s, const asker *a, visit *v);

/* On the HTTP thread: `work` will be done on a thread of intake.h while the connection is on hold. False: the server
 * ends, and the connection goes on. */
bool server_defer(server *s, visit *v, bool (*work)(server *s, visit *v), bool large);

/* Releases the body of a visit. */
void visit_drop_body(server *s, visit *v);

/* Opens tokenizer and template, where there are some; false with a sentence in `error`. */
bool server_open_texts(server *s, char error[SERVE_ERROR_BYTES]);
void server_close_texts(server *s);

/* Whether requests may use this name for the model. */
bool server_has_model(const server *s, const char *name);

/* 400, or 404 where there is no such model, with what `f` has found wrong. */
enum MHD_Result reply_wrong(const asker *a, const fields *f);

#endif
