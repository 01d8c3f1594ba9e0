/* A hub on 127.0.0.1 for tests of downloads: two listeners in one thread, the hub and a second host to which it
 * redirects requests for large files. It can simulate faults of a network and a hub. HTTP/1.1, one request per
 * connection. */
#ifndef TESTS_HUB_SERVER_H
#define TESTS_HUB_SERVER_H

#include "base/files/digest.h"

#include "expect.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define HUB_COMMIT "0123456789abcdef0123456789abcdef01234567"

typedef struct hub_content {
    const char *path, *bytes;
    size_t count;
    bool large;
    char blob[DIGEST_TEXT];
} hub_content;

typedef struct hub_server {
    const char *repository; /* "models/org/tiny" */
    hub_content files[8];
    int file_count;

    /* simulated faults, set between requests */
    const char *listing; /* sent instead of the list of files */
    int answer;          /* status code for the next `answers` requests for files and lists */
    int answers;
    const char *reason;  /* its X-Error-Message */
    const char *token;   /* required token; without it the status is 401 */
    int cut_after, cuts; /* number of bytes of a body after which the connection breaks, and how often this happens */
    bool no_ranges;      /* ignores Range and sends the whole file */
    bool damage;         /* the last byte of a body is wrong */

    /* recorded requests */
    int requests;
    int other_requests, other_tokens; /* requests to the second host, and those of them with a token */
    char ranges[256];                 /* all requests, concatenated */

    int ports[2], listeners[2], stop[2];
    pthread_t thread;
} hub_server;

static inline void hub_add(hub_server *hub, const char *path, const char *bytes, size_t count, bool large) {
    hub_content *file = &hub->files[hub->file_count++];
    char head[32];
    digest d;
    *file = (hub_content){path, bytes, count, large, ""};
    digest_begin(&d, large ? DIGEST_SHA256 : DIGEST_SHA1);
    if (!large) digest_add(&d, head, (size_t)snprintf(head, sizeof head, "blob %zu", count) + 1);
    digest_add(&d, bytes, count);
    digest_end(&d, file->blob);
}

/* ---------------------------------------------------------------- responses */

static inline void hub_send(int to, const char *bytes, size_t count) {
    while (count) {
        ssize_t sent = send(to, bytes, count, MSG_NOSIGNAL);
        if (sent <= 0) return; /* the client closed the connection */
        bytes += sent;
        count -= (size_t)sent;
    }
}

static inline void hub_head(int to, int code, size_t count, const char *more) {
    char head[1024];
    int length = snprintf(head, sizeof head, "HTTP/1.1 %d x\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n",
                          code, count, more);
    hub_send(to, head, (size_t)length);
}

static inline void hub_send_list(hub_server *hub, int to) {
    char text[4096];
    int at = snprintf(text, sizeof text, "{\"id\":\"x\",\"sha\":\"%s\",\"siblings\":[", HUB_COMMIT);
    for (int i = 0; i < hub->file_count; i++) {
        const hub_content *f = &hub->files[i];
        at += snprintf(text + at, sizeof text - (size_t)at, "%s{\"rfilename\":\"%s\",\"size\":%zu,\"blobId\":\"%.40s\"",
                       i ? "," : "", f->path, f->count, f->blob);
        if (f->large) at += snprintf(text + at, sizeof text - (size_t)at, ",\"lfs\":{\"sha256\":\"%s\"}", f->blob);
        at += snprintf(text + at, sizeof text - (size_t)at, "}");
    }
    at += snprintf(text + at, sizeof text - (size_t)at, "]}");
    const char *body = hub->listing ? hub->listing : text;
    hub_head(to, 200, strlen(body), "Content-Type: application/json\r\n");
    hub_send(to, body, strlen(body));
}

static inline void hub_send_file(hub_server *hub, int to, const hub_content *f, long from) {
    char more[128] = "";
    if (hub->no_ranges) from = 0;
    size_t count = f->count - (size_t)from;
    if (from) snprintf(more, sizeof more, "Content-Range: bytes %ld-%zu/%zu\r\n", from, f->count - 1, f->count);
    hub_head(to, from ? 206 : 200, count, more);
    bool cut = hub->cuts > 0 && (size_t)hub->cut_after < count;
    if (cut) {
        hub->cuts--;
        hub_send(to, f->bytes + from, (size_t)hub->cut_after);
        return;
    }
    if (count) hub_send(to, f->bytes + from, count - 1);
    char last = count ? f->bytes[f->count - 1] : 0;
    last = (char)(last ^ (hub->damage ? 1 : 0));
    if (count) hub_send(to, &last, 1);
}

/* These paths need no escape but %20. */
static inline bool hub_same_path(const char *asked, const char *path) {
    for (; *path; path++, asked++) {
        if (*path == ' ' && !strncmp(asked, "%20", 3))
            asked += 2;
        else if (*asked != *path)
            return false;
    }
    return *asked == ' ';
}

