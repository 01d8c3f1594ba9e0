/* How ranks find each other over TCP; see rendezvous.h. */
#include "collectives/tcp/rendezvous.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "collectives/tcp/socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_BYTES = 512, VERSION_BYTES = 32, PROTOCOL = 1, MAX_LISTED = 8 };
static const char MAGIC[8] = "lckvjoin";
/* Limits on a step of the exchange once the other side is there. Rank 0 may answer ANSWER_SECONDS after its limit. */
static const double GREETING_SECONDS = 5, ANSWER_SECONDS = 10, BUSY_PORT_SECONDS = 5;

/* ---------------------------------------------------------------- messages */

/* From rank r > 0 to rank 0. */
typedef struct join_request {
    char magic[sizeof MAGIC];
    uint32_t protocol, rank, ranks, port; /* where the rank listens */
    char version[VERSION_BYTES];
} join_request;

/* From rank 0. If `accepted`, [ranks] places follow. */
typedef struct join_answer {
    char magic[sizeof MAGIC];
    uint32_t accepted;
    uint64_t job;
    char text[TEXT_BYTES]; /* the error, if not accepted */
} join_answer;

/* Where a rank listens. Family 0: on the host of rank 0, at the address by which the reader has reached rank 0. */
typedef struct place {
    uint32_t family, port;
    uint8_t address[16];
} place;

enum { CHANNEL_DATA, CHANNEL_NOTICE, CHANNELS };

/* First message of a connection between two ranks. */
typedef struct greeting {
    uint64_t job;
    uint32_t rank, channel;
} greeting;

typedef struct meeting {
    const launch *l;
    double time_limit, end;
    int listener, port;
    uint64_t job;
    place *places;                 /* [ranks] */
    int *joined;                   /* [ranks] on rank 0: sockets of the ranks that have joined, or -1 */
    struct sockaddr_storage first; /* the address of rank 0; on other ranks */
    int *channels[CHANNELS];       /* [ranks] each: the caller's sockets */
} meeting;

/* Adds which process this is, and the port where rank 0 is or should be. */
static int within(const meeting *m, int status) {
    if (status == LCKV_ERROR_INTERRUPTED) return status;
    return fail_within(status, "process %d of %d: %s:%d", m->l->rank, m->l->ranks, m->l->host, m->l->port);
}

/* "1, 3, 4" of the ranks without a socket. */
static const char *missing(const int *sockets, int first, int ranks, char out[TEXT_BYTES / 2]) {
    size_t at = 0;
    int listed = 0;
    *out = '\0';
    for (int r = first; r < ranks; r++) {
        if (sockets[r] >= 0) continue;
        const char *between = listed ? ", " : "";
        if (listed++ == MAX_LISTED) {
            snprintf(out + at, TEXT_BYTES / 2 - at, ", ...");
            break;
        }
        at += (size_t)snprintf(out + at, TEXT_BYTES / 2 - at, "%s%d", between, r);
    }
    return out;
}

/* ---------------------------------------------------------------- places */

static place place_of(const struct sockaddr_storage *a, int port) {
    place p = {.family = a->ss_family == AF_INET6 ? 6 : 4, .port = (uint32_t)port};
    if (p.family == 4) {
        memcpy(p.address, &((const struct sockaddr_in *)a)->sin_addr, 4);
        return p;
    }
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)a)->sin6_addr;
    memcpy(p.address, v6, sizeof p.address);
    if (IN6_IS_ADDR_V4MAPPED(v6)) {
        p.family = 4;
        memmove(p.address, p.address + 12, 4);
    }
    return p;
}

static bool same_address(const place *a, const place *b) {
    return a->family == b->family && !memcmp(a->address, b->address, a->family == 4 ? 4 : 16);
}

