/* The listening socket. */
#ifndef SERVE_LISTEN_H
#define SERVE_LISTEN_H

#include "serve/serve.h"

/* Both return false with a message in `error` on failure, and close *fd then; otherwise the caller closes it.
 *
 * listen_bind() reserves o->host and o->port: it fails if another program listens there. Connections are refused until
 * listen_on() is called. *port is the actual port, which differs if o->port is 0. */
bool listen_bind(const serve_options *o, int *fd, int *port, char error[SERVE_ERROR_BYTES]);
bool listen_on(const serve_options *o, int fd, char error[SERVE_ERROR_BYTES]);

#endif
