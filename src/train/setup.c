/* Setting up a training run: checks first, then the data, then the model. See lckv_trainer_create() in lckv.h. */
#include "base/options.h"
#include "train/trainer.h"

#include "base/file.h"
#include "base/log.h"
#include "hub/model_path.h"
#include "io/adapter_file.h"
#include "io/convert.h"
#include "train/checkpoint/checkpoint.h"
#include "train/fit.h"
#include "train/flops.h"
#include "train/initial_model.h"
#include "train/lora.h"
#include "train/options.h"
#include "train/report/log.h"
#include "train/report/report.h"
#include "train/report/results.h"
#include "train/report/tensorboard.h"
#include "train/run_data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- folders */

static int keep(const char *text, char **out) {
    *out = strdup(text);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a path");
    return LCKV_OK;
}

static bool begins_anew(const lckv_train_options *o) {
    return o->overwrite_output_dir && !o->resume_from_checkpoint;
}

/* Process 0 makes it ready for all. */
static int prepare_output(lckv_trainer *t, const lckv_train_options *o) {
    bool any = begins_anew(o) || o->resume_from_checkpoint || !o->do_train;
    TRY(keep(o->output_dir, &t->output_dir));
    if (t->collectives->rank) return run_folder_join(o->output_dir, &t->folder);
    return run_folder_open(o->output_dir, any, &t->folder);
}

static int folder_of_config(const model_config *config, char **out) {
    const char *slash = strrchr(config->name, '/');
    *out = slash ? strndup(config->name, (size_t)(slash - config->name)) : strdup(".");
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a path");
    return LCKV_OK;
}

/* The folders whose files travel along: generation_config.json of the checkpoint's, or of the config's where there is
 * none; *.py of the config's. */
static int find_source(lckv_trainer *t, const lckv_train_options *o) {
    TRY(folder_of_config(t->config, &t->code_folder));
    if (o->model_name_or_path) TRY(keep(o->model_name_or_path, &t->model_name));
    return o->model_name_or_path ? model_path_resolve(o->model_name_or_path, &t->source_folder)
                                 : keep(t->code_folder, &t->source_folder);
}

/* A tokenizer that was named must be there; the model's own one need not be as long as there is no text. */
static int find_tokenizer(lckv_trainer *t, const lckv_train_options *o) {
    if (o->tokenizer_name) {
        TRY(model_path_resolve(o->tokenizer_name, &t->tokenizer_folder));
        return lckv_tokenizer_open(t->tokenizer_folder, &t->tokenizer);
    }
    char *file;
    TRY(path_join(t->source_folder, "tokenizer.json", &file));
    bool there = file_exists(file);
    free(file);
    return there ? keep(t->source_folder, &t->tokenizer_folder) : LCKV_OK;
}

/* ---------------------------------------------------------------- steps */

/* A share of all steps is rounded up, as transformers does it. */
static rhythm rhythm_of(const lckv_trainer *t, lckv_interval_strategy strategy, double steps) {
    return (rhythm){strategy, (int64_t)ceil(steps < 1 ? steps * (double)t->steps : steps)};
}

static void plan_milestones(lckv_trainer *t, const lckv_train_options *o) {
    t->saving = rhythm_of(t, o->save_strategy, o->save_steps);
    t->evaluating = rhythm_of(t, o->eval_strategy, o->eval_steps > 0 ? o->eval_steps : (double)o->logging_steps);
    t->save_total_limit = o->save_total_limit;
    t->early_stopping_patience = o->early_stopping_patience;
    t->load_best_model_at_end = o->load_best_model_at_end;
    t->max_skipped_steps = o->max_skipped_steps;
    t->best.step = -1;
}

static void plan_schedule(lckv_trainer *t, const lckv_train_options *o) {
    int64_t warmup_steps = schedule_warmup_steps(o->warmup_steps, o->warmup_ratio, t->steps);
    t->schedule = (schedule){
        .type = o->lr_scheduler_type,
        .learning_rate = o->learning_rate,
        .warmup_steps = warmup_steps,
        .steps = t->steps,
        .min_lr_rate = o->min_lr_rate,
        .decay_steps = schedule_decay_steps(o->num_decay_steps, warmup_steps, t->steps),
    };
}

