/* lckv train: pre-training and continued training. The flags are run_clm.py's and TrainingArguments'; the library does
 * the work, this file shows how it goes. */
#include "commands.h"
#include "flags.h"
#include "lckv.h"
#include "output.h"

#include <math.h>
#include <unistd.h>

struct options {
    lckv_train_options train; /* most flags go straight into the library's options */
    flag_list train_files, validation_files;
    int64_t threads;
    bool no_shuffle, json;
};

#define AT(member) .offset = offsetof(struct options, member)
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

    FLAG_DEVICE(struct options, train.device),
    FLAG_THREADS(struct options, threads),
    FLAG_JSON(struct options, json),
    {0},
};
static const flag_table TABLE = {
    "train",
    "Trains a model on text or token ids and writes it as a Hugging Face folder. The learning rate, the loss and the "
    "speed are logged in train_log.jsonl. Ctrl-C writes what there is.",
    "(--config_name CONFIG | --model_name_or_path MODEL) --train_file FILES --output_dir DIR", FLAGS};

/* ---------------------------------------------------------------- while it runs */

static void show_phase(const char *what, double fraction) {
    progress(fraction, "%s %.0f %%", what, 100 * fraction);
}

static void show_step(const lckv_train_progress *p) {
    char speed[32], left[32];
    people_count(p->tokens_per_second, speed);
    people_time(p->seconds_left, left);
    if (isatty(STDERR_FILENO))
        progress(p->fraction, "step %lld/%lld  loss %.4f  %s tokens/s  %s left", (long long)p->step,
                 (long long)p->steps, p->mean_loss, speed, left);
    else if (p->logged)
        notice("step %lld/%lld  loss %.4f  grad_norm %.3f  learning_rate %.3g  %s tokens/s  %s left",
               (long long)p->step, (long long)p->steps, p->mean_loss, p->grad_norm, p->learning_rate, speed, left);
}

static bool show(void *user, const lckv_train_progress *p) {
    (void)user;
    if (p->phase == LCKV_TRAIN_STEPPING)
        show_step(p);
    else
        show_phase(p->phase == LCKV_TRAIN_READING ? "reading" : "evaluating", p->fraction);
    return !interrupted();
}

static void show_summary(const lckv_train_summary *s) {
    char parameters[32], tokens[32];
    notice("%s parameters; %s tokens in %lld blocks of %lld; %lld steps, %lld an epoch",
           people_count((double)s->parameters, parameters), people_count((double)s->train_tokens, tokens),
           (long long)s->train_blocks, (long long)s->block_size, (long long)s->steps, (long long)s->steps_per_epoch);
}

/* ---------------------------------------------------------------- at the end */

static double tokens_per_second(const lckv_train_result *r) {
    return r->seconds > 0 ? (double)r->tokens / r->seconds : 0;
}

static void show_result(const lckv_train_result *r, const char *output_dir) {
    char tokens[32], time[32], speed[32];
    notice("%lld steps, %s tokens in %s (%s tokens/s), mean loss %.4f; the model is in '%s'", (long long)r->steps,
           people_count((double)r->tokens, tokens), people_time(r->seconds, time),
           people_count(tokens_per_second(r), speed), r->train_loss, output_dir);
    if (isfinite(r->eval_loss)) notice("validation: loss %.4f, perplexity %.3f", r->eval_loss, r->perplexity);
}

static json_t *number_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static int print_result(const lckv_train_summary *s, const lckv_train_result *r, const char *output_dir) {
    json_t *object = json_pack("{ss sI sI sI sI sI so so so so so}", "output_dir", output_dir, "parameters",
                               (json_int_t)s->parameters, "block_size", (json_int_t)s->block_size, "train_blocks",
                               (json_int_t)s->train_blocks, "steps", (json_int_t)r->steps, "tokens",
                               (json_int_t)r->tokens, "seconds", number_or_null(r->seconds), "tokens_per_second",
                               number_or_null(tokens_per_second(r)), "train_loss", number_or_null(r->train_loss),
                               "eval_loss", number_or_null(r->eval_loss), "perplexity", number_or_null(r->perplexity));
    bool printed = object && print_json(object);
    json_decref(object);
    return printed ? EXIT_FINE : EXIT_FAILED;
}

static int run(lckv_trainer *trainer, const struct options *o) {
    lckv_train_result result;
    lckv_train_summary summary = lckv_trainer_summary(trainer);
    show_summary(&summary);
    int status = lckv_trainer_run(trainer, &result);
    if (status < 0 && status != LCKV_ERROR_INTERRUPTED) return library_error("train", status);
    show_result(&result, o->train.output_dir);
    int code = o->json ? print_result(&summary, &result, o->train.output_dir) : EXIT_FINE;
    return status < 0 ? library_error("train", status) : code;
}

static int train(struct options *o) {
    if (!o->train.model_name_or_path == !o->train.config_name)
        return usage_error("train", "expected either --config_name or --model_name_or_path");
    if (o->train.block_size == 1) return usage_error("train", "--block_size must be at least 2, or 0");
    o->train.train_files = (const char *const *)o->train_files.items;
    o->train.train_file_count = o->train_files.count;
    o->train.validation_files = (const char *const *)o->validation_files.items;
    o->train.validation_file_count = o->validation_files.count;
    o->train.shuffle = !o->no_shuffle;
    o->train.threads = (int)o->threads;
    o->train.callback = show;
    lckv_trainer *trainer;
    int status = lckv_trainer_create(&o->train, &trainer);
    if (status < 0) return library_error("train", status);
    int code = run(trainer, o);
    lckv_trainer_free(trainer);
    return code;
}

int cmd_train(int argc, char **argv) {
    struct options options = {.train = lckv_train_defaults()};
    int code;
    if (!flags_parse(&TABLE, argc, argv, &options, &code)) return code;
    code = train(&options);
    flags_free(&TABLE, &options);
    return code;
}
