/* Training: options, progress and results of a run, LoRA, instruction tuning, and fitting a learned start of loops. */
#ifndef LCKV_TRAINING_H
#define LCKV_TRAINING_H

#include "base.h"
#include "devices.h"
#include "models.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Learning-rate schedules. All but CONSTANT start with a linear warmup from 0. */
typedef enum lckv_schedule_type {
    LCKV_SCHEDULE_LINEAR,               /* Linear decay to 0 at the last step. */
    LCKV_SCHEDULE_COSINE,               /* Decay to 0 along half a cosine. */
    LCKV_SCHEDULE_CONSTANT,             /* Constant, without warmup. */
    LCKV_SCHEDULE_CONSTANT_WITH_WARMUP, /* Constant after the warmup. */
    LCKV_SCHEDULE_COSINE_WITH_MIN_LR,   /* As cosine, but down to min_lr_rate of the peak. */
    LCKV_SCHEDULE_WARMUP_STABLE_DECAY   /* Constant; in the last num_decay_steps, decay as COSINE_WITH_MIN_LR. */
} lckv_schedule_type;

typedef enum lckv_interval_strategy {
    LCKV_INTERVAL_NO,    /* Never. */
    LCKV_INTERVAL_STEPS, /* Every N steps. */
    LCKV_INTERVAL_EPOCH  /* At the end of each epoch and of the run. */
} lckv_interval_strategy;

/* How models with loops are trained (docs/model.md). */
typedef enum lckv_loop_form {
    LCKV_LOOP_PLAN,      /* By the plan: m iterations without gradient, then b with it. Approximate. */
    LCKV_LOOP_EXACT,     /* At the fixed point: slots are filled token by token, then b backward passes of one pass. */
    LCKV_LOOP_SEQUENTIAL /* Token by token, with gradients through all tokens. Exact and slow. */
} lckv_loop_form;

typedef enum lckv_train_phase {
    LCKV_TRAIN_READING,    /* Reading documents, encoding them and cutting them into blocks. */
    LCKV_TRAIN_STEPPING,   /* A training step has finished. */
    LCKV_TRAIN_EVALUATING, /* Evaluating the validation blocks. */
    LCKV_TRAIN_EVALUATED   /* The evaluation has finished; see `evaluation`. */
} lckv_train_phase;

/* Result of an evaluation on the validation blocks. */
typedef struct lckv_evaluation {
    double loss;       /* Mean over the labels, in nats. */
    double perplexity; /* exp(loss) */
    double accuracy;   /* Fraction of labels with the largest logit (the first of equal ones), 0 to 1. */
    int64_t blocks;
    double seconds; /* Duration. */
} lckv_evaluation;

typedef struct lckv_train_progress {
    lckv_train_phase phase;
    double fraction;      /* Of the phase, 0 to 1. */
    int64_t step, steps;  /* Steps done, and steps in total. The fields from here to `logged` are set while stepping. */
    double loss;          /* Of this step: mean over its labels, in nats. */
    double mean_loss;     /* Mean since the last logged step, this step included, skipped steps excluded. */
    double grad_norm;     /* Of this step, before clipping. */
    double learning_rate; /* Of this step. */
    double tokens_per_second; /* Since the last logged step. */
    double seconds, seconds_left;
    /* The loss or the gradient was not finite, or the gradient norm exceeded skip_grad_norm. No weight changed. */
    bool skipped;
    bool logged;                /* This step has a line in train_log.jsonl. */
    lckv_evaluation evaluation; /* Set in the phase LCKV_TRAIN_EVALUATED only. */
    /* LCKV_LOOP_EXACT: relative distance between the filled slots and those that the recorded pass computes from them,
     * which is rounding. Over this process's share of the step; NAN in the other forms. */
    double loop_residual;
    double loop_start_error; /* Relative squared error of the learned start, as loop_residual; NAN without a start. */
    /* Seconds per step in which this process's computation waited for other processes: mean since the last logged step;
     * NAN with one process. */
    double communication_wait;
} lckv_train_progress;

