/* Scoring: log-probabilities (and logits) of given ids. Nothing is sampled. */
#ifndef GENERATE_SCORE_H
#define GENERATE_SCORE_H

#include "model/batch.h"

typedef struct score_options {
    dtype compute; /* DTYPE_F32 or DTYPE_BF16. */
    dtype kv_type; /* Of keys and values; DTYPE_F32: `compute`. */
    lckv_encoding encoding;
    int iterations;   /* Iterations of a loop by the plan; 0: the model's m + b. */
    double tolerance; /* As in batch.h; 0: all iterations run. */
    int64_t window_length,
        sinks;                /* Window and sinks of the sink cache, which runs token by token; 0: keep all tokens. */
    int64_t top;              /* Number of most probable ids per position; 0: none. */
    int32_t *top_ids;         /* [count, top] most probable ids after each id. */
    float *top_values;        /* [count, top] their log-probabilities, consistent with `logprobs`. */
    const layer_watch *watch; /* Receives what layers compute; NULL: none. */
    bool (*go_on)(void *user,
                  double fraction); /* Polled between tokens in the sequential form; false: stop. NULL: none. */
    void *user;
} score_options;

/* logprobs [count - 1] host: of ids[1] to ids[count - 1], each given all ids before it. logits [count, vocab_size] host
 * f32; NULL: not wanted, and then only some of the rows' logits exist at a time. `count` must be 1 to INT32_MAX / 2. A
 * result that is not finite is LCKV_ERROR_NUMERIC. */
int score_ids(const model *m, const int32_t *ids, int64_t count, const score_options *options, float *logprobs,
              float *logits);

#endif