/* The other side of a connection to rank 0. If both sides have one address, it is on the same host. */
static int place_of_peer(int fd, int port, place *out) {
    struct sockaddr_storage here = {0}, there = {0};
    socklen_t here_bytes = sizeof here, there_bytes = sizeof there;
    REQUIRE(!getsockname(fd, (struct sockaddr *)&here, &here_bytes) &&
                !getpeername(fd, (struct sockaddr *)&there, &there_bytes),
            LCKV_ERROR_DEVICE, "%s", strerror(errno));
    place mine = place_of(&here, 0);
    *out = place_of(&there, port);
    if (same_address(&mine, out) || (out->family == 4 && out->address[0] == 127)) out->family = 0;
    return LCKV_OK;
}

static struct sockaddr_storage address_of(const meeting *m, const place *p) {
    struct sockaddr_storage a = m->first;
    struct sockaddr_in *v4 = (struct sockaddr_in *)&a;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a;
    if (p->family) {
        memset(&a, 0, sizeof a);
        a.ss_family = p->family == 6 ? AF_INET6 : AF_INET;
        if (p->family == 6)
            memcpy(&v6->sin6_addr, p->address, 16);
        else
            memcpy(&v4->sin_addr, p->address, 4);
    }
    if (a.ss_family == AF_INET6)
        v6->sin6_port = htons((uint16_t)p->port);
    else
        v4->sin_port = htons((uint16_t)p->port);
    return a;
}

/* ---------------------------------------------------------------- rank 0 */

static int check_request(const meeting *m, const join_request *q) {
    const launch *l = m->l;
    REQUIRE(q->protocol == PROTOCOL && !strncmp(q->version, LCKV_VERSION, sizeof q->version), LCKV_ERROR_DEVICE,
            "process %u runs lckv %.*s, process 0 runs lckv %s: use the same version on all hosts", q->rank,
            VERSION_BYTES, q->version, LCKV_VERSION);
    REQUIRE(q->ranks == (uint32_t)l->ranks, LCKV_ERROR_DEVICE,
            "process %u was started as one of %u processes, process 0 as one of %d", q->rank, q->ranks, l->ranks);
    REQUIRE(q->rank > 0 && q->rank < q->ranks && q->port > 0 && q->port <= UINT16_MAX, LCKV_ERROR_DEVICE,
            "a process joined with rank %u and port %u", q->rank, q->port);
    REQUIRE(m->joined[q->rank] < 0, LCKV_ERROR_DEVICE, "two processes have rank %u", q->rank);
    return LCKV_OK;
}

/* Returns the rank that has joined; 0 if the connection is not one of lckv's, or has been lost. */
static int take_request(meeting *m, int fd) {
    join_request q;
    double end = clock_seconds() + GREETING_SECONDS;
    int status = socket_receive(fd, &q, sizeof q, end < m->end ? end : m->end);
    if (status < 0 || memcmp(q.magic, MAGIC, sizeof MAGIC)) {
        close(fd);
        return status == LCKV_ERROR_INTERRUPTED ? status : 0;
    }
    m->joined[0] = fd; /* the error goes to this one, too */
    TRY(check_request(m, &q));
    TRY(place_of_peer(fd, (int)q.port, &m->places[q.rank]));
    m->joined[0] = -1;
    m->joined[q.rank] = fd;
    return (int)q.rank;
}

static void log_waiting(const meeting *m, int here) {
    char list[TEXT_BYTES / 2];
    log_message(LCKV_LOG_WARNING, "process 0 waits for the others at %s:%d: %d of %d are there, missing: %s",
                m->l->host, m->port, here, m->l->ranks, missing(m->joined, 1, m->l->ranks, list));
}

static int gather_requests(meeting *m) {
    char list[TEXT_BYTES / 2];
    double told = clock_seconds() + SOCKET_PATIENCE;
    for (int here = 1, fd; here < m->l->ranks;) {
        bool quiet = told < m->end;
        int status = socket_accept(m->listener, quiet ? told : m->end, &fd);
        if (status == LCKV_ERROR_INTERRUPTED) return status;
        REQUIRE(status >= 0 || clock_seconds() < m->end, LCKV_ERROR_DEVICE,
                "%d of %d processes have joined within %.0f s, missing: %s", here, m->l->ranks, m->time_limit,
                missing(m->joined, 1, m->l->ranks, list));
        if (status < 0 && quiet && clock_seconds() >= told) {
            log_waiting(m, here);
            told = m->end;
        } else if (status >= 0) {
            int rank = take_request(m, fd);
            TRY(rank);
            here += rank > 0;
        } else {
            return status;
        }
    }
    return LCKV_OK;
}

