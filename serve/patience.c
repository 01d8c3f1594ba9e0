/* Slow clients, see patience.h. */
#include "patience.h"

#include "clock.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

struct talk {
    int fd;
    bool asking;  /* its request is not whole */
    bool refused; /* and will not be read to its end */
    double since;
    struct talk *next;
};

static struct talk *begin(patience *p, struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct talk *t = info ? malloc(sizeof *t) : NULL;
    if (!t) return NULL; /* one that is not watched */
    *t = (struct talk){.fd = info->connect_fd, .asking = true, .since = clock_now(), .next = p->talks};
    p->talks = t;
    return t;
}

static void end(patience *p, struct talk *t) {
    if (t && t->refused) discards_keep(p->discards, t->fd);
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

static void set(patience *p, struct MHD_Connection *c, bool asking, bool refused) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct talk *t = info ? info->socket_context : NULL;
    if (!t) return;
    pthread_mutex_lock(&p->lock);
    t->asking = asking;
    t->refused |= refused;
    t->since = clock_now();
    pthread_mutex_unlock(&p->lock);
}

void patience_asked(patience *p, struct MHD_Connection *c) {
    set(p, c, false, false);
}

void patience_refused(patience *p, struct MHD_Connection *c) {
    set(p, c, false, true);
}

void patience_answered(patience *p, struct MHD_Connection *c) {
    set(p, c, true, false);
}

void patience_end(patience *p, double seconds) {
    pthread_mutex_lock(&p->lock);
    for (struct talk *t = p->talks; t; t = t->next)
        if (t->asking && clock_now() - t->since > seconds) shutdown(t->fd, SHUT_RDWR);
    pthread_mutex_unlock(&p->lock);
}
