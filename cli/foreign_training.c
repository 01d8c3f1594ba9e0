/* Which flags of run_clm.py and TrainingArguments (4.45) set nothing here, and why; see foreign_flags.h. Those that act
 * are in train_flags.c. docs/flags.md is made of both. */
#include "foreign_flags.h"

#include <stddef.h>

#define SUMS "an evaluation keeps its sums, never its logits"
#define MAPPED "blocks are read from a mapped file, which waits for nothing"
#define COMPILED "nothing is interpreted, so there is nothing to compile"
#define PUSHED "it is said of --push_to_hub, which is refused"
#define UNDIVIDED "weights are not divided between processes"

const foreign_flag TRAINING_FOREIGN[] = {
    /* what is so anyway */
    {"do_predict", FLAG_SWITCH, "run_clm.py predicts nothing either"},
    {"use_liger_kernel", FLAG_SWITCH, "norms, rotations, SwiGLU, and the loss with its logits are fused always"},
    {"attn_implementation", FLAG_TEXT, "attention never writes its scores to memory, and sums in float32"},
    {"low_cpu_mem_usage", FLAG_SWITCH, "weights are read once, from the file where they lie"},
    {"use_fast_tokenizer", FLAG_SWITCH, "there is one tokenizer, in C"},
    {"trust_remote_code", FLAG_SWITCH, "no code of a checkpoint is ever run"},
    {"prediction_loss_only", FLAG_SWITCH, SUMS},
    {"eval_accumulation_steps", FLAG_TEXT, SUMS},
    {"batch_eval_metrics", FLAG_SWITCH, SUMS},
    {"eval_do_concat_batches", FLAG_SWITCH, SUMS},
    {"include_inputs_for_metrics", FLAG_SWITCH, SUMS},
    {"eval_use_gather_object", FLAG_SWITCH, "processes add up numbers alone"},
    {"use_legacy_prediction_loop", FLAG_SWITCH, "there is one loop of evaluation"},
    {"remove_unused_columns", FLAG_SWITCH, "only ids are kept of a row"},
    {"torch_empty_cache_steps", FLAG_TEXT, "memory is laid out once, and nothing is left to empty"},
    {"save_safetensors", FLAG_SWITCH, .refused = "weights are written as safetensors alone", .accepted = "True"},
    {"full_determinism", FLAG_SWITCH,
     "a run is the same bits on the same device, on CPUs at the same number of threads"},
    {"tf32", FLAG_SWITCH, "float32 is computed in float32"},
    {"half_precision_backend", FLAG_TEXT, "there is one form of mixed precision"},
    {"fp16_backend", FLAG_TEXT, "there is one form of mixed precision"},
    {"skip_memory_metrics", FLAG_SWITCH, "lckv inspect tells the memory beforehand"},
    {"include_tokens_per_second", FLAG_SWITCH, "it is always logged"},
    {"include_num_input_tokens_seen", FLAG_SWITCH, "trainer_state.json always has it"},
    {"log_level", FLAG_TEXT, "there is one level: progress, warnings and errors, on standard error"},
    {"log_level_replica", FLAG_TEXT, "the first process alone writes"},
    {"log_on_each_node", FLAG_SWITCH, "the first process alone writes"},
    {"save_on_each_node", FLAG_SWITCH, "the first process alone names a checkpoint whole"},
    {"logging_nan_inf_filter", FLAG_SWITCH, "a loss that is not finite is told as it is, see --max_skipped_steps"},
    {"disable_tqdm", FLAG_SWITCH, "the bar is there only where there is a terminal"},

    /* loading data */
    {"dataloader_num_workers", FLAG_TEXT, MAPPED},
    {"dataloader_prefetch_factor", FLAG_TEXT, MAPPED},
    {"dataloader_pin_memory", FLAG_SWITCH, MAPPED},
    {"dataloader_persistent_workers", FLAG_SWITCH, MAPPED},
    {"dataloader_drop_last", FLAG_SWITCH, .refused = "the last batch of an epoch is used, though short",
     .accepted = "False"},
    {"dispatch_batches", FLAG_SWITCH, "every process finds its own blocks by seed and step"},
    {"split_batches", FLAG_SWITCH, .refused = "a batch size is that of each process", .accepted = "False"},
    {"group_by_length", FLAG_SWITCH, .refused = "all blocks are equally long", .accepted = "False"},
    {"length_column_name", FLAG_TEXT, "all blocks are equally long"},
    {"label_names", FLAG_LIST, .refused = "labels are the ids themselves", .accepted = "labels|None"},
    {"past_index", FLAG_TEXT, .refused = "no state goes from one step to the next", .accepted = "-1"},

    {"data_seed", FLAG_TEXT, .refused = "the order of the data comes from --seed", .accepted = "None"},
    {"streaming", FLAG_SWITCH, "data never has to fit into memory"},

    /* when what is written */
    {"logging_strategy", FLAG_TEXT, .refused = "the log goes by --logging_steps", .accepted = "steps"},
    {"logging_first_step", FLAG_SWITCH, .refused = "the log goes by --logging_steps", .accepted = "False"},
    {"eval_delay", FLAG_TEXT, .refused = "evaluations go by --eval_steps from the beginning", .accepted = "0|0.0"},
    {"eval_on_start", FLAG_SWITCH, .refused = "evaluations go by --eval_steps", .accepted = "False"},
    {"greater_is_better", FLAG_SWITCH, .refused = "a loss is better where it is smaller", .accepted = "False"},
    {"save_only_model", FLAG_SWITCH, .refused = "a checkpoint of a run has what going on takes", .accepted = "False"},
    {"restore_callback_states_from_checkpoint", FLAG_SWITCH, "all that a run goes on with is restored"},
    {"ignore_data_skip", FLAG_SWITCH, .refused = "a run goes on with the data where it stopped", .accepted = "False"},

    /* several devices */
    {"local_rank", FLAG_TEXT, "mpirun tells each process its rank"},
    {"ddp_backend", FLAG_TEXT, "there is one exchange for each kind of device"},
    {"ddp_find_unused_parameters", FLAG_SWITCH, "every weight gets its gradient in every step"},
    {"ddp_bucket_cap_mb", FLAG_TEXT, "gradients are exchanged as they lie"},
    {"ddp_broadcast_buffers", FLAG_SWITCH, "there are no buffers besides weights"},
    {"ddp_timeout", FLAG_TEXT, "a process that dies takes the job down at once"},
    {"accelerator_config", FLAG_TEXT, "a checkpoint says all there is to configure",
     .refused = "there is no accelerate here", .accepted = "None"},
    {"deepspeed", FLAG_TEXT, .refused = "optimizer state is divided between processes without it; leave it out",
     .accepted = "None"},
    {"fsdp", FLAG_LIST, .refused = UNDIVIDED, .accepted = "False|None"},
    {"fsdp_min_num_params", FLAG_TEXT, .refused = UNDIVIDED, .accepted = "0"},
    {"fsdp_config", FLAG_TEXT, .refused = UNDIVIDED, .accepted = "None"},
    {"fsdp_transformer_layer_cls_to_wrap", FLAG_TEXT, .refused = UNDIVIDED, .accepted = "None"},
    {"mp_parameters", FLAG_TEXT, .refused = "this is SageMaker's", .accepted = "None"},
    {"tpu_num_cores", FLAG_TEXT, .refused = "there are no TPUs here", .accepted = "None"},
    {"tpu_metrics_debug", FLAG_SWITCH, .refused = "there are no TPUs here", .accepted = "False"},
    {"use_mps_device", FLAG_SWITCH, .refused = "Apple's GPUs are not computed on", .accepted = "False"},
    {"use_ipex", FLAG_SWITCH, "oneDNN, which it stands on, is what multiplies on CPUs"},
    {"ray_scope", FLAG_TEXT, "it is for searches over settings, which are no part of a run"},

    /* compilers of graphs */
    {"jit_mode_eval", FLAG_SWITCH, COMPILED},
    {"torchdynamo", FLAG_TEXT, COMPILED},
    {"torch_compile", FLAG_SWITCH, COMPILED},
    {"torch_compile_backend", FLAG_TEXT, COMPILED},
    {"torch_compile_mode", FLAG_TEXT, COMPILED},
    {"gradient_checkpointing_kwargs", FLAG_TEXT, "there is one way to compute a layer again"},

    /* what would change the result */
    {"fp16", FLAG_SWITCH, .refused = "its range is too small to train in without scaling the loss; use --bf16",
     .accepted = "False"},
    {"optim", FLAG_TEXT, "AdamW is the optimizer, in one pass over the weights", .refused = "the optimizer is AdamW",
     .accepted = "adamw_torch|adamw_torch_fused|adamw_hf|adamw_torch_xla|adamw_apex_fused"},
    {"fp16_opt_level", FLAG_TEXT, "it is said of --fp16, which is refused"},
    {"bf16_full_eval", FLAG_SWITCH, .refused = "an evaluation computes as training does; use --bf16",
     .accepted = "False"},
    {"fp16_full_eval", FLAG_SWITCH, .refused = "an evaluation computes as training does; use --bf16",
     .accepted = "False"},
    {"lr_scheduler_kwargs", FLAG_TEXT, .refused = "a schedule has flags of its own: --min_lr_rate, --num_decay_steps",
     .accepted = "None|{}"},
    {"label_smoothing_factor", FLAG_TEXT, .refused = "the loss is the plain cross-entropy", .accepted = "0|0.0"},
    {"neftune_noise_alpha", FLAG_TEXT, .refused = "no noise is added to embeddings", .accepted = "None|0|0.0"},
    {"adafactor", FLAG_SWITCH, .refused = "the optimizer is AdamW", .accepted = "False"},
    {"optim_args", FLAG_TEXT, .refused = "AdamW has flags of its own: --adam_beta1, --adam_beta2, --adam_epsilon",
     .accepted = "None"},
    {"optim_target_modules", FLAG_LIST, .refused = "all weights are trained alike", .accepted = "None"},
    {"debug", FLAG_LIST, .refused = "a step that is not finite is found without it", .accepted = "None"},

    /* the hub */
    {"push_to_hub", FLAG_SWITCH, .refused = "nothing is uploaded; huggingface-cli upload does it", .accepted = "False"},
    {"hub_model_id", FLAG_TEXT, PUSHED},
    {"hub_strategy", FLAG_TEXT, PUSHED},
    {"hub_token", FLAG_TEXT, PUSHED},
    {"hub_private_repo", FLAG_SWITCH, PUSHED},
    {"hub_always_push", FLAG_SWITCH, PUSHED},
    {"push_to_hub_model_id", FLAG_TEXT, PUSHED},
    {"push_to_hub_organization", FLAG_TEXT, PUSHED},
    {"push_to_hub_token", FLAG_TEXT, PUSHED},
    {"cache_dir", FLAG_TEXT, .refused = "the cache is where HF_HUB_CACHE or HF_HOME says", .accepted = "None"},
    {"model_revision", FLAG_TEXT,
     .refused = "refs/main of the cache is what a name means; a folder of snapshots/ can be given as a path",
     .accepted = "main"},
    {"token", FLAG_TEXT, "nothing is fetched while training; lckv fetch reads HF_TOKEN"},
    {"use_auth_token", FLAG_SWITCH, "nothing is fetched while training; lckv fetch reads HF_TOKEN"},
    {"model_type", FLAG_TEXT, .refused = "--config_name says it in its config.json",
     .accepted = "lckv-llama|llama|mistral|qwen2|qwen3"},

    /* older names */
    {"evaluation_strategy", .stands_for = "eval_strategy"},
    {"per_gpu_train_batch_size", .stands_for = "per_device_train_batch_size"},
    {"per_gpu_eval_batch_size", .stands_for = "per_device_eval_batch_size"},
    {0},
};