/* Progress callback. It may be called many times per second, on the trainer's thread. Return false to stop. On a device
 * that works asynchronously (a GPU) the next step has started by then; it is completed and counted. */
typedef bool (*lckv_train_callback)(void *user, const lckv_train_progress *progress);

/* Format of the ids in .bin files, little-endian. */
typedef enum lckv_ids_dtype { LCKV_IDS_UINT16, LCKV_IDS_UINT32 } lckv_ids_dtype;

/* LoRA (Hu et al. 2021): each target matrix W of a layer is frozen and gets two trained matrices of low rank,
 * y = x W^T + alpha / r (dropout(x) A^T) B^T. Names are those of peft, defaults those of trl (ModelConfig), except for
 * dropout. */
typedef struct lckv_lora {
    size_t struct_size; /* Size of this struct, set by lckv_lora_defaults(). */
    int64_t r;          /* Rank (default 16). */
    double alpha;       /* Scale, divided by the rank (default 32). */
    /* Probability, from 0 to below 1, of dropping an element of x before A in training; the others are multiplied by
     * 1 / (1 - dropout). A function of the seed and the step. 0 disables dropout (default; trl's default is 0.05). */
    double dropout;
    /* Modules to adapt: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, or all-linear; NULL for q_proj
     * and v_proj (default). Only layers that own a slot have k_proj and v_proj. */
    const char *const *target_modules;
    int target_module_count; /* Number of modules. */
} lckv_lora;

LCKV_API void lckv_lora_init(lckv_lora *options, size_t struct_size);
static inline lckv_lora lckv_lora_defaults(void) {
    lckv_lora options;
    lckv_lora_init(&options, sizeof options);
    return options;
}

/* Which tokens of a row with prompt and completion are trained on. */
typedef enum lckv_completion_loss {
    LCKV_COMPLETION_LOSS_AUTO, /* The completion, as YES; also the default of trl. */
    LCKV_COMPLETION_LOSS_YES,  /* The completion. */
    LCKV_COMPLETION_LOSS_NO    /* Prompt and completion. */
} lckv_completion_loss;

/* Instruction tuning, as trl's SFTTrainer (0.24) does it. A row has messages, prompt and completion, text, or Alpaca's
 * fields, and is one example. Names are those of SFTConfig if it has them. */
typedef struct lckv_tuning {
    size_t struct_size;             /* Size of this struct, set by lckv_tuning_defaults(). */
    const char *chat_template;      /* File with a chat template; NULL for the tokenizer's (default). */
    const char *dataset_text_field; /* Name of the text field (default "text"). */
    bool packing;                   /* Several rows per example; each row attends only to itself (default false). */
    bool drop_long;                 /* Drop rows longer than block_size tokens (default false: truncate at the end). */
    /* Train only on what the template marks with {% generation %} (default false: on whole conversations). */
    bool assistant_only_loss;
    lckv_completion_loss completion_only_loss; /* Loss on prompt and completion (default auto). */
} lckv_tuning;

LCKV_API void lckv_tuning_init(lckv_tuning *options, size_t struct_size);
static inline lckv_tuning lckv_tuning_defaults(void) {
    lckv_tuning options;
    lckv_tuning_init(&options, sizeof options);
    return options;
}

