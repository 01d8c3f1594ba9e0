/* How a prompt enters a model: in pieces, each by the plan, many tokens at once, or one token at a time (DESIGN section
 * 1, "the auto rule").
 *
 * In a model with loops the result depends on where a prompt is cut. So the cuts are a function of the prompt alone:
 * they stand at multiples of a fixed number of tokens from its beginning, and what else there is to do in a step delays
 * pieces but never cuts them. */
#ifndef GENERATE_ENCODING_H
#define GENERATE_ENCODING_H

#include "model/model.h"

typedef struct encoding_rules {
    int64_t piece_tokens;  /* a piece ends at a multiple of this */
    int64_t window_length; /* of the sink cache, 0: none. What does not fit into the first window enters one at a time:
                              only then does each token see what it would see in a stream */
} encoding_rules;

/* Whether `tokens` tokens enter in one call. In a model without loops both ways are exact, and one call is faster. In
 * one with loops the plan is exact from m + b tokens on down, so that there is nothing to win by it: auto takes the
 * exact form there. */
bool encoding_in_one_call(const model *m, lckv_encoding encoding, int64_t tokens);

/* How many tokens of a prompt of `count` go next when `cached` of them are there. LCKV_ENCODING_PLAN is one piece. */
int64_t encoding_next(const model *m, lckv_encoding encoding, const encoding_rules *rules, int64_t count,
                      int64_t cached);

#endif
