/* GET, as the hub wants it: with the user's token, redirects followed, and the token for the hub's own host alone.
 *
 * By libcurl; built without it, opening fails with LCKV_ERROR_UNSUPPORTED. Leaves out: trying again (blob.c), and
 * what an answer means. */
#ifndef HUB_HTTP_H
#define HUB_HTTP_H

#include "base/text_buffer.h"

typedef struct hub_http hub_http; /* a connection, kept between requests */

/* `token`: NULL for none. Both are copied. */
int hub_http_open(const char *endpoint, const char *token, hub_http **out);
void hub_http_close(hub_http *http);

/* Where a body goes. A negative status ends the request and becomes its own. */
typedef struct hub_sink {
    int (*begin)(void *user, bool partial); /* before the first byte of a 200 or, where a part was asked for, a 206 */
    int (*write)(void *user, const char *bytes, size_t count);
    bool (*go_on)(void *user); /* asked about once a second, and more often where bytes come */
    void *user;
} hub_sink;

typedef struct hub_reply {
    long code;      /* of HTTP; 0: none came */
    bool transient; /* the same request may do better later */
} hub_reply;

/* The body of `url` from byte `from` on. Succeeds only where all of it came. LCKV_ERROR_FILE: the network failed, or
 * the hub refused, with a message for people; LCKV_ERROR_INTERRUPTED: go_on() said no. */
int hub_http_get(hub_http *http, const char *url, int64_t from, const hub_sink *sink, hub_reply *reply);

/* Appends `text` with everything but letters, digits and -._~ (and '/', if `slash`) as %XX. */
int hub_quote(text_buffer *out, const char *text, bool slash);

#endif
