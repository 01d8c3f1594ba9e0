/* Internals of the batcher: batcher.c schedules sequences and handles results; batcher_forms.c starts sequences and
 * chooses how prompts are read; batcher_call.c builds the call of the decoder for a step. */
#ifndef GENERATE_BATCHER_CALL_H
#define GENERATE_BATCHER_CALL_H

#include "generate/batcher/batcher.h"
#include "generate/batcher/logprobs.h"
#include "generate/batcher/prefix_cache.h"
#include "generate/batcher/sampler.h"
#include "generate/costs/cost_table.h"
#include "graph/replay.h"
#include "model/batch.h"

/* A prompt token that a step scores. */
typedef struct call_score {
    sequence *sequence; /* NULL if it was removed meanwhile */
    int32_t id;
    lckv_logprob
        *top; /* result with top_logprobs: [1 + top_logprobs] the token and the most probable ones; else NULL */
} call_score;

/* The call of the decoder for one step. Steps that neither sample nor score nor end a prompt have no results: the host
 * does not wait for them. */
typedef struct batcher_call {
    batch_entry *entries; /* [count] */
    sequence **owner;     /* [count] sequence of each entry */
    int count;
    sequence **stepped; /* [stepped_count] the owners, and samples that wait for one of them */
    int stepped_count;
    bool ends_prompt;                /* some prompt is complete after this step */
    int64_t prompt_rows, exact_rows; /* exact_rows: of prompts that are read token by token */

    sampler_row *choices; /* [wanted] how the next tokens are sampled, in order of the entries */
    sequence **chooser;   /* [wanted] sequence of each; NULL if it was removed meanwhile */
    int32_t *ids;         /* [wanted] results */
    float *logprobs;      /* [wanted] results */
    int wanted;
    bool top;     /* a sampled token needs top_logprobs */
    int64_t mark; /* of the device: results are complete when it is reached */

    int32_t hidden_rows; /* rows of hidden states that the decoder returns: for sampling or for scoring */
    bool direct;         /* each of these rows is sampled once, and none is scored */
    int32_t *rows_of;    /* [index_capacity] indices of these rows: sampled ones first, then scored ones */
    int index_capacity;
    call_score *scores;         /* [scored] */
    int scored, to_score;       /* to_score: what `scored` will be after batcher_call_send() */
    bool score_top;             /* a scored token needs top_logprobs, which the host computes */
    lckv_logprob *score_values; /* of scores[i].top */
    int32_t *labels, *best;     /* [scored] of op_linear_cross_entropy, without score_top */
    float *nll;                 /* [scored] */
} batcher_call;

struct batcher {
    const model *model;
    batcher_options options;
    graph *graph;
    batch *batch;      /* of the current call, one of `batches` */
    batch *batches[2]; /* of decode steps, and of those with prompts, whose copy to the device is larger */
    kv_cache *cache;
    plan plan; /* with encoding_iterations */
    chunk_rules chunks;
    prefix_cache *prefix_cache; /* NULL: none */
    sampler *sampler;
    tensor *hidden, *logits; /* hidden states that the decoder returned; logits of the sampled rows. Valid until the
                                step ends; not set if the step was replayed. */
    view index;              /* i32 [rows, 1] rows_of on the device */
    view labels, nll, best;  /* [rows, 1] of scored rows: i32 ids, f32, i32 as in op_linear_cross_entropy */
    view one;                /* f32 [1, 1]: 1 */
    cost_table costs;        /* empty until costs_known */
    bool costs_known;        /* loaded or measured */
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
/* Whether the step has results that the host has to wait for. */
bool batcher_call_has_results(const batcher_call *call);
/* Whether batcher_call_send() waits for the results, so that no other step can be launched after it. */
bool batcher_call_is_blocking(const batcher_call *call);
/* Sends b->call to the device and counts its rows as cached. On failure nothing has changed. */
int batcher_call_send(batcher *b);
/* Waits for the results of a call: ids and log-probabilities. */
int batcher_call_receive(batcher *b, batcher_call *call);
/* Gives the scored tokens of a received call to their sequences. */
int batcher_call_take_scores(const batcher_call *call);
/* Discards the results for a sequence that is removed. */
void batcher_call_drop_sequence(batcher_call *call, const sequence *s);

/* ---------------------------------------------------------------- batcher_forms.c: how prompts are read */

/* The form of a prompt that is requested or follows from its length; AUTO: it has to be chosen. */
lckv_encoding batcher_fixed_form(const batcher *b, const sequence *s);
/* Chooses the form of the waiting prompts that can start now; at least that of the first one. */
int batcher_choose_forms(batcher *b);
/* Gives a group of samples its sequences in the KV cache and reserves their pages. *fits: whether there was room; if
 * not, nothing has changed. With `share`, the leader takes its cached prefix. */
int batcher_start_group(batcher *b, sequence *leader, bool share, bool *fits);
int batcher_group_size(const sequence *leader);
/* Whether a prompt can share its prefix: neither the plan nor RoPE depends on its whole length. */
bool batcher_can_share_prefix(const batcher *b, const sequence *s);

#endif
