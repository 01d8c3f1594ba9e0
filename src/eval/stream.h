/* A text without end, token by token through the sink cache (StreamingLLM, Xiao et al. 2024): each token sees the first
 * `sinks` tokens and the most recent ones, and memory stays as it is. */
#ifndef EVAL_STREAM_H
#define EVAL_STREAM_H

#include "model/model.h"

typedef struct eval_stream_options {
    dtype compute;                /* DTYPE_F32 or DTYPE_BF16 */
    int64_t window_length, sinks; /* tokens that are kept, and how many of them are the first ones */
    int64_t start; /* the first token behind the sinks stands so far on, as if so many tokens had come and gone */
} eval_stream_options;

typedef struct eval_stream eval_stream;

int eval_stream_create(const model *m, const eval_stream_options *options, eval_stream **out);
void eval_stream_free(eval_stream *s); /* NULL is fine */

/* Reads `id` and says how improbable `next` is after it: *nll in nats. logits [vocab_size] host f32, NULL where nobody
 * asks. Ids out of range are LCKV_ERROR_ARGUMENT, a result that is not finite LCKV_ERROR_NUMERIC. */
int eval_stream_step(eval_stream *s, int32_t id, int32_t next, double *nll, float *logits);

/* Device memory of the cache. */
int64_t eval_stream_cache_bytes(const eval_stream *s);

#endif
