/* Lingering close: connections whose request was rejected before its body had arrived.
 *
 * If a socket is closed while unread data arrives, the kernel resets the connection and the client may lose the reply.
 * Therefore the server duplicates such a socket, reads and discards incoming data, and closes the duplicate when the
 * client closes its end, or after LINGERING_SECONDS. */
#ifndef SERVE_LINGERING_CLOSE_H
#define SERVE_LINGERING_CLOSE_H

#include <pthread.h>

enum { LINGERING_MAX = 64, LINGERING_SECONDS = 10 };

typedef struct lingering_sockets {
    pthread_mutex_t lock;
    int count;
    int fds[LINGERING_MAX];
    double since[LINGERING_MAX];
} lingering_sockets;

#define LINGERING_INIT                                                                                                 \
    { .lock = PTHREAD_MUTEX_INITIALIZER }

/* Duplicates the socket; the caller closes its own copy. Does nothing if LINGERING_MAX sockets are open. Callable from
 * any thread. */
void lingering_add(lingering_sockets *d, int fd);

/* Discards incoming data for `milliseconds`. Call it from one thread only. */
void lingering_poll(lingering_sockets *d, int milliseconds);
void lingering_close_all(lingering_sockets *d);

#endif
