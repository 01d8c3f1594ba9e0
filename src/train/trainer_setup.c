/* Setting up a training run: checks the options, opens the output folder, reads the data, and creates the model.
 * Implements lckv_trainer_create() and lckv_trainer_free() of lckv.h. */
#include "train/trainer.h"

#include "base/files/file.h"
#include "base/log.h"
#include "base/options.h"
#include "gguf/gguf.h"
#include "hub/model_path.h"
#include "io/adapter/adapter_file.h"
#include "io/convert.h"
#include "train/add_loop_start.h"
#include "train/cost/choose_batch_size.h"
#include "train/cost/training_cost.h"
#include "train/initial_model.h"
#include "train/report/history_observer.h"
#include "train/report/report.h"
#include "train/report/run_results.h"
#include "train/report/tensorboard.h"
#include "train/report/train_log.h"
#include "train/run_data.h"
#include "train/step/lora.h"
#include "train/train_options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- folders */

static int copy_text(const char *text, char **out) {
    *out = strdup(text);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a path");
    return LCKV_OK;
}

static bool starts_over(const lckv_train_options *o) {
    return o->overwrite_output_dir && !o->resume_from_checkpoint;
}

/* Rank 0 prepares the folder for all ranks. */
static int prepare_output(lckv_trainer *t, const lckv_train_options *o) {
    bool any_content = starts_over(o) || o->resume_from_checkpoint || !o->do_train;
    TRY(copy_text(o->output_dir, &t->output_dir));
    if (t->collectives->rank) return run_folder_join(o->output_dir, &t->folder);
    return run_folder_open(o->output_dir, any_content, &t->folder);
}

static int folder_of_config(const model_config *config, char **out) {
    const char *slash = strrchr(config->name, '/');
    *out = slash ? strndup(config->name, (size_t)(slash - config->name)) : strdup(".");
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a path");
    return LCKV_OK;
}

/* generation_config.json is copied from the checkpoint's folder (without one, from the config's), *.py files from the
 * config's folder. */
static int find_origin(lckv_trainer *t, const lckv_train_options *o) {
    TRY(folder_of_config(t->config, &t->origin.code_folder));
    if (o->model_name_or_path) TRY(copy_text(o->model_name_or_path, &t->origin.name));
    return o->model_name_or_path ? model_path_resolve(o->model_name_or_path, &t->origin.source_folder)
                                 : copy_text(t->origin.code_folder, &t->origin.source_folder);
}

/* tokenizer_name has to exist. The model's own tokenizer may be absent; that is an error only if there is text. */
static int find_tokenizer(lckv_trainer *t, const lckv_train_options *o) {
    if (o->tokenizer_name) {
        TRY(model_path_resolve(o->tokenizer_name, &t->origin.tokenizer_folder));
        return lckv_tokenizer_open(t->origin.tokenizer_folder, &t->tokenizer);
    }
    char *file;
    TRY(path_join(t->origin.source_folder, "tokenizer.json", &file));
    bool there = path_exists(file) || gguf_is_file(t->origin.source_folder);
    free(file);
    return there ? copy_text(t->origin.source_folder, &t->origin.tokenizer_folder) : LCKV_OK;
}

/* ---------------------------------------------------------------- steps */

/* A fraction of all steps is rounded up, as in transformers. */
static interval interval_of(const lckv_trainer *t, lckv_interval_strategy strategy, double steps) {
    return (interval){strategy, (int64_t)ceil(steps < 1 ? steps * (double)t->steps : steps)};
}

