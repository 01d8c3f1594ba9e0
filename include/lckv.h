/* lckv.h - the public interface of liblckv.
 *
 * liblckv trains, converts and runs decoder language models whose layers share keys and values (KV). One string,
 * `layer_types`, says which layer reads whose KV; see docs/model.md.
 *
 * Conventions, true of every function here unless its comment says otherwise:
 *   - A function that can fail returns LCKV_OK or a negative lckv_status; lckv_last_error() then holds one sentence for
 *     people: what was expected, what was found, where.
 *   - On failure nothing is handed out: `*out` is NULL and the caller owns nothing new.
 *   - Arguments stay the caller's; the library copies what it keeps. Strings are UTF-8 and end in NUL.
 *   - Strings and arrays that are handed out are released with lckv_free(), handles with their own function; each of
 *     these takes NULL.
 *   - Options structs are filled by their *_defaults() function first, then changed; fields state unit, default, and
 *     what 0 means.
 *   - The library never exits and never prints; lckv_set_log() hands its messages to the caller.
 *   - A handle is used by one thread at a time. Different handles may be used by different threads.
 */
#ifndef LCKV_H
#define LCKV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LCKV_API __attribute__((visibility("default")))
#else
#define LCKV_API
#endif

/* ---------------------------------------------------------------- errors, log, memory */

typedef enum lckv_status {
    LCKV_OK = 0,
    LCKV_ERROR_ARGUMENT = -1,    /* a value given by the caller is out of range or contradicts another */
    LCKV_ERROR_FILE = -2,        /* a file is absent, unreadable, or cannot be written (disk full included) */
    LCKV_ERROR_FORMAT = -3,      /* a file's content is not what its format says */
    LCKV_ERROR_UNSUPPORTED = -4, /* well formed, but asks for what lckv does not do */
    LCKV_ERROR_MEMORY = -5,      /* host or device memory ran out */
    LCKV_ERROR_DEVICE = -6,      /* a device is absent, busy or lost, or its library reported an error */
    LCKV_ERROR_NUMERIC = -7,     /* a loss or gradient is not finite */
    LCKV_ERROR_INTERRUPTED = -8, /* the caller's callback asked to stop */
} lckv_status;

/* The sentence of this thread's last failure, "" before the first. Valid until this thread's next failure. */
LCKV_API const char *lckv_last_error(void);

/* "0.1.0" */
LCKV_API const char *lckv_version(void);

typedef enum lckv_log_level { LCKV_LOG_WARNING, LCKV_LOG_INFO, LCKV_LOG_DEBUG } lckv_log_level;
typedef void (*lckv_log_function)(void *user, lckv_log_level level, const char *message);

/* Sends messages of `level` and more urgent ones to `function` (NULL: to nobody, the default). For the whole process.
 */
LCKV_API void lckv_set_log(lckv_log_function function, void *user, lckv_log_level level);

/* Releases a string or array that a function handed out. */
LCKV_API void lckv_free(void *memory);

/* ---------------------------------------------------------------- training */

typedef enum lckv_schedule_type {
    LCKV_SCHEDULE_LINEAR,              /* falls to 0 at the end of the run */
    LCKV_SCHEDULE_COSINE,              /* the same, along half a cosine */
    LCKV_SCHEDULE_CONSTANT,            /* without warming up */
    LCKV_SCHEDULE_CONSTANT_WITH_WARMUP /* rises from 0, then stays */
} lckv_schedule_type;

typedef enum lckv_train_phase {
    LCKV_TRAIN_READING,   /* documents are read, encoded and cut into blocks */
    LCKV_TRAIN_STEPPING,  /* a step has ended */
    LCKV_TRAIN_EVALUATING /* the validation blocks are run through */
} lckv_train_phase;

typedef struct lckv_train_progress {
    lckv_train_phase phase;
    double fraction;      /* of the phase that is done, 0 to 1 */
    int64_t step, steps;  /* steps done and in all; what follows is set while stepping */
    double loss;          /* of this step: mean over its labels, in nats */
    double mean_loss;     /* mean of the losses since the last logged step, this one included */
    double grad_norm;     /* of this step, before clipping */
    double learning_rate; /* that this step used */
    double tokens_per_second; /* since the last logged step */
    double seconds, seconds_left;
    bool logged; /* this step has its line in train_log.jsonl */
} lckv_train_progress;

