/* Defaults and checks of the options of a training run, see train_options.h. */
#include "train/train_options.h"

#include "base/options.h"
#include "base/text/utf8.h"
#include "config/quantization.h"

#include <math.h>
#include <string.h>

/* Schedules compute with numbers of steps as doubles, which hold all integers up to this one. */
static const int64_t MAX_STEPS = INT64_C(1) << 53;

void lckv_train_options_init(lckv_train_options *options, size_t struct_size) {
    const lckv_train_options defaults = {
        .do_train = true,
        .do_eval = true,
        .keep_linebreaks = true,
        .per_device_train_batch_size = 8,
        .per_device_eval_batch_size = 8,
        .gradient_accumulation_steps = 1,
        .num_train_epochs = 3,
        .max_steps = -1,
        .shuffle = true,
        .seed = 42,
        .lr_scheduler_type = LCKV_SCHEDULE_LINEAR,
        .learning_rate = 5e-5,
        .adam_beta1 = 0.9,
        .adam_beta2 = 0.999,
        .adam_epsilon = 1e-8,
        .max_grad_norm = 1,
        .logging_steps = 500,
        .save_strategy = LCKV_INTERVAL_STEPS,
        .save_steps = 500,
        .device = "auto",
        .loop_start_weight = 1,
        .zero = 1,
    };
    options_give(options, struct_size, &defaults, sizeof defaults);
}

