/* lckv sft: instruction tuning. Its flags are those of train (train_flags.h), without what is about blocks of documents
 * and with what is about rows of instructions; names and defaults of these are trl's (SFTConfig 0.24). */
#include "commands.h"
#include "foreign_flags.h"
#include "output.h"
#include "train_run.h"

#include <string.h>

struct sft_flags {
    struct train_flags train; /* the first: flags of train find their place */
    lckv_tuning tuning;
    int long_rows;
    const char *completion_only_loss;
};

#define TUNING(member) .offset = offsetof(struct sft_flags, tuning.member)

static const flag ROWS[] = {
    {"chat_template", FLAG_TEXT, NULL, "Rows",
     "a file with the Jinja template that puts conversations into words; the tokenizer's own one unless given. The "
     "tuned "
     "checkpoint has it",
     TUNING(chat_template), .value = "FILE"},
    {"dataset_text_field", FLAG_TEXT, "text", "Rows", "the field of rows that are text", TUNING(dataset_text_field),
     .value = "NAME"},
    {"max_seq_length", FLAG_INT, "0", "Rows",
     "tokens of the longest row; 0: the model's max_position_embeddings, at most "
     "1024",
     .offset = offsetof(struct sft_flags, train.train.block_size), .min = 0, .max = 2147483647},
    {"long_rows", FLAG_CHOICE, "cut", "Rows",
     "what becomes of longer rows: cut at their end, or drop; they are counted",
     .offset = offsetof(struct sft_flags, long_rows), .choices = "cut|drop"},
    {"packing", FLAG_SWITCH, NULL, "Rows",
     "several rows in one example of max_seq_length tokens, each of them seeing itself alone", TUNING(packing)},
    {"assistant_only_loss", FLAG_SWITCH, NULL, "Rows",
     "learn of conversations what the template marks with {% generation %}, not all of it",
     TUNING(assistant_only_loss)},
    {"completion_only_loss", FLAG_TEXT, NULL, "Rows",
     "learn of rows with a prompt and a completion the latter alone: True, which is so unless False is given",
     .offset = offsetof(struct sft_flags, completion_only_loss), .value = "True|False", .alone = "True"},
    {0},
};

/* Of SFTConfig, ModelConfig and ScriptArguments, those that set nothing here; TRAINING_FOREIGN has those of
 * TrainingArguments. */
static const foreign_flag FOREIGN[] = {
    {"use_liger", FLAG_SWITCH, "what Liger kernels fuse is fused always"},
    {"max_length", .stands_for = "max_seq_length"},
    {"chat_template_path", .stands_for = "chat_template"},
    {"packing_strategy", FLAG_TEXT, .refused = "rows are packed whole, best fit decreasing", .accepted = "bfd"},
    {"eval_packing", FLAG_SWITCH, .refused = "rows to evaluate on are packed as those to train on are"},
    {"padding_free", FLAG_SWITCH, "no row is ever padded"},
    {"pad_token", FLAG_TEXT, "no row is ever padded"},
    {"pad_to_multiple_of", FLAG_TEXT, "no row is ever padded"},
    {"eos_token", FLAG_TEXT, .refused = "the tokenizer says what EOS is", .accepted = "None"},
    {"dataset_num_proc", FLAG_TEXT, "rows are read once, as fast as they can be"},
    {"dataset_kwargs", FLAG_TEXT, .refused = "rows are always prepared", .accepted = "None|{}"},
    {"loss_type", FLAG_TEXT, .refused = "the loss is the plain cross-entropy", .accepted = "nll"},
    {"activation_offloading", FLAG_SWITCH, .refused = "--gradient_checkpointing saves memory", .accepted = "False"},
    {"load_in_8bit", FLAG_SWITCH, .refused = "weights are not quantized", .accepted = "False"},
    {"load_in_4bit", FLAG_SWITCH, .refused = "weights are not quantized", .accepted = "False"},
    {"lora_modules_to_save", FLAG_LIST, .refused = "an adapter has low-rank matrices alone", .accepted = "None"},
    {"lora_task_type", FLAG_TEXT, .refused = "there is one task", .accepted = "CAUSAL_LM"},
    {"use_rslora", FLAG_SWITCH, .refused = "--lora_alpha sets the scale", .accepted = "False"},
    {"lora_target_parameters", FLAG_LIST, .refused = "an adapter is on matrices of layers", .accepted = "None"},
    {"model_init_kwargs", FLAG_TEXT, .refused = "--config_overrides changes a config", .accepted = "None|{}"},
    {"dtype", .stands_for = "torch_dtype"},
    {"bnb_4bit_quant_type", FLAG_TEXT, "it is said of --load_in_4bit, which is refused"},
    {"use_bnb_nested_quant", FLAG_SWITCH, "it is said of --load_in_4bit, which is refused"},
    {"bnb_4bit_quant_storage", FLAG_TEXT, "it is said of --load_in_4bit, which is refused"},
    {"dataset_config", .stands_for = "dataset_config_name"},
    {"dataset_train_split", FLAG_TEXT, .refused = "the files' paths say what they are for", .accepted = "train"},
    {"dataset_test_split", FLAG_TEXT, .refused = "the files' paths say what they are for",
     .accepted = "test|validation"},
    {"dataset_streaming", FLAG_SWITCH, "rows are read one at a time"},
    {"gradient_checkpointing_use_reentrant", FLAG_SWITCH, "there is one way to compute a layer again"},
    {"ignore_bias_buffers", FLAG_SWITCH, "there are no buffers besides weights"},
    {"use_dora", FLAG_SWITCH, .refused = "LoRA is the one kind of adapter", .accepted = "False"},
    {0},
};

