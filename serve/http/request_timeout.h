/* Request timeout: how long a client may take to send a complete request, counted from the start of its connection or
 * from the end of the previous reply.
 *
 * libmicrohttpd closes idle connections. This timeout closes connections that send a byte now and then and would
 * otherwise occupy a slot for days. The time that a reply takes is not limited. */
#ifndef SERVE_REQUEST_TIMEOUT_H
#define SERVE_REQUEST_TIMEOUT_H

#include "lingering_close.h"

#include <microhttpd.h>
#include <pthread.h>

struct open_connection;

typedef struct request_timeouts {
    pthread_mutex_t lock;
    struct open_connection *connections; /* linked list */
    lingering_sockets *lingering;        /* receives connections whose request was rejected early */
} request_timeouts;

#define REQUEST_TIMEOUTS_INIT                                                                                          \
    { .lock = PTHREAD_MUTEX_INITIALIZER }

/* Callback for MHD_OPTION_NOTIFY_CONNECTION; `user` is the request_timeouts. */
void request_timeouts_notify(void *user, struct MHD_Connection *c, void **context,
                             enum MHD_ConnectionNotificationCode code);

void request_timeouts_received(request_timeouts *p, struct MHD_Connection *c); /* the request is complete */
void request_timeouts_rejected(request_timeouts *p, struct MHD_Connection *c); /* rejected before it was complete */
void request_timeouts_restart(request_timeouts *p, struct MHD_Connection *c);  /* the reply was sent */

/* Closes connections that have been sending a request for more than `seconds`. Callable from any thread. */
void request_timeouts_enforce(request_timeouts *p, double seconds);

#endif
