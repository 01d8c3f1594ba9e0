/* Lingering close, see lingering_close.h. */
#include "lingering_close.h"

#include "cli/output/timer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void lingering_add(lingering_sockets *d, int fd) {
    pthread_mutex_lock(&d->lock);
    int copy = d->count < LINGERING_MAX ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (copy >= 0) {
        shutdown(copy, SHUT_WR); /* the reply was sent before */
        d->fds[d->count] = copy;
        d->since[d->count++] = timer_seconds();
    }
    pthread_mutex_unlock(&d->lock);
}

/* Reads a bounded number of bytes. Returns whether more data may arrive. */
static bool discard(int fd) {
    char block[65536];
    ssize_t got = 1;
    for (int i = 0; i < 64 && got > 0; i++) got = recv(fd, block, sizeof block, MSG_DONTWAIT);
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR));
}

static void discard_all(lingering_sockets *d) {
    pthread_mutex_lock(&d->lock);
    for (int i = d->count - 1; i >= 0; i--) {
        if (discard(d->fds[i]) && timer_seconds() - d->since[i] < LINGERING_SECONDS) continue;
        close(d->fds[i]);
        d->count--;
        d->fds[i] = d->fds[d->count];
        d->since[i] = d->since[d->count];
    }
    pthread_mutex_unlock(&d->lock);
}

void lingering_poll(lingering_sockets *d, int milliseconds) {
    double end = timer_seconds() + 1e-3 * milliseconds;
    for (double left = milliseconds; left > 0; left = 1e3 * (end - timer_seconds())) {
        struct pollfd polled[LINGERING_MAX];
        pthread_mutex_lock(&d->lock);
        int count = d->count;
        for (int i = 0; i < count; i++) polled[i] = (struct pollfd){.fd = d->fds[i], .events = POLLIN};
        pthread_mutex_unlock(&d->lock);
        poll(polled, (nfds_t)count, (int)left + 1);
        discard_all(d);
    }
}

void lingering_close_all(lingering_sockets *d) {
    pthread_mutex_lock(&d->lock);
    while (d->count) close(d->fds[--d->count]);
    pthread_mutex_unlock(&d->lock);
}
