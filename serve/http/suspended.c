/* Suspended connections, see suspended.h. */
#include "suspended.h"

#include <errno.h>
#include <sys/socket.h>

bool suspended_add(suspended_connections *h, struct MHD_Connection *c) {
    pthread_mutex_lock(&h->lock);
    bool open = !h->closed;
    if (open) {
        h->count++;
        MHD_suspend_connection(c);
    }
    pthread_mutex_unlock(&h->lock);
    return open;
}

void suspended_resume(suspended_connections *h, struct MHD_Connection *c) {
    pthread_mutex_lock(&h->lock);
    h->count--;
    MHD_resume_connection(c);
    pthread_mutex_unlock(&h->lock);
}

int suspended_count(suspended_connections *h) {
    pthread_mutex_lock(&h->lock);
    int count = h->count;
    pthread_mutex_unlock(&h->lock);
    return count;
}

bool suspended_close(suspended_connections *h) {
    pthread_mutex_lock(&h->lock);
    if (h->count == 0) h->closed = true;
    bool closed = h->closed;
    pthread_mutex_unlock(&h->lock);
    return closed;
}

bool connection_client_gone(struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    char byte;
    if (!info) return false;
    ssize_t got = recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}
