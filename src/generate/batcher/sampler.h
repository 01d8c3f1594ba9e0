/* Sampler: sends the sampling parameters of each row to the device, runs its sample op (op_sample, device.h), and
 * fetches the chosen ids. */
#ifndef GENERATE_SAMPLER_H
#define GENERATE_SAMPLER_H

#include "device/device.h"

/* How the token of one row of logits is chosen. */
typedef struct sampler_row {
    sample_row how;
    const uint8_t *seen; /* [vocab_size] host, 1 for ids that the repetition penalty applies to; not read without it */
    const float *bias;   /* [vocab_size] host, added to the logits; not read unless how.biased */
    const uint8_t *penalized; /* [vocab_size] host, 1 for ids that had the presence penalty; not read without it */
    uint64_t owner;           /* id of the sequence, never 0: tables of a row that keeps its index are not sent again */
} sampler_row;

/* The most probable token: temperature 0, all other parameters off. */
sample_row sampler_greedy(void);

typedef struct sampler sampler;

/* For steps of at most `rows` rows. */
int sampler_create(device *d, int64_t vocab_size, int rows, sampler **out);
void sampler_free(sampler *s); /* accepts NULL */

/* Sampling has three parts. The second copies nothing between host and device, so that it can be part of a recorded
 * step. */

/* Sends the parameters of `count` rows. `padding` more rows are sampled, too, and their results ignored. */
int sampler_send(sampler *s, const sampler_row *rows, int count, int padding);
/* Whether the device already has the tables of the row's owner at index i, and keeps them in a step of `count` rows. If
 * so, the host need not know the owner's newest token. */
bool sampler_has_row(const sampler *s, const sampler_row *row, int i, int count);
/* Samples from `logits`, f32 [count + padding, vocab_size]. */
int sampler_choose(sampler *s, view logits);
/* Copies ids[i] and logprobs[i] (log-softmax of the unmodified logits at the chosen id) of the `count` rows; they are
 * valid after the device was waited for. The device has then changed its tables for ids[i], and the caller does the
 * same on the host: `seen`, `bias` and `penalized` as in op_sample. The id is -1 if the row is not
 * finite. */
int sampler_fetch(sampler *s, int32_t *ids, float *logprobs);
/* i32 [rows, 1]: the ids on the device, until the next sampler_choose(). */
view sampler_ids(const sampler *s);

/* A key that changes if sampler_choose() would use other memory or other ops than before. */
int64_t sampler_layout(const sampler *s);

#endif
