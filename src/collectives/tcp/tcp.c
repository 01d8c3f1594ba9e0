/* Exchanges bytes between ranks over TCP, and detects ranks that are lost; see tcp.h. */
#include "collectives/tcp/tcp.h"

#include "base/clock.h"
#include "collectives/host.h"
#include "collectives/tcp/rendezvous.h"
#include "collectives/tcp/socket.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { REASON_BYTES = 512, SPARE_DESCRIPTORS = 128 };
static const double CAUSE_SECONDS = 2; /* for the notices of other ranks, when something is wrong */

/* What a rank tells the others over its notice connections: for whom it has waited too long, or why it ends. */
typedef struct notice {
    int waits_for; /* -1: it ends */
    char reason[REASON_BYTES];
} notice;

typedef struct tcp_state {
    host_transport host;
    double time_limit;
    int *data, *notice;    /* [ranks] sockets, -1 for this rank */
    int *sent, *received;  /* [ranks] bytes of the current exchange */
    struct pollfd *polled; /* [2 * ranks]: data, then notice */
    int *waits_for; /* [ranks] the rank that a rank has waited for too long, as it said; -1: it has said nothing */
    bool closing;   /* other ranks may have left */
    notice broken;  /* why no exchange is possible any more; empty while it is */
} tcp_state;

/* ---------------------------------------------------------------- failures */

