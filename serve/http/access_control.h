/* Access control: API key, Host header and Origin header.
 *
 * A web page can make its reader's browser send requests to this server. The browser then adds an Origin header with
 * the site of the page; the server rejects sites other than its own unless they are listed. This check does not stop
 * DNS rebinding: if a site's name resolves to this machine, the browser treats the request as same-origin. Such a
 * request carries the name of the site in its Host header. Therefore a Host must be an IP address, a loopback name
 * (localhost), the name that the server listens on, or a listed name. */
#ifndef SERVE_ACCESS_CONTROL_H
#define SERVE_ACCESS_CONTROL_H

#include "serve/serve.h"

/* `host`: value of a Host header. */
bool access_host_allowed(const serve_options *o, const char *host);

/* `host`: the Host header, which access_host_allowed() accepted; NULL if the request has none. */
bool access_origin_allowed(const serve_options *o, const char *host, const char *origin);

/* `authorization`: value of the Authorization header; NULL if the request has none. */
bool access_key_matches(const serve_options *o, const char *authorization);

#endif
