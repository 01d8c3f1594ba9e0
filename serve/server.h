/* The inside of the server: what every path needs. */
#ifndef SERVE_SERVER_H
#define SERVE_SERVER_H

#include "fields.h"
#include "patience.h"
#include "reply.h"
#include "serve.h"
#include "worker.h"

typedef struct server {
    const serve_options *options;
    lckv_model *model;                 /* the worker's, of which only the config is read here */
    lckv_tokenizer *tokenizer;         /* the HTTP thread's own; NULL: none */
    lckv_chat_template *chat_template; /* NULL: none */
    worker *worker;
    struct MHD_Daemon *daemon;
    patience patience;
    int64_t started;       /* seconds since 1970 */
    _Atomic bool draining; /* what runs is answered, what comes is refused */
    uint64_t numbered;     /* requests so far, for their names */
} server;

struct answer;

/* One request from its first byte to the last of its answer. */
typedef struct visit {
    bytes body;
    bool too_large, whole; /* `whole`: the body was there, and the path has seen it */
    struct answer *answer; /* of a path that asks the engine; NULL: none */
} visit;

/* The paths. `body` is all of it. */
enum MHD_Result completions_ask(server *s, const asker *a, visit *v);
enum MHD_Result chat_ask(server *s, const asker *a, visit *v);
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

/* 400, or 404 where there is no such model, with what `f` has found wrong. */
enum MHD_Result reply_wrong(const asker *a, const fields *f);

#endif
