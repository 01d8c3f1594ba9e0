/* The batcher's inside, for its two files: batcher.c decides who goes in a step and what becomes of them,
 * batcher_call.c makes a call of the decoder out of that. */
#ifndef GENERATE_BATCHER_CALL_H
#define GENERATE_BATCHER_CALL_H

#include "generate/batcher.h"
#include "generate/logprobs.h"
#include "generate/prefixes.h"
#include "generate/sampler.h"
#include "graph/replay.h"
#include "model/batch.h"

/* What a step needs for each of its sequences, in the order of the batch's entries. */
typedef struct batcher_call {
    batch_entry *entries;
    sequence **owner; /* of entry i */
    int count;
    sequence **stepped; /* all of them, and those that follow one whose prompt was read */
    int stepped_count;
    int64_t prompt_rows;

    sampler_row *choices; /* of the rows whose next token is chosen, in order of entries */
    sequence **chooser;
    int32_t *ids;
    float *logprobs;
    int wanted;
    bool top;     /* one of them tells the most probable tokens */
    int64_t mark; /* of the device: results are there once it is reached */

    int32_t hidden_rows;  /* that the decoder hands out: those in which a token is chosen, and those that are scored */
    bool direct;          /* in each of them one token is chosen, and nothing is scored */
    int32_t *rows_of;     /* [index_capacity] which of them: first the ones in which a token is chosen */
    logprobs_row *scores; /* [index_capacity] of the scored ones */
    int scored, index_capacity;
} batcher_call;

struct batcher {
    const model *model;
    batcher_options options;
    graph *graph;
    batch *batch;
    kv_cache *cache;
    plan plan;          /* with encoding_iterations */
    prefixes *prefixes; /* NULL: none are kept */
    sampler *sampler;
    tensor *hidden, *logits; /* rows that the decoder handed out; of those in which a token is chosen. Until the step
                                ends, and not where it was replayed */
    view index;              /* i32 [index_capacity, 1] rows_of, on the device */
    float *row;              /* [vocab_size] one row of logits, for the most probable tokens */
    sequence **queue;        /* running ones first, then those that wait, each in order of arrival */
    int running, queued, capacity;
    uint64_t serials;
    batcher_call calls[2], *call, *done; /* step n is in calls[n % 2]; the one that is being made, and the
                                            last whose results are known, NULL before the first */
    int64_t begun, ended;                /* steps; at most two are under way */
    bool ahead;
    replay_set decoding;
    batcher_timing timing;
    double weight_bytes; /* that a step reads */
};

int batcher_call_make(batcher_call *s, int sequences);
void batcher_call_free(batcher_call *s);

/* The call of a step: its sequences are those that run and have `rows`. */
void batcher_call_fill(batcher *b);
/* Whether it can be sent while the results of the one in front are not known. */
bool batcher_call_goes_ahead(const batcher *b);
/* Whether its results are read before batcher_call_send() returns, so that nothing may be sent behind it yet. */
bool batcher_call_waits(const batcher_call *call);
/* Sends it to the device; its rows count as cached. On failure nothing has changed. */
int batcher_call_send(batcher *b);
/* Waits for it: chosen ids and what is told of them are in the call. */
int batcher_call_receive(batcher *b, batcher_call *call);
/* A sequence that is no more is told nothing. */
void batcher_call_forget(batcher_call *call, const sequence *s);

#endif
