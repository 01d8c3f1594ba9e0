/* Log-probabilities of given tokens and of the most probable tokens, from rows of logits.
 *
 * Rows are processed in groups, so that the logits of all rows never exist at the same time. */
#ifndef GENERATE_LOGPROBS_H
#define GENERATE_LOGPROBS_H

#include "graph/graph.h"
#include "model/model.h"

enum { LOGPROBS_MAX = 100 }; /* maximum of logprobs_row.top */

/* One row. out [1 + top]: the log-probability of `id`, then the `top` most probable tokens in descending order, the
 * lower id first among equals. The value of a token is the same number in both places. NAN if the row is not finite. */
typedef struct logprobs_row {
    int32_t id; /* -1: none; out[0] is NAN */
    int top;
    lckv_logprob *out;
} logprobs_row;

/* logits [vocab_size] host. */
void logprobs_of(const float *logits, int64_t vocab_size, const logprobs_row *row);

/* rows [count]. Row i belongs to row index[first + i] of `hidden`; index: i32 [rows, 1] on the device. Waits for the
 * device. */
int logprobs_read(const model *m, graph *g, tensor *hidden, view index, int64_t first, const logprobs_row *rows,
                  int64_t count);

#endif
