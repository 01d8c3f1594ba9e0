/* The most probable ids of a row of logits, with their log-probabilities. */
#ifndef GENERATE_SCORE_TOP_H
#define GENERATE_SCORE_TOP_H

#include <stdint.h>

/* ids, values [count]: in descending order, the lower id first among equal logits. count <= vocab_size. Computed in
 * f64, rounded once. */
void score_top(const float *logits, int64_t vocab_size, int64_t count, int32_t *ids, float *values);

#endif
