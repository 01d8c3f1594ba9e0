/* lckv sft: instruction tuning. Its flags are those of train (train_flags.h) without the flags of document blocks, plus
 * flags of instruction rows with the names and defaults of trl (SFTConfig 0.24). */
#include "cli/flags/foreign_flags.h"
#include "cli/output/output.h"
#include "cli/train_run.h"
#include "commands.h"

#include <string.h>

/* Values of the flags. */
struct sft_flags {
    struct train_flags train;         /* must be first: the flags of train have offsets in it */
    lckv_tuning tuning;               /* set directly by most flags of rows */
    int long_rows;                    /* index of the choice: cut, drop */
    const char *completion_only_loss; /* "True", "False"; NULL: chosen by the kind of rows */
};

#define TUNING(member) .offset = offsetof(struct sft_flags, tuning.member)

static const flag ROWS[] = {
    {"chat_template", FLAG_TEXT, NULL, "Rows",
     "file with the Jinja chat template; by default the tokenizer's own. It is saved with the tuned checkpoint",
     TUNING(chat_template), .value = "FILE"},
    {"dataset_text_field", FLAG_TEXT, "text", "Rows", "field with the text in rows of plain text",
     TUNING(dataset_text_field), .value = "NAME"},
    {"max_seq_length", FLAG_INT, "0", "Rows",
     "maximum number of tokens per row; 0 uses the model's max_position_embeddings, at most 1024",
     .offset = offsetof(struct sft_flags, train.train.block_size), .min = 0, .max = 2147483647},
    {"long_rows", FLAG_CHOICE, "cut", "Rows",
     "handling of longer rows: cut truncates them, drop skips them; lckv reports how many",
     .offset = offsetof(struct sft_flags, long_rows), .choices = "cut|drop"},
    {"packing", FLAG_SWITCH, NULL, "Rows",
     "pack several rows into one example of max_seq_length tokens; rows do not attend to each other", TUNING(packing)},
    {"assistant_only_loss", FLAG_SWITCH, NULL, "Rows",
     "compute the loss only on the parts of conversations that the chat template marks with {% generation %}",
     TUNING(assistant_only_loss)},
    {"completion_only_loss", FLAG_TEXT, NULL, "Rows",
     "compute the loss only on the completion in rows with prompt and completion; True unless set to False",
     .offset = offsetof(struct sft_flags, completion_only_loss), .value = "True|False", .implicit = "True"},
    {0},
};

/* Flags of SFTConfig, ModelConfig and ScriptArguments that have no effect here; those of TrainingArguments are in
 * TRAINING_FOREIGN. */
