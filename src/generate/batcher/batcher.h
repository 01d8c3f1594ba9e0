/* Continuous batching: each step is one call of the decoder for all running sequences, with a prefill chunk (prefill.h)
 * or one token of each. A sequence joins when the KV cache has room and leaves when it ends. Its result does not
 * depend on the other sequences, up to rounding; with batch_invariant, bit for bit.
 *
 * Lockstep: a prompt that is read token by token takes one row of each step, like a sequence that decodes. Many such
 * prompts together are cheap, and exact. Their next tokens are known, so that no logits are computed before the last
 * one, and a step with nothing but such rows has no result to wait for. With `choose`, the form of a prompt in a model
 * with loops is chosen once, when it starts (encoding_choice.h), and then does depend on the other prompts.
 *
 * KV is shared: samples of one prompt share its prefill, and prompts with a common prefix share chunks of it
 * (prefix_cache.h). Text and stop strings are in text_stream.h, requests in engine.c. */
#ifndef GENERATE_BATCHER_H
#define GENERATE_BATCHER_H

#include "generate/batcher/sequence.h"
#include "generate/costs/cost_table.h"
#include "model/cache/kv_cache.h"

typedef struct batcher_options {
    dtype compute;                /* DTYPE_F32 or DTYPE_BF16. */
    dtype kv_type;                /* Of the KV cache (kv_cache_choose_type()); DTYPE_F32 (default): `compute`. */
    int64_t window_length, sinks; /* Window and sinks of the sink cache; 0: keep all tokens. */
    int sequences;                /* Maximum number of running sequences; others wait. */
    int64_t step_tokens;          /* Maximum number of prompt tokens per step, but at least one chunk; 0: 2048, on a GPU
                                     8192. */
    int64_t chunk_tokens;         /* Tokens of the largest prefill chunk (chunks.h), at most step_tokens; 0:
                                     PREFILL_CHUNK_TOKENS or PREFILL_GPU_CHUNK_TOKENS. */
    int encoding_iterations;      /* Iterations of a loop when a chunk runs by the plan; 0: the model's m + b. */
    double encoding_tolerance;    /* Relative change at which the iterations of a chunk stop (batch.h); 0: never. */
    bool batch_invariant;
    int64_t rows;       /* Initial size of the KV cache, in tokens; it grows. Ignored with cache_bytes. */
    size_t cache_bytes; /* Fixed size of the KV cache; 0: it grows. */
    bool keep_prefixes; /* Keep a prefix cache; requires cache_bytes. */
    int overlap;        /* 1: launch a step before the results of the previous one are known; -1: never; 0 (default): if
                           the device runs asynchronously. */
    bool choose;        /* Choose between lockstep and the plan for prompts with LCKV_ENCODING_AUTO; false: the
                                   plan. Not with batch_invariant, encoding_tolerance or a sink cache. */
    const char *cost_table;     /* File of cost tables to load from and to add to, owned by the caller; NULL: costs are
                                   measured and not kept. */
    double first_token_seconds; /* Limits of the choice (choice_limits); 0: none, and that of the plan. */
    double between_tokens_seconds;
} batcher_options;

/* Time and tokens so far. A step that runs any prompt token counts as prefill. */
typedef struct batcher_timing {
    double prompt_seconds, decode_seconds;
    int64_t prompt_tokens, decode_tokens;
    int64_t exact_tokens; /* of prompt_tokens, those that were read token by token */
    double decode_bytes;  /* bytes of weights that decode steps read */
} batcher_timing;

typedef struct batcher batcher;

int batcher_create(const model *m, const batcher_options *options, batcher **out);
void batcher_free(batcher *b); /* does not free sequences; accepts NULL */

/* Queues `s` and the samples linked to it by next_sample. The caller owns them; they must live until they have ended or
 * were removed. They start together, when the KV cache has room for their maximum length. Returns LCKV_ERROR_TOO_LONG
 * if the whole KV cache is too small. */
int batcher_add(batcher *b, sequence *s);
/* Removes a running or waiting sequence and frees its KV pages. Does nothing if it has ended. If its prompt is still
 * being read, the samples that wait for it are removed, too. */
void batcher_remove(batcher *b, sequence *s);

bool batcher_idle(const batcher *b); /* no sequence is running or waiting */

/* Runs one step. Sequences that got a token or ended are marked `updated`; those that ended have a `finish`. On return
 * the next step may already be running; its results for sequences that have ended or are removed are discarded. */
int batcher_step(batcher *b);

/* The cost table of the batcher's model and options; loaded or measured if it is not known yet. Empty for models that
 * have no choice. */
int batcher_costs(batcher *b, const cost_table **out);

batcher_timing batcher_times(const batcher *b);
int64_t batcher_cache_bytes(const batcher *b); /* device memory of the KV cache */
kv_cache_usage batcher_cache_usage(const batcher *b);
int64_t batcher_cache_used_by_slot(const batcher *b, int slot); /* bytes */
int batcher_running(const batcher *b);                          /* sequences */
int batcher_waiting(const batcher *b);                          /* sequences */
/* The sequences of the last step: [*count]. */
sequence *const *batcher_stepped(const batcher *b, int *count);

#endif
