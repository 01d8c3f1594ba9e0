/* How probable a continuation is after a context, as the harness asks a model (lm_eval/models/huggingface.py): both are
 * encoded, a context that is too long keeps its last tokens, and the answer is the sum of the log-probabilities of the
 * continuation's tokens, and whether each of them was the most probable one.
 *
 * Pairs are run many at a time, end to end in one batch. Leaves out: what is asked (questions.h), what answers are
 * worth (metrics.h). */
#ifndef EVAL_LOGLIKELIHOOD_H
#define EVAL_LOGLIKELIHOOD_H

#include "model/model.h"

typedef struct eval_answer {
    double loglikelihood;
    bool greedy;
} eval_answer;

/* An encoded pair: the last `continuation` of ids [count] are asked for. */
typedef struct eval_pair {
    int32_t *ids;
    int64_t count, continuation;
    eval_answer *answer; /* where it goes */
    float *nll;          /* [continuation] of each token; NULL where nobody asks */
} eval_pair;

/* Where a context ends in white space, that is encoded with the continuation; an empty one becomes the BOS token, or
 * the EOS token where there is none. Of more than max_length + 1 ids the last ones are kept. LCKV_ERROR_FORMAT: the
 * continuation has no tokens, or more than max_length. */
int eval_pair_encode(lckv_tokenizer *tokenizer, const char *context, const char *continuation, int64_t max_length,
                     eval_pair *out);
void eval_pair_free(eval_pair *pair);

typedef struct eval_scorer eval_scorer;

/* encoding: sequential takes the exact form; plan and auto the plan, which is exact too up to forward_passes +
 * backward_passes tokens. */
int eval_scorer_create(const model *m, dtype compute, lckv_encoding encoding, eval_scorer **out);
void eval_scorer_free(eval_scorer *s); /* NULL is fine */

/* All pairs in one call of the decoder. LCKV_ERROR_NUMERIC: an answer is not finite. */
int eval_scorer_run(eval_scorer *s, const eval_pair *pairs, int count);

#endif
