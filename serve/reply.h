/* Answers: JSON, errors in the shape of OpenAI's API, pages. All return what MHD's access handler returns. */
#ifndef SERVE_REPLY_H
#define SERVE_REPLY_H

#include "bytes.h"

#include <jansson.h>
#include <microhttpd.h>
#include <stdint.h>

/* What a request is answered with. */
typedef struct reply {
    bool later; /* It is made on another thread than HTTP's, and waits for reply_send(). */
    struct MHD_Response *response;
    unsigned status; /* 0: there is none yet */
    int64_t bytes;   /* of its body, so far */
} reply;

/* Who asked: for the headers that let a web page of another origin read the answer. */
typedef struct asker {
    struct MHD_Connection *connection;
    const char *origin; /* that may; NULL: none */
    reply *reply;
} asker;

/* Takes the reference. */
enum MHD_Result reply_json(const asker *a, unsigned status, json_t *object);
/* JSON that has been written; takes the bytes, which may have failed. */
enum MHD_Result reply_text_as_json(const asker *a, unsigned status, bytes *text);
/* {"error": {"message", "type", "param", "code"}}; `param` and `code` may be NULL. 429 and 503 get a Retry-After. */
enum MHD_Result reply_error(const asker *a, unsigned status, const char *param, const char *code, const char *message);
/* Takes the bytes. */
enum MHD_Result reply_bytes(const asker *a, unsigned status, const char *type, bytes *content);
/* Memory that outlives the answer. */
enum MHD_Result reply_static(const asker *a, unsigned status, const char *type, const char *content, size_t length);
/* Adds the headers of `a` and queues it, or keeps it for reply_send(); the response is released. */
enum MHD_Result reply_queue(const asker *a, unsigned status, const char *type, struct MHD_Response *response);

/* On the HTTP thread: queues what was kept. */
enum MHD_Result reply_send(const asker *a);

/* The object of an error, as reply_error() sends it; NULL without memory. */
json_t *error_object(unsigned status, const char *param, const char *code, const char *message);

#endif
