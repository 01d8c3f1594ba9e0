/* HTTP replies: JSON, errors in the shape of OpenAI's API, static pages. All functions return the result that MHD's
 * access handler must return. */
#ifndef SERVE_REPLY_H
#define SERVE_REPLY_H

#include "serve/endpoints/bytes.h"

#include <jansson.h>
#include <microhttpd.h>
#include <stdint.h>

/* The reply to a request. */
typedef struct reply {
    bool deferred; /* Made on a thread other than the HTTP thread; reply_send() queues it later. */
    struct MHD_Response *response;
    unsigned status; /* HTTP status; 0: no reply yet */
    int64_t bytes;   /* size of its body so far */
} reply;

/* Where a reply goes. */
typedef struct client {
    struct MHD_Connection *connection;
    const char *origin; /* allowed web origin, for the CORS headers; NULL: none */
    reply *reply;
} client;

/* Takes the reference to `object`. */
enum MHD_Result reply_json(const client *to, unsigned status, json_t *object);
/* Replies with JSON text. Takes the bytes, also if `failed` is set. */
enum MHD_Result reply_text_as_json(const client *to, unsigned status, bytes *text);
/* {"error": {"message", "type", "param", "code"}}; `param` and `code` may be NULL. 429 and 503 get a Retry-After. */
enum MHD_Result reply_error(const client *to, unsigned status, const char *param, const char *code,
                            const char *message);
/* Takes the bytes. */
enum MHD_Result reply_bytes(const client *to, unsigned status, const char *type, bytes *content);
/* `content` must outlive the reply. */
enum MHD_Result reply_static(const client *to, unsigned status, const char *type, const char *content, size_t length);
/* Adds the common headers and queues the response, or keeps it for reply_send() if deferred. Releases the response. */
enum MHD_Result reply_queue(const client *to, unsigned status, const char *type, struct MHD_Response *response);

/* Queues a deferred reply. Call it on the HTTP thread. */
enum MHD_Result reply_send(const client *to);

/* The error object of reply_error(); NULL if memory runs out. */
json_t *error_object(unsigned status, const char *param, const char *code, const char *message);

#endif