/* A notice fits into the buffer of a socket. */
static void send_notice(const collectives *c, const notice *n) {
    const tcp_state *s = c->own;
    for (int r = 0; r < c->ranks; r++)
        if (s->notice[r] >= 0) (void)!send(s->notice[r], n, sizeof *n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static bool keep_reason(tcp_state *s) {
    if (*s->broken.reason) return false;
    s->broken.waits_for = -1;
    snprintf(s->broken.reason, sizeof s->broken.reason, "%s", lckv_last_error());
    return true;
}

/* Keeps the thread's message, which names a rank, as the reason, and tells it to all others. */
static int break_off(const collectives *c, int status) {
    tcp_state *s = c->own;
    if (keep_reason(s)) send_notice(c, &s->broken);
    return status;
}

static void give_up(const collectives *c) {
    tcp_state *s = c->own;
    notice n = {.waits_for = -1};
    if (!keep_reason(s)) return;
    int prefix = snprintf(n.reason, sizeof n.reason, "process %d of %d: ", c->rank, c->ranks);
    snprintf(n.reason + prefix, sizeof n.reason - (size_t)prefix, "%s", lckv_last_error());
    send_notice(c, &n);
}

/* Reads the notice of rank r, which fails with the reason if r ends or is gone. */
static int hear(const collectives *c, int r) {
    const tcp_state *s = c->own;
    notice n;
    int status = socket_receive(s->notice[r], &n, sizeof n, clock_seconds() + CAUSE_SECONDS);
    REQUIRE(status >= 0, LCKV_ERROR_DEVICE, "process %d of %d is lost: it has ended, or its host cannot be reached", r,
            c->ranks);
    REQUIRE(n.waits_for >= 0 && n.waits_for < c->ranks, LCKV_ERROR_DEVICE, "%.*s", REASON_BYTES - 1, n.reason);
    s->waits_for[r] = n.waits_for;
    return LCKV_OK;
}

/* The number of other ranks that have not said for whom they wait. */
static int count_silent(const collectives *c) {
    const tcp_state *s = c->own;
    int silent = 0;
    for (int r = 0; r < c->ranks; r++) silent += r != c->rank && s->waits_for[r] < 0;
    return silent;
}

static int hear_all(const collectives *c) {
    const tcp_state *s = c->own;
    struct pollfd *polled = s->polled + c->ranks;
    double end = clock_seconds() + CAUSE_SECONDS, left;
    while (count_silent(c) > 1 && (left = end - clock_seconds()) > 0) {
        for (int r = 0; r < c->ranks; r++) polled[r] = (struct pollfd){.fd = s->notice[r], .events = POLLIN};
        if (poll(polled, (nfds_t)c->ranks, (int)(left * 1000) + 1) <= 0) continue;
        for (int r = 0; r < c->ranks; r++)
            if (polled[r].revents) TRY(hear(c, r));
    }
    return LCKV_OK;
}

/* This rank has waited for rank `waits_for` too long, which may itself wait for another. All ranks that wait tell each
 * other for whom; the one that hangs is the one at the end, which says nothing. */
static int fail_for_hung_rank(const collectives *c, int waits_for) {
    const tcp_state *s = c->own;
    notice mine = {.waits_for = waits_for};
    send_notice(c, &mine);
    TRY(hear_all(c));
    int hung = waits_for;
    for (int i = 0; i < c->ranks && hung != c->rank && s->waits_for[hung] >= 0; i++) hung = s->waits_for[hung];
    return fail(LCKV_ERROR_DEVICE,
                "process %d of %d has not answered for %.0f s (ddp_timeout): it hangs, or needs more time", hung,
                c->ranks, s->time_limit);
}

/* The connection to rank r has closed, or brings a notice, while this rank waits for rank `waits_for`. */
static int lost_rank(const collectives *c, int r, int waits_for) {
    TRY(hear(c, r));
    return fail_for_hung_rank(c, waits_for);
}

/* The lowest rank that owes bytes, else the lowest that takes none. */
static int find_awaited(const collectives *c, const host_transfer *with) {
    const tcp_state *s = c->own;
    int awaited = -1;
    for (int r = c->ranks - 1; r >= 0; r--)
        if (r != c->rank && s->sent[r] < with[r].send_bytes) awaited = r;
    for (int r = c->ranks - 1; r >= 0; r--)
        if (r != c->rank && s->received[r] < with[r].receive_bytes) awaited = r;
    return awaited;
}

/* ---------------------------------------------------------------- exchange */

static bool would_block(ssize_t moved) {
    return moved < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

/* Sends and receives what is possible without waiting. Adds the number of bytes to *moved. */
static int move(const collectives *c, int r, const host_transfer *t, int64_t *moved) {
    tcp_state *s = c->own;
    if (s->sent[r] < t->send_bytes) {
        ssize_t n = send(s->data[r], (const char *)t->send + s->sent[r], (size_t)(t->send_bytes - s->sent[r]),
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && !would_block(n)) return lost_rank(c, r, r);
        if (n > 0) s->sent[r] += (int)n, *moved += n;
    }
    if (s->received[r] < t->receive_bytes) {
        ssize_t n = recv(s->data[r], (char *)t->receive + s->received[r], (size_t)(t->receive_bytes - s->received[r]),
                         MSG_DONTWAIT);
        if (n == 0 || (n < 0 && !would_block(n))) return lost_rank(c, r, r);
        if (n > 0) s->received[r] += (int)n, *moved += n;
    }
    return LCKV_OK;
}

/* Fills s->polled. Returns the number of transfers that are not complete. */
static int list_pending(const collectives *c, const host_transfer *with) {
    tcp_state *s = c->own;
    int pending = 0;
    for (int r = 0; r < c->ranks; r++) {
        short events = 0;
        if (r != c->rank && s->sent[r] < with[r].send_bytes) events |= POLLOUT;
        if (r != c->rank && s->received[r] < with[r].receive_bytes) events |= POLLIN;
        pending += events != 0;
        s->polled[r] = (struct pollfd){.fd = events ? s->data[r] : -1, .events = events};
        s->polled[c->ranks + r] = (struct pollfd){.fd = s->closing ? -1 : s->notice[r], .events = POLLIN};
    }
    return pending;
}

/* Waits until a transfer can go on. */
static int wait_for_any(const collectives *c, const host_transfer *with, double end) {
    tcp_state *s = c->own;
    double left = end - clock_seconds();
    if (left <= 0) return fail_for_hung_rank(c, find_awaited(c, with));
    int ready = poll(s->polled, 2 * (nfds_t)c->ranks, left > 1000 ? 1000000 : (int)(left * 1000) + 1);
    if (ready <= 0) return LCKV_OK;
    for (int r = 0; r < c->ranks; r++)
        if (s->polled[c->ranks + r].revents) return lost_rank(c, r, find_awaited(c, with));
    return LCKV_OK;
}

static int exchange_bytes(const collectives *c, const host_transfer *with) {
    tcp_state *s = c->own;
    double end = clock_seconds() + s->time_limit;
    memset(s->sent, 0, (size_t)c->ranks * sizeof *s->sent);
    memset(s->received, 0, (size_t)c->ranks * sizeof *s->received);
    for (;;) {
        int64_t moved = 0;
        for (int r = 0; r < c->ranks; r++)
            if (r != c->rank) TRY(move(c, r, &with[r], &moved));
        if (!list_pending(c, with)) return LCKV_OK;
        if (moved) end = clock_seconds() + s->time_limit;
        TRY(wait_for_any(c, with, end));
    }
}

static int exchange(const collectives *c, const host_transfer *with) {
    const tcp_state *s = c->own;
    REQUIRE(!*s->broken.reason, LCKV_ERROR_DEVICE, "%s", s->broken.reason);
    int status = exchange_bytes(c, with);
    return status < 0 ? break_off(c, status) : status;
}

/* What rank 0 has sent comes before the news that it has ended since. */
static int await(const collectives *c) {
    tcp_state *s = c->own;
    REQUIRE(!*s->broken.reason, LCKV_ERROR_DEVICE, "%s", s->broken.reason);
    for (bool begun = c->rank == 0; !begun;) {
        for (int r = 0; r < 2 * c->ranks; r++) s->polled[r] = (struct pollfd){.fd = -1, .events = POLLIN};
        for (int r = 0; r < c->ranks; r++) s->polled[c->ranks + r].fd = s->notice[r];
        s->polled[0].fd = s->data[0];
        if (poll(s->polled, 2 * (nfds_t)c->ranks, -1) <= 0) continue;
        begun = s->polled[0].revents != 0;
        for (int r = 0; r < c->ranks && !begun; r++)
            if (s->polled[c->ranks + r].revents) return break_off(c, lost_rank(c, r, 0));
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- opening and closing */

static void close_sockets(const int *sockets, int count) {
    for (int r = 0; sockets && r < count; r++)
        if (sockets[r] >= 0) close(sockets[r]);
}

static void release(collectives *c) {
    tcp_state *s = c->own;
    close_sockets(s->data, c->ranks);
    close_sockets(s->notice, c->ranks);
    host_free(&s->host);
    free(s->data);
    free(s->notice);
    free(s->sent);
    free(s->received);
    free(s->polled);
    free(s->waits_for);
    free(s);
    free(c);
}

/* A rank leaves when all have come here. The connections of those that left first may then be closed already. */
static void close_tcp(collectives *c) {
    tcp_state *s = c->own;
    s->closing = true;
    if (!*s->broken.reason) c->ops.barrier(c);
    release(c);
}

static int check_descriptors(int ranks) {
    struct rlimit limit;
    long needed = 2L * (ranks - 1) + SPARE_DESCRIPTORS;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= (rlim_t)needed,
            LCKV_ERROR_DEVICE,
            "%d processes need %ld file descriptors each, the limit is %llu: raise it with ulimit -n", ranks, needed,
            (unsigned long long)limit.rlim_cur);
    return LCKV_OK;
}

static int open_ranks(collectives *c, const launch *l) {
    tcp_state *s = c->own;
    size_t ranks = (size_t)c->ranks;
    s->data = malloc(ranks * sizeof *s->data);
    s->notice = malloc(ranks * sizeof *s->notice);
    for (int r = 0; s->data && s->notice && r < c->ranks; r++) s->data[r] = s->notice[r] = -1;
    s->sent = malloc(ranks * sizeof *s->sent);
    s->received = malloc(ranks * sizeof *s->received);
    s->polled = malloc(2 * ranks * sizeof *s->polled);
    s->waits_for = malloc(ranks * sizeof *s->waits_for);
    REQUIRE(s->data && s->notice && s->sent && s->received && s->polled && s->waits_for, LCKV_ERROR_MEMORY,
            "no memory for the connections of %d processes", c->ranks);
    for (int r = 0; r < c->ranks; r++) s->waits_for[r] = -1;
    TRY(check_descriptors(c->ranks));
    TRY(host_fill(c));
    c->ops.await = await;
    c->ops.give_up = give_up;
    c->ops.close = close_tcp;
    c->watched = s->notice;
    c->time_limit = s->time_limit;
    return rendezvous(l, s->time_limit, s->data, s->notice);
}

int collectives_tcp_open(const launch *l, double time_limit, collectives **out) {
    collectives *c = calloc(1, sizeof *c);
    tcp_state *s = c ? calloc(1, sizeof *s) : NULL;
    *out = NULL;
    if (!s) {
        free(c);
        return fail(LCKV_ERROR_MEMORY, "no memory for the collectives of %d processes", l->ranks);
    }
    *s = (tcp_state){.host.exchange = exchange, .time_limit = time_limit};
    *c =
        (collectives){.rank = l->rank, .ranks = l->ranks, .local_rank = l->local_rank, .sharing = l->sharing, .own = s};
    int status = open_ranks(c, l);
    if (status < 0)
        release(c);
    else
        *out = c;
    return status;
}
