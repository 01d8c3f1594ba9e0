/* TCP sockets with time limits. All sockets are non-blocking, and closed on exec.
 *
 * Times are those of clock_seconds(). A wait ends with LCKV_ERROR_INTERRUPTED if a signal handler has run, so that
 * Ctrl-C ends a program that waits for other processes. */
#ifndef COLLECTIVES_TCP_SOCKET_H
#define COLLECTIVES_TCP_SOCKET_H

#include "base/status.h"

#include <sys/socket.h>

/* Listens on all interfaces, or on the loopback interface alone if `host` is one of its names. `port` 0 takes any free
 * one. On success *out is the socket and *bound its port. On failure errno says why. */
bool socket_listen(const char *host, int port, int backlog, int *out, int *bound);

/* Waits for a connection until `end`. */
int socket_accept(int listener, double end, int *out);

/* Connects to host:port, at the first of its addresses that answers. Tries again until `end`; calls `waiting` once,
 * with the reason, if that takes longer than SOCKET_PATIENCE. *address is the address that answered. */
enum { SOCKET_PATIENCE = 10 /* seconds */ };
typedef void (*socket_waiting)(void *user, const char *reason);
int socket_connect(const char *host, int port, double end, socket_waiting waiting, void *user, int *out,
                   struct sockaddr_storage *address);
/* Connects to an address, once, until `end`. */
int socket_connect_address(const struct sockaddr_storage *address, double end, int *out);

/* Send or receive exactly this number of bytes until `end`. */
int socket_send(int fd, const void *bytes, size_t count, double end);
int socket_receive(int fd, void *bytes, size_t count, double end);

#endif
