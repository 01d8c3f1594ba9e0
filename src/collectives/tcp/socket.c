/* TCP sockets with time limits; see socket.h. */
#include "collectives/tcp/socket.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A host that does not answer for KEEP_IDLE + KEEP_INTERVAL * KEEP_COUNT seconds is lost. */
enum { KEEP_IDLE = 20, KEEP_INTERVAL = 10, KEEP_COUNT = 4 };
static const double RETRY_SECONDS = 0.1, ATTEMPT_SECONDS = 10;

static int lost(void) {
    return fail(LCKV_ERROR_DEVICE, "%s", strerror(errno));
}

/* Waits for `events`. LCKV_ERROR_DEVICE after `end`. */
static int wait_for(int fd, short events, double end) {
    struct pollfd polled = {.fd = fd, .events = events};
    for (;;) {
        double left = end - clock_seconds();
        int ready = poll(&polled, 1, left <= 0 ? 0 : left > 1000 ? 1000000 : (int)(left * 1000) + 1);
        if (ready > 0) return LCKV_OK;
        if (ready < 0 && errno == EINTR) return fail(LCKV_ERROR_INTERRUPTED, "interrupted");
        if (ready < 0) return lost();
        REQUIRE(clock_seconds() < end, LCKV_ERROR_DEVICE, "%s", strerror(ETIMEDOUT));
    }
}

static void prepare(int fd) {
    const int yes = 1, idle = KEEP_IDLE, interval = KEEP_INTERVAL, count = KEEP_COUNT;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
#ifdef TCP_KEEPIDLE
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
#endif
}

static int new_socket(int family) {
    int fd = socket(family, SOCK_STREAM, 0);
    if (fd >= 0) prepare(fd);
    return fd;
}

/* ---------------------------------------------------------------- listening */

static socklen_t address_bytes(const struct sockaddr_storage *a) {
    return a->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static struct sockaddr_storage address_v6(struct in6_addr address, int port) {
    struct sockaddr_storage any = {0};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = address, .sin6_port = htons((uint16_t)port)};
    memcpy(&any, &v6, sizeof v6);
    return any;
}

static struct sockaddr_storage address_v4(uint32_t address, int port) {
    struct sockaddr_storage any = {0};
    struct sockaddr_in v4 = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(address), .sin_port = htons((uint16_t)port)};
    memcpy(&any, &v4, sizeof v4);
    return any;
}

static bool listen_at(const struct sockaddr_storage *at, int backlog, int *out) {
    const int yes = 1, no = 0;
    int fd = new_socket(at->ss_family);
    if (fd < 0) return false;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (at->ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    if (!bind(fd, (const struct sockaddr *)at, address_bytes(at)) && !listen(fd, backlog)) {
        *out = fd;
        return true;
    }
    int reason = errno;
    close(fd);
    errno = reason;
    return false;
}

static int port_of(const struct sockaddr_storage *a) {
    return ntohs(a->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)a)->sin6_port
                                          : ((const struct sockaddr_in *)a)->sin_port);
}