static inline void hub_send_named(hub_server *hub, int to, const char *path, long from) {
    for (int i = 0; i < hub->file_count; i++) {
        char where[256];
        const hub_content *f = &hub->files[i];
        if (!hub_same_path(path, f->path)) continue;
        snprintf(where, sizeof where, "Location: http://127.0.0.1:%d/cdn/%s?signed=1\r\n", hub->ports[1], f->blob);
        if (f->large)
            hub_head(to, 302, 0, where);
        else
            hub_send_file(hub, to, f, from);
        return;
    }
    hub_head(to, 404, 0, "X-Error-Message: Entry not found\r\n");
}

static inline void hub_answer(hub_server *hub, int to, const char *request, long from) {
    char list[256], file[256], more[256], token[128];
    bool model = !strncmp(hub->repository, "models/", 7);
    snprintf(list, sizeof list, "GET /api/%s/revision/main?blobs=true ", hub->repository);
    snprintf(file, sizeof file, "GET /%s/resolve/" HUB_COMMIT "/", hub->repository + (model ? 7 : 0));
    snprintf(token, sizeof token, "\r\nAuthorization: Bearer %s\r\n", hub->token ? hub->token : "");
    snprintf(more, sizeof more, "X-Error-Message: %s\r\n", hub->reason ? hub->reason : "");
    if (hub->answers > 0) {
        hub->answers--;
        hub_head(to, hub->answer, 0, hub->reason ? more : "");
    } else if (hub->token && !strstr(request, token)) {
        hub_head(to, 401, 0, "X-Error-Message: Invalid username or password.\r\n");
    } else if (!strncmp(request, list, strlen(list))) {
        hub_send_list(hub, to);
    } else if (!strncmp(request, file, strlen(file))) {
        hub_send_named(hub, to, request + strlen(file), from);
    } else {
        hub_head(to, 404, 0, "X-Error-Message: Repository not found\r\n");
    }
}

/* The second host: finds files by digest, without authentication. */
static inline void hub_answer_other(hub_server *hub, int to, const char *request, long from) {
    hub->other_requests++;
    hub->other_tokens += strstr(request, "Authorization") != NULL;
    for (int i = 0; i < hub->file_count; i++) {
        if (strncmp(request + strlen("GET /cdn/"), hub->files[i].blob, 64)) continue;
        hub_send_file(hub, to, &hub->files[i], from);
        return;
    }
    hub_head(to, 404, 0, "");
}

/* ---------------------------------------------------------------- thread */

static inline void hub_serve(hub_server *hub, int to, bool other) {
    char request[4096];
    size_t length = 0;
    long from = 0;
    request[0] = '\0';
    while (!strstr(request, "\r\n\r\n") && length + 1 < sizeof request) {
        ssize_t got = recv(to, request + length, sizeof request - 1 - length, 0);
        if (got <= 0) return;
        length += (size_t)got;
        request[length] = '\0';
    }
    const char *range = strstr(request, "\r\nRange: bytes=");
    if (range) {
        from = strtol(range + strlen("\r\nRange: bytes="), NULL, 10);
        size_t at = strlen(hub->ranges);
        snprintf(hub->ranges + at, sizeof hub->ranges - at, "%ld-", from);
    }
    hub->requests++;
    (other ? hub_answer_other : hub_answer)(hub, to, request, from);
}

static inline void *hub_run(void *user) {
    hub_server *hub = user;
    for (;;) {
        struct pollfd on[3] = {
            {hub->listeners[0], POLLIN, 0}, {hub->listeners[1], POLLIN, 0}, {hub->stop[0], POLLIN, 0}};
        if (poll(on, 3, -1) < 0) continue;
        if (on[2].revents) return NULL;
        for (int i = 0; i < 2; i++) {
            int to = on[i].revents ? accept(hub->listeners[i], NULL, NULL) : -1;
            if (to < 0) continue;
            hub_serve(hub, to, i == 1);
            shutdown(to, SHUT_WR);
            close(to);
        }
    }
}

static inline void hub_listen(hub_server *hub, int i) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    hub->listeners[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(hub->listeners[i], (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(hub->listeners[i], 16), 0);
    assert_int_equal(getsockname(hub->listeners[i], (struct sockaddr *)&at, &length), 0);
    hub->ports[i] = ntohs(at.sin_port);
}

static inline void hub_start(hub_server *hub, const char *repository) {
    *hub = (hub_server){.repository = repository};
    hub_listen(hub, 0);
    hub_listen(hub, 1);
    assert_int_equal(pipe(hub->stop), 0);
    assert_int_equal(pthread_create(&hub->thread, NULL, hub_run, hub), 0);
}

/* Sets the environment: the hub is at 127.0.0.1:PORT, and its cache and home are in this folder. */
static inline void hub_environment(int port, const char *cache, const char *home) {
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d/", port);
    setenv("HF_ENDPOINT", endpoint, 1);
    setenv("HF_HUB_CACHE", cache, 1);
    setenv("HF_HOME", home, 1);
    setenv("no_proxy", "*", 1);
    unsetenv("HF_TOKEN");
    unsetenv("HUGGING_FACE_HUB_TOKEN");
    unsetenv("HF_TOKEN_PATH");
}

static inline void hub_stop(hub_server *hub) {
    assert_int_equal(write(hub->stop[1], "", 1), 1);
    pthread_join(hub->thread, NULL);
    for (int i = 0; i < 2; i++) close(hub->listeners[i]), close(hub->stop[i]);
}

#endif