/* Flags of train that are about blocks of documents. */
static const char *const LEFT_OUT[] = {"config_name",
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

/* What of train's flags is said otherwise here; NULL: not so. Defaults are those of SFTConfig where these are not
 * TrainingArguments'. */
static const struct {
    const char *name, *fallback, *help, *note;
} OTHERS[] = {
    {"learning_rate", .fallback = "2e-5"},
    {"logging_steps", .fallback = "10"},
    {"gradient_checkpointing", .note = "SFTConfig: True"},
    {"bf16", .note = "SFTConfig: True"},
    {"model_name_or_path", .help = "the checkpoint to tune: a folder or ORG/NAME"},
    {"tokenizer_name",
     .help = "folder or ORG/NAME; the model's own one unless given. Where it has more tokens than the model, the model "
             "gets rows for them (not with --use_peft)"},
    {"train_file",
     .help =
         "files, folders and patterns (a/b-*.jsonl) of rows, in this order: .jsonl or .json (objects with messages, "
         "prompt and completion, text, or instruction, input and output), .csv and text (a line is a row); plain, "
         ".gz, .bz2, .xz or .zst"},
    {"validation_split_percentage",
     .help = "without a validation_file: so many percent of the rows, the first ones, are for evaluation alone"},
    {"max_train_samples", .help = "rows to train on, the first ones; 0: all"},
    {"no_shuffle", .help = "take rows in their order, every epoch"},
    {"per_device_train_batch_size", .help = "rows, or packed examples, run at a time"},
    {"per_device_eval_batch_size", .help = "the same of an evaluation"},
    {"seed", .help = "of the order of rows, and of a fresh adapter"},
};

static bool is_left_out(const char *name) {
    int i = 0;
    while (LEFT_OUT[i] && strcmp(LEFT_OUT[i], name)) i++;
    return LEFT_OUT[i] != NULL;
}

static void change(flag *f, size_t i) {
    if (OTHERS[i].fallback) f->fallback = OTHERS[i].fallback;
    if (OTHERS[i].help) f->help = OTHERS[i].help;
    f->note = OTHERS[i].note;
}

/* Flags of train, and behind those about the model the ones about rows. */
static void make_flags(flag *out) {
    int count = 0;
    bool rows = false;
    for (const flag *f = TRAIN_FLAGS.flags; f->name; f++) {
        if (!rows && !strcmp(f->group, "Data")) {
            for (const flag *r = ROWS; r->name; r++) out[count++] = *r;
            rows = true;
        }
        if (is_left_out(f->name)) continue;
        flag *mine = &out[count++];
        *mine = *f;
        mine->note = NULL; /* of run_clm.py */
        for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++)
            if (!strcmp(f->name, OTHERS[i].name)) change(mine, i);
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
    bool yes = completion && !strcmp(completion, "True");
    if (completion && !yes && strcmp(completion, "False"))
        return usage_error("sft", "--completion_only_loss must be True or False, not \"%s\"", completion);
    o->tuning.completion_only_loss = yes          ? LCKV_COMPLETION_LOSS_YES
                                     : completion ? LCKV_COMPLETION_LOSS_NO
                                                  : LCKV_COMPLETION_LOSS_AUTO;
    o->tuning.drop_long = o->long_rows == 1;
    o->train.train.tuning = &o->tuning;
    return train_run(&o->train, argc, argv);
}

static const char *const EXAMPLES[] = {
    "tune all weights on conversations (JSON lines with messages)",
    "lckv sft --model_name_or_path demo-model --train_file chats.jsonl --output_dir tuned",
    "learn a LoRA adapter instead, and talk with it",
    "lckv sft --model_name_or_path demo-model --train_file chats.jsonl --use_peft --lora_r 8 --output_dir adapter",
    NULL,
};

int cmd_sft(int argc, char **argv) {
    flag flags[FLAGS_MOST];
    foreign_flag foreign[FLAGS_MOST];
    const flag_table table = {
        "sft",
        "Tunes a model on conversations, prompts with completions, or texts (JSON rows), and writes it as a Hugging "
        "Face "
        "folder with its chat template, or with --use_peft as an adapter. The same command run again goes on from the "
        "newest checkpoint.",
        "--model_name_or_path MODEL --train_file FILES --output_dir DIR",
        flags,
        foreign,
        .words = "model_name_or_path train_file",
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
