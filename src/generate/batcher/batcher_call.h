/* Internals of the batcher: batcher.c schedules sequences and handles results; batcher_call.c builds the call of the
 * decoder for a step. */
#ifndef GENERATE_BATCHER_CALL_H
#define GENERATE_BATCHER_CALL_H

#include "generate/batcher/batcher.h"
#include "generate/batcher/logprobs.h"
#include "generate/batcher/prefix_cache.h"
#include "generate/batcher/sampler.h"
#include "graph/replay.h"
#include "model/batch.h"

/* The call of the decoder for one step. */
typedef struct batcher_call {
    batch_entry *entries; /* [count] */
    sequence **owner;     /* [count] sequence of each entry */
    int count;
    sequence **stepped; /* [stepped_count] the owners, and samples that wait for one of them */
    int stepped_count;
    int64_t prompt_rows;

    sampler_row *choices; /* [wanted] how the next tokens are sampled, in order of the entries */
    sequence **chooser;   /* [wanted] sequence of each; NULL if it was removed meanwhile */
    int32_t *ids;         /* [wanted] results */
    float *logprobs;      /* [wanted] results */
    int wanted;
    bool top;     /* a sampled token needs top_logprobs */
    int64_t mark; /* of the device: results are complete when it is reached */

    int32_t hidden_rows;  /* rows of hidden states that the decoder returns: for sampling or for scoring */
    bool direct;          /* each of these rows is sampled once, and none is scored */
    int32_t *rows_of;     /* [index_capacity] indices of these rows: sampled ones first, then scored ones */
    logprobs_row *scores; /* [index_capacity] the scored ones */
    int scored, index_capacity;
} batcher_call;

struct batcher {
    const model *model;
    batcher_options options;
    graph *graph;
    batch *batch;
    kv_cache *cache;
    plan plan;                  /* with encoding_iterations */
    prefix_cache *prefix_cache; /* NULL: none */
    sampler *sampler;
    tensor *hidden, *logits; /* hidden states that the decoder returned; logits of the sampled rows. Valid until the
                                step ends; not set if the step was replayed. */
    view index;              /* i32 [index_capacity, 1] rows_of on the device */
    float *top_logits;       /* [top_rows, vocab_size] logits of some rows, for top_logprobs */
    int top_rows;
    sequence **queue; /* [queued] running ones first, then waiting ones, each in order of arrival */
    int running, queued, capacity;
    uint64_t serials;
    batcher_call calls[2], *call, *last; /* step n uses calls[n % 2]. call: being built; last: the latest one with known
                                            results, NULL before the first */
    int64_t launched, finished;          /* steps; at most two are in progress */
    bool overlap;
    replay_set decoding, prefill; /* recorded steps of one row per sequence, and of one prompt */
    batcher_timing timing;
    double weight_bytes; /* that a step reads */
};

int batcher_call_make(batcher_call *s, int sequences);
void batcher_call_free(batcher_call *s);

/* Builds b->call from the running sequences with `rows`. */
void batcher_call_fill(batcher *b);
/* Whether b->call can be launched before the results of the previous step are known. */
bool batcher_call_can_overlap(const batcher *b);
/* Whether batcher_call_send() waits for the results, so that no other step can be launched after it. */
bool batcher_call_is_blocking(const batcher_call *call);
/* Sends b->call to the device and counts its rows as cached. On failure nothing has changed. */
int batcher_call_send(batcher *b);
/* Waits for the results of a call: ids and log-probabilities. */
int batcher_call_receive(batcher *b, batcher_call *call);
/* Discards the results for a sequence that is removed. */
void batcher_call_drop_sequence(batcher_call *call, const sequence *s);

#endif
