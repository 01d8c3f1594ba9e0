/* Request timeout, see request_timeout.h. */
#include "request_timeout.h"

#include "cli/output/timer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

struct open_connection {
    int fd;
    bool receiving; /* its request is incomplete */
    bool rejected;  /* its request was rejected early; the rest is not read */
    double since;
    struct open_connection *next;
};

static struct open_connection *begin(request_timeouts *p, struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct open_connection *t = info ? malloc(sizeof *t) : NULL;
    if (!t) return NULL; /* without memory, this connection has no timeout */
    *t = (struct open_connection){
        .fd = info->connect_fd, .receiving = true, .since = timer_seconds(), .next = p->connections};
    p->connections = t;
    return t;
}

static void end(request_timeouts *p, struct open_connection *t) {
    if (t && t->rejected) lingering_add(p->lingering, t->fd);
    struct open_connection **at = &p->connections;
    while (*at && *at != t) at = &(*at)->next;
    if (*at) *at = t->next;
    free(t);
}

/* libmicrohttpd closes the socket after this call, so that no other connection has its descriptor while it is in the
 * list. */
void request_timeouts_notify(void *user, struct MHD_Connection *c, void **context,
                             enum MHD_ConnectionNotificationCode code) {
    request_timeouts *p = user;
    pthread_mutex_lock(&p->lock);
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        *context = begin(p, c);
    else
        end(p, *context);
    pthread_mutex_unlock(&p->lock);
}

static void set(request_timeouts *p, struct MHD_Connection *c, bool receiving, bool rejected) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct open_connection *t = info ? info->socket_context : NULL;
    if (!t) return;
    pthread_mutex_lock(&p->lock);
    t->receiving = receiving;
    t->rejected |= rejected;
    t->since = timer_seconds();
    pthread_mutex_unlock(&p->lock);
}

void request_timeouts_received(request_timeouts *p, struct MHD_Connection *c) {
    set(p, c, false, false);
}

void request_timeouts_rejected(request_timeouts *p, struct MHD_Connection *c) {
    set(p, c, false, true);
}

void request_timeouts_restart(request_timeouts *p, struct MHD_Connection *c) {
    set(p, c, true, false);
}

void request_timeouts_enforce(request_timeouts *p, double seconds) {
    pthread_mutex_lock(&p->lock);
    for (struct open_connection *t = p->connections; t; t = t->next)
        if (t->receiving && timer_seconds() - t->since > seconds) shutdown(t->fd, SHUT_RDWR);
    pthread_mutex_unlock(&p->lock);
}
