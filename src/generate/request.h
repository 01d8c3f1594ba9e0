/* A request of the engine: its samples, each with a sequence and its text. */
#ifndef GENERATE_REQUEST_H
#define GENERATE_REQUEST_H

#include "generate/batcher/sequence.h"
#include "generate/text_stream.h"

typedef struct request_sample {
    struct request *request;
    sequence *sequence;
    text_stream text; /* unused without a tokenizer */
} request_sample;

typedef struct request {
    uint64_t id;
    void *mark;                /* user data of the caller, returned with each event */
    lckv_tokenizer *tokenizer; /* NULL: no text */
    char **stops;              /* [stop_count] */
    int stop_count;
    request_sample *samples; /* [n] */
    int n, left;             /* left: samples that have not ended */
} request;

/* Checks the ranges of all options; LCKV_ERROR_ARGUMENT otherwise. */
int request_check(const lckv_request *options, const lckv_tokenizer *tokenizer, int64_t vocab_size);

/* `options` are checked before, and are copied. `max_count`: maximum length of a sample, including the prompt. */
int request_create(const lckv_request *options, lckv_tokenizer *tokenizer, int64_t vocab_size, int64_t max_count,
                   request **out);
void request_free(request *r); /* accepts NULL */

#endif
