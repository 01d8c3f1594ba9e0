/* Opens the device, the model and the tokenizer for commands that run a model. */
#ifndef CLI_OPEN_MODEL_H
#define CLI_OPEN_MODEL_H

#include "cli/flags/flags.h"
#include "cli/ranks.h"
#include "lckv.h"

#define TORCH_DTYPES "auto|float32|bfloat16|float16"
enum { TORCH_DTYPE_FLOAT16 = 3 }; /* index in TORCH_DTYPES */

#define KV_DTYPES "auto|float32|bfloat16|int8"
#define FLAG_KV_DTYPE(options, member, group)                                                                          \
    {                                                                                                                  \
        "kv_dtype", FLAG_CHOICE, "auto", group,                                                                        \
            "data type of keys and values: auto uses that of the computation; int8 is about half of bfloat16, with a " \
            "scale for each token and KV head",                                                                        \
            FLAG_INTO(options, member), .choices = KV_DTYPES                                                           \
    }

/* Format of the matrices: an index of WEIGHT_DTYPES. */
#define WEIGHT_DTYPES "auto|float|int8|int4"
#define FLAG_WEIGHT_DTYPE(options, member, group)                                                                      \
    {                                                                                                                  \
        "weight_dtype", FLAG_CHOICE, "auto", group,                                                                    \
            "format of the matrices of layers in memory: int8 or int4, in groups of 32 with a scale (embeddings and "  \
            "output layer are then int8); float is the type of --torch_dtype; auto keeps the checkpoint's",            \
            FLAG_INTO(options, member), .choices = WEIGHT_DTYPES                                                       \
    }

/* Flags of a model, for commands with a struct model_flags. `when` is appended to the help of --tokenizer_name: when it
 * is required. */
#define FLAGS_MODEL(options, member, when)                                                                             \
    {"model_name_or_path",                                                                                             \
     FLAG_TEXT,                                                                                                        \
     NULL,                                                                                                             \
     "Model",                                                                                                          \
     "checkpoint: a folder, a GGUF file or ORG/NAME",                                                                  \
     FLAG_INTO(options, member.name),                                                                                  \
     .value = "NAME",                                                                                                  \
     .required = true},                                                                                                \
        {"config_overrides",                                                                                           \
         FLAG_TEXT,                                                                                                    \
         NULL,                                                                                                         \
         "Model",                                                                                                      \
         "changes to the config, such as forward_passes=3,sliding_window=64",                                          \
         FLAG_INTO(options, member.config_overrides),                                                                  \
         .value = "K=V,..."},                                                                                          \
        {"adapter",                                                                                                    \
         FLAG_TEXT,                                                                                                    \
         NULL,                                                                                                         \
         "Model",                                                                                                      \
         "LoRA adapter in peft's format to merge into the weights: a folder or ORG/NAME",                              \
         FLAG_INTO(options, member.adapter),                                                                           \
         .value = "DIR"},                                                                                              \
        {"no_loop_start",                                                                                              \
         FLAG_SWITCH,                                                                                                  \
         NULL,                                                                                                         \
         "Model",                                                                                                      \
         "start loops from zeros instead of the learned start (loop_start.safetensors)",                               \
         FLAG_INTO(options, member.no_loop_start)},                                                                    \
    {                                                                                                                  \
        "tokenizer_name", FLAG_TEXT, NULL, "Model",                                                                    \
            "tokenizer: a folder or ORG/NAME; by default that of the adapter or the model" when,                       \
            FLAG_INTO(options, member.tokenizer_name), .value = "NAME"                                                 \
    }

/* Flags for the iterations of a loop during prefill: an int64_t and a double. */
#define FLAGS_ENCODING_ITERATIONS(options, iterations, tolerance, group)                                               \
    {"encoding_iterations",                                                                                            \
     FLAG_INT,                                                                                                         \
     "0",                                                                                                              \
     group,                                                                                                            \
     "iterations per loop for prompts that are prefilled by the plan; 0 uses forward_passes + backward_passes, or "    \
     "with a learned start as many as are as exact. Fewer iterations are faster and less exact",                       \
     FLAG_INTO(options, iterations),                                                                                   \
     .former = "encoding_runs",                                                                                        \
     .min = 0,                                                                                                         \
     .max = 1 << 16},                                                                                                  \
    {                                                                                                                  \
        "encoding_tolerance", FLAG_NUMBER, "0", group,                                                                 \
            "relative change of keys and values below which iterations stop early; 0 disables it",                     \
            FLAG_INTO(options, tolerance), .min = 0, .max = 0.999                                                      \
    }