/* Names and defaults are those of TrainingArguments 4.45 and run_clm.py. */
typedef struct lckv_train_options {
    size_t struct_size; /* Size of this struct, set by lckv_train_defaults(). */
    /* -- Model. At least one of model_name_or_path and config_name is required. -- */
    const char *model_name_or_path; /* NAME_OR_PATH of the weights to start from; NULL for random weights by `seed`. */
    /* Config of the model: folder, .json file or ORG/NAME. With model_name_or_path, the weights are first converted to
     * this config as by lckv_convert(). NULL for the config of the weights. */
    const char *config_name;
    lckv_convert_kv kv;           /* How KV weights are formed in such a conversion (default: the average). */
    const char *config_overrides; /* Changes to the config, "k=v,k=v"; NULL for none. */
    lckv_loop_form loop_form; /* (default: LCKV_LOOP_PLAN, or LCKV_LOOP_SEQUENTIAL if the config has use_sequential) */
    /* LCKV_LOOP_EXACT: number of examples whose slots are filled together, at least a micro-batch. 0 (default): all
     * examples of a step and process, or as many as memory allows. */
    int64_t loop_group_size;
    /* Train a LoRA adapter; the weights of model_name_or_path are frozen, without f32 masters or moments (default
     * false). The output is an adapter in peft's layout instead of a model. */
    bool use_peft;
    const lckv_lora *lora;      /* Shape of the adapter, used with use_peft; NULL for the defaults (default). */
    const char *tokenizer_name; /* NAME_OR_PATH of the tokenizer; NULL for the model's own. Required for text data. */

    /* -- Data. -- */
    /* Training data: files, folders (all data files in them) and patterns such as a/b-*.jsonl, with text, JSON, CSV or
     * ids, plain or compressed (docs/data.md). Together they are one corpus, in this order. If each has the form
     * NAME:WEIGHT, each is a corpus and WEIGHT (divided by the sum) is its share of the blocks of an epoch; the epoch
     * ends when the first corpus ends. */
    const char *const *train_files;
    /* Data set: a file, a folder, or ORG/NAME in the Hugging Face cache, with files for training and for validation. It
     * is used for those of train_files and validation_files that are not given. NULL for none. */
    const char *dataset_name;
    const char *dataset_config_name;     /* Word in the path of the data set's files to use; NULL for all files. */
    int train_file_count;                /* Number of train_files. */
    const char *const *validation_files; /* Validation data, same forms; evaluated at the end of training. */
    int validation_file_count;           /* Number of validation_files. */

    /* -- Output. -- */
    const char *output_dir; /* Folder for the model, tokenizer, checkpoints and logs (docs/watching.md); created. */
    /* Start anew in an output_dir that has files; old checkpoints are removed once the first one of this run is
     * complete (default false: resume). */
    bool overwrite_output_dir;
    /* Instruction tuning; NULL for documents that are joined and cut into blocks (default). With it, block_size is the
     * maximum length of a row, max_train_samples and max_eval_samples count rows, and the data options from
     * keep_linebreaks to document_mask are not used. The saved checkpoint contains the chat template. */
    const lckv_tuning *tuning;
    bool do_train, do_eval; /* Train; evaluate at the end if there is validation data (default true). */

    /* -- Documents and blocks (docs/data.md). -- */
    bool keep_linebreaks; /* Encode a line of a text file with its line break (default true). */
    /* Field of JSON rows or column of CSV; NULL for `input_ids` or `text` in JSON, and for `text`, else the first
     * column, in CSV (default). */
    const char *text_column;
    lckv_ids_dtype ids_dtype; /* Format of .bin files (default uint16). */
    bool append_eos;          /* Append EOS to each text if the tokenizer does not (default false). */
    /* Folder of the cache of tokenized data; NULL for lckv-ids in HF_HOME or ~/.cache/huggingface (default). */
    const char *token_cache_dir;
    bool overwrite_cache;              /* Encode again and replace cached data (default false). */
    int64_t preprocessing_num_workers; /* Encoding threads; 0 for all processors, at most 16 (default). */
    /* Cut all documents together into blocks. Default false: cut each thousand documents separately and drop the rest.
     */
    bool group_all;
    /* Restrict attention and positions to documents; the last token of a document predicts nothing (default false). */
    bool document_mask;
    int64_t max_train_samples; /* Maximum number of training blocks, from the first; 0 for all (default). */
    int64_t max_eval_samples;  /* Maximum number of validation blocks, from the first; 0 for all (default). */
    /* Percentage of the training documents, from the first, to use as validation data if there is none; 0 for none
     * (default). */
    int64_t validation_split_percentage;
    int64_t block_size; /* Block length in tokens; 0 for max_position_embeddings, at most 1024 (default). */

    /* -- Batches and steps. -- */
    int64_t per_device_train_batch_size; /* Micro-batch size in blocks (default 8). */
    /* Reduce the micro-batch size until it fits into memory; the blocks per step (micro-batch size times accumulation
     * steps) are unchanged. Single process only. Default false: a run that does not fit is rejected. */
    bool auto_find_batch_size;
    int64_t memory_limit;                /* Device memory to use, in bytes; 0 for the memory that is free (default). */
    int64_t per_device_eval_batch_size;  /* Blocks per batch in evaluations (default 8). */
    int64_t gradient_accumulation_steps; /* Micro-batches per step (default 1). */
    double num_train_epochs;             /* Epochs to train (default 3); not used if max_steps is set. */
    int64_t max_steps;                   /* Steps to train; -1 to use num_train_epochs (default). */
    bool shuffle;                        /* Shuffle the blocks in each epoch by `seed` (default true). */
    int64_t seed;                        /* Random seed (default 42). */

    /* -- Optimizer and learning-rate schedule. -- */
    lckv_schedule_type lr_scheduler_type; /* Schedule (default linear). */
    double learning_rate;                 /* Peak learning rate (default 5e-5). */
    int64_t warmup_steps;                 /* Warmup steps; 0 to use warmup_ratio (default). */
    double warmup_ratio;                  /* Warmup as a fraction of all steps, 0 to 1 (default 0). */
    double min_lr_rate;                   /* Final learning rate as a fraction of the peak, 0 to 1 (default 0). */
    int64_t num_decay_steps; /* Decay steps of warmup_stable_decay; 0 for a tenth of all steps, rounded up (default). */
    double weight_decay;     /* Weight decay, of matrices only (default 0). */
    double adam_beta1;       /* Decay rate of the gradient average (default 0.9). */
    double adam_beta2;       /* Decay rate of the squared-gradient average (default 0.999). */
    double adam_epsilon;     /* Term added to the denominator (default 1e-8). */
    double max_grad_norm;    /* Maximum gradient norm; 0 disables clipping (default 1). */
    int64_t max_skipped_steps; /* Maximum number of steps with a non-finite loss or gradient, which are skipped; one
                                  more ends the run (default 0). */
    double skip_grad_norm;     /* Gradient norm above which a step is skipped; 0 disables skipping (default). */

    /* -- Precision and memory. -- */
    bool bf16; /* Compute products and attention in bfloat16 with f32 master weights (default false: all in f32). */
    /* Data type of the weights. "bfloat16", together with bf16: weights and moments in bfloat16 with stochastic
     * rounding by `seed`, 6 instead of 14 bytes per parameter, and 4 for its gradient; checkpoints are bfloat16 too.
     * NULL (default), "auto" and "float32": f32. */
    const char *torch_dtype;
    /* Activation checkpointing: keep only the inputs of layers and recompute the rest in the backward pass (default
     * false). Results are bit-identical; training takes less memory and more time. Not with LCKV_LOOP_SEQUENTIAL. */
    bool gradient_checkpointing;

    /* -- Logs, checkpoints and evaluation. -- */
    int64_t logging_steps; /* Steps between lines in train_log.jsonl; the last step also gets one (default 500). */
    /* When to save training checkpoints, OUTPUT_DIR/checkpoint-STEP (default: steps). Unless it is NO, the last step
     * gets one too. */
    lckv_interval_strategy save_strategy;
    double save_steps;        /* Steps between checkpoints; below 1, a fraction of all steps (default 500). */
    int64_t save_total_limit; /* Number of newest checkpoints to keep, besides the best; 0 keeps all (default). */
    /* Checkpoint to resume from: a folder, or "True" for the newest valid one in output_dir, which must exist; NULL for
     * the newest valid one if there is one (default). */
    const char *resume_from_checkpoint;
    lckv_interval_strategy eval_strategy; /* When to evaluate during training (default: no, only at the end). */
    double eval_steps;                    /* Steps between evaluations; below 1, a fraction; 0 for logging_steps. */
    bool load_best_model_at_end; /* Save the checkpoint with the lowest evaluation loss as the model (default false). */
    /* Consecutive evaluations without improvement after which the run ends; 0 disables early stopping (default). */
    int64_t early_stopping_patience;

    /* -- Device and processes. -- */
    const char *device; /* Device, as in lckv_device_open() (default "auto"). */
    int threads;        /* CPU threads; 0 for all processors that this process may use (default). */
    /* Processes that train together, which must outlive the trainer; NULL for this process alone (default). Batch sizes
     * are per process: a step has that number of blocks from each of them. */
    lckv_processes *processes;

    /* -- Reports. -- */
    bool tensorboard;        /* Write TensorBoard event files to logging_dir. */
    const char *logging_dir; /* Folder of the event files; NULL for OUTPUT_DIR/runs. */
    const char *run_name;    /* Subfolder of logging_dir, so that runs can share it; NULL for logging_dir itself. */
    const char *command;     /* Command line that started the run, recorded in training_args.json; NULL if unknown. */

    lckv_train_callback callback; /* Progress callback; NULL for none (default). */
    void *user;                   /* User data, passed to the callback. */

    /* -- Learned start (docs/model.md). -- */
    /* Train a start of the model's loops beside the model, by regression on the keys and values that the loops end
     * with; it continues from that of model_name_or_path if there is one. Not with LCKV_LOOP_SEQUENTIAL or use_peft
     * (default false). */
    bool loop_start;
    double loop_start_weight; /* Weight of its mean squared error beside the loss (default 1). */
    int64_t loop_start_width; /* Width of a new start's hidden layer; 0 for 2 * hidden_size (default). */
    /* -- Several processes (docs/processes.md). -- */
    int64_t zero; /* ZeRO stage: 1 divides the optimizer state between them (default), 3 also weights and gradients. */
    /* zero 3: Gather the weights of a loop's layers in each iteration, instead of once for all. Needs less memory and
     * communicates more (default false). */
    bool zero_regather_loops;
    /* zero 3: Data type of the sum of gradients that a process keeps: "float32" (also NULL and "auto"), or "bfloat16",
     * which needs torch_dtype bfloat16 and takes 2 bytes less per parameter (default NULL). */
    const char *grad_accum_dtype;

    /* Format of the frozen matrices with use_peft: "int8", "int4", "float", or "auto" or NULL for that of
     * model_name_or_path (default). Quantized matrices are not trained, so that int8 and int4 need use_peft. */
    const char *weight_dtype;

    /* -- Exact training (docs/model.md). -- */
    /* LCKV_LOOP_EXACT: Fraction of the steps that run by the plan, from 0 to below 1, evenly spread by the number of
     * the step; they train the model for few iterations too. 0 (default): none. */
    double loop_plan_share;
    /* LCKV_LOOP_EXACT: Weight of the mean squared error of keys and values after one iteration from the start (zeros,
     * or the learned one) beside the loss. It takes one more iteration per step. 0 (default): none. */
    double loop_iteration_weight;
} lckv_train_options;

