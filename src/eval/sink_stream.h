/* Perplexity of a text of any length, token by token through the sink cache (StreamingLLM, Xiao et al. 2024): each
 * token attends to the first `sinks` tokens and the most recent ones, and memory is constant. */
#ifndef EVAL_SINK_STREAM_H
#define EVAL_SINK_STREAM_H

#include "model/model.h"

typedef struct sink_stream_options {
    dtype compute;                /* DTYPE_F32 or DTYPE_BF16. */
    dtype kv_type;                /* Of the cache; DTYPE_F32: `compute`. */
    int64_t window_length, sinks; /* Tokens in the cache; how many of them are the first ones. */
    int64_t start; /* Position of the first token after the sinks, as if that many tokens had been read before. */
} sink_stream_options;

typedef struct sink_stream sink_stream;

int sink_stream_create(const model *m, const sink_stream_options *options, sink_stream **out);
void sink_stream_free(sink_stream *s); /* accepts NULL */

/* Reads `id`. *nll: negative log-likelihood of `next` after it, in nats. logits [vocab_size] host f32; NULL: not
 * wanted. Ids out of range are LCKV_ERROR_ARGUMENT, a result that is not finite is LCKV_ERROR_NUMERIC. */
int sink_stream_step(sink_stream *s, int32_t id, int32_t next, double *nll, float *logits);

/* Device memory of the cache. */
int64_t sink_stream_cache_bytes(const sink_stream *s);

#endif
