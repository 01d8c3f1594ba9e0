/* The engine: continuous batching of requests that arrive at any time. */
#ifndef LCKV_ENGINE_H
#define LCKV_ENGINE_H

#include "base.h"
#include "generation.h"
#include "models.h"
#include "text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Runs many requests over one model with continuous batching: requests join and leave between steps, and each gets the
 * result that it would get alone. One thread owns the engine, its model, and the tokenizer while the engine uses it. */
typedef struct lckv_engine lckv_engine;

typedef struct lckv_logprob {
    int32_t id;
    float logprob; /* Natural log-probability under the plain logits. */
} lckv_logprob;

/* An event of one sample: a new token, or its end. Pointers are valid until the callback returns. */
typedef struct lckv_event {
    uint64_t request; /* Number of the request, from lckv_engine_submit(). */
    void *mark;       /* User data of the request. */
    int sample;       /* 0 to n - 1 */
    /* The event is about a token of the prompt (see prompt_logprobs). These events come first, in order, from the
     * second token on, for sample 0 only; their text is "" and new_tokens is 0. */
    bool of_prompt;
    int32_t token;  /* The token; -1 if there is none and the sample only ended. */
    double logprob; /* Natural log-probability under the plain logits; NAN without a token. */
    /* [top_count] The most probable tokens at this position, best first. If `token` is one of them, the
     * log-probabilities are equal. */
    const lckv_logprob *top;
    int top_count; /* The request's top_logprobs; 0 without a token. */
    /* Text that this token completes: whole UTF-8 characters that continue the prompt's text, often "". Text that may
     * become a stop string is held back; a stop string is cut off. "" without a tokenizer. */
    const char *text;
    size_t text_bytes;
    lckv_finish finish; /* If not LCKV_FINISH_NONE, this is the sample's last event. */
    int64_t new_tokens; /* New tokens of this sample so far, this one included. */
    int64_t prompt_tokens;
    int64_t
        cached_tokens; /* Of prompt_tokens, those that were in the cache from an earlier prompt or another sample. */
    lckv_encoding encoding; /* How the prompt is processed: PLAN or SEQUENTIAL. */
} lckv_event;

/* Event callback, called for each event during lckv_engine_step(). It must not call the engine. */
typedef void (*lckv_event_callback)(void *user, const lckv_event *event);

typedef struct lckv_engine_options {
    size_t struct_size; /* Size of this struct, set by lckv_engine_defaults(). */
    /* Maximum number of samples that run together; 0 for 128, and on a GPU for as many as half of its free memory holds
     * KV caches for, 128 to 1024 (default). */
    int max_num_seqs;
    /* Maximum number of tokens per sample, prompt included; 0 for the model's max_position_embeddings, or less if the
     * KV cache is too small for one sample of this length (default). No limit with a sink cache. */
    int64_t max_model_len;
    /* Device memory for the KV cache in bytes, allocated at once; 0 for what max_num_seqs samples of max_model_len
     * tokens need, at most half of the free memory (default). */
    int64_t kv_cache_memory;
    /* Maximum number of prompt tokens per step, and of a chunk, but at least prefill_chunk_size. 0 for 2048, on a GPU
     * 8192 (default). */
    int64_t max_num_batched_tokens;
    /* Prefill chunk in tokens, at most max_num_batched_tokens; 0 for 256, on a GPU 1024 (default). Chunks end at
     * multiples of it, counted from the start of the prompt. Except on a GPU, the last one is split once more at a
     * multiple of 32 tokens. Prompts share whole chunks. In models with loops the result depends on the chunks, and on
     * nothing else about batching. */
    int64_t prefill_chunk_size;
    /* Iterations per loop for a chunk that is processed by the plan; 0 for forward_passes + backward_passes, or for as
     * many as are as exact with a learned start (default). Fewer are faster and less exact (docs/serving.md). */
    int encoding_iterations;
    /* Early end of a chunk's iterations: relative change of its keys and values below which they stop; 0 for never
     * (default). */
    double encoding_tolerance;
    /* Make each sample bit-identical in any batch, with slower products; CPU only. LCKV_ENCODING_AUTO then depends on
     * the request alone: long prompts use the plan. Default false: equal up to rounding and to that choice. */
    bool batch_invariant;
    int max_queue;                /* Maximum number of waiting requests (default 1024). */
    int64_t window_length;        /* Tokens in the sink cache (StreamingLLM); 0 keeps all tokens (default). */
    int64_t num_sink_tokens;      /* Of these, the first tokens of the sequence; less than window_length (default 0). */
    bool bf16;                    /* Products, attention and KV cache in bfloat16 (default false: f32). */
    lckv_event_callback callback; /* Event callback; NULL for none (default). */
    void *user;                   /* User data, passed to the callback. */
    /* File of cost tables, for LCKV_ENCODING_AUTO. If it has a table of this device and model, the engine uses it; else
     * it measures one when it first needs it, and adds it to the file, which is created with its folder. The same table
     * and the same requests give the same choice. NULL: measured by each engine, and not kept (default). */
    const char *cost_table;
    /* Time to the first token up to which AUTO processes prompts token by token, in seconds, as estimated when they
     * start. A longer time is allowed if the plan needs it, too. 0 for no limit (default). */
    double max_time_to_first_token;
    /* Duration of a step up to which prompts join it token by token while other samples decode, in seconds, as
     * estimated. 0 for that of max_num_batched_tokens tokens by the plan (default). */
    double max_time_between_tokens;
    /* Type of the keys and values in the KV cache: "auto" for the type of computation (also NULL; default),
     * "float32", "bfloat16", or "int8": bytes with an f32 scale for each token and KV head (docs/model.md).
     */
    const char *kv_dtype;
} lckv_engine_options;