LCKV_API void lckv_train_options_init(lckv_train_options *options, size_t struct_size);
static inline lckv_train_options lckv_train_defaults(void) {
    lckv_train_options options;
    lckv_train_options_init(&options, sizeof options);
    return options;
}

/* Fitting a learned start of a model's loops (docs/model.md, "A learned start"). */
typedef struct lckv_fit_options {
    size_t struct_size;             /* Size of this struct, set by lckv_fit_defaults(). */
    const char *model_name_or_path; /* Model with loops; required. */
    const char *tokenizer_name;     /* NAME_OR_PATH of the tokenizer; NULL for the model's own (default). */
    const char *const *files;       /* Plain text, one document per file; at least one. */
    int file_count;
    const char *output_dir; /* Folder of the same model, which gets loop_start.safetensors; required. */
    int64_t block_size;     /* Tokens per sequence; 0 for 512, or the model's positions if fewer (default). */
    int64_t width;          /* Width of the hidden layer; 0 for 2 * hidden_size (default). */
    int64_t steps;          /* Steps of 4,096 tokens; 0 for a number that follows from the text (default). */
    double learning_rate;   /* Highest learning rate (default 3e-3). */
    uint64_t seed;          /* Of initial weights and order (default 42). */
    bool bf16;              /* Compute in bf16 instead of f32 (default false). */
    /* Progress callback with the part of the work and the fraction of it done, 0 to 1. Return false to stop. NULL for
     * none. */
    bool (*go_on)(void *user, const char *part, double fraction);
    void *user; /* User data, passed to `go_on`. */
} lckv_fit_options;

