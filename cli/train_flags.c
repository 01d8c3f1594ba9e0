/* The flags of lckv train: run_clm.py's and TrainingArguments', see train_flags.h. */
#include "train_flags.h"
#include "foreign_flags.h"

#include <math.h>

#define AT(member) .offset = offsetof(struct train_flags, member)
static const flag FLAGS[] = {
    {"config_name", FLAG_TEXT, NULL, "Model",
     "begin with random weights of this config: a folder, a .json file or ORG/NAME", AT(train.config_name)},
    {"model_name_or_path", FLAG_TEXT, NULL, "Model", "go on from this checkpoint: a folder or ORG/NAME",
     AT(train.model_name_or_path)},
    {"config_overrides", FLAG_TEXT, NULL, "Model",
     "changes to the config: layer_types=0_6_6_6_6_6_6_7,forward_passes=7", AT(train.config_overrides),
     .value = "K=V,..."},
    {"tokenizer_name", FLAG_TEXT, NULL, "Model",
     "folder or ORG/NAME; the model's own one unless given, needed where there is text. Where it has more tokens than "
     "the model, the model gets rows for them",
     AT(train.tokenizer_name)},
    {"train_file", FLAG_LIST, NULL, "Data",
     "files to train on, one corpus in this order: text (a line is a document, its break kept), or JSON lines with "
     "text or input_ids (.jsonl, .ndjson, .json)",
     AT(train_files), .value = "FILES", .required = true},
    {"validation_file", FLAG_LIST, NULL, "Data", "files of the same kinds, evaluated at the end", AT(validation_files),
     .value = "FILES"},
    {"block_size", FLAG_INT, "0", "Data",
     "tokens of a training sequence: documents are joined and cut, a thousand at a time, as run_clm.py does it; 0: the "
     "model's max_position_embeddings, at most 1024",
     AT(train.block_size), .min = 0, .max = 2147483647},
    {"no_shuffle", FLAG_SWITCH, NULL, "Data", "take blocks in their order, every epoch", AT(no_shuffle)},

    {"output_dir", FLAG_TEXT, NULL, "Output", "folder for the model, its tokenizer and train_log.jsonl",
     AT(train.output_dir), .required = true},
    {"overwrite_output_dir", FLAG_SWITCH, NULL, "Output", "even if the folder is not empty",
     AT(train.overwrite_output_dir)},
    {"logging_steps", FLAG_INT, "500", "Output", "steps between lines of the log; the last step has one too",
     AT(train.logging_steps), .min = 1, .max = INFINITY},

    {"per_device_train_batch_size", FLAG_INT, "8", "Steps", "blocks run at a time",
     AT(train.per_device_train_batch_size), .min = 1, .max = 2147483647},
    {"gradient_accumulation_steps", FLAG_INT, "1", "Steps",
     "batches whose gradients make one step; at the end of an epoch a step takes what is left",
     AT(train.gradient_accumulation_steps), .min = 1, .max = 2147483647},
    {"num_train_epochs", FLAG_NUMBER, "3", "Steps", "times to go through the data", AT(train.num_train_epochs),
     .min = 1e-6, .max = 1e9},
    {"max_steps", FLAG_INT, "-1", "Steps", "steps to do, instead of epochs", AT(train.max_steps), .min = -1,
     .max = INFINITY},
    {"seed", FLAG_INT, "42", "Steps", "of fresh weights and of the order of blocks", AT(train.seed), .min = 0,
     .max = INFINITY},

    {"learning_rate", FLAG_NUMBER, "5e-5", "Optimizer", "AdamW's, the highest of the schedule", AT(train.learning_rate),
     .min = 0, .max = 1e6},
    {"lr_scheduler_type", FLAG_CHOICE, "linear", "Optimizer", "how the learning rate goes on after warming up",
     AT(train.lr_scheduler_type), .choices = "linear|cosine|constant|constant_with_warmup"},
    {"warmup_steps", FLAG_INT, "0", "Optimizer", "steps of rising from 0 (constant does not warm up)",
     AT(train.warmup_steps), .min = 0, .max = INFINITY},
    {"warmup_ratio", FLAG_NUMBER, "0", "Optimizer", "the same as a share of all steps, where warmup_steps is 0",
     AT(train.warmup_ratio), .min = 0, .max = 1},
    {"weight_decay", FLAG_NUMBER, "0", "Optimizer", "of matrices, not of norms and biases", AT(train.weight_decay),
     .min = 0, .max = 1e6},
    {"adam_beta1", FLAG_NUMBER, "0.9", "Optimizer", "memory of the gradient", AT(train.adam_beta1), .min = 0,
     .max = 0.9999999},
    {"adam_beta2", FLAG_NUMBER, "0.999", "Optimizer", "memory of its square", AT(train.adam_beta2), .min = 0,
     .max = 0.9999999},
    {"adam_epsilon", FLAG_NUMBER, "1e-8", "Optimizer", "added to the root of the square", AT(train.adam_epsilon),
     .min = 0, .max = 1},
    {"max_grad_norm", FLAG_NUMBER, "1", "Optimizer", "longer gradients are shortened to this; 0: never",
     AT(train.max_grad_norm), .min = 0, .max = INFINITY},
    {"bf16", FLAG_SWITCH, NULL, "Optimizer", "products and attention in bfloat16, with master weights in float32",
     AT(train.bf16)},

    {"use_cpu", FLAG_SWITCH, NULL, "Common", "the same as --device cpu", AT(use_cpu)},
    {"no_cuda", FLAG_SWITCH, NULL, "Common", "the same as --device cpu", AT(no_cuda)},
    FLAG_DEVICE(struct train_flags, train.device),
    FLAG_THREADS(struct train_flags, threads),
    FLAG_ARGS_FILE(struct train_flags, args_file),
    FLAG_JSON(struct train_flags, json),
    {0},
};
const flag_table TRAIN_FLAGS = {
    "train",
    "Trains a model on text or token ids and writes it as a Hugging Face folder. The learning rate, the loss and the "
    "speed are logged in train_log.jsonl. Ctrl-C writes what there is.",
    "(--config_name CONFIG | --model_name_or_path MODEL) --train_file FILES --output_dir DIR", FLAGS, TRAINING_FOREIGN};