LCKV_API void lckv_engine_options_init(lckv_engine_options *options, size_t struct_size);
static inline lckv_engine_options lckv_engine_defaults(void) {
    lckv_engine_options options;
    lckv_engine_options_init(&options, sizeof options);
    return options;
}

/* Creates an engine. Model and tokenizer remain the caller's and must outlive it. `tokenizer` may be NULL: no text
 * then. `options` NULL uses the defaults. LCKV_ERROR_ARGUMENT: an option is out of range, or the tokenizer has more
 * tokens than the model. LCKV_ERROR_MEMORY: no memory for the KV cache, or it is too small for one sample of
 * max_model_len tokens. */
LCKV_API int lckv_engine_create(lckv_model *model, lckv_tokenizer *tokenizer, const lckv_engine_options *options,
                                lckv_engine **out);
/* Frees the engine. Running requests end without an event. */
LCKV_API void lckv_engine_free(lckv_engine *engine);

typedef struct lckv_request {
    size_t struct_size; /* Size of this struct, set by lckv_request_defaults(). */
    lckv_prompt prompt; /* Prompt; required. */
    int n;              /* Number of samples, at most max_num_seqs (default 1). */
    /* Maximum number of new tokens per sample; -1 for what max_model_len leaves (default); 0 only processes the prompt.
     */
    int64_t max_new_tokens;
    double temperature;        /* Sampling temperature; 0 is greedy: always the most probable token (default 1). */
    int64_t top_k;             /* Number of most probable tokens to sample from; 0 for all (default). */
    double top_p;              /* Probability mass of the smallest set of tokens to sample from; 1 for all (default). */
    double min_p;              /* Minimum probability relative to the most probable token; 0 for all (default). */
    double repetition_penalty; /* Penalty on ids that occurred, also in the prompt, above 1; 1 disables it (default). */
    double
        presence_penalty; /* Value to subtract from the logits of tokens in the sample, prompt excluded (default 0). */
    double frequency_penalty; /* The same, for each occurrence (default 0). */
    const int32_t *bias_ids;  /* [bias_count] Ids whose logits are biased, before everything else. */
    const float *bias_values; /* [bias_count] Values to add; finite. */
    int bias_count;           /* Number of biases (default 0). */
    int top_logprobs;         /* Most probable tokens to return with each token, 0 to 100 (default 0). */
    /* Return log-probabilities of the prompt's tokens too (default false). In models with loops such a prompt is
     * processed as one chunk, as in lckv_score(). */
    bool prompt_logprobs;
    /* Random seed and stream (default 0, 0). A sample is a function of these, its number, the prompt and the options.
     */
    uint64_t seed, stream;
    bool ignore_eos; /* Continue after EOS tokens, those of config.json and generation_config.json (default false). */
    const char *const
        *stop;              /* [stop_count] Strings that end a text, which is cut before them; they need a tokenizer. */
    int stop_count;         /* Number of stop strings (default 0). */
    lckv_encoding encoding; /* How the prompt is processed (default auto). PLAN: as one chunk. */
    void *mark;             /* User data, returned with each event (default NULL). */
} lckv_request;

