/* The socket that the server listens on. */
#ifndef SERVE_LISTEN_H
#define SERVE_LISTEN_H

#include "serve.h"

/* Listens on o->host and o->port; *port is the one it got. False with a sentence in `error`. The caller closes *fd. */
bool listen_on(const serve_options *o, int *fd, int *port, char error[SERVE_ERROR_BYTES]);

#endif
