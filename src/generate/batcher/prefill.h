/* Prefill: how a prompt enters the model. A prompt is split into chunks (chunks.h). Each chunk runs either by the plan,
 * all tokens in one call, or in the sequential form, one token per call.
 *
 * In a model with loops the result depends on where the prompt is split. Therefore the splits depend on the prompt
 * alone. Other work in a step can delay a chunk but never changes it. */
#ifndef GENERATE_PREFILL_H
#define GENERATE_PREFILL_H

#include "generate/chunks.h"
#include "model/model.h"

/* Tokens of the largest chunk by default, and of the smallest one (chunks.h). */
enum { PREFILL_CHUNK_TOKENS = 256, PREFILL_GPU_CHUNK_TOKENS = 1024, PREFILL_SMALLEST_CHUNK = 32 };

/* Whether `tokens` tokens run in one call. Without loops both forms are exact, and one call is faster. With loops the
 * plan takes m + b iterations, so for at most m + b tokens the sequential form, which is exact, costs no more: auto
 * uses it. */
bool prefill_in_one_call(const model *m, lckv_encoding encoding, int64_t tokens);

/* Number of tokens that run next for a prompt of `count` tokens of which `cached` are in the KV cache. With
 * LCKV_ENCODING_PLAN the prompt is one chunk. */
int64_t prefill_next_rows(const model *m, lckv_encoding encoding, const chunk_rules *rules, int64_t count,
                          int64_t cached);

/* Checks the options of these names. */
int prefill_check(int encoding_iterations, double encoding_tolerance);

#endif
