/* Log-probabilities (and logits) of given ids: the model reads them, nothing is chosen. */
#ifndef GENERATE_SCORE_H
#define GENERATE_SCORE_H

#include "model/batch.h"

typedef struct score_options {
    dtype compute; /* DTYPE_F32 or DTYPE_BF16 */
    lckv_encoding encoding;
    int64_t window_length, sinks; /* of the sink cache, and then token by token; 0: everything is kept */
    int64_t top;                  /* so many of the most probable ids of each place are told; 0: none */
    int32_t *top_ids;             /* [count, top] of what follows each id */
    float *top_values;        /* their log-probabilities; that of an id that follows is the same number in `logprobs` */
    const layer_watch *watch; /* told of what layers make; NULL: nobody */
    bool (*go_on)(void *user,
                  double fraction); /* asked between tokens where they are read one at a time; NULL: always */
    void *user;
} score_options;

/* logprobs [count - 1] host: of ids[1] to ids[count - 1], each given all before it. logits [count, vocab_size] host
 * f32, NULL where nobody asks: then never more than a part of the rows' logits exists. 1 to INT32_MAX ids, checked
 * here. A result that is not finite is LCKV_ERROR_NUMERIC. */
int score_ids(const model *m, const int32_t *ids, int64_t count, const score_options *options, float *logprobs,
              float *logits);

#endif
