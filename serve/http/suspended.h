/* Suspended connections: libmicrohttpd does not read from or write to them while another thread works on the request.
 *
 * libmicrohttpd must not be stopped while a connection is suspended. Therefore connections are suspended and resumed
 * only by these functions, which count them; suspended_close() ends suspending. */
#ifndef SERVE_SUSPENDED_H
#define SERVE_SUSPENDED_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdbool.h>

typedef struct suspended_connections {
    pthread_mutex_t lock;
    int count;
    bool closed;
} suspended_connections;

#define SUSPENDED_INIT                                                                                                 \
    { .lock = PTHREAD_MUTEX_INITIALIZER }

/* Suspends a connection. Call it on the HTTP thread from a callback of this connection. Returns false, and the
 * connection is not suspended, after suspended_close(). */
bool suspended_add(suspended_connections *h, struct MHD_Connection *c);
/* Resumes a connection: libmicrohttpd calls its callback again. Callable from any thread. */
void suspended_resume(suspended_connections *h, struct MHD_Connection *c);

int suspended_count(suspended_connections *h);
/* If no connection is suspended, prevents further suspending and returns true. Otherwise returns false. */
bool suspended_close(suspended_connections *h);

/* Whether the client of a suspended connection has closed it or is unreachable, so that it will not read the reply. */
bool connection_client_gone(struct MHD_Connection *c);

#endif
