/* Flags of run_clm.py and TrainingArguments (4.45) that have no effect here, with the reason; see foreign_flags.h.
 * Flags that have an effect are in train_flags.c. docs/flags.md is generated from both. */
#include "foreign_flags.h"

#include <stddef.h>

#define SUMS "evaluation keeps running sums and never stores logits"
#define MAPPED "blocks are read from a memory-mapped file, without loader processes"
#define COMPILED "the program is compiled already"
#define PUSHED "it applies to --push_to_hub only, which is refused"
#define UNDIVIDED "weights are not sharded across processes"

const foreign_flag TRAINING_FOREIGN[] = {
    /* already the case */
    {"do_predict", FLAG_SWITCH, "run_clm.py has no prediction either"},
    {"use_liger_kernel", FLAG_SWITCH, "norms, rotations, SwiGLU and the loss are always fused"},
    {"attn_implementation", FLAG_TEXT, "attention is always fused and accumulates in float32"},
    {"low_cpu_mem_usage", FLAG_SWITCH, "weights are memory-mapped"},
    {"use_fast_tokenizer", FLAG_SWITCH, "there is only one tokenizer implementation, in C"},
    {"trust_remote_code", FLAG_SWITCH, "lckv never runs code from a checkpoint"},
    {"prediction_loss_only", FLAG_SWITCH, SUMS},
    {"eval_accumulation_steps", FLAG_TEXT, SUMS},
    {"batch_eval_metrics", FLAG_SWITCH, SUMS},
    {"eval_do_concat_batches", FLAG_SWITCH, SUMS},
    {"include_inputs_for_metrics", FLAG_SWITCH, SUMS},
    {"eval_use_gather_object", FLAG_SWITCH, "processes exchange numbers only"},
    {"use_legacy_prediction_loop", FLAG_SWITCH, "there is only one evaluation loop"},
    {"remove_unused_columns", FLAG_SWITCH, "only the token ids of a row are kept"},
    {"torch_empty_cache_steps", FLAG_TEXT, "memory is allocated once; there is no cache to empty"},
    {"save_safetensors", FLAG_SWITCH, .refused = "weights are always written as safetensors", .accepted = "True"},
    {"full_determinism", FLAG_SWITCH,
     "runs are always deterministic on the same device and with the same number of CPU threads"},
    {"tf32", FLAG_SWITCH, "float32 always has full precision"},
    {"half_precision_backend", FLAG_TEXT, "there is only one implementation of mixed precision"},
    {"fp16_backend", FLAG_TEXT, "there is only one implementation of mixed precision"},
    {"skip_memory_metrics", FLAG_SWITCH, "lckv inspect computes the memory footprint in advance"},
    {"include_tokens_per_second", FLAG_SWITCH, "throughput is always logged"},
    {"include_num_input_tokens_seen", FLAG_SWITCH, "trainer_state.json always contains it"},
    {"log_level", FLAG_TEXT, "there is only one log level: progress, warnings and errors go to standard error"},
    {"log_level_replica", FLAG_TEXT, "only rank 0 writes"},
    {"log_on_each_node", FLAG_SWITCH, "only rank 0 writes"},
    {"save_on_each_node", FLAG_SWITCH, "only rank 0 completes a checkpoint"},
    {"logging_nan_inf_filter", FLAG_SWITCH, "non-finite losses are always logged; see --max_skipped_steps"},
    {"disable_tqdm", FLAG_SWITCH, "the progress bar is shown only on a terminal"},

    /* loading data */
    {"dataloader_num_workers", FLAG_TEXT, MAPPED},
    {"dataloader_prefetch_factor", FLAG_TEXT, MAPPED},
    {"dataloader_pin_memory", FLAG_SWITCH, MAPPED},
    {"dataloader_persistent_workers", FLAG_SWITCH, MAPPED},
    {"dataloader_drop_last", FLAG_SWITCH, .refused = "the last, shorter batch of an epoch is always used",
     .accepted = "False"},
    {"dispatch_batches", FLAG_SWITCH, "every process computes its blocks from seed and step"},
    {"split_batches", FLAG_SWITCH, .refused = "batch sizes are per process", .accepted = "False"},
    {"group_by_length", FLAG_SWITCH, .refused = "all blocks have the same length", .accepted = "False"},
    {"length_column_name", FLAG_TEXT, "all blocks have the same length"},
    {"label_names", FLAG_LIST, .refused = "the labels are the token ids", .accepted = "labels|None"},
    {"past_index", FLAG_TEXT, .refused = "no state is carried from one step to the next", .accepted = "-1"},

    {"data_seed", FLAG_TEXT, .refused = "--seed sets the order of the data", .accepted = "None"},
    {"streaming", FLAG_SWITCH, "data is always streamed from disk"},

    /* logging, evaluation, checkpoints */
    {"logging_strategy", FLAG_TEXT, .refused = "logging follows --logging_steps", .accepted = "steps"},
    {"logging_first_step", FLAG_SWITCH, .refused = "logging follows --logging_steps", .accepted = "False"},
    {"eval_delay", FLAG_TEXT, .refused = "evaluations follow --eval_steps from the start", .accepted = "0|0.0"},
    {"eval_on_start", FLAG_SWITCH, .refused = "evaluations follow --eval_steps", .accepted = "False"},
    {"greater_is_better", FLAG_SWITCH, .refused = "the metric is a loss; lower is better", .accepted = "False"},
    {"save_only_model", FLAG_SWITCH, .refused = "checkpoints always contain the state needed to resume",
     .accepted = "False"},
    {"restore_callback_states_from_checkpoint", FLAG_SWITCH, "resuming restores the full state"},
    {"ignore_data_skip", FLAG_SWITCH, .refused = "a resumed run continues with the data where it stopped",
     .accepted = "False"},

    /* several devices */
    {"local_rank", FLAG_TEXT, "each process gets its rank from the environment"},
    {"ddp_backend", FLAG_TEXT, "there is only one communication backend per device type"},
    {"ddp_find_unused_parameters", FLAG_SWITCH, "every weight has a gradient in every step"},
    {"ddp_bucket_cap_mb", FLAG_TEXT, "the all-reduce of gradients has no buckets"},
    {"ddp_broadcast_buffers", FLAG_SWITCH, "models have no buffers"},
    {"accelerator_config", FLAG_TEXT, "there is nothing to configure", .refused = "lckv does not use accelerate",
     .accepted = "None"},
    {"deepspeed", FLAG_TEXT, .refused = "lckv does not use DeepSpeed; it always shards the optimizer state",
     .accepted = "None"},
    {"fsdp", FLAG_LIST, .refused = UNDIVIDED, .accepted = "False|None"},
    {"fsdp_min_num_params", FLAG_TEXT, .refused = UNDIVIDED, .accepted = "0"},
    {"fsdp_config", FLAG_TEXT, .refused = UNDIVIDED, .accepted = "None"},
    {"fsdp_transformer_layer_cls_to_wrap", FLAG_TEXT, .refused = UNDIVIDED, .accepted = "None"},
    {"mp_parameters", FLAG_TEXT, .refused = "it applies to SageMaker only", .accepted = "None"},
    {"tpu_num_cores", FLAG_TEXT, .refused = "lckv does not support TPUs", .accepted = "None"},
    {"tpu_metrics_debug", FLAG_SWITCH, .refused = "lckv does not support TPUs", .accepted = "False"},
    {"use_mps_device", FLAG_SWITCH, .refused = "lckv does not support Apple GPUs", .accepted = "False"},
    {"use_ipex", FLAG_SWITCH, "lckv already uses oneDNN on CPUs"},
    {"ray_scope", FLAG_TEXT, "it applies to hyperparameter search only"},

    /* compilers */
    {"jit_mode_eval", FLAG_SWITCH, COMPILED},
    {"torchdynamo", FLAG_TEXT, COMPILED},
    {"torch_compile", FLAG_SWITCH, COMPILED},
    {"torch_compile_backend", FLAG_TEXT, COMPILED},
    {"torch_compile_mode", FLAG_TEXT, COMPILED},
    {"gradient_checkpointing_kwargs", FLAG_TEXT, "there is only one implementation of activation checkpointing"},

    /* would change the result */
    {"fp16", FLAG_SWITCH, .refused = "float16 needs loss scaling, which lckv does not have; use --bf16",
     .accepted = "False"},
    {"optim", FLAG_TEXT, "the optimizer is always fused AdamW", .refused = "the only optimizer is AdamW",
     .accepted = "adamw_torch|adamw_torch_fused|adamw_hf|adamw_torch_xla|adamw_apex_fused"},
    {"fp16_opt_level", FLAG_TEXT, "it applies to --fp16 only, which is refused"},
    {"bf16_full_eval", FLAG_SWITCH, .refused = "evaluation uses the precision of training; use --bf16",
     .accepted = "False"},
    {"fp16_full_eval", FLAG_SWITCH, .refused = "evaluation uses the precision of training; use --bf16",
     .accepted = "False"},
    {"lr_scheduler_kwargs", FLAG_TEXT, .refused = "use --min_lr_rate and --num_decay_steps", .accepted = "None|{}"},
    {"label_smoothing_factor", FLAG_TEXT, .refused = "the loss is cross-entropy", .accepted = "0|0.0"},
    {"neftune_noise_alpha", FLAG_TEXT, .refused = "lckv does not add noise to embeddings", .accepted = "None|0|0.0"},
    {"adafactor", FLAG_SWITCH, .refused = "the only optimizer is AdamW", .accepted = "False"},
    {"optim_args", FLAG_TEXT, .refused = "use --adam_beta1, --adam_beta2 and --adam_epsilon", .accepted = "None"},
    {"optim_target_modules", FLAG_LIST, .refused = "all weights use the same optimizer", .accepted = "None"},
    {"debug", FLAG_LIST, .refused = "non-finite steps are always detected", .accepted = "None"},

    /* Hugging Face hub */
    {"push_to_hub", FLAG_SWITCH, .refused = "lckv does not upload models; use huggingface-cli upload",
     .accepted = "False"},
    {"hub_model_id", FLAG_TEXT, PUSHED},
    {"hub_strategy", FLAG_TEXT, PUSHED},
    {"hub_token", FLAG_TEXT, PUSHED},
    {"hub_private_repo", FLAG_SWITCH, PUSHED},
    {"hub_always_push", FLAG_SWITCH, PUSHED},
    {"push_to_hub_model_id", FLAG_TEXT, PUSHED},
    {"push_to_hub_organization", FLAG_TEXT, PUSHED},
    {"push_to_hub_token", FLAG_TEXT, PUSHED},
    {"cache_dir", FLAG_TEXT, .refused = "HF_HUB_CACHE or HF_HOME set the cache folder", .accepted = "None"},
    {"model_revision", FLAG_TEXT,
     .refused = "ORG/NAME always means refs/main of the cache; for another revision, give the path of its folder in "
                "snapshots/",
     .accepted = "main"},
    {"token", FLAG_TEXT, "lckv does not download while training; lckv fetch reads HF_TOKEN"},
    {"use_auth_token", FLAG_SWITCH, "lckv does not download while training; lckv fetch reads HF_TOKEN"},
    {"model_type", FLAG_TEXT, .refused = "the config.json of --config_name has the model type",
     .accepted = "lckv-llama|llama|mistral|qwen2|qwen3"},

    /* older names */
    {"evaluation_strategy", .alias_of = "eval_strategy"},
    {"per_gpu_train_batch_size", .alias_of = "per_device_train_batch_size"},
    {"per_gpu_eval_batch_size", .alias_of = "per_device_eval_batch_size"},
    {0},
};
