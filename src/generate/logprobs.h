/* Log-probabilities of tokens and of the most probable ones, from rows of logits.
 *
 * Rows are read a few at a time, so that there is never a table of all of them. Leaves out: which rows (batcher.c). */
#ifndef GENERATE_LOGPROBS_H
#define GENERATE_LOGPROBS_H

#include "graph/graph.h"
#include "model/model.h"

enum { LOGPROBS_MOST = 100 }; /* top ones of a row */

/* A row that is asked for: `out` [1 + top] gets the token's own and then the `top` most probable ones, the larger
 * first, and of equal ones the lower id. A token's value is the same number in both places. Where the row is not finite
 * they are NaN. */
typedef struct logprobs_row {
    int32_t id; /* -1: its own is not asked for */
    int top;
    lckv_logprob *out;
} logprobs_row;

/* `logits` [vocab_size] host. */
void logprobs_of(const float *logits, int64_t vocab_size, const logprobs_row *row);

/* The rows [first, first + count) of `index`, i32 [rows, 1] on the device, name rows of `hidden`. Waits for the device.
 */
int logprobs_read(const model *m, graph *g, tensor *hidden, view index, int64_t first, const logprobs_row *rows,
                  int64_t count);

#endif
