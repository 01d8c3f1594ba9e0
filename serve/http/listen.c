/* The listening socket, see listen.h. */
#include "listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool find_address(const serve_options *o, struct addrinfo **found, char error[SERVE_ERROR_BYTES]) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    char service[16];
    snprintf(service, sizeof service, "%d", o->port);
    int status = getaddrinfo(o->host, service, &hints, found);
    if (status) snprintf(error, SERVE_ERROR_BYTES, "cannot resolve host \"%.300s\": %s", o->host, gai_strerror(status));
    return !status;
}

static int port_of(int fd) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage room;
    } address = {0};
    socklen_t length = sizeof address;
    if (getsockname(fd, &address.any, &length) != 0) return 0;
    return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}

static bool cannot_listen(const serve_options *o, int fd, char error[SERVE_ERROR_BYTES]) {
    snprintf(error, SERVE_ERROR_BYTES, "cannot listen on \"%.300s\", port %d: %s", o->host, o->port, strerror(errno));
    if (fd >= 0) close(fd);
    return false;
}

bool listen_bind(const serve_options *o, int *fd, int *port, char error[SERVE_ERROR_BYTES]) {
    struct addrinfo *found;
    int yes = 1;
    if (!find_address(o, &found, error)) return false;
    *fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool bound = *fd >= 0 && setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
                 bind(*fd, found->ai_addr, found->ai_addrlen) == 0;
    if (bound)
        *port = port_of(*fd);
    else
        cannot_listen(o, *fd, error);
    freeaddrinfo(found);
    return bound;
}

bool listen_on(const serve_options *o, int fd, char error[SERVE_ERROR_BYTES]) {
    return listen(fd, 511) == 0 || cannot_listen(o, fd, error);
}