#define LCKV_FIT_ITERATIONS 64

typedef struct lckv_fit_result {
    int64_t tokens, held_out_tokens; /* Fitted to; used to measure the divergence. */
    int64_t parameters, steps;
    double relative_error;                /* Squared error of keys and values over their squares. */
    int plan_iterations;                  /* forward_passes + backward_passes. */
    int default_iterations;               /* Iterations with which prompts are read from now on. */
    int measured;                         /* Entries of kl_zeros and kl_start. */
    double kl_zeros[LCKV_FIT_ITERATIONS]; /* Mean KL divergence from the exact form, nats per token, after */
    double kl_start[LCKV_FIT_ITERATIONS]; /* 1, 2, ... iterations: from zeros, from the start. */
} lckv_fit_result;

LCKV_API void lckv_fit_options_init(lckv_fit_options *options, size_t struct_size);
static inline lckv_fit_options lckv_fit_defaults(void) {
    lckv_fit_options options;
    lckv_fit_options_init(&options, sizeof options);
    return options;
}

/* Fits a small network that predicts the keys and values which a model's loops converge to, and writes it to
 * output_dir/loop_start.safetensors. The model's weights do not change. lckv_model_open() loads the file if it is
 * there; loops then need fewer iterations. The device remains the caller's.
 *   LCKV_ERROR_UNSUPPORTED: the model has no loop.
 *   LCKV_ERROR_FORMAT: the text is too short for two blocks.
 *   LCKV_ERROR_INTERRUPTED: `go_on` returned false; nothing was written. */
