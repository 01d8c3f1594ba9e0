/* Slow clients, see patience.h. */
#include "patience.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

struct talk {
    int fd;
    bool asking; /* its request is not whole */
    double since;
    struct talk *next;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct talk *begin(patience *p, struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct talk *t = info ? malloc(sizeof *t) : NULL;
    if (!t) return NULL; /* one that is not watched */
    *t = (struct talk){.fd = info->connect_fd, .asking = true, .since = now(), .next = p->talks};
    p->talks = t;
    return t;
}

static void end(patience *p, struct talk *t) {
    struct talk **at = &p->talks;
    while (*at && *at != t) at = &(*at)->next;
    if (*at) *at = t->next;
    free(t);
}

/* The socket is closed behind this call, so that its number is nobody else's while it is in the list. */
void patience_notified(void *user, struct MHD_Connection *c, void **context, enum MHD_ConnectionNotificationCode code) {
    patience *p = user;
    pthread_mutex_lock(&p->lock);
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        *context = begin(p, c);
    else
        end(p, *context);
    pthread_mutex_unlock(&p->lock);
}

static void set(patience *p, struct MHD_Connection *c, bool asking) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct talk *t = info ? info->socket_context : NULL;
    if (!t) return;
    pthread_mutex_lock(&p->lock);
    t->asking = asking;
    t->since = now();
    pthread_mutex_unlock(&p->lock);
}

void patience_asked(patience *p, struct MHD_Connection *c) {
    set(p, c, false);
}

void patience_answered(patience *p, struct MHD_Connection *c) {
    set(p, c, true);
}

void patience_end(patience *p, double seconds) {
    pthread_mutex_lock(&p->lock);
    for (struct talk *t = p->talks; t; t = t->next)
        if (t->asking && now() - t->since > seconds) shutdown(t->fd, SHUT_RDWR);
    pthread_mutex_unlock(&p->lock);
}
