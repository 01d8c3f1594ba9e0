/* Access log: one line per completed request.
 *
 * Lines are buffered in memory. A thread other than the HTTP thread writes them with access_log_flush(), so that a log
 * reader that stops reading (a full pipe) does not block the server. If the buffer exceeds ACCESS_LOG_MAX_BYTES,
 * further lines are dropped and their number is logged. */
#ifndef SERVE_ACCESS_LOG_H
#define SERVE_ACCESS_LOG_H

#include "serve/endpoints/bytes.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdint.h>

enum { ACCESS_LOG_MAX_BYTES = 1 << 20 };

typedef struct access_log {
    pthread_mutex_t lock;
    int fd; /* -1: no log */
    bytes buffered;
    int64_t dropped; /* lines */
} access_log;

typedef struct access_line {
    struct MHD_Connection *connection;
    const char *method, *url;
    unsigned status; /* HTTP status; 0: no reply was sent */
    int64_t bytes;   /* size of the reply's body */
    bool aborted;    /* The client did not read the whole reply. */
    bool has_tokens; /* The request was a completion; the token counts are valid. */
    int64_t prompt_tokens, new_tokens;
    double seconds; /* from the request's headers to the last byte of the reply */
} access_line;

/* `path`: file to append to; "-": standard error; NULL: no log. Returns false and sets errno if the file cannot be
 * opened. */
bool access_log_open(access_log *log, const char *path);
void access_log_close(access_log *log);

void access_log_add(access_log *log, const access_line *line);
/* Writes as much as is possible without blocking. */
void access_log_flush(access_log *log);

#endif
