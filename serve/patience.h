/* How long a client may take to say a request: from the beginning of its connection, or the end of the last answer, to
 * the request's last byte. libmicrohttpd ends connections that are silent; this is for those that send a byte now and
 * then, and would hold their place for days. Leaves out: how long an answer takes. */
#ifndef SERVE_PATIENCE_H
#define SERVE_PATIENCE_H

#include "discards.h"

#include <microhttpd.h>
#include <pthread.h>

struct talk;

typedef struct patience {
    pthread_mutex_t lock;
    struct talk *talks; /* one a connection */
    discards *discards; /* of connections whose request was refused early */
} patience;

#define PATIENCE_AT_FIRST                                                                                              \
    { .lock = PTHREAD_MUTEX_INITIALIZER }

/* For MHD_OPTION_NOTIFY_CONNECTION; `user` is the patience. */
void patience_notified(void *user, struct MHD_Connection *c, void **context, enum MHD_ConnectionNotificationCode code);

void patience_asked(patience *p, struct MHD_Connection *c);    /* its request is whole */
void patience_refused(patience *p, struct MHD_Connection *c);  /* its request is answered before it is whole */
void patience_answered(patience *p, struct MHD_Connection *c); /* and what followed is over */

/* Ends the connections that have been asking for longer than that. From any thread. */
void patience_end(patience *p, double seconds);

#endif
