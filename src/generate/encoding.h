/* How given tokens enter a model: by the plan, many at once, or one at a time (DESIGN section 1, "the auto rule"). */
#ifndef GENERATE_ENCODING_H
#define GENERATE_ENCODING_H

#include "model/model.h"

/* Whether `tokens` tokens that begin a sequence enter in one call. In a model without loops both ways are exact, and
 * one call is faster. In one with loops the plan is exact from m + b tokens on down, so that there is nothing to win
 * by it: auto takes the exact form there. */
bool encoding_in_one_call(const model *m, lckv_encoding encoding, int64_t tokens);

#endif
