/* Request threads: work that must not block the HTTP thread, such as parsing requests, rendering chat templates,
 * tokenizing, and writing long responses as JSON.
 *
 * One thread handles small requests and one handles large requests, so that small requests never wait for large ones.
 * Each thread has a FIFO queue, its own tokenizer and its own chat template. The number of connections bounds the
 * queues, because a connection has one request at a time. */
#ifndef SERVE_REQUEST_THREADS_H
#define SERVE_REQUEST_THREADS_H

#include "serve/server.h"

typedef struct request_threads request_threads;

/* Starts the threads. Each opens the tokenizer and the chat template of `like` again. Returns false with a message in
 * `error` on failure. */
bool request_threads_start(const server *like, request_threads **out, char error[SERVE_ERROR_BYTES]);
/* Call it when the queues are empty. */
void request_threads_stop(request_threads *in);

/* Queues a request whose connection is suspended. One of the threads calls r->work(server of the thread, r), unless the
 * client has disconnected. If `work` returns true, the connection is resumed; otherwise someone else resumes it. */
void request_threads_submit(request_threads *in, http_request *r, bool large);

#endif
