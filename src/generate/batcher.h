/* Runs many sequences together: each step is one call of the decoder over a part of every running sequence, a piece of
 * its prompt (encoding.h) or its newest token. A sequence joins when there is room and leaves when it ends, so their
 * lengths may differ as they like. What a sequence gets does not depend on its company, to rounding; with
 * batch_invariant to the bit.
 *
 * What sequences have in common lies in the cache once: samples of a prompt all of it, prompts with a common prefix its
 * whole pieces (prefixes.h).
 *
 * Leaves out: text and stop strings (text_stream.h), requests (engine.c). */
#ifndef GENERATE_BATCHER_H
#define GENERATE_BATCHER_H

#include "generate/sequence.h"
#include "model/kv_cache.h"

typedef struct batcher_options {
    dtype compute;                /* DTYPE_F32 or DTYPE_BF16 */
    int64_t window_length, sinks; /* of the sink cache; 0: everything is kept */
    int sequences;                /* most that run together; others wait */
    int64_t step_tokens; /* pieces of prompts enter a step until they have so many tokens, one always; 0: 2048, on a GPU
                            8192 */
    int64_t piece_tokens;      /* see encoding.h; 0: 64 */
    int encoding_iterations;   /* of a loop, for a piece by the plan; 0: the model's m + b */
    double encoding_tolerance; /* see batch.h; 0: all of them */
    bool batch_invariant;
    int64_t rows;        /* tokens that the cache has room for to begin with; it grows */
    size_t cache_bytes;  /* > 0: the cache has so much from the beginning, and no more; rows is not read then */
    bool keeps_prefixes; /* for prompts to come; with cache_bytes alone */
    int ahead;           /* 1: a step is sent to the device before the results of the one in front are there; -1: never;
                            0 (default): where the device works by itself */
} batcher_options;

/* Seconds spent, and tokens got by them. A step in which any part of a prompt is read is prompt time. */
typedef struct batcher_timing {
    double prompt_seconds, decode_seconds;
    int64_t prompt_tokens, decode_tokens;
    double decode_bytes; /* of weights */
} batcher_timing;

typedef struct batcher batcher;

int batcher_create(const model *m, const batcher_options *options, batcher **out);
void batcher_free(batcher *b); /* sequences stay the caller's; NULL is fine */

/* `s` and those that follow it (a prompt's samples) stay the caller's and must live until they have ended or
 * batcher_remove(). They wait until there is room in the cache for all that they may come to, and begin together;
 * LCKV_ERROR_TOO_LONG where there never will be. */
int batcher_add(batcher *b, sequence *s);
/* Takes a sequence out, running or waiting, and gives its cache back; one that has ended is left alone. A leader whose
 * prompt is not read yet goes with all that follow it. */
void batcher_remove(batcher *b, sequence *s);

bool batcher_idle(const batcher *b); /* no sequence runs or waits */

/* One step's results. Sequences that got a token are `fresh`; those that ended have their `finish`. The next step may
 * be under way when it returns; what that one makes for a sequence which has ended or is taken out is thrown away. */
int batcher_step(batcher *b);

batcher_timing batcher_times(const batcher *b);
int64_t batcher_cache_bytes(const batcher *b); /* device memory that the KV cache holds */
kv_cache_usage batcher_cache_usage(const batcher *b);
int64_t batcher_cache_used_by_slot(const batcher *b, int slot); /* bytes */
int batcher_running(const batcher *b);                          /* sequences */
int batcher_waiting(const batcher *b);
/* The sequences of the last step. Those that got a token or ended are `fresh`. */
sequence *const *batcher_stepped(const batcher *b, int *count);

#endif