static void plan_intervals(lckv_trainer *t, const lckv_train_options *o) {
    t->save_interval = interval_of(t, o->save_strategy, o->save_steps);
    t->eval_interval = interval_of(t, o->eval_strategy, o->eval_steps > 0 ? o->eval_steps : (double)o->logging_steps);
    t->save_total_limit = o->save_total_limit;
    t->early_stopping_patience = o->early_stopping_patience;
    t->load_best_model_at_end = o->load_best_model_at_end;
    t->max_skipped_steps = o->max_skipped_steps;
    t->state.best.step = -1;
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

static void warn_of_warmup(const lckv_trainer *t) {
    const schedule *s = &t->schedule;
    if (s->type != LCKV_SCHEDULE_CONSTANT && s->steps > 0 && s->warmup_steps >= s->steps)
        log_message(LCKV_LOG_WARNING,
                    "the warmup (%lld steps) is as long as the run (%lld steps) or longer: the learning rate rises to "
                    "%.3g of %.3g",
                    (long long)s->warmup_steps, (long long)s->steps, schedule_learning_rate(s, s->steps - 1),
                    s->learning_rate);
}

static int plan_steps(lckv_trainer *t, const lckv_train_options *o) {
    if (!o->do_train) return LCKV_OK;
    /* Both factors are below 2^31. A step has at most as many examples as an epoch. */
    int64_t per_rank = o->per_device_train_batch_size * o->gradient_accumulation_steps, all = t->train->count;
    t->examples_per_step = per_rank < all / t->collectives->ranks ? per_rank * t->collectives->ranks : all;
    t->steps_per_epoch = (t->train->count + t->examples_per_step - 1) / t->examples_per_step;
    double epochs = ceil(o->num_train_epochs * (double)t->steps_per_epoch);
    REQUIRE(o->max_steps > 0 || epochs < 0x1p53, LCKV_ERROR_ARGUMENT,
            "num_train_epochs %g of %lld steps each: expected fewer than 2^53 steps in total", o->num_train_epochs,
            (long long)t->steps_per_epoch);
    t->steps = o->max_steps > 0 ? o->max_steps : (int64_t)epochs;
    t->chosen = malloc((size_t)t->examples_per_step * sizeof *t->chosen);
    REQUIRE(t->chosen, LCKV_ERROR_MEMORY, "no memory for a step of %lld examples", (long long)t->examples_per_step);
    plan_schedule(t, o);
    warn_of_warmup(t);
    plan_intervals(t, o);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- model */

/* Frozen weights are converted when they are loaded, so that they are not in memory twice. */
static dtype loaded_type(const lckv_trainer *t, const lckv_train_options *o) {
    if (!o->use_peft || t->config->weight_format != WEIGHT_FLOAT) return DTYPE_COUNT;
    return o->bf16 ? DTYPE_BF16 : DTYPE_F32;
}

/* Loads the checkpoint, and converts its weights if another config is given. `vocab_size`: rows of the embedding if
 * some are added, else 0. */
static int load_model(lckv_trainer *t, const lckv_train_options *o, int64_t vocab_size) {
    const added_rows added = {vocab_size, t->seed};
    weight_format format = t->config->weight_format;
    dtype type = loaded_type(t, o);
    if (!o->config_name)
        return initial_model_load(t->device, t->origin.source_folder, o->config_overrides, type, format, t->divide,
                                  &added, &t->model);
    kv_merge kv = o->kv == LCKV_KV_COPY ? KV_COPY : KV_AVERAGE;
    log_message(LCKV_LOG_INFO, "converting the weights of '%s' to the config '%s'; K and V are %s",
                o->model_name_or_path, o->config_name, kv == KV_COPY ? "copied" : "averaged");
    return checkpoint_load_converted(t->device, t->origin.source_folder, t->config, kv, type, t->divide, &added,
                                     &t->model);
}

/* New values. A resumed run reads its values later, with the rest of the checkpoint. */
static int add_adapter(lckv_trainer *t, const lckv_train_options *o) {
    TRY(lora_add(t->model, o->lora));
    TRY(adapter_randomize(t->model->adapter, t->seed));
    return t->resumed_from ? train_checkpoint_check_adapter(t->model->adapter, t->resumed_from) : LCKV_OK;
}

/* The weights below an adapter are frozen, so that no embedding row can be added. */
static int make_adapted_model(lckv_trainer *t, const lckv_train_options *o, int64_t tokens, int64_t rows) {
    REQUIRE(tokens <= rows, LCKV_ERROR_ARGUMENT,
            "the tokenizer has %lld tokens, the model %lld embedding rows, and use_peft adds none; use the model's own "
            "tokenizer",
            (long long)tokens, (long long)rows);
    TRY(load_model(t, o, 0));
    t->model->config->use_sequential = t->config->use_sequential;
    return add_adapter(t, o);
}

static int make_base(lckv_trainer *t, const lckv_train_options *o) {
    int64_t tokens = t->tokenizer ? lckv_tokenizer_vocab_size(t->tokenizer) : 0, rows = t->config->vocab_size;
    if (o->use_peft) return make_adapted_model(t, o, tokens, rows);
    if (tokens > rows)
        log_message(LCKV_LOG_INFO, "the tokenizer has %lld tokens, the model %lld embedding rows: %lld row%s added",
                    (long long)tokens, (long long)rows, (long long)(tokens - rows), plural(tokens - rows));
    if (t->resumed_from) {
        t->config->vocab_size = tokens > rows ? tokens : rows;
        return train_checkpoint_load_model(t->device, t->resumed_from, t->config, t->divide, &t->model);
    }
    if (o->model_name_or_path) {
        TRY(load_model(t, o, tokens > rows ? tokens : 0));
        t->model->config->use_sequential = t->config->use_sequential;
        return LCKV_OK;
    }
    if (tokens > rows) t->config->vocab_size = tokens;
    return initial_model_random(t->device, t->config, t->seed, t->divide, &t->model);
}

static int make_model(lckv_trainer *t, const lckv_train_options *o) {
    TRY(make_base(t, o));
    return trainer_add_loop_start(t, o);
}

/* A batch has at most as many examples as there are. */
static int batch_size(int64_t given, int64_t count) {
    int64_t limit = count > 1 ? count : 1;
    return (int)(given < limit ? given : limit);
}

static int make_stepper(lckv_trainer *t, const lckv_train_options *o) {
    stepper_options options = {
        .compute = o->bf16 ? DTYPE_BF16 : DTYPE_F32,
        .batch_size = batch_size(t->batch_size, t->train->count),
        .block_size = o->do_train ? t->train->block_size : t->validation->block_size,
        .bf16_weights = o->torch_dtype && !strcmp(o->torch_dtype, "bfloat16"),
        .gradient_checkpointing = o->gradient_checkpointing,
        .exact = o->loop_form == LCKV_LOOP_EXACT,
        .fill_size = (int)t->loop_group_size,
        .plan_share = o->loop_plan_share,
        .iteration_weight = o->loop_iteration_weight,
        .loop_start_weight = o->loop_start_weight,
        .examples_per_step = t->examples_per_step,
        .regather_loops = t->regather_loops,
        .bf16_gradients = o->grad_accum_dtype && !strcmp(o->grad_accum_dtype, "bfloat16"),
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
    const counted_parts parts = {.lora = o->use_peft ? o->lora : NULL,
                                 .loop_start_width = t->model->loop_start ? t->model->loop_start->width : 0};
    TRY(training_flops_per_example(t->model->config, &parts, &options, &t->flops_per_example));
    return stepper_set_eval_batch(t->stepper, batch_size(o->per_device_eval_batch_size, t->validation->count));
}

static void copy_options(lckv_trainer *t, const lckv_train_options *o) {
    t->shuffle = o->shuffle;
    t->seed = (uint64_t)o->seed;
    t->do_train = o->do_train;
    t->do_eval = o->do_eval;
    t->logging_steps = o->logging_steps;
    t->callback = o->callback;
    t->user = o->user;
}

/* Only rank 0 has observers. The history comes first, because the others read it. */
static int add_observers(lckv_trainer *t, const lckv_train_options *o) {
    history *h;
    if (t->collectives->rank) return LCKV_OK;
    TRY(history_attach(&t->observers, &h));
    TRY(train_log_attach(&t->observers));
    TRY(run_results_attach(&t->observers, h, o));
    TRY(report_attach(&t->observers, h, o));
    return o->tensorboard ? tensorboard_attach(&t->observers, o) : LCKV_OK;
}

static int check_model(const lckv_train_options *o) {
    REQUIRE(!o->model_name_or_path || !adapter_folder(o->model_name_or_path), LCKV_ERROR_ARGUMENT,
            "'%s' is an adapter, expected a checkpoint; merge the two with lckv convert --adapter",
            o->model_name_or_path);
    return LCKV_OK;
}

/* transformers applies dropout to attention weights in training; lckv does not. */
static void warn_of_dropout(const lckv_trainer *t) {
    if (t->do_train && t->config->attention_dropout > 0)
        log_message(
            LCKV_LOG_WARNING,
            "%s has attention_dropout %g: lckv trains without it (config_overrides attention_dropout=0 writes that to "
            "the model's config.json)",
            t->config->name, t->config->attention_dropout);
}

/* As in run_clm.py: the model's positions, but at most 1024 unless block_size is given. */
static int32_t choose_block_size(const lckv_trainer *t, const lckv_train_options *o) {
    int64_t positions = t->config->positions, given = o->block_size ? o->block_size : 1024;
    return (int32_t)(given < positions ? given : positions);
}

/* Everything before the ranks communicate. */
static int set_up_device(lckv_trainer *t, const lckv_train_options *o) {
    TRY(train_options_check(o));
    TRY(check_model(o));
    copy_options(t, o);
    TRY(config_read(o->config_name ? o->config_name : o->model_name_or_path, o->config_overrides, &t->config));
    weight_format format;
    TRY(weight_format_parse(o->weight_dtype, &format));
    if (format != WEIGHT_AUTO) t->config->weight_format = format;
    if (o->loop_form != LCKV_LOOP_PLAN) t->config->use_sequential = o->loop_form == LCKV_LOOP_SEQUENTIAL;
    warn_of_dropout(t);
    TRY(find_origin(t, o));
    TRY(find_tokenizer(t, o));
    TRY(collectives_device_open(t->collectives, o->device ? o->device : "auto", o->threads, &t->device));
    t->block_size = choose_block_size(t, o);
    return LCKV_OK;
}

/* Changes nothing on disk before all options are checked. */
static int set_up_folder(lckv_trainer *t, const lckv_train_options *o) {
    TRY(trainer_choose_batch_size(t, o));
    return prepare_output(t, o);
}

/* Rank 0 encodes the data first; the other ranks then find it in the token cache. */
static int set_up_data(lckv_trainer *t, const lckv_train_options *o) {
    if (o->do_train && !starts_over(o))
        TRY(train_checkpoint_choose(&t->folder, o->resume_from_checkpoint, &t->resumed_from));
    return t->collectives->rank ? LCKV_OK : train_data_read(t, o);
}

static int resume(lckv_trainer *t) {
    run_conditions now = trainer_conditions(t);
    TRY(train_checkpoint_restore(t->model, t->stepper->optimizer, &now, t->resumed_from, &t->state));
    t->stepper->optimizer->steps = t->state.step;
    t->folder.resumed_at = t->saved_at = t->state.step;
    log_message(LCKV_LOG_INFO, "resuming from '%s', step %lld of %lld", t->resumed_from, (long long)t->state.step,
                (long long)t->steps);
    return LCKV_OK;
}

static int set_up(lckv_trainer *t, const lckv_train_options *o) {
    if (t->collectives->rank) TRY(train_data_read(t, o));
    TRY(plan_steps(t, o));
    TRY(make_model(t, o));
    TRY(make_stepper(t, o));
    t->run_ahead = !t->device->host_memory;
    if (t->resumed_from) TRY(resume(t));
    return add_observers(t, o);
}

static int set_up_collectives(lckv_trainer *t, const lckv_train_options *o) {
    TRY(collectives_on_device(t->collectives, t->device, &t->device_collectives));
    if (t->device_collectives) t->collectives = t->device_collectives;
    if (o->zero == 3 && t->collectives->ranks > 1) t->divide = t->collectives;
    return LCKV_OK;
}

/* A copy of the options; `train` points to the others. */
typedef struct taken_options {
    lckv_train_options train;
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
    int status = collectives_agree(t->collectives, set_up_device(t, options));
    if (status >= 0) status = collectives_agree(t->collectives, set_up_folder(t, options));
    if (status >= 0) status = set_up_collectives(t, options);
    if (status >= 0) status = collectives_agree(t->collectives, set_up_data(t, options));
    if (status >= 0) status = collectives_agree(t->collectives, set_up(t, options));
    if (status < 0)
        lckv_trainer_free(t);
    else
        *out = t;
    return status;
}

static void model_origin_free(model_origin *o) {
    free(o->name);
    free(o->source_folder);
    free(o->code_folder);
    free(o->tokenizer_folder);
    free(o->chat_template);
}

void lckv_trainer_free(lckv_trainer *t) {
    if (!t) return;
    observers_free(&t->observers);
    run_folder_close(&t->folder, t->finished || (!t->ran && !t->folder.lock_was_there));
    stepper_free(t->stepper);
    model_free(t->model);
    collectives_close(t->device_collectives);
    device_close(t->device);
    config_free(t->config);
    lckv_tokenizer_free(t->tokenizer);
    train_data_free(t);
    free(t->chosen);
    free(t->output_dir);
    model_origin_free(&t->origin);
    lckv_chat_template_free(t->chat_template);
    free(t->resumed_from);
    free(t);
}
