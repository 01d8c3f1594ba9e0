/* Bodies of requests: how much of them is held in memory, and what parsing them may take.
 *
 * Bodies of more than BODY_SMALL bytes share a budget; smaller ones are bounded by the number of connections. JSON of
 * few bytes can take much memory once it is parsed ("[],[],[]..."), so that is estimated before. */
#ifndef SERVE_BODY_H
#define SERVE_BODY_H

#include "bytes.h"

#include <stdint.h>

enum { BODY_SMALL = 65536, BODY_VALUES_FACTOR = 16 };

typedef struct body_budget {
    int64_t most_body; /* bytes of a body */
    int64_t most_all;  /* bytes of all */
    _Atomic int64_t held;
} body_budget;

typedef enum body_problem {
    BODY_FINE,
    BODY_TOO_LARGE,
    BODY_NO_ROOM,         /* The other bodies take all of the budget. */
    BODY_NO_MEMORY,       /* There is none to hold or to parse it. */
    BODY_TOO_MANY_VALUES, /* Of a large body: parsed, it would take more than BODY_VALUES_FACTOR * most_body bytes. */
} body_problem;

typedef struct body_count {
    int64_t announced; /* bytes of Content-Length; -1: unknown */
    int64_t counted;   /* bytes of the budget that this body has */
    body_problem problem;
} body_count;

/* Whether a body of `announced` bytes (-1: unknown) can be taken now. */
body_problem body_begin(const body_budget *b, int64_t announced);

/* Appends to `to`; after a problem, which `c` keeps, the body is dropped, and so is what comes. */
void body_add(body_budget *b, body_count *c, bytes *to, const char *data, size_t size);
void body_drop(body_budget *b, body_count *c, bytes *body);

/* Whether it can be parsed as JSON. */
body_problem body_check(const body_budget *b, const bytes *body);

#endif