static const foreign_flag FOREIGN[] = {
    {"use_liger", FLAG_SWITCH, "norms, rotations, SwiGLU and the loss are always fused"},
    {"max_length", .alias_of = "max_seq_length"},
    {"chat_template_path", .alias_of = "chat_template"},
    {"packing_strategy", FLAG_TEXT, .refused = "rows are packed whole, best fit decreasing", .accepted = "bfd"},
    {"eval_packing", FLAG_SWITCH, .refused = "evaluation rows are packed like training rows"},
    {"padding_free", FLAG_SWITCH, "rows are never padded"},
    {"pad_token", FLAG_TEXT, "rows are never padded"},
    {"pad_to_multiple_of", FLAG_TEXT, "rows are never padded"},
    {"eos_token", FLAG_TEXT, .refused = "the tokenizer defines EOS", .accepted = "None"},
    {"dataset_num_proc", FLAG_TEXT, "rows are read once, in one pass"},
    {"dataset_kwargs", FLAG_TEXT, .refused = "rows are always formatted and tokenized", .accepted = "None|{}"},
    {"loss_type", FLAG_TEXT, .refused = "the loss is cross-entropy", .accepted = "nll"},
    {"activation_offloading", FLAG_SWITCH, .refused = "--gradient_checkpointing saves memory", .accepted = "False"},
    {"load_in_8bit", FLAG_SWITCH,
     .refused = "bitsandbytes is not used; --weight_dtype int8 quantizes the frozen weights", .accepted = "False"},
    {"load_in_4bit", FLAG_SWITCH,
     .refused = "bitsandbytes is not used; --weight_dtype int4 quantizes the frozen weights", .accepted = "False"},
    {"lora_modules_to_save", FLAG_LIST, .refused = "an adapter consists of low-rank matrices only", .accepted = "None"},
    {"lora_task_type", FLAG_TEXT, .refused = "the only task is CAUSAL_LM", .accepted = "CAUSAL_LM"},
    {"use_rslora", FLAG_SWITCH, .refused = "the scale is lora_alpha / lora_r; set --lora_alpha instead",
     .accepted = "False"},
    {"lora_target_parameters", FLAG_LIST, .refused = "only matrices of layers can be adapted", .accepted = "None"},
    {"model_init_kwargs", FLAG_TEXT, .refused = "use --config_overrides to change the config", .accepted = "None|{}"},
    {"dtype", .alias_of = "torch_dtype"},
    {"bnb_4bit_quant_type", FLAG_TEXT, "it applies to --load_in_4bit only, which is refused"},
    {"use_bnb_nested_quant", FLAG_SWITCH, "it applies to --load_in_4bit only, which is refused"},
    {"bnb_4bit_quant_storage", FLAG_TEXT, "it applies to --load_in_4bit only, which is refused"},
    {"dataset_config", .alias_of = "dataset_config_name"},
    {"dataset_train_split", FLAG_TEXT, .refused = "the paths of the files select the split", .accepted = "train"},
    {"dataset_test_split", FLAG_TEXT, .refused = "the paths of the files select the split",
     .accepted = "test|validation"},
    {"dataset_streaming", FLAG_SWITCH, "rows are read one at a time"},
    {"gradient_checkpointing_use_reentrant", FLAG_SWITCH,
     "there is only one implementation of activation checkpointing"},
    {"ignore_bias_buffers", FLAG_SWITCH, "models have no buffers"},
    {"use_dora", FLAG_SWITCH, .refused = "the only type of adapter is LoRA", .accepted = "False"},
    {0},
};

/* Flags of train that apply to document blocks only. */
static const char *const EXCLUDED[] = {"config_name",
                                       "kv",
                                       "keep_linebreaks",
                                       "text_column",
                                       "ids_dtype",
                                       "append_eos",
                                       "document_mask",
                                       "token_cache_dir",
                                       "overwrite_cache",
                                       "preprocessing_num_workers",
                                       "block_size",
                                       "group_all",
                                       NULL};

/* Changes to flags of train; NULL: no change. Defaults are those of SFTConfig if they differ from TrainingArguments. */
static const struct {
    const char *name, *default_value, *help, *note;
} CHANGES[] = {
    {"learning_rate", .default_value = "2e-5"},
    {"logging_steps", .default_value = "10"},
    {"gradient_checkpointing", .note = "default in SFTConfig: True"},
    {"bf16", .note = "default in SFTConfig: True"},
    {"model_name_or_path", .help = "checkpoint to tune: a folder, a GGUF file or ORG/NAME"},
    {"tokenizer_name", .help = "tokenizer: a folder or ORG/NAME; by default the model's own. If it has more tokens "
                               "than the model, the embeddings are extended (not with --use_peft)"},
    {"train_file", .help = "training rows in this order: files, folders or patterns (a/b-*.jsonl) of .jsonl or .json "
                           "(objects with messages; prompt and completion; text; or instruction, input and output), "
                           ".csv or text (one row per line), plain or compressed (.gz, .bz2, .xz, .zst)"},
    {"validation_split_percentage", .help = "percentage of the rows, from the start, to use for evaluation instead if "
                                            "there is no validation_file; 0 uses none"},
    {"max_train_samples", .help = "maximum number of training rows; 0 uses all"},
    {"no_shuffle", .help = "keep the rows in order in every epoch"},
    {"per_device_train_batch_size", .help = "batch size per process for training, in rows or packed examples"},
    {"per_device_eval_batch_size", .help = "batch size per process for evaluation, in rows or packed examples"},
    {"seed", .help = "random seed for the order of rows and a new adapter"},
};