static int plan_steps(lckv_trainer *t, const lckv_train_options *o) {
    if (!o->do_train) return LCKV_OK;
    /* Both are below 2^31. A step never has more blocks than an epoch. */
    int64_t each = o->per_device_train_batch_size * o->gradient_accumulation_steps, all = t->train->count;
    t->blocks_per_step = each < all / t->collectives->ranks ? each * t->collectives->ranks : all;
    t->steps_per_epoch = (t->train->count + t->blocks_per_step - 1) / t->blocks_per_step;
    double epochs = ceil(o->num_train_epochs * (double)t->steps_per_epoch);
    REQUIRE(o->max_steps > 0 || epochs < 0x1p53, LCKV_ERROR_ARGUMENT, "num_train_epochs %g of %lld steps are too many",
            o->num_train_epochs, (long long)t->steps_per_epoch);
    t->steps = o->max_steps > 0 ? o->max_steps : (int64_t)epochs;
    t->chosen = malloc((size_t)t->blocks_per_step * sizeof *t->chosen);
    REQUIRE(t->chosen, LCKV_ERROR_MEMORY, "no memory for a step of %lld blocks", (long long)t->blocks_per_step);
    plan_schedule(t, o);
    plan_milestones(t, o);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- model */

/* Of the checkpoint's own config, or made into one of another. */
static int load_model(lckv_trainer *t, const lckv_train_options *o) {
    if (!o->config_name) return start_from_checkpoint(t->device, t->source_folder, o->config_overrides, &t->model);
    kv_merge kv = o->kv == LCKV_KV_COPY ? KV_COPY : KV_AVERAGE;
    log_message(LCKV_LOG_INFO, "the weights of '%s' become those of '%s'; K and V are %s", o->model_name_or_path,
                o->config_name, kv == KV_COPY ? "copied" : "averaged");
    return checkpoint_load_converted(t->device, t->source_folder, t->config, kv, &t->model);
}

/* Fresh; where the run goes on from a checkpoint, its values come with the rest of that. */
static int add_adapter(lckv_trainer *t, const lckv_train_options *o) {
    TRY(lora_add(t->model, o->lora));
    TRY(adapter_randomize(t->model->adapter, t->seed));
    return t->resumed_from ? train_checkpoint_check_adapter(t) : LCKV_OK;
}

/* The weights that an adapter is added to stay as they are, rows included. */
static int make_base(lckv_trainer *t, const lckv_train_options *o, int64_t tokens, int64_t rows) {
    REQUIRE(tokens <= rows, LCKV_ERROR_ARGUMENT,
            "the tokenizer has %lld tokens, the model %lld rows, and use_peft adds none: expected the model's own "
            "tokenizer",
            (long long)tokens, (long long)rows);
    TRY(load_model(t, o));
    t->model->config->use_sequential = t->config->use_sequential;
    return add_adapter(t, o);
}

static int make_model(lckv_trainer *t, const lckv_train_options *o) {
    int64_t tokens = t->tokenizer ? lckv_tokenizer_vocab_size(t->tokenizer) : 0, rows = t->config->vocab_size;
    if (o->use_peft) return make_base(t, o, tokens, rows);
    if (tokens > rows)
        log_message(LCKV_LOG_INFO, "the tokenizer has %lld tokens, the model %lld rows: %lld rows added",
                    (long long)tokens, (long long)rows, (long long)(tokens - rows));
    if (t->resumed_from) return train_checkpoint_start(t, tokens > rows ? tokens : rows);
    if (o->model_name_or_path) {
        TRY(load_model(t, o));
        t->model->config->use_sequential = t->config->use_sequential;
        return tokens > rows ? start_add_rows(&t->model, tokens, t->seed) : LCKV_OK;
    }
    if (tokens > rows) t->config->vocab_size = tokens;
    return start_fresh(t->device, t->config, t->seed, &t->model);
}

/* A batch never has more blocks than there are. */
static int batch_size(int64_t asked, int64_t there) {
    int64_t most = there > 1 ? there : 1;
    return (int)(asked < most ? asked : most);
}

static int make_stepper(lckv_trainer *t, const lckv_train_options *o) {
    stepper_options options = {
        .compute = o->bf16 ? DTYPE_BF16 : DTYPE_F32,
        .batch_size = batch_size(t->batch_size, t->train->count),
        .block_size = o->do_train ? t->train->block_size : t->validation->block_size,
        .bf16_weights = o->torch_dtype && !strcmp(o->torch_dtype, "bfloat16"),
        .gradient_checkpointing = o->gradient_checkpointing,
        .optimizer = {.beta1 = o->adam_beta1,
                      .beta2 = o->adam_beta2,
                      .epsilon = o->adam_epsilon,
                      .weight_decay = o->weight_decay,
                      .max_grad_norm = o->max_grad_norm,
                      .collectives = t->collectives,
                      .seed = t->seed,
                      .skip_grad_norm = o->skip_grad_norm},
    };
    TRY(stepper_create(t->model, &options, &t->stepper));
    TRY(flops_of_block(t->model->config, o->use_peft ? o->lora : NULL, options.compute, options.block_size,
                       &t->flops_of_block));
    return stepper_set_eval_batch(t->stepper, batch_size(o->per_device_eval_batch_size, t->validation->count));
}

static void keep_options(lckv_trainer *t, const lckv_train_options *o) {
    t->shuffle = o->shuffle;
    t->seed = (uint64_t)o->seed;
    t->do_train = o->do_train;
    t->do_eval = o->do_eval;
    t->logging_steps = o->logging_steps;
    t->callback = o->callback;
    t->user = o->user;
}

/* Whoever wants to know how a run goes gets a line here. One process of a run writes. */
static int add_watchers(lckv_trainer *t, const lckv_train_options *o) {
    history *h;
    if (t->collectives->rank) return LCKV_OK;
    TRY(history_watch(&t->watchers, &h));
    TRY(train_log_watch(&t->watchers));
    TRY(results_watch(&t->watchers, h, o));
    TRY(report_watch(&t->watchers, h, o));
    return o->tensorboard ? tensorboard_watch(&t->watchers, o) : LCKV_OK;
}

/* What learns is a checkpoint, or an adapter beside one. */
static int check_model(const lckv_train_options *o) {
    REQUIRE(!o->model_name_or_path || !adapter_folder(o->model_name_or_path), LCKV_ERROR_ARGUMENT,
            "'%s' is an adapter, expected a checkpoint: lckv convert --adapter makes one of both",
            o->model_name_or_path);
    return LCKV_OK;
}

/* Dropout on attention weights is transformers' in training alone. */
static void warn_of_dropout(const lckv_trainer *t) {
    if (t->do_train && t->config->attention_dropout > 0)
        log_message(LCKV_LOG_WARNING,
                    "%s has attention_dropout %g: lckv trains without it (attention_dropout=0 in config_overrides "
                    "writes so to the model's config.json)",
                    t->config->name, t->config->attention_dropout);
}

/* What leaves the output folder ready. */
static int set_up_folder(lckv_trainer *t, const lckv_train_options *o) {
    TRY(train_options_check(o));
    TRY(check_model(o));
    keep_options(t, o);
    TRY(config_read(o->config_name ? o->config_name : o->model_name_or_path, o->config_overrides, &t->config));
    t->config->use_sequential |= o->use_sequential;
    warn_of_dropout(t);
    TRY(find_source(t, o));
    TRY(find_tokenizer(t, o));
    TRY(device_open(o->device ? o->device : "auto", o->threads, &t->device));
    TRY(fit_batch(t, o, train_data_block_size(t, o)));
    return prepare_output(t, o);
}

/* Process 0 encodes the data first; the others then find what it has kept. */
static int set_up_data(lckv_trainer *t, const lckv_train_options *o) {
    if (o->do_train && !begins_anew(o)) TRY(train_checkpoint_choose(t, o->resume_from_checkpoint));
    return t->collectives->rank ? LCKV_OK : train_data_read(t, o);
}

static int set_up(lckv_trainer *t, const lckv_train_options *o) {
    if (t->collectives->rank) TRY(train_data_read(t, o));
    TRY(plan_steps(t, o));
    TRY(make_model(t, o));
    TRY(make_stepper(t, o));
    t->run_ahead = !t->device->host_memory;
    TRY(train_checkpoint_restore(t));
    return add_watchers(t, o);
}

typedef struct taken_options {
    lckv_train_options train; /* points to the others */
    lckv_tuning tuning;
    lckv_lora lora;
} taken_options;

static int take_options(const lckv_train_options *given, taken_options *o) {
    TRY(OPTIONS_TAKE(&o->train, given, lckv_train_defaults));
    TRY(OPTIONS_TAKE(&o->tuning, o->train.tuning, lckv_tuning_defaults));
    TRY(OPTIONS_TAKE(&o->lora, o->train.lora, lckv_lora_defaults));
    if (o->train.tuning) o->train.tuning = &o->tuning;
    o->train.lora = &o->lora;
    return LCKV_OK;
}

int lckv_trainer_create(const lckv_train_options *given, lckv_trainer **out) {
    taken_options taken;
    const lckv_train_options *options = &taken.train;
    *out = NULL;
    TRY(take_options(given, &taken));
    lckv_trainer *t = calloc(1, sizeof *t);
    REQUIRE(t, LCKV_ERROR_MEMORY, "no memory for a trainer");
    t->train = &t->train_blocks.examples;
    t->validation = &t->validation_blocks.examples;
    t->collectives = options->processes ? options->processes : collectives_single();
    int status = collectives_agree(t->collectives, set_up_folder(t, options));
    if (status >= 0) status = collectives_agree(t->collectives, set_up_data(t, options));
    if (status >= 0) status = collectives_agree(t->collectives, set_up(t, options));
    if (status < 0)
        lckv_trainer_free(t);
    else
        *out = t;
    return status;
}

void lckv_trainer_free(lckv_trainer *t) {
    if (!t) return;
    watchers_free(&t->watchers);
    run_folder_close(&t->folder, t->finished || (!t->ran && !t->folder.lock_was_there));
    stepper_free(t->stepper);
    model_free(t->model);
    device_close(t->device);
    config_free(t->config);
    lckv_tokenizer_free(t->tokenizer);
    train_data_free(t);
    free(t->chosen);
    free(t->output_dir);
    free(t->model_name);
    free(t->source_folder);
    free(t->code_folder);
    lckv_chat_template_free(t->chat_template);
    free(t->template_text);
    free(t->tokenizer_folder);
    free(t->resumed_from);
    free(t);
}
