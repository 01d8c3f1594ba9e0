/* The listening socket. */
#ifndef SERVE_LISTEN_H
#define SERVE_LISTEN_H

#include "serve/serve.h"

/* Listens on o->host and o->port. *port is the actual port, which differs if o->port is 0. The caller closes *fd.
 * Returns false with a message in `error` on failure. */
bool listen_on(const serve_options *o, int *fd, int *port, char error[SERVE_ERROR_BYTES]);

#endif
