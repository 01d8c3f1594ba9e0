/* Log-likelihoods in the exact form: many pairs run in lockstep through the batcher, one token of each per step. The
 * log-probability of each continuation token is computed on the device, and nothing else for the other tokens. Pairs
 * that start with the same tokens share them. */
#ifndef EVAL_LOCKSTEP_SCORER_H
#define EVAL_LOCKSTEP_SCORER_H

#include "eval/loglikelihood.h"

typedef struct lockstep_scorer lockstep_scorer;

/* `kv_type`: as in batcher_options. `costs`: file of cost tables, as in batcher_options; NULL: none. It has to
 * outlive the scorer. */
int lockstep_scorer_create(const model *m, dtype compute, dtype kv_type, const char *costs, lockstep_scorer **out);
void lockstep_scorer_free(lockstep_scorer *s); /* accepts NULL */

/* As eval_scorer_run(). */
int lockstep_scorer_run(lockstep_scorer *s, const eval_pair *pairs, int count, const eval_progress *progress);

/* Whether this is faster for pairs [count] than one call of the plan for some of them at a time, by the cost table. */
int lockstep_scorer_is_faster(lockstep_scorer *s, const eval_pair *pairs, int count, bool *faster);

#endif
