/* Access log, see access_log.h. */
#include "access_log.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* WRITE_BYTES is PIPE_BUF on Linux: a write of that size does not block if poll() reports a pipe as writable. */
enum { MAX_URL_BYTES = 200, WRITE_BYTES = 4096 };

bool access_log_open(access_log *log, const char *path) {
    *log = (access_log){.fd = -1};
    pthread_mutex_init(&log->lock, NULL);
    if (!path) return true;
    log->fd = strcmp(path, "-") ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666)
                                : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    return log->fd >= 0;
}

void access_log_close(access_log *log) {
    if (log->fd >= 0) {
        access_log_flush(log);
        close(log->fd);
    }
    bytes_free(&log->buffered);
    pthread_mutex_destroy(&log->lock);
}

/* ---------------------------------------------------------------- lines */

static void add_time(bytes *out) {
    char text[64];
    struct timeval now;
    struct tm utc;
    gettimeofday(&now, NULL);
    gmtime_r(&now.tv_sec, &utc);
    size_t length = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + length, sizeof text - length, ".%03dZ", (int)(now.tv_usec / 1000));
    bytes_add_text(out, text);
}

static void add_client(bytes *out, struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *address = info ? info->client_addr : NULL;
    char text[INET6_ADDRSTRLEN] = "-";
    if (address && address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text, sizeof text);
    else if (address && address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, text, sizeof text);
    bytes_add_text(out, text);
}

/* Escapes text from a client, so that line ends, quotes and terminal escape sequences do not reach the log. */
static void add_escaped(bytes *out, const char *text) {
    size_t length = strlen(text);
    for (size_t i = 0; i < length && i < MAX_URL_BYTES; i++) {
        unsigned char c = (unsigned char)text[i];
        char escaped[8];
        snprintf(escaped, sizeof escaped, c < 0x21 || c > 0x7e || c == '"' || c == '\\' ? "\\x%02x" : "%c", c);
        bytes_add_text(out, escaped);
    }
    if (length > MAX_URL_BYTES) bytes_add_text(out, "...");
}

static void add_line(bytes *out, const access_line *line) {
    char numbers[160];
    add_time(out);
    bytes_add_text(out, " ");
    add_client(out, line->connection);
    bytes_add_text(out, " \"");
    add_escaped(out, line->method);
    bytes_add_text(out, " ");
    add_escaped(out, line->url);
    snprintf(numbers, sizeof numbers, "\" %03u bytes=%" PRId64, line->status, line->bytes);
    bytes_add_text(out, numbers);
    snprintf(numbers, sizeof numbers, " prompt_tokens=%" PRId64 " completion_tokens=%" PRId64, line->prompt_tokens,
             line->new_tokens);
    if (line->has_tokens) bytes_add_text(out, numbers);
    snprintf(numbers, sizeof numbers, " seconds=%.3f%s\n", line->seconds, line->aborted ? " aborted" : "");
    bytes_add_text(out, numbers);
}

void access_log_add(access_log *log, const access_line *line) {
    if (log->fd < 0) return;
    pthread_mutex_lock(&log->lock);
    if (log->buffered.length > ACCESS_LOG_MAX_BYTES)
        log->dropped++;
    else
        add_line(&log->buffered, line);
    pthread_mutex_unlock(&log->lock);
}

/* ---------------------------------------------------------------- writing */

static void add_dropped(access_log *log) {
    char text[80];
    if (!log->dropped || log->buffered.length > ACCESS_LOG_MAX_BYTES) return;
    snprintf(text, sizeof text, "%" PRId64 " access log lines dropped\n", log->dropped);
    log->dropped = 0;
    bytes_add_text(&log->buffered, text);
}

static bool can_write(const access_log *log) {
    struct pollfd polled = {.fd = log->fd, .events = POLLOUT};
    return poll(&polled, 1, 0) == 1 && (polled.revents & POLLOUT);
}

void access_log_flush(access_log *log) {
    if (log->fd < 0) return;
    char block[WRITE_BYTES];
    for (size_t count = 1; count && can_write(log);) {
        pthread_mutex_lock(&log->lock);
        add_dropped(log);
        count = log->buffered.length < sizeof block ? log->buffered.length : sizeof block;
        if (count) memcpy(block, log->buffered.data, count);
        pthread_mutex_unlock(&log->lock);
        ssize_t written = count ? write(log->fd, block, count) : 0;
        if (written <= 0) break;
        pthread_mutex_lock(&log->lock);
        bytes_drop(&log->buffered, (size_t)written);
        pthread_mutex_unlock(&log->lock);
    }
}