void lckv_lora_init(lckv_lora *options, size_t struct_size) {
    const lckv_lora defaults = {.r = 16, .alpha = 32};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

void lckv_tuning_init(lckv_tuning *options, size_t struct_size) {
    const lckv_tuning defaults = {.dataset_text_field = "text"};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

static int check_int(const char *name, int64_t value, int64_t least, int64_t largest) {
    REQUIRE(value >= least && value <= largest, LCKV_ERROR_ARGUMENT, "%s: expected %lld to %lld, found %lld", name,
            (long long)least, (long long)largest, (long long)value);
    return LCKV_OK;
}

/* NaN is out of every range. */
static int check_number(const char *name, double value, double least, double largest) {
    REQUIRE(value >= least && value <= largest, LCKV_ERROR_ARGUMENT, "%s: expected %g to %g, found %g", name, least,
            largest, value);
    return LCKV_OK;
}

/* Whether there is validation data, in files of its own or split off. */
static bool can_evaluate(const lckv_train_options *o) {
    return o->validation_file_count > 0 || o->validation_split_percentage > 0 || o->dataset_name;
}

static int check_sources(const lckv_train_options *o) {
    REQUIRE(o->model_name_or_path || o->config_name, LCKV_ERROR_ARGUMENT,
            "expected model_name_or_path (start from its weights), config_name (start from random weights), or both "
            "(convert the weights to the config), found neither");
    TRY(check_int("kv", (int64_t)o->kv, LCKV_KV_AVERAGE, LCKV_KV_COPY));
    TRY(check_int("loop_form", (int64_t)o->loop_form, LCKV_LOOP_PLAN, LCKV_LOOP_SEQUENTIAL));
    TRY(check_int("loop_group_size", o->loop_group_size, 0, INT32_MAX));
    REQUIRE(o->kv == LCKV_KV_AVERAGE || (o->model_name_or_path && o->config_name), LCKV_ERROR_ARGUMENT,
            "kv selects the conversion from model_name_or_path to config_name: expected both");
    REQUIRE(o->output_dir && *o->output_dir, LCKV_ERROR_ARGUMENT, "expected output_dir, found none");
    bool split = o->validation_split_percentage > 0 && o->validation_file_count == 0;
    REQUIRE((!o->do_train && !split) || (o->train_files && o->train_file_count > 0) || o->dataset_name,
            LCKV_ERROR_ARGUMENT, "expected a train_file or a dataset_name, found neither");
    REQUIRE(o->do_train || (o->do_eval && can_evaluate(o)), LCKV_ERROR_ARGUMENT,
            "nothing to do: without do_train, expected do_eval and a validation_file");
    REQUIRE(o->validation_file_count == 0 || o->validation_files, LCKV_ERROR_ARGUMENT,
            "validation_files is NULL, but validation_file_count is %d", o->validation_file_count);
    return LCKV_OK;
}

/* An adapter belongs to an existing checkpoint. */
static int check_peft(const lckv_train_options *o) {
    REQUIRE(!o->use_peft || (o->model_name_or_path && !o->config_name), LCKV_ERROR_ARGUMENT,
            "use_peft adds an adapter to model_name_or_path: expected model_name_or_path and no config_name");
    REQUIRE(!o->use_peft || utf8_valid(o->model_name_or_path, strlen(o->model_name_or_path)), LCKV_ERROR_ARGUMENT,
            "model_name_or_path: expected UTF-8, because the adapter's adapter_config.json names it, found '%s'",
            o->model_name_or_path);
    weight_format format;
    TRY(weight_format_parse(o->weight_dtype, &format));
    REQUIRE(o->use_peft || (format != WEIGHT_INT8 && format != WEIGHT_INT4), LCKV_ERROR_ARGUMENT,
            "weight_dtype %s needs use_peft: quantized weights are not trained, an adapter beside them is",
            o->weight_dtype);
    return LCKV_OK;
}

static int check_loop_start(const lckv_train_options *o) {
    if (!o->loop_start) return LCKV_OK;
    TRY(check_number("loop_start_weight", o->loop_start_weight, 1e-9, 1e9));
    TRY(check_int("loop_start_width", o->loop_start_width, 0, 1 << 20));
    REQUIRE(!o->use_peft, LCKV_ERROR_UNSUPPORTED,
            "loop_start is not supported with use_peft, whose output is an adapter; fit a start to the merged model");
    REQUIRE(o->loop_form != LCKV_LOOP_SEQUENTIAL, LCKV_ERROR_UNSUPPORTED,
            "loop_start is not supported with loop_form sequential, which has no iterations");
    return LCKV_OK;
}

/* These belong to the exact form. */
static int check_exact(const lckv_train_options *o) {
    double share = o->loop_plan_share;
    TRY(check_number("loop_iteration_weight", o->loop_iteration_weight, 0, 1e9));
    REQUIRE(share >= 0 && share < 1, LCKV_ERROR_ARGUMENT,
            "loop_plan_share: expected a number of at least 0 and below 1, found %g", share);
    REQUIRE(o->loop_form == LCKV_LOOP_EXACT || (share == 0 && o->loop_iteration_weight == 0), LCKV_ERROR_ARGUMENT,
            "%s needs loop_form exact", share > 0 ? "loop_plan_share" : "loop_iteration_weight");
    return LCKV_OK;
}

static int check_tuning(const lckv_train_options *o) {
    const lckv_tuning *how = o->tuning;
    if (!how) return LCKV_OK;
    REQUIRE(how->dataset_text_field && *how->dataset_text_field, LCKV_ERROR_ARGUMENT,
            "expected dataset_text_field, found none");
    REQUIRE(!o->document_mask, LCKV_ERROR_ARGUMENT,
            "document_mask is not supported for instruction data, whose rows are always separate");
    return check_int("completion_only_loss", (int64_t)how->completion_only_loss, LCKV_COMPLETION_LOSS_AUTO,
                     LCKV_COMPLETION_LOSS_NO);
}

static int check_sizes(const lckv_train_options *o) {
    if (o->block_size) TRY(check_int("block_size", o->block_size, 2, INT32_MAX));
    TRY(check_int("ids_dtype", (int64_t)o->ids_dtype, LCKV_IDS_UINT16, LCKV_IDS_UINT32));
    TRY(check_int("preprocessing_num_workers", o->preprocessing_num_workers, 0, 4096));
    TRY(check_int("max_train_samples", o->max_train_samples, 0, INT64_MAX));
    TRY(check_int("max_eval_samples", o->max_eval_samples, 0, INT64_MAX));
    TRY(check_int("validation_split_percentage", o->validation_split_percentage, 0, 99));
    TRY(check_int("per_device_train_batch_size", o->per_device_train_batch_size, 1, INT32_MAX));
    TRY(check_int("memory_limit", o->memory_limit, 0, INT64_MAX));
    TRY(check_int("per_device_eval_batch_size", o->per_device_eval_batch_size, 1, INT32_MAX));
    TRY(check_int("gradient_accumulation_steps", o->gradient_accumulation_steps, 1, INT32_MAX));
    TRY(check_int("max_steps", o->max_steps, -1, MAX_STEPS));
    if (o->max_steps <= 0) TRY(check_number("num_train_epochs", o->num_train_epochs, 1e-6, 1e9));
    TRY(check_int("logging_steps", o->logging_steps, 1, MAX_STEPS));
    return check_int("threads", o->threads, 0, 4096);
}

/* Rejects parameters that the schedule does not use. */
static int check_decay(const lckv_train_options *o) {
    bool stable = o->lr_scheduler_type == LCKV_SCHEDULE_WARMUP_STABLE_DECAY;
    bool decays = stable || o->lr_scheduler_type == LCKV_SCHEDULE_COSINE_WITH_MIN_LR;
    TRY(check_number("min_lr_rate", o->min_lr_rate, 0, 1));
    TRY(check_int("num_decay_steps", o->num_decay_steps, 0, MAX_STEPS));
    REQUIRE(decays || o->min_lr_rate == 0, LCKV_ERROR_ARGUMENT,
            "min_lr_rate needs lr_scheduler_type cosine_with_min_lr or warmup_stable_decay");
    REQUIRE(stable || o->num_decay_steps == 0, LCKV_ERROR_ARGUMENT,
            "num_decay_steps needs lr_scheduler_type warmup_stable_decay");
    return LCKV_OK;
}

static int check_torch_dtype(const lckv_train_options *o) {
    const char *type = o->torch_dtype ? o->torch_dtype : "auto";
    bool bf16 = !strcmp(type, "bfloat16");
    REQUIRE(bf16 || !strcmp(type, "auto") || !strcmp(type, "float32"), LCKV_ERROR_ARGUMENT,
            "torch_dtype: expected auto, float32 or bfloat16, found %s", type);
    REQUIRE(!bf16 || o->bf16, LCKV_ERROR_ARGUMENT,
            "torch_dtype bfloat16 needs bf16, because bf16 weights are multiplied in bf16");
    return LCKV_OK;
}

static int check_optimizer(const lckv_train_options *o) {
    TRY(check_int("lr_scheduler_type", (int64_t)o->lr_scheduler_type, LCKV_SCHEDULE_LINEAR,
                  LCKV_SCHEDULE_WARMUP_STABLE_DECAY));
    TRY(check_decay(o));
    TRY(check_number("learning_rate", o->learning_rate, 0, 1e6));
    TRY(check_int("warmup_steps", o->warmup_steps, 0, MAX_STEPS));
    TRY(check_number("warmup_ratio", o->warmup_ratio, 0, 1));
    TRY(check_number("weight_decay", o->weight_decay, 0, 1e6));
    TRY(check_number("adam_beta1", o->adam_beta1, 0, 1));
    TRY(check_number("adam_beta2", o->adam_beta2, 0, 1));
    REQUIRE((float)o->adam_beta1 < 1 && (float)o->adam_beta2 < 1, LCKV_ERROR_ARGUMENT,
            "adam_beta1, adam_beta2: expected values below 1, found %g and %g", o->adam_beta1, o->adam_beta2);
    TRY(check_number("adam_epsilon", o->adam_epsilon, 0, 1));
    return check_number("max_grad_norm", o->max_grad_norm, 0, HUGE_VAL);
}

/* A number of steps, or a fraction of all steps if below 1. */
static int check_interval(const char *name, double steps, double least) {
    TRY(check_number(name, steps, least, (double)MAX_STEPS));
    REQUIRE(steps < 1 || steps == floor(steps), LCKV_ERROR_ARGUMENT,
            "%s: expected an integer number of steps, or a fraction of all steps below 1, found %g", name, steps);
    return LCKV_OK;
}

static int check_strategy(const char *name, lckv_interval_strategy strategy) {
    return check_int(name, (int64_t)strategy, LCKV_INTERVAL_NO, LCKV_INTERVAL_EPOCH);
}

/* As in TrainingArguments: every evaluation that can be the best one has to have a checkpoint. */
static int check_best(const lckv_train_options *o) {
    if (o->early_stopping_patience > 0)
        REQUIRE(o->load_best_model_at_end, LCKV_ERROR_ARGUMENT,
                "early_stopping_patience needs load_best_model_at_end: otherwise the last model, which is worse, is "
                "the result");
    if (!o->load_best_model_at_end) return LCKV_OK;
    REQUIRE(o->eval_strategy != LCKV_INTERVAL_NO && o->eval_strategy == o->save_strategy, LCKV_ERROR_ARGUMENT,
            "load_best_model_at_end needs equal eval_strategy and save_strategy, other than no");
    double eval = o->eval_steps > 0 ? o->eval_steps : (double)o->logging_steps, times = o->save_steps / eval;
    REQUIRE(o->eval_strategy != LCKV_INTERVAL_STEPS || fabs(times - round(times)) < 1e-9, LCKV_ERROR_ARGUMENT,
            "load_best_model_at_end needs save_steps to be a multiple of eval_steps, found %g and %g", o->save_steps,
            eval);
    return LCKV_OK;
}

static int check_intervals(const lckv_train_options *o) {
    TRY(check_strategy("save_strategy", o->save_strategy));
    TRY(check_strategy("eval_strategy", o->eval_strategy));
    TRY(check_interval("save_steps", o->save_steps, 1e-9));
    TRY(check_interval("eval_steps", o->eval_steps, 0));
    TRY(check_int("save_total_limit", o->save_total_limit, 0, INT64_MAX));
    TRY(check_int("early_stopping_patience", o->early_stopping_patience, 0, INT64_MAX));
    TRY(check_int("max_skipped_steps", o->max_skipped_steps, 0, INT64_MAX));
    TRY(check_number("skip_grad_norm", o->skip_grad_norm, 0, HUGE_VAL));
    REQUIRE(o->eval_strategy == LCKV_INTERVAL_NO || !o->do_train || (o->do_eval && can_evaluate(o)),
            LCKV_ERROR_ARGUMENT, "eval_strategy needs do_eval, and a validation_file or validation_split_percentage");
    return check_best(o);
}

static int check_zero(const lckv_train_options *o) {
    REQUIRE(
        o->zero == 1 || o->zero == 3, LCKV_ERROR_ARGUMENT,
        "zero: expected 1 (the optimizer state is divided between the processes) or 3 (weights and gradients, too), "
        "found %lld; 0 and 2 would need more memory and communicate no less",
        (long long)o->zero);
    const char *sums = o->grad_accum_dtype ? o->grad_accum_dtype : "auto";
    bool bf16 = !strcmp(sums, "bfloat16"), bf16_weights = o->torch_dtype && !strcmp(o->torch_dtype, "bfloat16");
    REQUIRE(bf16 || !strcmp(sums, "auto") || !strcmp(sums, "float32"), LCKV_ERROR_ARGUMENT,
            "grad_accum_dtype: expected auto, float32 or bfloat16, found %s", sums);
    REQUIRE(!bf16 || (o->zero == 3 && bf16_weights), LCKV_ERROR_ARGUMENT,
            "grad_accum_dtype bfloat16 needs zero 3 and torch_dtype bfloat16");
    REQUIRE(o->zero == 3 || !o->zero_regather_loops, LCKV_ERROR_ARGUMENT,
            "zero_regather_loops needs zero 3: with zero 1 no weights are gathered");
    return LCKV_OK;
}

int train_options_check(const lckv_train_options *o) {
    TRY(check_sources(o));
    TRY(check_peft(o));
    TRY(check_loop_start(o));
    TRY(check_exact(o));
    TRY(check_tuning(o));
    TRY(check_sizes(o));
    TRY(check_torch_dtype(o));
    TRY(check_intervals(o));
    TRY(check_zero(o));
    return check_optimizer(o);
}
