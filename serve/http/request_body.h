/* Request bodies: limits on the memory that they take, before and after parsing.
 *
 * Bodies of more than BODY_SMALL bytes share a budget. Smaller bodies are bounded by the number of connections. A short
 * JSON text can take much memory when parsed ("[],[],[]..."), so that size is estimated before parsing. */
#ifndef SERVE_REQUEST_BODY_H
#define SERVE_REQUEST_BODY_H

#include "serve/endpoints/bytes.h"

#include <stdint.h>

enum { BODY_SMALL = 65536, BODY_VALUES_FACTOR = 16 };

typedef struct body_budget {
    int64_t max_body;  /* bytes of one body */
    int64_t max_total; /* bytes of all large bodies */
    _Atomic int64_t in_use;
} body_budget;

typedef enum body_status {
    BODY_OK,
    BODY_TOO_LARGE,
    BODY_BUDGET_FULL,     /* Other bodies take the whole budget. */
    BODY_NO_MEMORY,       /* Memory to hold or to parse the body is not available. */
    BODY_TOO_MANY_VALUES, /* A large body that would take more than BODY_VALUES_FACTOR * max_body bytes when parsed. */
} body_status;

typedef struct body_state {
    int64_t content_length; /* bytes; -1: unknown */
    int64_t reserved;       /* bytes of the budget that this body takes */
    body_status status;
} body_state;

/* Whether a body of `content_length` bytes (-1: unknown) can be received now. */
body_status body_check_length(const body_budget *b, int64_t content_length);

/* Appends to `to`. On an error, sets c->status and frees the body; later calls do nothing. */
void body_append(body_budget *b, body_state *c, bytes *to, const char *data, size_t size);
void body_free(body_budget *b, body_state *c, bytes *body);

/* Whether the body can be parsed as JSON with the memory that is available. */
body_status body_check_parse(const body_budget *b, const bytes *body);

#endif
