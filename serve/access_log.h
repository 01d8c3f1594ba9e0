/* The access log: a line for each request that has ended.
 *
 * Lines are kept in memory and written by access_log_flush() on another thread than HTTP's, so that a reader of the log
 * that stops reading does not stop the server; lines beyond ACCESS_LOG_BYTES are dropped, and their number is logged.
 */
#ifndef SERVE_ACCESS_LOG_H
#define SERVE_ACCESS_LOG_H

#include "bytes.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdint.h>

enum { ACCESS_LOG_BYTES = 1 << 20 };

typedef struct access_log {
    pthread_mutex_t lock;
    int fd; /* -1: there is no log */
    bytes waiting;
    int64_t dropped;
} access_log;

typedef struct access_line {
    struct MHD_Connection *connection;
    const char *method, *url;
    unsigned status; /* 0: there was no answer */
    int64_t bytes;   /* of the answer's body */
    bool aborted;    /* The client has not read it all. */
    bool has_tokens; /* The request was for the engine. */
    int64_t prompt_tokens, new_tokens;
    double seconds; /* from the request's head to the last byte of the answer */
} access_line;

/* `path`: NULL: no log, "-": standard error; a file is appended to. False, and errno says why: it cannot be opened. */
bool access_log_open(access_log *log, const char *path);
void access_log_close(access_log *log);

void access_log_add(access_log *log, const access_line *line);
/* Writes what can be written without waiting. */
void access_log_flush(access_log *log);

#endif