LCKV_API int lckv_fit_loop_start(lckv_device *device, const lckv_fit_options *options, lckv_fit_result *result);

/* The work that a trainer is about to do. */
typedef struct lckv_train_summary {
    int64_t parameters;                                  /* Those of an adapter included. */
    int64_t trainable_parameters;                        /* All parameters, or the adapter's only. */
    int64_t block_size, train_blocks, validation_blocks; /* Blocks as run_clm.py groups them (docs/data.md). */
    int64_t train_tokens;                                /* Of the training documents, dropped ones included. */
    int64_t steps_per_epoch;                             /* The last step of an epoch may be smaller. */
    int64_t steps;
    int64_t first_step;     /* Steps done before: those of the checkpoint that the run resumes from. */
    double flops_per_token; /* Of training: forward and backward, all iterations of loops included. */
} lckv_train_summary;

typedef struct lckv_train_result {
    int64_t steps, tokens;         /* Done in total, also before this process. */
    int64_t skipped_steps;         /* Of these, steps with a non-finite loss or gradient. */
    int64_t new_steps, new_tokens; /* Done by this process; 0 if nothing was left to do. */
    double seconds;                /* Training time of this process; 0 without new steps. */
    double tokens_per_second;      /* Of this process; NAN without new steps. */
    double train_loss;             /* Mean over all steps that were not skipped, also before this process. */
    double eval_loss;              /* Mean over the labels of the validation data; NAN without. */
    double perplexity;             /* exp(eval_loss) */
    double eval_accuracy;          /* Fraction of these labels with the largest logit, 0 to 1; NAN without. */
    double communication_wait; /* As in lckv_train_progress: mean over new_steps; NAN without, or with one process. */
} lckv_train_result;

