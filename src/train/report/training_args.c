/* training_args.json, see training_args.h. */
#include "train/report/training_args.h"

#include "collectives/collectives.h"

static const char *schedule_name(lckv_schedule_type type) {
    switch (type) {
    case LCKV_SCHEDULE_LINEAR:
        return "linear";
    case LCKV_SCHEDULE_COSINE:
        return "cosine";
    case LCKV_SCHEDULE_CONSTANT:
        return "constant";
    case LCKV_SCHEDULE_CONSTANT_WITH_WARMUP:
        return "constant_with_warmup";
    case LCKV_SCHEDULE_COSINE_WITH_MIN_LR:
        return "cosine_with_min_lr";
    case LCKV_SCHEDULE_WARMUP_STABLE_DECAY:
        return "warmup_stable_decay";
    }
    return NULL;
}

static const char *strategy_name(lckv_interval_strategy strategy) {
    switch (strategy) {
    case LCKV_INTERVAL_NO:
        return "no";
    case LCKV_INTERVAL_STEPS:
        return "steps";
    case LCKV_INTERVAL_EPOCH:
        return "epoch";
    }
    return NULL;
}

static json_t *texts(const char *const *list, int count) {
    json_t *array = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(array, json_text_or_null(list[i]));
    return array;
}

/* Each function makes one group of options. */
static json_t *sources(const lckv_train_options *o) {
    static const char *const LOOP_FORMS[] = {"plan", "exact", "sequential"};
    return json_pack(
        "{ss so so so ss so ss sI sf sf sb sf sI so so so so sb sb sb}", "lckv_version", lckv_version(), "command",
        json_text_or_null(o->command), "model_name_or_path", json_text_or_null(o->model_name_or_path), "config_name",
        json_text_or_null(o->config_name), "kv", o->kv == LCKV_KV_COPY ? "copy" : "average", "config_overrides",
        json_text_or_null(o->config_overrides), "loop_form", LOOP_FORMS[o->loop_form], "loop_group_size",
        (json_int_t)o->loop_group_size, "loop_plan_share", o->loop_plan_share, "loop_iteration_weight",
        o->loop_iteration_weight, "loop_start", o->loop_start, "loop_start_weight", o->loop_start_weight,
        "loop_start_width", (json_int_t)o->loop_start_width, "tokenizer_name", json_text_or_null(o->tokenizer_name),
        "train_files", texts(o->train_files, o->train_file_count), "validation_files",
        texts(o->validation_files, o->validation_file_count), "output_dir", json_text_or_null(o->output_dir),
        "overwrite_output_dir", o->overwrite_output_dir, "do_train", o->do_train, "do_eval", o->do_eval);
}

static json_t *lora(const lckv_train_options *o) {
    return json_pack("{sb s{sI sf sf so}}", "use_peft", o->use_peft, "lora", "r", (json_int_t)o->lora->r, "alpha",
                     o->lora->alpha, "dropout", o->lora->dropout, "target_modules",
                     texts(o->lora->target_modules, o->lora->target_module_count));
}

static json_t *tuning(const lckv_train_options *o) {
    static const char *const LOSSES[] = {"auto", "yes", "no"};
    const lckv_tuning *how = o->tuning;
    if (!how) return json_pack("{sn}", "tuning");
    return json_pack("{s{so so sb sb sb ss}}", "tuning", "chat_template", json_text_or_null(how->chat_template),
                     "dataset_text_field", json_text_or_null(how->dataset_text_field), "packing", how->packing,
                     "drop_long", how->drop_long, "assistant_only_loss", how->assistant_only_loss,
                     "completion_only_loss", LOSSES[how->completion_only_loss]);
}

static json_t *data(const lckv_train_options *o) {
    return json_pack(
        "{so so so sb sI so ss sb sb sb sb sI sI sI}", "dataset_name", json_text_or_null(o->dataset_name),
        "dataset_config_name", json_text_or_null(o->dataset_config_name), "token_cache_dir",
        json_text_or_null(o->token_cache_dir), "overwrite_cache", o->overwrite_cache, "preprocessing_num_workers",
        (json_int_t)o->preprocessing_num_workers, "text_column", json_text_or_null(o->text_column), "ids_dtype",
        o->ids_dtype == LCKV_IDS_UINT32 ? "uint32" : "uint16", "keep_linebreaks", o->keep_linebreaks, "append_eos",
        o->append_eos, "group_all", o->group_all, "document_mask", o->document_mask, "max_train_samples",
        (json_int_t)o->max_train_samples, "max_eval_samples", (json_int_t)o->max_eval_samples,
        "validation_split_percentage", (json_int_t)o->validation_split_percentage);
}