LCKV_API void lckv_request_init(lckv_request *options, size_t struct_size);
static inline lckv_request lckv_request_defaults(void) {
    lckv_request options;
    lckv_request_init(&options, sizeof options);
    return options;
}

/* Queues a request and returns its number, counted from 1. Requests start in order of submission, as soon as there is
 * memory for the whole request; later requests cannot take it away.
 *   LCKV_ERROR_ARGUMENT: an option or id is out of range.
 *   LCKV_ERROR_TOO_LONG: prompt and new tokens exceed max_model_len.
 *   LCKV_ERROR_BUSY: max_queue requests are waiting.
 *   LCKV_ERROR_MEMORY: no memory for the request; the engine is unharmed. */
LCKV_API int lckv_engine_submit(lckv_engine *engine, const lckv_request *request, uint64_t *id);
/* Cancels a request in any state. Its memory is free at once and no more events come. An unknown or finished request is
 * ignored. */
LCKV_API void lckv_engine_cancel(lckv_engine *engine, uint64_t id);

/* Returns whether no request is running or waiting. */
LCKV_API bool lckv_engine_idle(const lckv_engine *engine);
/* Returns the cost table of the engine. If it is not known yet, it is loaded or measured, which takes seconds. The
 * engine owns *costs [*count]. There is none if there is nothing to choose: the model has no loops, or an option
 * excludes it (batch_invariant, encoding_tolerance, window_length). */
LCKV_API int lckv_engine_costs(lckv_engine *engine, const lckv_step_cost **costs, int *count);
/* Runs one step: one token for each running sample, and at most max_num_batched_tokens tokens of waiting prompts. It
 * does nothing if the engine is idle. After LCKV_ERROR_DEVICE or LCKV_ERROR_MEMORY the engine can only be freed. */
LCKV_API int lckv_engine_step(lckv_engine *engine);

typedef struct lckv_engine_stats {
    int max_num_seqs;     /* Maximum number of samples that run together, as chosen. */
    int running, waiting; /* Samples. */
    int64_t max_model_len;
    int64_t submitted, finished, cancelled;                   /* Requests so far. */
    int64_t kv_pages, kv_pages_used, kv_bytes, kv_bytes_used; /* KV cache: total, and used by running samples. */
    int64_t kv_pages_shared;                                  /* Used pages of two or more samples. */
    /* Bytes that plain attention would use now: all tokens in every layer, nothing shared. */
    int64_t kv_bytes_plain;
    int64_t kv_pages_kept; /* Unused pages in the prefix cache; they are evicted when pages run out. */
    int64_t steps, prompt_tokens, decode_tokens; /* Prefilled tokens, and tokens from steps without prefill. */
    double prompt_seconds, decode_seconds;       /* Duration of the steps with prefill, and of the others. */
    double decode_bytes;                         /* Bytes of weights that the others read: each weight once per step. */
    int64_t sequential_tokens;                   /* Of prompt_tokens, those that were processed token by token. */
} lckv_engine_stats;

LCKV_API lckv_engine_stats lckv_engine_describe(const lckv_engine *engine);

typedef struct lckv_slot_usage {
    int layer;          /* Owner of the slot. */
    int64_t bytes_used; /* Share of kv_bytes_used. */
} lckv_slot_usage;

/* Fills `out` [kv_slots of the model's config], one entry per slot. */
LCKV_API void lckv_engine_describe_slots(const lckv_engine *engine, lckv_slot_usage *out);

#ifdef __cplusplus
}
#endif
#endif