static int answer(const meeting *m, int fd, int status) {
    join_answer a = {.accepted = status >= 0, .job = m->job};
    memcpy(a.magic, MAGIC, sizeof MAGIC);
    if (status < 0) snprintf(a.text, sizeof a.text, "%s", lckv_last_error());
    double end = clock_seconds() + GREETING_SECONDS;
    TRY(socket_send(fd, &a, sizeof a, end));
    if (status < 0) return LCKV_OK;
    return socket_send(fd, m->places, (size_t)m->l->ranks * sizeof *m->places, end);
}

static int answer_all(meeting *m, int status) {
    for (int r = 0; r < m->l->ranks; r++) {
        if (m->joined[r] < 0) continue;
        int sent = answer(m, m->joined[r], status);
        close(m->joined[r]);
        m->joined[r] = -1;
        if (status >= 0 && sent < 0) status = fail_within(sent, "process %d has joined, but is lost now", r);
    }
    return status;
}

/* A job that was started again finds the port busy for a moment. */
static int open_first_listener(meeting *m) {
    double end = clock_seconds() + BUSY_PORT_SECONDS;
    const launch *l = m->l;
    while (!socket_listen(l->host, l->port, 2 * l->ranks, &m->listener, &m->port)) {
        REQUIRE(errno == EADDRINUSE, LCKV_ERROR_DEVICE, "cannot listen at port %d: %s", l->port, strerror(errno));
        REQUIRE(clock_seconds() < end && clock_seconds() < m->end, LCKV_ERROR_DEVICE,
                "port %d is in use: by another process with rank 0, or by another program. Set MASTER_PORT so that "
                "MASTER_PORT + 1 is free",
                l->port);
        usleep(100000);
    }
    return LCKV_OK;
}

static int host_meeting(meeting *m) {
    m->job = rng_entropy();
    TRY(open_first_listener(m));
    m->places[0].port = (uint32_t)m->port;
    int status = gather_requests(m);
    char text[TEXT_BYTES];
    snprintf(text, sizeof text, "%s", status < 0 ? lckv_last_error() : "");
    int answered = answer_all(m, status);
    return status < 0 ? fail(status, "%s", text) : answered;
}

/* ---------------------------------------------------------------- the other ranks */

static void log_unreachable(void *user, const char *reason) {
    const meeting *m = user;
    log_message(LCKV_LOG_WARNING, "process %d of %d waits for process 0 at %s:%d: %s", m->l->rank, m->l->ranks,
                m->l->host, m->l->port, reason);
}

static int receive_answer(meeting *m, int fd) {
    join_answer a;
    int status = socket_receive(fd, &a, sizeof a, m->end + ANSWER_SECONDS);
    if (status == LCKV_ERROR_INTERRUPTED) return status;
    REQUIRE(status >= 0, status, "process 0 did not answer, or has ended (%s)", lckv_last_error());
    REQUIRE(!memcmp(a.magic, MAGIC, sizeof MAGIC), LCKV_ERROR_DEVICE, "the program that listens there is not lckv");
    REQUIRE(a.accepted, LCKV_ERROR_DEVICE, "%.*s", TEXT_BYTES, a.text);
    m->job = a.job;
    return socket_receive(fd, m->places, (size_t)m->l->ranks * sizeof *m->places, m->end + ANSWER_SECONDS);
}

static int send_request(const meeting *m, int fd) {
    join_request q = {.protocol = PROTOCOL,
                      .rank = (uint32_t)m->l->rank,
                      .ranks = (uint32_t)m->l->ranks,
                      .port = (uint32_t)m->port,
                      .version = LCKV_VERSION};
    memcpy(q.magic, MAGIC, sizeof MAGIC);
    return socket_send(fd, &q, sizeof q, m->end);
}

