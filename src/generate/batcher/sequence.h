/* One sequence: its ids, sampling parameters, log-probabilities, and when it ends. batcher.h runs sequences. */
#ifndef GENERATE_SEQUENCE_H
#define GENERATE_SEQUENCE_H

#include "device/device.h"
#include "generate/batcher/prefix_cache.h"

typedef struct sequence {
    int32_t *ids; /* [count] the prompt, then the new tokens */
    int64_t count, prompt_count, capacity;
    int64_t max_count;      /* maximum of `count` */
    lckv_encoding encoding; /* of the prompt, as requested */
    bool ignore_eos;        /* EOS ids do not end it */
    sample_row how;         /* sampling parameters of the next token; how.counter counts new tokens */
    uint8_t *seen;          /* [vocab_size] 1 for each id that has occurred; NULL without repetition penalty */
    float *bias;            /* [vocab_size] added to the logits, with penalties of new ids; NULL unless how.biased */
    uint8_t *penalized;     /* [vocab_size] 1 for each new id that got the presence penalty; with `bias` */
    int top_logprobs;       /* number of most probable tokens to report; 0: none */
    bool prompt_logprobs;   /* also report the tokens of the prompt, from index first_scored on */
    int64_t first_scored;   /* at least 1 */
    int32_t last_label;     /* with prompt_logprobs: the id after the prompt, reported as well; -1: none. For sequences
                             * that sample nothing */
    lckv_finish finish;     /* LCKV_FINISH_NONE while it is running */

    void *owner; /* user data */

    /* Samples of one prompt: the leader reads the prompt, the others then copy its KV. */
    struct sequence *leader;      /* NULL: this is the leader */
    struct sequence *next_sample; /* list of samples of the prompt, in order */

    /* Set by the batcher. */
    lckv_encoding form;    /* how the prompt is read: by the plan, or token by token (exact); AUTO: not decided yet */
    int64_t cached;        /* leading ids whose KV is in the cache */
    int64_t prefix_tokens; /* of these, the ones from the prefix cache */
    int32_t rows;          /* number of its tokens in this step; 0: it is not in this step */
    bool planned;          /* this step runs it by the plan, with the iterations of loops */
    int32_t pending;     /* tokens that launched steps sample, after ids[count - 1]; at most 1 while a step is built */
    int32_t pending_row; /* row of the pending token among the sampled ones of its step */
    int cache_id;        /* sequence of the KV cache; -1: waiting, or ended */
    uint64_t serial;     /* never 0, unique in the batcher */
    prefix_position prefix; /* position of the prompt in the prefix cache */
    bool updated;           /* the last step added the token ids[count - 1], or ended it */
    int32_t token;          /* that token; -1: it ended without one because its logits are not finite */
    float logprob;          /* of that token: log-softmax of the unmodified logits */
    lckv_logprob *top;      /* [top_logprobs] most probable tokens at its position, in descending order */
    lckv_logprob *scored;   /* [scored_count, 1 + top_logprobs] prompt tokens that the last step scored: the token
                               itself, then the top ones */
    bool *scored_best;      /* [scored_count] whether the token is the most probable one; without top_logprobs only */
    int64_t scored_first;   /* index in ids of the first scored token */
    int32_t scored_count, scored_capacity;
} sequence;

/* Checks for 1 to INT32_MAX ids below vocab_size; LCKV_ERROR_ARGUMENT otherwise. */
int sequence_check_prompt(const int32_t *prompt, int64_t count, int64_t vocab_size);

/* Creates a sequence that starts with a prompt, which is checked. As in transformers, how.repetition_penalty also
 * applies to ids of the prompt. */
int sequence_create(const int32_t *prompt, int64_t count, int64_t vocab_size, const sample_row *how, sequence **out);
void sequence_free(sequence *s); /* accepts NULL */

/* Allocate what top_logprobs and a bias need. Call each at most once, before the sequence runs. */
int sequence_enable_top(sequence *s, int top_logprobs);
int sequence_add_bias(sequence *s, int64_t vocab_size, const int32_t *ids, const float *values, int count);
/* Appends a prompt token to the scored ones: values [1 + top_logprobs]. */
int sequence_add_scored(sequence *s, const lckv_logprob *values, bool best);

int sequence_append(sequence *s, int32_t id);

/* Number of ids, including the pending one. */
static inline int64_t sequence_length(const sequence *s) {
    return s->count + s->pending;
}

/* The encoding by which the prompt is read. */
static inline lckv_encoding sequence_encoding(const sequence *s) {
    return s->form == LCKV_ENCODING_SEQUENTIAL ? s->form : s->encoding;
}

/* Whether it waits for its leader to read the prompt. */
static inline bool sequence_waits_for_leader(const sequence *s) {
    return s->leader && s->cached < s->prompt_count;
}

#endif
