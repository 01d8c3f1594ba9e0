/* Connections whose request was refused before its body had come.
 *
 * A socket that is closed while unread data arrives is reset, and the client may lose the answer that it has not read
 * yet. So the server keeps a copy of such a socket, reads and discards what still comes, and closes it when the client
 * does, or after DISCARDS_SECONDS. */
#ifndef SERVE_DISCARDS_H
#define SERVE_DISCARDS_H

#include <pthread.h>

enum { DISCARDS_MOST = 64, DISCARDS_SECONDS = 10 };

typedef struct discards {
    pthread_mutex_t lock;
    int count;
    int fds[DISCARDS_MOST];
    double since[DISCARDS_MOST];
} discards;

#define DISCARDS_AT_FIRST                                                                                              \
    { .lock = PTHREAD_MUTEX_INITIALIZER }

/* Keeps a copy of the socket, which the caller closes; beyond DISCARDS_MOST nothing is kept. From any thread. */
void discards_keep(discards *d, int fd);

/* Waits for this number of milliseconds and discards what arrives in that time. Called by one thread only. */
void discards_wait(discards *d, int milliseconds);
/* Closes all. */
void discards_end(discards *d);

#endif