static int join_meeting(meeting *m) {
    const launch *l = m->l;
    int fd;
    REQUIRE(socket_listen(l->host, 0, 2 * l->ranks, &m->listener, &m->port), LCKV_ERROR_DEVICE,
            "cannot listen at any port: %s", strerror(errno));
    int status = socket_connect(l->host, l->port, m->end, log_unreachable, m, &fd, &m->first);
    if (status == LCKV_ERROR_INTERRUPTED) return status;
    REQUIRE(status >= 0, status, "cannot reach process 0 within %.0f s (%s)", m->time_limit, lckv_last_error());
    status = send_request(m, fd);
    if (status >= 0) status = receive_answer(m, fd);
    close(fd);
    return status;
}

/* ---------------------------------------------------------------- all pairs */

static int connect_channel(meeting *m, int r, int channel) {
    struct sockaddr_storage at = address_of(m, &m->places[r]);
    greeting g = {.job = m->job, .rank = (uint32_t)m->l->rank, .channel = (uint32_t)channel};
    int status = socket_connect_address(&at, m->end, &m->channels[channel][r]);
    if (status >= 0) status = socket_send(m->channels[channel][r], &g, sizeof g, m->end);
    if (status == LCKV_ERROR_INTERRUPTED) return status;
    REQUIRE(status >= 0, status, "cannot connect to process %d (%s)", r, lckv_last_error());
    return LCKV_OK;
}

/* Takes a connection of a higher rank; closes one that is not of this job. Returns 1 if it was taken. */
static int accept_channel(meeting *m) {
    greeting g;
    int fd;
    TRY(socket_accept(m->listener, m->end, &fd));
    double end = clock_seconds() + GREETING_SECONDS;
    int status = socket_receive(fd, &g, sizeof g, end < m->end ? end : m->end);
    bool known = status >= 0 && g.job == m->job && g.channel < CHANNELS && g.rank > (uint32_t)m->l->rank &&
                 g.rank < (uint32_t)m->l->ranks && m->channels[g.channel][g.rank] < 0;
    if (known)
        m->channels[g.channel][g.rank] = fd;
    else
        close(fd);
    return status == LCKV_ERROR_INTERRUPTED ? status : known;
}

/* Connecting does not wait for the other side to accept, so no two ranks wait for each other. */
static int connect_all(meeting *m) {
    char list[TEXT_BYTES / 2];
    const launch *l = m->l;
    for (int r = 0; r < l->rank; r++)
        for (int channel = 0; channel < CHANNELS; channel++) TRY(connect_channel(m, r, channel));
    for (int taken = 0; taken < CHANNELS * (l->ranks - 1 - l->rank);) {
        int status = accept_channel(m);
        if (status == LCKV_ERROR_INTERRUPTED) return status;
        REQUIRE(status >= 0, status, "processes %s have joined but not connected within %.0f s (%s)",
                missing(m->channels[CHANNEL_NOTICE], l->rank + 1, l->ranks, list), m->time_limit, lckv_last_error());
        taken += status;
    }
    return LCKV_OK;
}

static int meet(meeting *m) {
    REQUIRE(m->places && m->joined, LCKV_ERROR_MEMORY, "no memory for the addresses of %d processes", m->l->ranks);
    for (int r = 0; r < m->l->ranks; r++) m->joined[r] = -1;
    TRY(m->l->rank ? join_meeting(m) : host_meeting(m));
    return connect_all(m);
}

int rendezvous(const launch *l, double time_limit, int *data, int *notice) {
    meeting m = {.l = l,
                 .time_limit = time_limit,
                 .end = clock_seconds() + time_limit,
                 .listener = -1,
                 .places = calloc((size_t)l->ranks, sizeof *m.places),
                 .joined = malloc((size_t)l->ranks * sizeof *m.joined),
                 .channels = {data, notice}};
    int status = meet(&m);
    if (m.listener >= 0) close(m.listener);
    free(m.places);
    free(m.joined);
    return status < 0 ? within(&m, status) : status;
}