bool socket_listen(const char *host, int port, int backlog, int *out, int *bound) {
    struct sockaddr_storage v4 = address_v4(INADDR_ANY, port), v6 = address_v6(in6addr_any, port);
    socklen_t bytes = sizeof v4;
    bool only_v4 = !strcmp(host, "localhost") || !strncmp(host, "127.", 4);
    if (only_v4) v4 = address_v4(INADDR_LOOPBACK, port);
    if (!strcmp(host, "::1")) v6 = address_v6(in6addr_loopback, port);
    bool listens = !only_v4 && listen_at(&v6, backlog, out);
    if (!listens && (only_v4 || errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
        listens = listen_at(&v4, backlog, out);
    if (!listens) return false;
    if (getsockname(*out, (struct sockaddr *)&v4, &bytes)) return false;
    *bound = port_of(&v4);
    return true;
}

int socket_accept(int listener, double end, int *out) {
    for (;;) {
        TRY(wait_for(listener, POLLIN, end));
        *out = accept(listener, NULL, NULL);
        if (*out >= 0) break;
        if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) return lost();
    }
    prepare(*out);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- connecting */

static int finish_connecting(int fd, double end) {
    int error = 0;
    socklen_t bytes = sizeof error;
    TRY(wait_for(fd, POLLOUT, end));
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
    errno = error;
    return error ? lost() : LCKV_OK;
}

/* On the loopback interface, a connection to a port where nobody listens may get that port as its own, and then is
 * connected to itself. */
static bool connected_to_itself(int fd) {
    struct sockaddr_storage here = {0}, there = {0};
    socklen_t here_bytes = sizeof here, there_bytes = sizeof there;
    return !getsockname(fd, (struct sockaddr *)&here, &here_bytes) &&
           !getpeername(fd, (struct sockaddr *)&there, &there_bytes) && !memcmp(&here, &there, sizeof here);
}

int socket_connect_address(const struct sockaddr_storage *address, double end, int *out) {
    int fd = new_socket(address->ss_family), status = LCKV_OK;
    if (fd < 0) return lost();
    if (connect(fd, (const struct sockaddr *)address, address_bytes(address)))
        status = errno == EINPROGRESS ? finish_connecting(fd, end) : lost();
    if (status >= 0 && connected_to_itself(fd)) status = fail(LCKV_ERROR_DEVICE, "%s", strerror(ECONNREFUSED));
    if (status < 0)
        close(fd);
    else
        *out = fd;
    return status;
}

/* Tries each address of the host once. */
static int connect_once(const char *host, const char *port, double end, int *out, struct sockaddr_storage *address) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int code = getaddrinfo(host, port, &hints, &list);
    REQUIRE(!code, LCKV_ERROR_DEVICE, "%s", code == EAI_SYSTEM ? strerror(errno) : gai_strerror(code));
    int status = fail(LCKV_ERROR_DEVICE, "it has no address");
    for (const struct addrinfo *a = list; a && status < 0 && status != LCKV_ERROR_INTERRUPTED; a = a->ai_next) {
        if (a->ai_addrlen > sizeof *address) continue;
        memset(address, 0, sizeof *address);
        memcpy(address, a->ai_addr, a->ai_addrlen);
        status = socket_connect_address(address, end, out);
    }
    freeaddrinfo(list);
    return status;
}

int socket_connect(const char *host, int port, double end, socket_waiting waiting, void *user, int *out,
                   struct sockaddr_storage *address) {
    char text[16];
    double begin = clock_seconds();
    snprintf(text, sizeof text, "%d", port);
    for (bool told = false;;) {
        double now = clock_seconds(), attempt = now + ATTEMPT_SECONDS;
        int status = connect_once(host, text, attempt < end ? attempt : end, out, address);
        if (status >= 0 || status == LCKV_ERROR_INTERRUPTED || clock_seconds() + RETRY_SECONDS > end) return status;
        if (!told && clock_seconds() > begin + SOCKET_PATIENCE) {
            waiting(user, lckv_last_error());
            told = true;
        }
        if (poll(NULL, 0, (int)(RETRY_SECONDS * 1000)) < 0) return fail(LCKV_ERROR_INTERRUPTED, "interrupted");
    }
}

/* ---------------------------------------------------------------- bytes */

int socket_send(int fd, const void *bytes, size_t count, double end) {
    for (const char *at = bytes; count > 0;) {
        ssize_t sent = send(fd, at, count, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) return lost();
        if (sent < 0)
            TRY(wait_for(fd, POLLOUT, end));
        else
            at += sent, count -= (size_t)sent;
    }
    return LCKV_OK;
}

int socket_receive(int fd, void *bytes, size_t count, double end) {
    for (char *at = bytes; count > 0;) {
        ssize_t received = recv(fd, at, count, 0);
        REQUIRE(received, LCKV_ERROR_DEVICE, "connection closed");
        if (received < 0 && errno != EAGAIN && errno != EINTR) return lost();
        if (received < 0)
            TRY(wait_for(fd, POLLIN, end));
        else
            at += received, count -= (size_t)received;
    }
    return LCKV_OK;
}