static json_t *steps(const lckv_train_options *o) {
    return json_pack("{sI sb sI sI sI sI sf sI sb sI}", "block_size", (json_int_t)o->block_size, "auto_find_batch_size",
                     o->auto_find_batch_size, "memory_limit", (json_int_t)o->memory_limit,
                     "per_device_train_batch_size", (json_int_t)o->per_device_train_batch_size,
                     "per_device_eval_batch_size", (json_int_t)o->per_device_eval_batch_size,
                     "gradient_accumulation_steps", (json_int_t)o->gradient_accumulation_steps, "num_train_epochs",
                     o->num_train_epochs, "max_steps", (json_int_t)o->max_steps, "shuffle", o->shuffle, "seed",
                     (json_int_t)o->seed);
}

static json_t *optimizer(const lckv_train_options *o) {
    return json_pack("{ss sf sI sf sf sI sf sf sf sf so sb ss ss sb sI so}", "lr_scheduler_type",
                     schedule_name(o->lr_scheduler_type), "learning_rate", o->learning_rate, "warmup_steps",
                     (json_int_t)o->warmup_steps, "warmup_ratio", o->warmup_ratio, "min_lr_rate", o->min_lr_rate,
                     "num_decay_steps", (json_int_t)o->num_decay_steps, "weight_decay", o->weight_decay, "adam_beta1",
                     o->adam_beta1, "adam_beta2", o->adam_beta2, "adam_epsilon", o->adam_epsilon, "max_grad_norm",
                     json_number_or_null(o->max_grad_norm), "bf16", o->bf16, "torch_dtype",
                     o->torch_dtype ? o->torch_dtype : "auto", "weight_dtype",
                     o->weight_dtype ? o->weight_dtype : "auto", "gradient_checkpointing", o->gradient_checkpointing,
                     "max_skipped_steps", (json_int_t)o->max_skipped_steps, "skip_grad_norm",
                     json_number_or_null(o->skip_grad_norm));
}

static json_t *intervals(const lckv_train_options *o) {
    return json_pack("{sI sb so so ss sf sI so ss sf sb sI so sI sI}", "logging_steps", (json_int_t)o->logging_steps,
                     "tensorboard", o->tensorboard, "logging_dir", json_text_or_null(o->logging_dir), "run_name",
                     json_text_or_null(o->run_name), "save_strategy", strategy_name(o->save_strategy), "save_steps",
                     o->save_steps, "save_total_limit", (json_int_t)o->save_total_limit, "resume_from_checkpoint",
                     json_text_or_null(o->resume_from_checkpoint), "eval_strategy", strategy_name(o->eval_strategy),
                     "eval_steps", o->eval_steps, "load_best_model_at_end", o->load_best_model_at_end,
                     "early_stopping_patience", (json_int_t)o->early_stopping_patience, "device",
                     json_text_or_null(o->device), "threads", (json_int_t)o->threads, "processes",
                     (json_int_t)(o->processes ? o->processes->ranks : 1));
}

static json_t *division(const lckv_train_options *o) {
    return json_pack("{sI sb ss}", "zero", (json_int_t)o->zero, "zero_regather_loops", o->zero_regather_loops,
                     "grad_accum_dtype", o->grad_accum_dtype ? o->grad_accum_dtype : "auto");
}

json_t *training_args(const lckv_train_options *o) {
    json_t *all = json_object(),
           *parts[] = {sources(o), lora(o), tuning(o), data(o), steps(o), optimizer(o), intervals(o), division(o)};
    int failed = all == NULL;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        failed |= !parts[i] || json_object_update(all, parts[i]);
        json_decref(parts[i]);
    }
    if (!failed) return all;
    json_decref(all);
    return NULL;
}
