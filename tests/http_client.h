/* A small HTTP client for tests of the server. It uses a plain socket and one request per connection, so that a test
 * can also send invalid requests. */
#ifndef TESTS_HTTP_CLIENT_H
#define TESTS_HTTP_CLIENT_H

#include "base/text/json.h"
#include "base/text/text_buffer.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct http_answer {
    int status; /* 0: no response */
    char *head, *body;
    size_t body_bytes;
} http_answer;

static inline int http_connect(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval patience = {.tv_sec = 60};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    close(fd);
    return -1;
}

static inline bool http_send(int fd, const char *data, size_t bytes) {
    while (bytes) {
        ssize_t sent = send(fd, data, bytes, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        data += sent;
        bytes -= (size_t)sent;
    }
    return true;
}

/* `headers`: lines that end in \r\n, or "". */
static inline bool http_ask(int fd, const char *method, const char *path, const char *headers, const char *body,
                            size_t bytes) {
    text_buffer b = {0};
    text_printf(&b, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: %zu\r\n%s\r\n", method,
                path, bytes, headers);
    text_append(&b, body, bytes);
    bool sent = http_send(fd, b.data, b.length);
    text_free(&b);
    return sent;
}

/* Joins the chunks of a chunked body in place. */
static inline size_t http_unchunk(char *body) {
    char *at = body, *to = body, *end;
    for (;;) {
        size_t length = strtoul(at, &end, 16);
        if (end == at || length == 0) break;
        at = strstr(end, "\r\n") + 2;
        memmove(to, at, length);
        to += length;
        at += length + 2;
    }
    *to = '\0';
    return (size_t)(to - body);
}

/* Reads until the connection is closed, and closes it. */
static inline http_answer http_read(int fd) {
    http_answer a = {0};
    text_buffer all = {0};
    char piece[4096];
    ssize_t got;
    while ((got = recv(fd, piece, sizeof piece, 0)) > 0) text_append(&all, piece, (size_t)got);
    close(fd);
    if (!all.data) return a;
    char *split = strstr(all.data, "\r\n\r\n");
    if (split) {
        a.status = atoi(all.data + strcspn(all.data, " "));
        a.head = strndup(all.data, (size_t)(split - all.data));
        a.body_bytes = all.length - (size_t)(split + 4 - all.data);
        a.body = malloc(a.body_bytes + 1);
        memcpy(a.body, split + 4, a.body_bytes);
        a.body[a.body_bytes] = '\0';
        if (strstr(a.head, "chunked")) a.body_bytes = http_unchunk(a.body);
    }
    text_free(&all);
    return a;
}

static inline http_answer http_do(int port, const char *method, const char *path, const char *headers,
                                  const char *body) {
    int fd = http_connect(port);
    if (fd < 0) return (http_answer){0};
    http_ask(fd, method, path, headers, body, strlen(body));
    return http_read(fd);
}

/* Sends these bytes unchanged and reads the response. */
static inline http_answer http_raw(int port, const char *request) {
    int fd = http_connect(port);
    if (fd < 0) return (http_answer){0};
    http_send(fd, request, strlen(request));
    return http_read(fd);
}

static inline void http_free(http_answer *a) {
    free(a->head);
    free(a->body);
    *a = (http_answer){0};
}

#endif
