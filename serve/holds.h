/* Connections on hold: suspended in libmicrohttpd while another thread works for them.
 *
 * libmicrohttpd must not be stopped while a connection is suspended, so all suspending and resuming goes through here,
 * is counted, and ends with holds_close(). Leaves out: for what a connection waits (job.h, intake.h). */
#ifndef SERVE_HOLDS_H
#define SERVE_HOLDS_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdbool.h>

typedef struct holds {
    pthread_mutex_t lock;
    int count;
    bool closed;
} holds;

#define HOLDS_AT_FIRST                                                                                                 \
    { .lock = PTHREAD_MUTEX_INITIALIZER }

/* On the HTTP thread, from a callback of this connection. False, and the connection goes on: holds are closed. */
bool holds_take(holds *h, struct MHD_Connection *c);
/* From any thread: the connection's callback will be called again. */
void holds_end(holds *h, struct MHD_Connection *c);

int holds_count(holds *h);
/* If there is no hold, there will be none from now on; else false. */
bool holds_close(holds *h);

/* The client has closed its end of a connection that is on hold, or is lost: it will not read the answer. */
bool holds_client_gone(struct MHD_Connection *c);

#endif
