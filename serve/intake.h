/* Work on requests that takes longer than HTTP may wait: parsing, rendering templates, tokenizing, writing whole
 * answers as JSON.
 *
 * Two threads, one for small requests and one for large ones, so that small ones never wait for large ones. Each has a
 * queue, works in the order of coming, and has a tokenizer and a chat template of its own. The queues are bounded by
 * the number of connections, of which each has one request at a time. */
#ifndef SERVE_INTAKE_H
#define SERVE_INTAKE_H

#include "server.h"

typedef struct intake intake;

/* `like`: a server whose tokenizer and chat template are opened again for each thread. False with a sentence in
 * `error`. */
bool intake_start(const server *like, intake **out, char error[SERVE_ERROR_BYTES]);
/* When nothing waits. */
void intake_stop(intake *in);

/* v->work(lane's server, v) is called on one of the threads, unless the client has gone by then. It returns whether the
 * connection, which must be on hold, goes on; else somebody else ends the hold. */
void intake_post(intake *in, visit *v, bool large);

#endif
