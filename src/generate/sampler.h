/* Chooses tokens: tells the device's sample op how for each row, and brings the chosen ids back.
 *
 * The choice itself is op_sample (device.h). Leaves out: sequences, and what is done with a token. */
#ifndef GENERATE_SAMPLER_H
#define GENERATE_SAMPLER_H

#include "device/device.h"

/* One row of logits. */
typedef struct sampler_row {
    sample_row how;
    const uint8_t *seen; /* [vocab_size] host, 1 for ids that the penalty falls on; not read without a penalty */
    const float *bias;   /* [vocab_size] host, added to the logits; not read unless how.biased */
    int32_t changed;     /* the id at which `bias` may differ from the last time; -1: none */
    uint64_t owner;      /* whose row it is, never 0: a row that stays in its place is not sent again */
} sampler_row;

typedef struct sampler sampler;

/* For steps of up to `rows` rows. */
int sampler_create(device *d, int64_t vocab_size, int rows, sampler **out);
void sampler_free(sampler *s); /* NULL is fine */

/* The three parts of a choice, so that the middle one, which copies nothing, can be part of a recorded step. */

/* Sends how each row's token is to be chosen. `dead` rows behind them are chosen too, for nobody. */
int sampler_send(sampler *s, const sampler_row *rows, int count, int dead);
/* Whether what was marked as seen, and biases, of a row's owner are in place i: then the owner may have chosen a token
 * that the host does not know yet. */
bool sampler_keeps(const sampler *s, const sampler_row *row, int i);
/* Chooses for the rows of `logits`, f32 [count as sent, vocab_size]. */
int sampler_choose(sampler *s, view logits);
/* ids[i] and logprobs[i] (log-softmax of the plain logits at the chosen id) of the `count` rows, there once the device
 * has been waited for. The caller then marks ids[i] in row i's `seen`. A row that is not finite has id -1. */
int sampler_fetch(sampler *s, int32_t *ids, float *logprobs);
/* i32 [rows, 1]: the ids on the device, of row i in place i, until the next sampler_choose(). */
view sampler_ids(const sampler *s);

/* Tells whether sampler_choose() does the same as before to the same memory. */
int64_t sampler_form(const sampler *s);

#endif
