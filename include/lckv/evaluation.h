/* How well a model predicts: log-probabilities of ids, tasks of the evaluation harness, perplexity of long texts. */
#ifndef LCKV_EVALUATION_H
#define LCKV_EVALUATION_H

#include "base.h"
#include "generation.h"
#include "models.h"
#include "text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- scoring */

typedef struct lckv_score_options {
    size_t struct_size;      /* Size of this struct, set by lckv_score_defaults(). */
    lckv_encoding encoding;  /* How the tokens are processed (default auto). */
    int64_t window_length;   /* Tokens in the sink cache, processed token by token; 0 keeps all tokens (default). */
    int64_t num_sink_tokens; /* Of these, the first tokens; less than window_length (default 0). */
    bool bf16;               /* Products, attention and KV cache in bfloat16 (default false: f32). */
    const char
        *logits_file; /* File for tensor `logits`, safetensors, [count, vocab_size] f32; NULL for none (default). */
    float *logits;    /* [count, vocab_size] Buffer for the logits; NULL for none (default). Not with logits_file. */
    /* Patterns of the tensors to write to dump_file, with * and {a,b} as in the shell; NULL for none (default). Each is
     * f32 [count, ...]. layers.N.hidden: residual stream after layer N; layers.N.attn: attention output before o_proj;
     * layers.N.k, layers.N.v: cached keys and values of slot owners. */
    const char *dump;
    const char *dump_file; /* File for the dump, safetensors; required with `dump`. */
    /* Dump every iteration of a loop, as layers.N.run.R.hidden and so on, R from 0 (default false: the last iteration).
     * Tensors that an iteration does not compute, because nothing reads them, are missing. */
    bool dump_iterations;
    int64_t top_logprobs; /* Most probable ids to return per position; 0 for none (default). */
    int32_t *top_ids;     /* [count, top_logprobs] Buffer for the ids that may follow each id, best first. */
    /* [count, top_logprobs] Buffer for their log-probabilities. If the next id is one of them, `logprobs` has the same
     * number. */
    float *top_values;
    /* Progress callback, called between tokens if they are processed one at a time. Return false to stop. NULL for none
     * (default). */
    bool (*go_on)(void *user, double fraction);
    void *user;                /* User data, passed to `go_on`. */
    int encoding_iterations;   /* Iterations per loop, as in lckv_engine_options; 0 for the model's own (default). */
    double encoding_tolerance; /* As in lckv_engine_options; 0 disables it (default). */
    const char *kv_dtype;      /* Type of keys and values, as in lckv_engine_options; NULL for "auto" (default). */
} lckv_score_options;

LCKV_API void lckv_score_options_init(lckv_score_options *options, size_t struct_size);
static inline lckv_score_options lckv_score_defaults(void) {
    lckv_score_options options;
    lckv_score_options_init(&options, sizeof options);
    return options;
}

/* Computes the natural log-probabilities of ids[1] to ids[count - 1], each given all ids before it. `logprobs` [count -
 * 1] is the caller's. `options` NULL uses the defaults. Without `logits` and `logits_file`, only a part of the logits
 * is in memory at any time. More ids than the model has positions are scored too, with a warning in the log.
 *   LCKV_ERROR_ARGUMENT: an id is not the model's, or an option is out of range.
 *   LCKV_ERROR_FILE: logits_file cannot be written.
 *   LCKV_ERROR_NUMERIC: a log-probability is not finite.
 *   LCKV_ERROR_INTERRUPTED: `go_on` returned false. */
LCKV_API int lckv_score(lckv_model *model, const int32_t *ids, int64_t count, const lckv_score_options *options,
                        float *logprobs);

/* Mean KL divergence, in nats per token, of the next-token distributions of `logits` from those of `exact`, both
 * [tokens, vocab_size]: that of the parallel form of a model with loops from its exact form, for example. At least 0:
 * rounding may leave less. NAN if a logit is not finite, or without tokens. */
LCKV_API double lckv_kl_divergence(const float *exact, const float *logits, int64_t tokens, int64_t vocab_size);

/* ---------------------------------------------------------------- evaluation */

typedef struct lckv_eval_progress {
    const char *task;        /* Current task; valid until the callback returns. */
    int64_t done, documents; /* Documents of all tasks: evaluated, and in total. */
    double seconds, seconds_left;
} lckv_eval_progress;

/* Progress callback, called after each call of the model, on the caller's thread. Return false to stop. */
typedef bool (*lckv_eval_callback)(void *user, const lckv_eval_progress *progress);

/* Tasks of lm-evaluation-harness 0.4.13, with the same documents and the same prompts. */
typedef struct lckv_eval_options {
    size_t struct_size; /* Size of this struct, set by lckv_eval_defaults(). */
    /* Tasks: built-in names (hellaswag, openbookqa, winogrande, arc_challenge, arc_easy, boolq, piqa, mmlu,
     * lambada_openai, sciq), or files that describe a task (docs/evaluation.md). */
    const char *const *tasks;
    int task_count;        /* Number of tasks. */
    const char *data_dir;  /* Folder of the tasks' documents; docs/evaluation.md lists the file names. */
    int64_t num_fewshot;   /* Number of examples before each document; -1 for the task's own (default). */
    uint32_t fewshot_seed; /* Random seed of the examples (default 1234). */
    double limit; /* Maximum number of documents per task, from the first; below 1, a fraction; 0 for all (default). */
    bool log_samples; /* Add each document's context, continuations and log-likelihoods to the results (default false).
                       */
    /* How contexts are processed (default auto). SEQUENTIAL: token by token, many documents together, which is exact.
     * AUTO: SEQUENTIAL if the cost table says that it is faster for all documents together, else PLAN. */
    lckv_encoding encoding;
    bool bf16;                   /* Products and attention in bfloat16 (default false: f32). */
    lckv_eval_callback callback; /* Progress callback; NULL for none (default). */
    void *user;                  /* User data, passed to the callback. */
    const char *cost_table;      /* File of cost tables, as in lckv_engine_options; NULL for none (default). */
    const char *kv_dtype;        /* Type of keys and values, as in lckv_engine_options; NULL for "auto" (default). */
} lckv_eval_options;