static bool is_excluded(const char *name) {
    int i = 0;
    while (EXCLUDED[i] && strcmp(EXCLUDED[i], name)) i++;
    return EXCLUDED[i] != NULL;
}

static void apply_change(flag *f, size_t i) {
    if (CHANGES[i].default_value) f->default_value = CHANGES[i].default_value;
    if (CHANGES[i].help) f->help = CHANGES[i].help;
    f->note = CHANGES[i].note;
}

/* Makes the table: flags of train, with the flags of rows before the group "Data". */
static void make_flags(flag *out) {
    int count = 0;
    bool rows = false;
    for (const flag *f = TRAIN_FLAGS.flags; f->name; f++) {
        if (!rows && !strcmp(f->group, "Data")) {
            for (const flag *r = ROWS; r->name; r++) out[count++] = *r;
            rows = true;
        }
        if (is_excluded(f->name)) continue;
        flag *copy = &out[count++];
        *copy = *f;
        copy->note = NULL; /* compares with run_clm.py */
        for (size_t i = 0; i < sizeof CHANGES / sizeof *CHANGES; i++)
            if (!strcmp(f->name, CHANGES[i].name)) apply_change(copy, i);
    }
    out[count] = (flag){0};
}

static void make_foreign(foreign_flag *out) {
    int count = 0;
    for (const foreign_flag *f = FOREIGN; f->name; f++) out[count++] = *f;
    for (const foreign_flag *f = TRAINING_FOREIGN; f->name; f++) out[count++] = *f;
    out[count] = (foreign_flag){0};
}

static int tune(struct sft_flags *o, int argc, char **argv) {
    const char *completion = o->completion_only_loss;
    bool is_true = completion && !strcmp(completion, "True");
    if (completion && !is_true && strcmp(completion, "False"))
        return usage_error("sft", "--completion_only_loss: expected True or False, found \"%s\"", completion);
    o->tuning.completion_only_loss = is_true      ? LCKV_COMPLETION_LOSS_YES
                                     : completion ? LCKV_COMPLETION_LOSS_NO
                                                  : LCKV_COMPLETION_LOSS_AUTO;
    o->tuning.drop_long = o->long_rows == 1;
    o->train.train.tuning = &o->tuning;
    return train_run(&o->train, argc, argv);
}

static const char *const EXAMPLES[] = {
    "tune all weights on conversations (JSON lines with messages)",
    "lckv sft --model_name_or_path demo-model --train_file chats.jsonl --output_dir tuned",
    "train a LoRA adapter instead, and chat with it",
    "lckv sft --model_name_or_path demo-model --train_file chats.jsonl --use_peft --lora_r 8 --output_dir adapter",
    NULL,
};

int cmd_sft(int argc, char **argv) {
    flag flags[MAX_FLAGS];
    foreign_flag foreign[MAX_FLAGS];
    const flag_table table = {
        "sft",
        "Tunes a model on conversations, prompts with completions, or texts (JSON rows). Writes the model as a Hugging "
        "Face folder with its chat template, or with --use_peft as an adapter. To resume, run the same command again.",
        "--model_name_or_path MODEL --train_file FILES --output_dir DIR",
        flags,
        foreign,
        .positional = "model_name_or_path train_file",
        .examples = EXAMPLES};
    struct sft_flags options = {.train = {.train = lckv_train_defaults(), .command = "sft"},
                                .tuning = lckv_tuning_defaults()};
    int code;
    make_flags(flags);
    make_foreign(foreign);
    if (!flags_parse(&table, argc, argv, &options, &code)) return code;
    code = tune(&options, argc, argv);
    flags_free(&table, &options);
    return code;
}