/* File of cost tables: `member` is a const char *. See cost_table_path(). */
#define FLAG_COST_TABLE(options, member, group)                                                                        \
    {                                                                                                                  \
        "cost_table", FLAG_TEXT, NULL, group,                                                                          \
            "file of cost tables (durations of steps by rows and depth), by which --encoding auto chooses for models " \
            "with loops. If it has no table of this device and model, one is measured and added; none keeps no "       \
            "table. By default cost_tables.json in the cache folder ($XDG_CACHE_HOME/lckv or ~/.cache/lckv)",          \
            FLAG_INTO(options, member), .value = "FILE"                                                                \
    }

/* How a prompt was processed: "plan" or "sequential". */
const char *encoding_name(lckv_encoding encoding);

/* The file that a value of --cost_table names, NULL: none. Release with free(). */
char *cost_table_path(const char *value);

/* Name of the type at an index of TORCH_DTYPES. */
const char *torch_dtype_name(int torch_dtype);
/* The same for KV_DTYPES. */
const char *kv_dtype_name(int kv_dtype);
/* The type of keys and values with --kv_dtype (an index of KV_DTYPES) and --bf16. */
lckv_dtype kv_dtype_of(int kv_dtype, bool bf16);
/* Name of the format at an index of WEIGHT_DTYPES. */
const char *weight_dtype_name(int weight_dtype);

/* What flags add to a config. */
typedef struct added_overrides {
    int torch_dtype, weight_dtype; /* indices of TORCH_DTYPES and WEIGHT_DTYPES; 0 adds nothing */
    int64_t positions;             /* the smallest number of positions; 0 adds nothing */
} added_overrides;
/* Returns "K=V,..": `overrides` (may be NULL) and what is added. NULL if there are no overrides. Release with
 * free(). */
char *add_overrides(const char *overrides, const added_overrides *added);

/* Values of the flags of a model. */
struct model_flags {
    const char *name;             /* folder or ORG/NAME of the checkpoint */
    const char *config_overrides; /* changes to the config, "K=V,..."; NULL: none */
    const char *adapter;          /* folder or ORG/NAME of a LoRA adapter; NULL: none */
    const char *tokenizer_name;   /* folder or ORG/NAME of the tokenizer; NULL: that of the adapter or the model */
    const char *device;           /* "cpu", "cuda:N", "auto" */
    int torch_dtype;              /* index of TORCH_DTYPES */
    int kv_dtype;                 /* index of KV_DTYPES */
    int weight_dtype;             /* index of WEIGHT_DTYPES */
    int64_t threads;              /* CPU threads; 0 uses all processors */
    bool no_loop_start;           /* start loops from zeros */
    struct rank_flags ranks;
};

/* What a command runs with. The command owns all parts; see close_model(). */
typedef struct opened_model {
    lckv_device *device;
    lckv_model *model;
    lckv_tokenizer *tokenizer; /* NULL: none */
} opened_model;

/* Opens the tokenizer first, because its errors are found fast, then device and model. Without needs_tokenizer, a
 * missing tokenizer is skipped, and an unusable one is skipped with a notice. Returns 0, or an exit code after printing
 * the error; `out` is then empty. */
int open_model(const char *command, const struct model_flags *flags, bool needs_tokenizer, opened_model *out);
void close_model(opened_model *m);
/* On ranks other than 0: opens the same model as open_model() on rank 0, and follows rank 0 until it closes that.
 * Returns an exit code. */
int follow_model(const char *command, const struct model_flags *flags);

/* The folder or ORG/NAME that the tokenizer and the chat template come from. */
const char *model_tokenizer_name(const struct model_flags *flags);
/* Opens only the tokenizer: --tokenizer_name, else the model's own. Returns 0, or an exit code after printing the
 * error. The caller owns it. */
int open_tokenizer(const char *command, const struct model_flags *flags, lckv_tokenizer **out);

/* Returns 0 if the sink cache keeps more tokens than the first ones, else EXIT_USAGE after printing the error. */
int check_sink_cache(const char *command, int64_t num_sink_tokens, int64_t window_length);

/* Opens the chat template of `file`, or of the tokenizer if that is NULL; *out is NULL if it has none. Returns 0, or an
 * exit code after printing the error. The caller owns it. */
int open_chat_template(const char *command, const struct model_flags *flags, const char *file,
                       lckv_chat_template **out);

#endif
