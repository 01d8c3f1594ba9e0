/* Prefill: how a prompt enters the model. A prompt is split into chunks. Each chunk runs either by the plan, all tokens
 * in one call, or in the sequential form, one token per call.
 *
 * In a model with loops the result depends on where the prompt is split. Therefore the splits depend on the prompt
 * alone: chunks end at multiples of a fixed number of tokens. Other work in a step can delay a chunk but never changes
 * it. */
#ifndef GENERATE_PREFILL_H
#define GENERATE_PREFILL_H

#include "model/model.h"

typedef struct prefill_rules {
    int64_t chunk_tokens;  /* chunks end at multiples of this */
    int64_t window_length; /* of the sink cache; 0: no window. Tokens that do not fit into the first window run one at a
                              time, because only then does each token see what it would see in a stream. */
} prefill_rules;

/* Whether `tokens` tokens run in one call. Without loops both forms are exact, and one call is faster. With loops the
 * plan takes m + b iterations, so for at most m + b tokens the sequential form, which is exact, costs no more: auto
 * uses it. */
bool prefill_in_one_call(const model *m, lckv_encoding encoding, int64_t tokens);

/* Number of tokens that run next for a prompt of `count` tokens of which `cached` are in the KV cache. With
 * LCKV_ENCODING_PLAN the prompt is one chunk. */
int64_t prefill_next_rows(const model *m, lckv_encoding encoding, const prefill_rules *rules, int64_t count,
                          int64_t cached);

/* Checks the options of these names. */
int prefill_check(int encoding_iterations, double encoding_tolerance);

#endif