LCKV_API void lckv_eval_options_init(lckv_eval_options *options, size_t struct_size);
static inline lckv_eval_options lckv_eval_defaults(void) {
    lckv_eval_options options;
    lckv_eval_options_init(&options, sizeof options);
    return options;
}

/* Evaluates a model on tasks. *json is an object in the layout of the harness's results file: for each task, "results"
 * has "acc,none", "acc_stderr,none" and so on. Contexts longer than max_position_embeddings are truncated from the
 * left. Free *json with lckv_free(). LCKV_ERROR_FILE: the documents or the description of a task are missing.
 *   LCKV_ERROR_FORMAT: they are malformed.
 *   LCKV_ERROR_ARGUMENT: an option is out of range, or there is no such task.
 *   LCKV_ERROR_NUMERIC: a log-likelihood is not finite.
 *   LCKV_ERROR_INTERRUPTED: the callback asked to stop. */
LCKV_API int lckv_eval(lckv_model *model, lckv_tokenizer *tokenizer, const lckv_eval_options *options, char **json);

/* ---------------------------------------------------------------- perplexity of long texts */

/* Two modes. Windows: the text is cut into windows of block_size tokens that start `stride` tokens apart; each token is
 * scored once, by the first window that contains it. Streaming: all texts form one stream, processed token by token
 * through the sink cache (StreamingLLM) in constant memory. */
typedef struct lckv_perplexity_options {
    size_t struct_size;      /* Size of this struct, set by lckv_perplexity_defaults(). */
    bool streaming;          /* Streaming mode (default false: windows). */
    int64_t window_length;   /* Streaming: tokens in the cache (default 256). */
    int64_t num_sink_tokens; /* Streaming: of these, the first tokens of the stream (default 2). */
    /* Streaming: position of the first token after the sinks, as if that number of tokens had been evicted before it
     * (default 0). */
    int64_t start_position;
    int64_t block_size;      /* Windows: length in tokens; 0 for max_position_embeddings (default). */
    int64_t stride;          /* Windows: distance in tokens, less than block_size; 0 for half of it (default). */
    int64_t num_eval_tokens; /* Maximum number of tokens to score, over all texts; 0 for all (default). */
    lckv_encoding encoding;  /* Windows: AUTO and PLAN use the plan, SEQUENTIAL is exact (default auto). */
    bool bf16;               /* Products, attention and KV cache in bfloat16 (default false: f32). */
    /* Token callback, called with the negative log-likelihood of each token in nats. Return false to stop. NULL for
     * none (default). */
    bool (*callback)(void *user, double nll);
    void *user;           /* User data, passed to the callback. */
    const char *kv_dtype; /* Type of keys and values, as in lckv_engine_options; NULL for "auto" (default). */
} lckv_perplexity_options;

LCKV_API void lckv_perplexity_options_init(lckv_perplexity_options *options, size_t struct_size);
static inline lckv_perplexity_options lckv_perplexity_defaults(void) {
    lckv_perplexity_options options;
    lckv_perplexity_options_init(&options, sizeof options);
    return options;
}

typedef struct lckv_perplexity_result {
    int64_t tokens;      /* Scored tokens: all of a text but its first. */
    double mean_nll;     /* Nats per token; NAN before the first. */
    double perplexity;   /* exp(mean_nll) */
    int64_t cache_bytes; /* Streaming: device memory of the KV cache. */
} lckv_perplexity_result;

/* Mean negative log-likelihood of `tokens` scored tokens, starting with number `first`, counted from 0. */
typedef struct lckv_curve_point {
    int64_t first, tokens;
    double nll;
} lckv_curve_point;

typedef struct lckv_perplexity lckv_perplexity;

/* Starts a measurement. The model must outlive it. `options` NULL uses the defaults.
 *   LCKV_ERROR_ARGUMENT: an option is out of range. */
LCKV_API int lckv_perplexity_open(lckv_model *model, const lckv_perplexity_options *options, lckv_perplexity **out);
/* Scores a text, at most until num_eval_tokens are scored. Tokens that were scored before an error count.
 *   LCKV_ERROR_ARGUMENT: an id is not the model's.
 *   LCKV_ERROR_NUMERIC: a negative log-likelihood is not finite.
 *   LCKV_ERROR_INTERRUPTED: the callback asked to stop. */
LCKV_API int lckv_perplexity_read(lckv_perplexity *p, const int32_t *ids, int64_t count);
/* Returns the result over all texts so far. */
LCKV_API lckv_perplexity_result lckv_perplexity_so_far(const lckv_perplexity *p);
/* Returns the negative log-likelihood over the position, at most 256 points. Free *points with lckv_free(). */
LCKV_API int lckv_perplexity_curve(const lckv_perplexity *p, lckv_curve_point **points, int *count);
LCKV_API void lckv_perplexity_free(lckv_perplexity *p);

#ifdef __cplusplus
}
#endif
#endif
