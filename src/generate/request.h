/* A request as the engine keeps it: its samples, each a sequence and its text.
 *
 * Leaves out: what runs when (batcher.h), who is told (engine.c). */
#ifndef GENERATE_REQUEST_H
#define GENERATE_REQUEST_H

#include "generate/sequence.h"
#include "generate/text_stream.h"

typedef struct request_sample {
    struct request *request;
    sequence *sequence;
    text_stream text; /* unused without a tokenizer */
} request_sample;

typedef struct request {
    uint64_t id;
    void *mark;                /* the caller's */
    lckv_tokenizer *tokenizer; /* NULL: no text */
    char **stops;              /* [stop_count] */
    int stop_count;
    request_sample *samples; /* [n] */
    int n, left;             /* `left` have not ended */
} request;

/* Options are in their ranges, LCKV_ERROR_ARGUMENT otherwise. */
int request_check(const lckv_request *asked, const lckv_tokenizer *tokenizer, int64_t vocab_size);

/* `most`: tokens that a sample may come to. What was asked has been checked, and is copied. */
int request_create(const lckv_request *asked, lckv_tokenizer *tokenizer, int64_t vocab_size, int64_t most,
                   request **out);
void request_free(request *r); /* NULL is fine */

#endif