/* Tokenized data in the cache. */
typedef struct lckv_tokenized {
    int64_t documents, tokens;
    char *path; /* File in token_cache_dir; free it with lckv_free(). */
} lckv_tokenized;

/* Encodes train_files as lckv_trainer_create() would and caches the ids, unless they are in the cache. It does not
 * train. Options used: tokenizer_name (required for text), those that define documents, token_cache_dir,
 * overwrite_cache, preprocessing_num_workers, and the callback. */
LCKV_API int lckv_tokenize(const lckv_train_options *options, lckv_tokenized *out);

/* A training run. */
typedef struct lckv_trainer lckv_trainer;

/* Checks the options, reads the data, and loads or creates the model. If the tokenizer has more tokens than the model
 * has embedding rows, lckv adds rows, drawn with the config's initializer range, and logs it. If output_dir has
 * checkpoints (and overwrite_output_dir is false), the run resumes from the newest valid one; a warning names damaged
 * ones. One run at a time writes to a folder. This function writes only the folder's run.lock. LCKV_ERROR_MEMORY: the
 * run would not fit, by the estimate of the counting device; nothing has been read. LCKV_ERROR_ARGUMENT: an option is
 * out of range, or output_dir has files but no checkpoint. LCKV_ERROR_FORMAT: all checkpoints, or the requested one,
 * are damaged. LCKV_ERROR_INTERRUPTED: the callback asked to stop. */
LCKV_API int lckv_trainer_create(const lckv_train_options *options, lckv_trainer **out);
LCKV_API lckv_train_summary lckv_trainer_summary(const lckv_trainer *trainer);

/* Measures the FLOP/s of plain matrix products, in the trainer's data type and on its device, times the number of
 * processes. Compare the speed of training with it. It takes a fraction of a second. Call it on the trainer's thread
 * while lckv_trainer_run() is not running. */
LCKV_API int lckv_trainer_peak(lckv_trainer *trainer, double *flops_per_second);
/* Returns the memory footprint of this process in bytes; on a GPU, the memory that all processes use there. 0 if
 * unknown. */
LCKV_API int64_t lckv_trainer_memory(const lckv_trainer *trainer);

/* Trains, evaluates, and saves the model to output_dir as a Hugging Face folder. Call it once per trainer. `result` may
 * be NULL. The optimizer is AdamW. The loss of a step is the sum over all of its labels divided by their number,
 * accumulated micro-batches included.
 *
 * A resumed run ends with the same bytes as an uninterrupted one if threads, CPU features and options are the same;
 * otherwise lckv logs a warning. A checkpoint that cannot be written (a full disk) is a warning, and training
 * continues. LCKV_ERROR_INTERRUPTED: the callback asked to stop. A checkpoint has been written, and *result describes
 * the run so far. LCKV_ERROR_NUMERIC: more than max_skipped_steps losses or gradients are not finite. The message names
 * the step and the last checkpoint; a model that was in output_dir is unchanged. */
LCKV_API int lckv_trainer_run(lckv_trainer *trainer, lckv_train_result *result);
LCKV_API void lckv_trainer_free(lckv_trainer *trainer);

#ifdef __cplusplus
}
#endif
#endif
