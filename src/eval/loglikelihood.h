/* Log-likelihood of a continuation after a context, as lm-evaluation-harness computes it
 * (lm_eval/models/huggingface.py): both are encoded; if they are too long, the last tokens are kept; the answer is the
 * sum of the log-probabilities of the continuation's tokens, and whether each of them was the most probable one.
 *
 * Many pairs run in one batch. questions.h makes the pairs, task_metrics.h rates the answers. */
#ifndef EVAL_LOGLIKELIHOOD_H
#define EVAL_LOGLIKELIHOOD_H

#include "model/model.h"

typedef struct eval_answer {
    double loglikelihood;
    bool greedy;
} eval_answer;

/* An encoded pair: the continuation is the last `continuation` of ids [count]. */
typedef struct eval_pair {
    int32_t *ids;
    int64_t count, continuation;
    eval_answer *answer; /* receives the result */
    float *nll;          /* [continuation] receives that of each token; NULL: not wanted */
} eval_pair;

/* White space at the end of the context is encoded with the continuation. An empty context becomes the BOS token, or
 * the EOS token if there is none. Of more than max_length + 1 ids the last ones are kept. LCKV_ERROR_FORMAT: the
 * continuation has no tokens, or more than max_length. */
int eval_pair_encode(lckv_tokenizer *tokenizer, const char *context, const char *continuation, int64_t max_length,
                     eval_pair *out);
void eval_pair_free(eval_pair *pair);

typedef struct eval_scorer eval_scorer;

/* Called after each step with the number of pairs that have their answer. A negative status ends the run. */
typedef struct eval_progress {
    int (*report)(void *user, int answered);
    void *user;
} eval_progress;

/* kv_type: of keys and values; DTYPE_F32: `compute`. encoding: in models with loops LCKV_ENCODING_SEQUENTIAL uses
 * the exact form (lockstep_scorer.h). Plan and auto use the plan, which is exact, too, for at most forward_passes +
 * backward_passes tokens. */
int eval_scorer_create(const model *m, dtype compute, dtype kv_type, lckv_encoding encoding, eval_scorer **out);
void eval_scorer_free(eval_scorer *s); /* accepts NULL */

/* Runs all pairs: by the plan in one call of the decoder, in the exact form in many, which `progress` (may be NULL)
 * reports. LCKV_ERROR_NUMERIC: an answer is not finite. */
int eval_scorer_run(eval_scorer *s, const eval_pair *pairs, int count, const eval_progress *progress);

#endif
