/* One running sequence: its ids so far, how its tokens are chosen, what is told of them, when it ends.
 *
 * Leaves out: what runs when (batcher.h), text (text_stream.h). */
#ifndef GENERATE_SEQUENCE_H
#define GENERATE_SEQUENCE_H

#include "device/device.h"
#include "generate/prefixes.h"

typedef struct sequence {
    int32_t *ids; /* the prompt, then the new tokens */
    int64_t count, prompt_count, capacity;
    int64_t most;           /* ends when it has so many ids, prompt included */
    lckv_encoding encoding; /* of the prompt */
    bool ignore_eos;        /* does not end at the model's EOS ids */
    sample_row how;         /* for the next token; how.counter counts the new ones */
    uint8_t *seen;          /* [vocab_size] 1 for each id that has occurred; NULL without repetition penalty */
    float *bias;            /* [vocab_size] added to the logits; NULL unless how.biased */
    uint8_t *penalized;     /* [vocab_size] 1 for each new id that the presence penalty was taken off; with `bias` */
    float presence_penalty, frequency_penalty; /* off the bias of new ids, once and each time that they occur */
    int top_logprobs;                          /* told of each token, the most probable ones; 0: none */
    bool prompt_logprobs;                      /* also of the prompt's tokens, from the second on */
    lckv_finish finish;                        /* LCKV_FINISH_NONE while it runs */

    void *owner; /* whoever wants to know; not read here */

    /* Samples of one prompt: it is read once, by the first, and the others go on from what the first then holds. */
    struct sequence *leader;  /* NULL: itself */
    struct sequence *follows; /* the next of those that follow the same one; of the leader, the first */

    /* The batcher's. */
    int64_t cached; /* leading ids whose keys and values are in the cache */
    int64_t found;  /* of them, those that had been read for another prompt */
    int32_t rows;   /* that go in this step; 0: it sits this step out */
    bool planned;   /* through the plan's many runs */
    int32_t due; /* tokens that steps under way choose, the ids behind ids[count - 1]; at most 1 when a step is made */
    int32_t place; /* of the last such token among those that its step chooses */
    int cache_id;  /* -1: waits for its turn, or has ended */
    uint64_t serial;
    prefix_mark kept;     /* of the prompt */
    bool fresh;           /* the last step gave it a token, ids[count - 1], or ended it */
    int32_t token;        /* that token; -1: it ended without one, its logits being no numbers */
    float logprob;        /* of that token: log-softmax of the plain logits */
    lckv_logprob *top;    /* [top_logprobs] for that token's place, the most probable first */
    lckv_logprob *scored; /* [scored_count, 1 + top_logprobs]: of prompt tokens, the token itself and the top ones */
    int64_t scored_first; /* the first of them is ids[scored_first] */
    int32_t scored_count, scored_capacity;
} sequence;

/* 1 to INT32_MAX ids, each less than vocab_size, else LCKV_ERROR_ARGUMENT. */
int sequence_check_prompt(const int32_t *prompt, int64_t count, int64_t vocab_size);

/* A sequence that begins with a prompt, which is checked. how.repetition_penalty falls on ids of the prompt too, as in
 * transformers. */
int sequence_create(const int32_t *prompt, int64_t count, int64_t vocab_size, const sample_row *how, sequence **out);
void sequence_free(sequence *s); /* NULL is fine */

/* What it takes to tell `top_logprobs`, and to have a bias; each once, before it runs. */
int sequence_tell_top(sequence *s, int top_logprobs);
int sequence_add_bias(sequence *s, int64_t vocab_size, const int32_t *ids, const float *values, int count);
int sequence_reserve_scored(sequence *s, int32_t count);

int sequence_append(sequence *s, int32_t id);

/* Ids, the one that is due included. */
static inline int64_t sequence_length(const sequence *s) {
    return s->count + s->due;
}

/* Whether it goes on from what another will have read. */
static inline bool sequence_follows(const sequence *s) {
    return s->leader && s->cached < s->prompt_count;
}

#endif
