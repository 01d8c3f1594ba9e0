/* Access control, see access_control.h. */
#include "access_control.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netdb.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum { NAME_BYTES = 256 }; /* DNS allows 253 characters */

/* ---------------------------------------------------------------- hosts */

static bool is_port(const char *text, size_t length) {
    return length <= 5 && strspn(text, "0123456789") >= length;
}

/* Reads the name of "NAME", "NAME:PORT", "[ADDRESS]" or "[ADDRESS]:PORT": in lower case, without brackets, zone and
 * trailing dot. Returns false for any other form. */
static bool read_host(const char *host, char name[NAME_BYTES]) {
    bool bracketed = *host == '[';
    const char *begin = host + bracketed, *end = begin + strcspn(begin, bracketed ? "]" : ":"), *after = end;
    if (bracketed && *after++ != ']') return false;
    if (*after && (*after != ':' || !is_port(after + 1, strlen(after + 1)))) return false;
    size_t length = bracketed ? strcspn(begin, "%]") : (size_t)(end - begin);
    if (length >= NAME_BYTES) return false;
    for (size_t i = 0; i < length; i++) name[i] = (char)tolower((unsigned char)begin[i]);
    name[length] = '\0';
    if (!bracketed && length && name[length - 1] == '.') name[length - 1] = '\0';
    struct in6_addr address;
    return !bracketed || inet_pton(AF_INET6, name, &address) == 1;
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length > tail && !strcmp(text + length - tail, end);
}

/* Whether the name is an IP address in any notation that clients use (127.1 is one). */
static bool is_address(const char *name) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *found = NULL;
    bool is = *name && getaddrinfo(name, NULL, &hints, &found) == 0;
    if (is) freeaddrinfo(found);
    return is;
}

static bool is_named(const serve_options *o, const char *name) {
    char other[NAME_BYTES];
    if (read_host(o->host, other) && !strcmp(name, other)) return true;
    for (int i = 0; i < o->host_count; i++) {
        if (!strcmp(o->hosts[i], "*")) return true;
        if (read_host(o->hosts[i], other) && !strcmp(name, other)) return true;
    }
    return false;
}

bool access_host_allowed(const serve_options *o, const char *host) {
    char name[NAME_BYTES];
    struct in6_addr bare;
    if (inet_pton(AF_INET6, host, &bare) == 1) return true; /* an IPv6 address without brackets */
    if (!read_host(host, name)) return false;
    /* An empty Host is safe: browsers do not send it. */
    return !*host || is_address(name) || !strcmp(name, "localhost") || ends_with(name, ".localhost") ||
           is_named(o, name);
}

/* ---------------------------------------------------------------- origins */

bool access_origin_allowed(const serve_options *o, const char *host, const char *origin) {
    const char *after = strstr(origin, "://");
    if (host && after && !strcasecmp(after + 3, host)) return true; /* same origin: the server's own page */
    for (int i = 0; i < o->origin_count; i++)
        if (!strcmp(o->origins[i], "*") || !strcasecmp(o->origins[i], origin)) return true;
    return false;
}

/* ---------------------------------------------------------------- keys */

/* Constant-time comparison: the time depends only on `length`, the length of the client's key. */
static bool same_secret(const char *secret, const char *given, size_t length) {
    size_t secret_length = strlen(secret);
    unsigned different = secret_length != length;
    for (size_t i = 0; i < length; i++)
        different |= (unsigned char)(secret[secret_length ? i % secret_length : 0] ^ given[i]);
    return !different;
}

bool access_key_matches(const serve_options *o, const char *authorization) {
    static const char SCHEME[] = "Bearer";
    size_t scheme = sizeof SCHEME - 1;
    if (!o->api_key) return true;
    if (!authorization || strncasecmp(authorization, SCHEME, scheme)) return false;
    const char *key = authorization + scheme;
    size_t blanks = strspn(key, " \t"), length = strlen(key + blanks);
    while (length && strchr(" \t", key[blanks + length - 1])) length--;
    return blanks && same_secret(o->api_key, key + blanks, length);
}
