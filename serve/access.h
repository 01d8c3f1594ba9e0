/* Who may ask: API key, Host and Origin.
 *
 * A web page may make its reader's browser send requests to this server. The Origin header names the page's site; sites
 * other than the server's own are refused unless they are named. That does not stop DNS rebinding: a site whose name is
 * made to resolve to this machine is same-origin for the browser. Such a request has the site's name in its Host
 * header, so a Host must be an IP address, a name of this machine's loopback (localhost), the name that the server
 * listens on, or one that is named. */
#ifndef SERVE_ACCESS_H
#define SERVE_ACCESS_H

#include "serve.h"

/* `host`: the value of a Host header. */
bool access_host(const serve_options *o, const char *host);

/* `host`: the Host header, which access_host() allowed; NULL: there is none. */
bool access_origin(const serve_options *o, const char *host, const char *origin);

/* `authorization`: the value of that header; NULL: there is none. */
bool access_key(const serve_options *o, const char *authorization);

#endif