/* Called many times a second at most, on the trainer's thread. Returns whether to go on. */
typedef bool (*lckv_train_callback)(void *user, const lckv_train_progress *progress);

/* Names and defaults are those of TrainingArguments 4.45 and run_clm.py. */
typedef struct lckv_train_options {
    const char *model_name_or_path; /* weights to go on from: folder or ORG/NAME. Or: */
    const char *config_name;        /* fresh weights of this config (folder, .json file, ORG/NAME), random by `seed` */
    const char *config_overrides;   /* "k=v,k=v" over either one's config; NULL: none */
    const char *tokenizer_name;     /* NULL: the model's own. Needed where there is text */
    const char *const *train_files; /* text, or JSON lines with `text` or `input_ids` (.jsonl, .ndjson, .json) */
    int train_file_count;
    const char *const *validation_files; /* the same; evaluated when training ends */
    int validation_file_count;
    const char *output_dir; /* where model, tokenizer and train_log.jsonl are written; created if absent */
    bool overwrite_output_dir; /* false: one that has files in it is an error */

    int64_t block_size;                  /* tokens; 0 (default): max_position_embeddings, at most 1024 */
    int64_t per_device_train_batch_size; /* blocks run at a time; 8 */
    int64_t gradient_accumulation_steps; /* such batches a step; 1 */
    double num_train_epochs;             /* 3; not used where there is: */
    int64_t max_steps;                   /* -1 */
    bool shuffle;                        /* true: a new order each epoch, a function of `seed` */
    int64_t seed;                        /* 42 */

    lckv_schedule_type lr_scheduler_type; /* linear */
    double learning_rate;                 /* the highest; 5e-5 */
    int64_t warmup_steps;                 /* 0; not used where 0: */
    double warmup_ratio;                  /* of all steps, 0 to 1; 0 */
    double weight_decay;                  /* of matrices alone; 0 */
    double adam_beta1, adam_beta2, adam_epsilon; /* 0.9, 0.999, 1e-8 */
    double max_grad_norm;                        /* 1; 0: gradients are not clipped */

    bool bf16;             /* products and attention in bfloat16, master weights in f32; false: all in f32 */
    int64_t logging_steps; /* 500: each such step and the last one get a line in train_log.jsonl */
    const char *device;    /* "cpu" */
    int threads;           /* 0: all processors that this process may use */

    lckv_train_callback callback; /* NULL: nobody is told and nothing interrupts */
    void *user;
} lckv_train_options;

LCKV_API lckv_train_options lckv_train_defaults(void);

/* What a trainer is about to do. */
typedef struct lckv_train_summary {
    int64_t parameters;
    int64_t block_size, train_blocks, validation_blocks; /* run_clm.py's grouping, see train/blocks.h */
    int64_t train_tokens;    /* of the training files, dropped ones included */
    int64_t steps_per_epoch; /* the last step of an epoch takes what is left of it */
    int64_t steps;
} lckv_train_summary;

typedef struct lckv_train_result {
    int64_t steps, tokens; /* done */
    double seconds;        /* of training alone */
    double train_loss;     /* mean over the steps */
    double eval_loss;      /* mean over the labels of the validation files, NAN without */
    double perplexity;     /* exp(eval_loss) */
} lckv_train_result;

typedef struct lckv_trainer lckv_trainer;

/* Checks the options, reads the data, and loads or makes the model. Where the tokenizer has more tokens than the model
 * has rows, rows are added, drawn with the config's initializer range, which is logged. Nothing is written yet.
 * LCKV_ERROR_INTERRUPTED when the callback asked to stop. */
LCKV_API int lckv_trainer_create(const lckv_train_options *options, lckv_trainer **out);
LCKV_API lckv_train_summary lckv_trainer_summary(const lckv_trainer *trainer);

/* Trains, evaluates, and writes the model to output_dir as a Hugging Face folder; once a trainer. AdamW; a step's loss is
 * the sum over all its labels divided by their number, accumulated batches included.
 *   LCKV_ERROR_INTERRUPTED: the callback asked to stop; what there is has been written, *result says how far it came.
 *   LCKV_ERROR_NUMERIC: a loss or gradient is not finite; the message names the step, and no model is written, so that
 *   one that output_dir had stays.
 * `result` may be NULL. */
LCKV_API int lckv_trainer_run(lckv_trainer *trainer, lckv_train_result *result);
LCKV_API void lckv_trainer_free(lckv_trainer *trainer);

#ifdef __cplusplus
}
#endif
#endif
