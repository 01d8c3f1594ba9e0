/* Opening what generate and score work with: a device, a model on it, and its tokenizer where there is text. */
#ifndef CLI_MODEL_H
#define CLI_MODEL_H

#include "flags.h"
#include "lckv.h"

#define TORCH_DTYPES "auto|float32|bfloat16|float16"
enum { TORCH_DTYPE_FLOAT16 = 3 }; /* its place among them */

/* The flags that name a model, for tables of commands that have a struct model_flags. `when` ends the help of
 * --tokenizer_name: in which case it is asked for. */
#define FLAGS_MODEL(options, member, when)                                                                             \
    {"model_name_or_path",                                                                                             \
     FLAG_TEXT,                                                                                                        \
     NULL,                                                                                                             \
     "Model",                                                                                                          \
     "checkpoint: a folder or ORG/NAME",                                                                               \
     FLAG_INTO(options, member.name),                                                                                  \
     .value = "NAME",                                                                                                  \
     .required = true},                                                                                                \
        {"config_overrides",                                                                                           \
         FLAG_TEXT,                                                                                                    \
         NULL,                                                                                                         \
         "Model",                                                                                                      \
         "changes to its config, such as forward_passes=3,sliding_window=64",                                          \
         FLAG_INTO(options, member.config_overrides),                                                                  \
         .value = "K=V,..."},                                                                                          \
        {"adapter",                                                                                                    \
         FLAG_TEXT,                                                                                                    \
         NULL,                                                                                                         \
         "Model",                                                                                                      \
         "folder or ORG/NAME of a LoRA adapter (peft's files) to merge into the weights",                              \
         FLAG_INTO(options, member.adapter),                                                                           \
         .value = "DIR"},                                                                                              \
    {                                                                                                                  \
        "tokenizer_name", FLAG_TEXT, NULL, "Model",                                                                    \
            "folder or ORG/NAME of the tokenizer; the adapter's or the model's own one unless given" when,             \
            FLAG_INTO(options, member.tokenizer_name), .value = "NAME"                                                 \
    }

/* The flags that choose among tokens, for structs whose `member` has temperature, top_k, top_p, min_p and
 * repetition_penalty; top_k and top_p differ in their defaults. */
#define FLAGS_SAMPLING(options, member, group, top_k_default, top_p_default)                                           \
    {"temperature",                                                                                                    \
     FLAG_NUMBER,                                                                                                      \
     "1.0",                                                                                                            \
     group,                                                                                                            \
     "divides logits; 0: the most probable token always",                                                              \
     FLAG_INTO(options, member.temperature),                                                                           \
     .min = 0,                                                                                                         \
     .max = INFINITY},                                                                                                 \
        {"k",                                                                                                          \
         FLAG_INT,                                                                                                     \
         top_k_default,                                                                                                \
         group,                                                                                                        \
         "choose from the k most probable tokens; 0: from all",                                                        \
         FLAG_INTO(options, member.top_k),                                                                             \
         .min = 0,                                                                                                     \
         .max = INT32_MAX},                                                                                            \
        {"p",                                                                                                          \
         FLAG_NUMBER,                                                                                                  \
         top_p_default,                                                                                                \
         group,                                                                                                        \
         "choose from the fewest tokens whose probabilities come to p; 1: from all",                                   \
         FLAG_INTO(options, member.top_p),                                                                             \
         .min = 0,                                                                                                     \
         .max = 1},                                                                                                    \
        {"min_p",                                                                                                      \
         FLAG_NUMBER,                                                                                                  \
         "0",                                                                                                          \
         group,                                                                                                        \
         "choose from tokens at least min_p times as probable as the most probable one; 0: from all",                  \
         FLAG_INTO(options, member.min_p),                                                                             \
         .min = 0,                                                                                                     \
         .max = 1},                                                                                                    \
    {                                                                                                                  \
        "repetition_penalty", FLAG_NUMBER, "1.0", group, "above 1: tokens that occurred are less likely",              \
            FLAG_INTO(options, member.repetition_penalty), .min = 1e-3, .max = 1e3                                     \
    }

/* The flags that say how many runs a loop takes for a prompt: an int64_t and a double. */
#define FLAGS_ENCODING_ITERATIONS(options, runs, tolerance, group)                                                     \
    {"encoding_runs",                                                                                                  \
     FLAG_INT,                                                                                                         \
     "0",                                                                                                              \
     group,                                                                                                            \
     "runs of a loop for a prompt that is encoded by the plan; 0: forward_passes + backward_passes. Fewer are faster " \
     "and less exact",                                                                                                 \
     FLAG_INTO(options, runs),                                                                                         \
     .min = 0,                                                                                                         \
     .max = 1 << 16},                                                                                                  \
    {                                                                                                                  \
        "encoding_tolerance", FLAG_NUMBER, "0", group,                                                                 \
            "the runs end early once keys and values move less than this part of their length; 0: never",              \
            FLAG_INTO(options, tolerance), .min = 0, .max = 0.999                                                      \
    }

/* The name of an index into TORCH_DTYPES. */
const char *torch_dtype_name(int torch_dtype);
/* "K=V,..": `overrides` (NULL: none), with torch_dtype unless it is auto and with at least `positions` positions unless
 * that is 0. The caller's, free(); NULL where there are none. */
char *add_overrides(const char *overrides, int torch_dtype, int64_t positions);

struct model_flags {
    const char *name, *config_overrides, *adapter, *tokenizer_name, *device;
    int torch_dtype; /* index into TORCH_DTYPES */
    int64_t threads;
};

typedef struct opened_model {
    lckv_device *device;
    lckv_model *model;
    lckv_tokenizer *tokenizer; /* NULL where there is none */
} opened_model;

/* The tokenizer, then device and model (the tokenizer's errors come fast). Without needs_tokenizer, the model's own one
 * is left out where it is absent, and with a notice where it is of no use. 0, or an exit code after the message; `out`
 * is then empty. */
int open_model(const char *command, const struct model_flags *flags, bool needs_tokenizer, opened_model *out);
void close_model(opened_model *m);

/* The folder or ORG/NAME whose tokenizer, and chat template, the flags mean. */
const char *model_tokenizer_name(const struct model_flags *flags);
/* The tokenizer that the flags mean, alone: a named one, else the model's own. 0, or an exit code after the message.
 * The caller owns it. */
int open_tokenizer(const char *command, const struct model_flags *flags, lckv_tokenizer **out);

/* The chat template: of `file`, or of the same tokenizer where that is NULL; *out is NULL where it has none. 0, or an
 * exit code after the message. The caller owns it. */
int open_chat_template(const char *command, const struct model_flags *flags, const char *file,
                       lckv_chat_template **out);

#endif
