/* Generation: new tokens for a batch of prompts in one call. engine.h is for requests that come and go. */
#ifndef LCKV_GENERATION_H
#define LCKV_GENERATION_H

#include "base.h"
#include "models.h"
#include "text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a model with loops processes given tokens. Without loops all of these are equal. */
typedef enum lckv_encoding {
    /* A prompt of at most forward_passes + backward_passes tokens runs token by token. A longer one runs by the plan,
     * or token by token if so many prompts wait that this is faster for all of them (docs/serving.md). */
    LCKV_ENCODING_AUTO,
    LCKV_ENCODING_PLAN,      /* All tokens in parallel, by the plan: the form that the model was trained in. */
    LCKV_ENCODING_SEQUENTIAL /* Token by token: the exact form. */
} lckv_encoding;

/* The measured duration of a step, an entry of a cost table. */
typedef struct lckv_step_cost {
    lckv_encoding encoding; /* SEQUENTIAL: one token of each sequence; PLAN: a prefill chunk of each. */
    int64_t rows, depth;    /* Tokens of the step, and tokens of each sequence before them. */
    double seconds;
} lckv_step_cost;

typedef enum lckv_finish {
    LCKV_FINISH_NONE,   /* Not finished. */
    LCKV_FINISH_STOP,   /* An EOS token, or a stop string in the text. */
    LCKV_FINISH_LENGTH, /* Stopped at the token limit, or at the model's context length (max_position_embeddings). */
    LCKV_FINISH_ERROR   /* The logits are not finite; there is no token. */
} lckv_finish;

/* A prompt: 1 to INT32_MAX ids of the model, for example from lckv_tokenizer_encode(). */
typedef struct lckv_prompt {
    const int32_t *ids;
    int64_t count;
} lckv_prompt;

/* A new token of one sequence. Valid until the callback returns. */
typedef struct lckv_token {
    int prompt, sample; /* The sequence: sample 0 to num_return_sequences - 1 of prompt 0 to count - 1. */
    int32_t id;
    double logprob; /* Natural log-probability under the plain logits, before penalty and temperature. */
    /* Text that this token completes: whole UTF-8 characters that continue the prompt's text, often "". Text that may
     * become a stop string is held back. Always "" without a tokenizer. */
    const char *text;
    size_t text_bytes;
    lckv_finish finish; /* If not LCKV_FINISH_NONE, this is the sequence's last token. */
} lckv_token;

/* Token callback, called for each new token, and with NULL after each step that brought none (prefill). Return false to
 * stop. */
typedef bool (*lckv_token_callback)(void *user, const lckv_token *token);

/* Names and defaults are those of run_generation.py if it has them. */
typedef struct lckv_generate_options {
    size_t struct_size; /* Size of this struct, set by lckv_generate_defaults(). */
    int64_t length;     /* Maximum number of new tokens (default 20). */
    double temperature; /* Sampling temperature; 0 is greedy: always the most probable token (default 1). */
    int64_t top_k;      /* Number of most probable tokens to sample from; 0 for all (default). */
    double top_p;       /* Probability mass of the smallest set of tokens to sample from; 1 for all (default 0.9). */
    double min_p;       /* Minimum probability relative to the most probable token; 0 for all (default). */
    double
        repetition_penalty; /* Penalty on ids that occurred, above 1 (Keskar et al. 2019); 1 disables it (default). */
    /* Random seed (default 42). Sample i of prompt j does not depend on what else is generated with it. */
    uint64_t seed;
    int num_return_sequences; /* Samples per prompt (default 1). */
    bool ignore_eos; /* Continue after EOS tokens, those of config.json and generation_config.json (default false). */
    const char *const
        *stop;      /* [stop_count] Strings that end a text, which is cut before them; they need a tokenizer. */
    int stop_count; /* Number of stop strings (default 0). */

    lckv_encoding encoding;    /* How prompts are processed (default auto). */
    int encoding_iterations;   /* Iterations per loop, as in lckv_engine_options; 0 for the model's own (default). */
    double encoding_tolerance; /* Early end of the iterations, as in lckv_engine_options; 0 for never (default). */
    /* Tokens in the sink cache (StreamingLLM), which has no length limit; 0 keeps all tokens (default). */
    int64_t window_length;
    int64_t num_sink_tokens; /* Of these, the first tokens of the sequence; less than window_length (default 0). */
    bool bf16;               /* Products, attention and KV cache in bfloat16 (default false: f32). */

    lckv_token_callback callback; /* Token callback; NULL for none (default). */
    void *user;                   /* User data, passed to the callback. */
    const char *cost_table;       /* File of cost tables, as in lckv_engine_options; NULL for none (default). */
    const char *kv_dtype;         /* Type of keys and values, as in lckv_engine_options; NULL for "auto" (default). */
} lckv_generate_options;

LCKV_API void lckv_generate_options_init(lckv_generate_options *options, size_t struct_size);
static inline lckv_generate_options lckv_generate_defaults(void) {
    lckv_generate_options options;
    lckv_generate_options_init(&options, sizeof options);
    return options;
}

typedef struct lckv_sequence {
    int prompt, sample;
    int32_t *ids; /* [count] The new tokens only, a final EOS included. */
    int64_t count;
    /* Decoded `ids` without special tokens, cut before a stop string; text_bytes bytes, then NUL. NULL without a
     * tokenizer. */
    char *text;
    size_t text_bytes;
    lckv_finish finish;
    lckv_encoding encoding; /* How the prompt was processed: PLAN or SEQUENTIAL. */
} lckv_sequence;

typedef struct lckv_generation {
    lckv_sequence *sequences; /* [count] By prompt, then by sample. */
    int count;
    int64_t prompt_tokens, decode_tokens;  /* Prefilled tokens, and tokens from steps without prefill. */
    double prompt_seconds, decode_seconds; /* Duration of the steps with prefill, and of the others. */
    double decode_bytes;                   /* Bytes of weights that the others read: each weight once per step. */
} lckv_generation;

/* Generates from `count` prompts, batched. The cache holds prompt and new tokens. Without a sink cache a sequence ends
 * at the model's max_position_embeddings; lckv logs a warning if it expects this. With a sink cache, the first window
 * of a prompt is processed as usual and the rest token by token. `tokenizer` may be NULL: no text then. `options` NULL
 * uses the defaults. Free *out with lckv_generation_free(). LCKV_ERROR_ARGUMENT: an option or id is out of range, a
 * prompt fills all positions of the model, or the tokenizer has more tokens than the model. LCKV_ERROR_NUMERIC: logits
 * are not finite. LCKV_ERROR_INTERRUPTED: the callback asked to stop. */
LCKV_API int lckv_generate(lckv_model *model, lckv_tokenizer *tokenizer, const lckv_prompt *prompts, int count,
                           const lckv_generate_options *options, lckv_generation **out);
LCKV_API void lckv_generation_free(lckv_generation *generation);

#ifdef __cplusplus
}
#endif
#endif
