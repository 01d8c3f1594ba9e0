/* HTTP GET for the hub, with libcurl: sends the user's token to the hub's host only, and follows redirects.
 *
 * Without libcurl, hub_http_open() fails with LCKV_ERROR_UNSUPPORTED. Retries are in blob.c and fetch.c. */
#ifndef HUB_HTTP_H
#define HUB_HTTP_H

#include "base/text/text_buffer.h"

typedef struct hub_http hub_http; /* a connection that is reused between requests */

/* `token`: NULL for none. Both are copied. */
int hub_http_open(const char *endpoint, const char *token, hub_http **out);
void hub_http_close(hub_http *http);

/* Receives a body. A negative status aborts the request and becomes its result. */
typedef struct hub_sink {
    int (*begin)(void *user, bool partial); /* called before the first byte; partial: status 206, the range that was
                                               requested; otherwise 200 */
    int (*write)(void *user, const char *bytes, size_t count);
    bool (*go_on)(void *user); /* polled at least once per second; false aborts */
    void *user;
} hub_sink;

typedef struct hub_reply {
    long code;      /* HTTP status; 0: no response */
    bool transient; /* a retry may succeed */
} hub_reply;

/* Requests the body of `url` from byte `from` on. Succeeds only if the whole body was received. LCKV_ERROR_FILE: the
 * network failed or the hub rejected the request; LCKV_ERROR_INTERRUPTED: go_on() returned false. */
int hub_http_get(hub_http *http, const char *url, int64_t from, const hub_sink *sink, hub_reply *reply);

/* Appends `text` with percent-encoding of all characters except letters, digits, -._~ and, if `slash`, '/'. */
int hub_quote(text_buffer *out, const char *text, bool slash);

#endif
