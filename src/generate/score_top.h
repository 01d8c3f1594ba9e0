/* The most probable ids of a row of logits, with their log-probabilities. */
#ifndef GENERATE_SCORE_TOP_H
#define GENERATE_SCORE_TOP_H

#include <stdint.h>

/* ids, values [count]: descending; of equal logits the lower id first. count <= vocab_size. Formed in f64, rounded
 * once. */
void score_top(const float *logits, int64_t vocab_size, int64_t count, int32_t *ids, float *values);

#endif
