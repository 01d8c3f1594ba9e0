/* Table of flag names in other programs; see flag_aliases.h. The messages are in flags_unknown.c. */
#include "flag_aliases.h"

#include <string.h>

#define SAMPLED "sampling flags belong to lckv generate and lckv chat; for lckv serve, set them in each request"
#define QUANTIZED                                                                                                      \
    "the formats of weights are int8 and int4 in groups of 32; generate, chat, serve, score, eval, bench, convert "    \
    "and, with --use_peft, train and sft have --weight_dtype"
#define ONE_DEVICE                                                                                                     \
    "one process uses one device; to train on several, run lckv train --num_processes N; to run a model on several, "  \
    "use "                                                                                                             \
    "--tensor_parallel N of lckv generate, chat, serve, score, eval or bench"
#define NO_NETWORK "only lckv fetch uses the network; it reads HF_TOKEN"
#define CACHE "HF_HUB_CACHE or HF_HOME set the folder of the Hugging Face cache"

const flag_alias FLAG_ALIASES[] = {
    /* models, tokenizers, adapters */
    {"-m model model_name model_path model_id model_dir model_file pretrained pretrained_model_name_or_path base_model "
     "base_model_name_or_path checkpoint checkpoint_path checkpoint_dir ckpt ckpt_path ckpt_dir hf_model hf_repo hf "
     "repo repo_id weights",
     "bench:config_name|model_name_or_path|tokenizer_name|name", NULL},
    {"config config_file config_path model_config model_config_name", "config_name|model_name_or_path", NULL},
    {"overrides hf_overrides config_override model_kwargs", "config_overrides", NULL},
    {"model_args", "eval:model_name_or_path", "pretrained=NAME is --model_name_or_path NAME"},
    {"tokenizer tokenizer_path tokenizer_dir tokenizer_file tokenizer_name_or_path tokenizer_mode vocab vocab_file",
     "tokenizer_name", NULL},
    {"use_lora lora do_lora enable_lora peft lora_path lora_weights lora_model lora_adapter lora_modules adapter_path "
     "adapter_name adapter_name_or_path adapter_dir peft_model peft_model_id peft_path",
     "use_peft|adapter", NULL},
    {"lora_rank lora_dim lora_dimension max_lora_rank rank r", "lora_r", NULL},
    {"alpha lora_scale lora_scaling", "lora_alpha", NULL},
    {"target_modules lora_target lora_targets lora_module", "lora_target_modules", NULL},
    {"revision branch commit tag model_revision", "fetch:revision",
     "ORG/NAME means refs/main of the cache; for another revision, give the path of its folder in snapshots/"},

    /* config overrides */
    {"layer_types layer_type layer_map kv_map kv_layers layers_map", "config_overrides layer_types=*", NULL},
    {"forward_passes backward_passes num_hidden_layers num_attention_heads num_key_value_heads hidden_size "
     "intermediate_size head_dim rope_theta rope_scaling rms_norm_eps tie_word_embeddings vocab_size force_nodiag "
     "use_sequential",
     "config_overrides @=*", NULL},
    {"num_layers n_layers n_layer num_hidden_layer", "config_overrides num_hidden_layers=*", NULL},
    {"sliding_window attention_window", "config_overrides sliding_window=*", NULL},
    {"num_forward_passes num_passes passes", "config_overrides forward_passes=*", NULL},
    {"num_backward_passes", "config_overrides backward_passes=*", NULL},

    /* number types, quantization */
    {"dtype precision data_type model_dtype weight_type wtype param_dtype compute_dtype", "torch_dtype",
     "lckv computes in float32 unless --bf16 is given"},
    {"zero_stage deepspeed_stage zero_optimization", "zero", NULL},
    {"half float16 fp16", "train:bf16|sft:bf16|torch_dtype float16",
     "lckv computes in float32, or in bfloat16 with --bf16"},
    {"bfloat16 amp mixed_precision autocast", "bf16", NULL},
    {"fp32 float32 full_precision", "torch_dtype float32", "lckv computes in float32 unless --bf16 is given"},
    {"load_in_8bit int8 q8 q8_0 w8", "weight_dtype int8", QUANTIZED},
    {"load_in_4bit int4 q4 q4_0 w4", "weight_dtype int4", QUANTIZED},
    {"quantize quantization quantization_config quant bits weight_bits quantization_bit", "weight_dtype", QUANTIZED},
    {"fp8 fp4 nf4", NULL, QUANTIZED},
    {"kv_cache_dtype kv_cache_type cache_dtype cache_type_k cache_type_v ctk ctv kv_bits kv_cache_quantization",
     "kv_dtype", NULL},

    /* lengths */
    {"max_new_tokens max_tokens n_predict num_predict max_gen_len max_gen_toks max_generated_tokens new_tokens "
     "n_tokens "
     "max_completion_tokens max_output_tokens gen_len gen_length generation_length output_len output_length "
     "max_decode_tokens tokens_to_generate -n length",
     "generate:length|chat:max_new_tokens|bench:new_lengths|inspect:length",
     "the number of new tokens is a flag of lckv generate and lckv chat; for lckv serve, set it in each request"},
    {"max_length max_len seq_len seqlen seq_length sequence_length max_seq_len max_seq_length max_sequence_length",
     "generate:length|chat:max_new_tokens|train:block_size|sft:max_seq_length|serve:max_model_len|eval:block_size|"
     "inspect:length|bench:prompt_lengths",
     NULL},
    {"context_length context_size context_window context ctx ctx_size ctx_len n_ctx num_ctx max_context "
     "max_context_length max_position_embeddings n_positions model_max_length max_model_len cutoff_len -c",
     "train:block_size|sft:max_seq_length|serve:max_model_len|eval:block_size|inspect:length|bench:prompt_lengths|"
     "config_overrides max_position_embeddings=*",
     NULL},
    {"block_size blocksize chunk_size", "sft:max_seq_length|eval:block_size|inspect:block_size", NULL},

    /* sampling */
    {"top_k topk", "k", SAMPLED},
    {"top_p topp nucleus nucleus_p", "p", SAMPLED},
    {"minp", "min_p", SAMPLED},
    {"temp t temperature", "temperature", SAMPLED},
    {"repeat_penalty rep_pen rep_penalty repetition presence_penalty frequency_penalty", "repetition_penalty", SAMPLED},
    {"greedy greedy_decoding argmax deterministic no_sample no_do_sample", "temperature 0", SAMPLED},
    {"do_sample sample sampling", NULL, "lckv samples unless --temperature is 0"},
    {"num_beams n_beams num_beam beams beam beam_size beam_width num_beam_groups beam_search length_penalty "
     "early_stopping use_beam_search",
     NULL, "lckv has no beam search; lckv generate --num_return_sequences N returns several samples"},
    {"penalty_alpha typical_p typical top_a tfs tfs_z mirostat mirostat_lr mirostat_ent dynatemp_range xtc_probability "
     "dry_multiplier epsilon_cutoff eta_cutoff no_repeat_ngram_size diversity_penalty bad_words logit_bias grammar "
     "json_schema",
     NULL, "the sampling flags are --temperature, --k, --p, --min_p and --repetition_penalty"},
    {"n best_of num_return num_return_sequence num_sequences num_generations num_outputs n_samples num_samples samples",
     "generate:num_return_sequences|eval:num_samples|num_sequences", NULL},
    {"stop stop_sequence stop_sequences stop_string stop_strings stop_str stop_word stop_words reverse_prompt until "
     "eos_token eos eos_token_id stop_tokens",
     "stop_token|eos_tokens", NULL},
    {"random_seed rng_seed manual_seed -s", "seed|fewshot_seed", NULL},

    /* input */
    {"prompt prompt_text prompts input input_text inputs text texts query question instruction -p",
     "generate:prompt|text|bench:prompt_lengths",
     "lckv chat reads questions from the terminal or standard input; for one prompt, use lckv generate --prompt"},
    {"file input_file infile in_file prompts_file prompt_path prompt_files input_path text_file -f",
     "prompt_file|file|train_file|questions", NULL},
    {"input_ids token_ids ids tokens prompt_tokens", "prompt_ids", NULL},
    {"system system_message system_prompt_file system_instruction sys -sys", "system_prompt", NULL},
    {"template chat_template_file chat_template_path jinja prompt_template", "chat_template", NULL},
    {"interactive conversation cnv interactive_first multiturn -i", NULL, "lckv chat holds a conversation"},
    {"add_bos add_bos_token add_special_tokens", NULL,
     "the tokenizer adds its special tokens; --no_special_tokens disables this"},

    /* output */
    {"out output outfile out_file output_file output_path output_dir out_dir outdir output_folder save_dir save_path "
     "save_to save save_model_to model_output_dir dest destination target -o",
     "output_dir|output_file|output|logits|svg", NULL},
    {"json_output as_json output_format format", "json", NULL},
    {"markdown", "md", NULL},
    {"plot chart figure png", "svg", NULL},
    {"verbose v quiet q silent debug log_level logging_level verbosity no_progress disable_tqdm", NULL,
     "there is only one log level, on standard error; redirect it with 2>/dev/null"},
    {"version V", NULL, "lckv --version prints the version"},

    /* device */
    {"device_map gpu gpus gpu_id cuda cuda_device use_gpu use_cuda accelerator backend main_gpu", "device", NULL},
    {"cpu no_cuda no_gpu force_cpu cpu_only", "use_cpu|device cpu", NULL},
    {"ngl n_gpu_layers num_gpu_layers gpu_layers", NULL,
     "a process runs its model on one device: --device cuda or --device cpu"},
    {"num_threads n_threads nthreads thread threads_batch cpu_threads omp_num_threads cores n_cpus -t", "threads",
     NULL},
    {"tensor_parallel_size tensor_parallel tp tp_size tensor_model_parallel_size", "tensor_parallel", ONE_DEVICE},
    {"pipeline_parallel_size data_parallel_size num_gpus n_gpu "
     "world_size nproc_per_node num_processes num_machines nnodes",
     NULL, ONE_DEVICE},
    {"max_memory offload offload_folder cpu_offload cpu_offload_gb swap_space no_mmap mlock mmap low_vram", NULL,
     "weights are memory-mapped, and a process runs its model on one device"},
    {"flash_attn flash_attention fa use_flash_attention_2 use_flash_attn attn_implementation torch_compile compile jit "
     "enforce_eager trust_remote_code low_cpu_mem_usage use_fast use_fast_tokenizer use_cache enable_prefix_caching "
     "enable_chunked_prefill no_warmup use_liger_kernel",
     NULL, "not needed: attention is fused, weights are memory-mapped, and code in checkpoints never runs"},

    /* batches and the server */
    {"batch batch_size batchsize bs bsz train_batch_size micro_batch_size per_device_batch_size mini_batch_size "
     "train_micro_batch_size_per_gpu global_batch_size -b",
     "per_device_train_batch_size|serve:max_num_seqs|num_sequences",
     "lckv batches sequences as memory allows; no batch size is needed"},
    {"eval_batch_size val_batch_size test_batch_size", "per_device_eval_batch_size", NULL},
    {"max_batch_size parallel n_parallel num_parallel np num_slots max_concurrent_requests max_num_requests",
     "max_num_seqs|num_sequences", NULL},
    {"max_batch_tokens max_num_batch_tokens ubatch_size max_batch_total_tokens", "max_num_batched_tokens", NULL},
    {"gpu_memory_utilization mem_fraction_static kv_cache_size kv_cache_memory_bytes num_gpu_blocks", "kv_cache_memory",
     "lckv uses the memory that the model and its sequences need; lckv inspect computes it"},
    {"address addr bind listen ip hostname", "host", NULL},
    {"apikey key api_keys auth_token", "api_key", NULL},
    {"alias model_alias name served_name served_model", "served_model_name|run_name", NULL},
    {"cors cors_origins allow_origins allowed_origin cors_allow_origin", "allowed_origins", NULL},
    {"ssl_keyfile ssl_certfile ssl_key_file ssl_cert_file tls_key tls_cert", NULL,
     "use a reverse proxy for TLS; see docs/serving.md"},
    {"tool_call_parser enable_auto_tool_choice reasoning_parser speculative_model model_draft draft_model", NULL,
     "lckv serve does not have this feature"},

    /* training data */
    {"dataset dataset_id dataset_name_or_path dataset_path hf_dataset", "fetch:repo_type dataset|dataset_name|file",
     NULL},
    {"dataset_config subset dataset_subset", "dataset_config_name", NULL},
    {"data data_path data_file data_files data_dir train_data train_files train_dataset train_path train_filename "
     "training_data training_file corpus dataset_dir input_data -d",
     "train_file|data_dir|file", NULL},
    {"validation valid_file val_file eval_file eval_data eval_files val_data valid_data dev_file dev_data eval_dataset "
     "validation_data validation_files validation_dataset test_file",
     "validation_file", NULL},
    {"validation_split val_split eval_split val_ratio validation_ratio", "validation_split_percentage", NULL},
    {"text_field content_field", "dataset_text_field|text_column", NULL},
    {"text_key field column", "text_column|dataset_text_field", NULL},
    {"num_workers workers num_proc preprocessing_workers data_workers dataloader_workers", "preprocessing_num_workers",
     NULL},
    {"shuffle", NULL, "lckv shuffles unless --no_shuffle is given"},
    {"pack sample_packing", "packing", NULL},
    {"train_on_completions_only completion_only", "completion_only_loss", NULL},
    {"mask_prompt train_on_inputs mask_user assistant_only", "assistant_only_loss", NULL},
    {"max_samples max_examples num_examples num_docs", "max_train_samples|eval:limit", NULL},

    /* steps */
    {"lr learn_rate max_lr peak_lr base_lr", "learning_rate", NULL},
    {"epochs num_epochs n_epochs epoch max_epochs train_epochs num_train_epoch", "num_train_epochs", NULL},
    {"steps num_steps n_steps max_iters max_iter iters iterations n_iters num_iterations num_train_steps train_steps "
     "total_steps max_train_steps train_iters",
     "max_steps|repetitions", NULL},
    {"warmup warmup_iters num_warmup_steps lr_warmup_steps lr_warmup_iters warmup_step", "warmup_steps", NULL},
    {"warmup_fraction lr_warmup_ratio warmup_proportion", "warmup_ratio", NULL},
    {"lr_scheduler scheduler scheduler_type lr_schedule lr_decay_style schedule lr_scheduler_name", "lr_scheduler_type",
     NULL},
    {"min_lr lr_min final_lr min_learning_rate", "min_lr_rate", NULL},
    {"wd decay l2", "weight_decay", NULL},
    {"beta1 adam_b1", "adam_beta1", NULL},
    {"beta2 adam_b2", "adam_beta2", NULL},
    {"eps adam_eps epsilon", "adam_epsilon", NULL},
    {"grad_clip clip clip_grad clip_grad_norm gradient_clipping gradient_clip_val clip_norm max_norm grad_norm",
     "max_grad_norm", NULL},
    {"accumulation_steps accum_steps grad_accum grad_accum_steps grad_acc_steps gradient_accumulation "
     "accumulate_grad_batches update_freq",
     "gradient_accumulation_steps", NULL},
    {"checkpointing grad_checkpointing activation_checkpointing grad_checkpoint recompute", "gradient_checkpointing",
     NULL},
    {"optimizer optimiser optimizer_type", NULL, "the only optimizer is AdamW"},
    {"loss loss_fn loss_function", NULL, "the loss is cross-entropy"},
    {"save_every save_interval save_freq checkpoint_interval checkpointing_steps checkpoint_every", "save_steps", NULL},
    {"save_limit keep_last max_checkpoints", "save_total_limit", NULL},
    {"eval_every eval_interval eval_freq val_interval val_check_interval evaluation_steps", "eval_steps", NULL},
    {"evaluation_strategy eval_mode", "eval_strategy", NULL},
    {"log_every log_interval log_steps logging_interval log_freq logging_step print_every", "logging_steps", NULL},
    {"log_dir tensorboard_dir tb_dir", "logging_dir|output_dir", NULL},
    {"wandb use_wandb tensorboard use_tensorboard logger log_with tracker", "report_to tensorboard", NULL},
    {"wandb_project wandb_run_name wandb_entity project project_name", "run_name", NULL},
    {"exp_name experiment_name experiment run_id", "run_name", NULL},
    {"resume resume_from resume_training restart continue continue_training from_checkpoint load_checkpoint init_from",
     "resume_from_checkpoint", NULL},
    {"overwrite force force_overwrite", "overwrite_output_dir|overwrite_cache", NULL},
    {"patience early_stop", "early_stopping_patience", NULL},
    {"eval_only evaluate do_evaluate", "do_eval", NULL},
    {"train_only do_training", "do_train", NULL},

    /* evaluation and speed */
    {"task benchmark benchmarks task_list eval_tasks", "tasks", NULL},
    {"fewshot few_shot num_few_shot n_shot nshot shots k_shot", "num_fewshot", NULL},
    {"gen_kwargs apply_chat_template fewshot_as_multiturn use_cache_requests write_out predict_only", NULL,
     "lckv eval uses the prompts of lm-evaluation-harness and compares log-likelihoods"},
    {"start_size num_sinks sink_tokens attention_sink_size num_attention_sinks", "num_sink_tokens", NULL},
    {"recent_size window window_size cache_size cache_length", "window_length", NULL},
    {"enable_streaming streaming_llm attention_sinks streaming use_sink_cache start_recent_kv_cache",
     "sink_cache|streaming", NULL},
    {"input_len input_length n_prompt pp prompt_length prompt_len", "prompt_lengths", NULL},
    {"n_gen tg", "new_lengths", NULL},
    {"n_depth depth", "depths", NULL},
    {"repeat repeats reps runs num_runs num_iters -r", "repetitions", NULL},
    {"request_rate rate qps rps", "request_rates", NULL},
    {"num_prompts n_requests requests", "num_requests", NULL},
    {"base_url endpoint server server_url api_base", "url", NULL},
    {"measurement mode what", "measure", NULL},

    /* the hub */
    {"allow_patterns allow_pattern includes", "include", NULL},
    {"ignore_patterns ignore_pattern excludes", "exclude", NULL},
    {"type repo_kind", "repo_type|model_type", NULL},
    {"local_dir cache_dir download_dir hf_home local_dir_use_symlinks", NULL, CACHE},
    {"token hf_token use_auth_token auth", NULL, NO_NETWORK},
    {"push_to_hub push upload hub_model_id", NULL, "lckv does not upload models; use huggingface-cli upload"},
    {0},
};

/* Whether the `length` bytes at `typed` are this word. _ and - are equal, except at the start, where a dash marks a
 * one-letter flag. */
static bool same_word(const char *word, const char *typed, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (word[i] != (i && typed[i] == '-' ? '_' : typed[i])) return false;
    return true;
}

static bool has_word(const char *words, const char *typed, size_t length) {
    while (*words) {
        size_t span = strcspn(words, " ");
        if (span == length && same_word(words, typed, length)) return true;
        words += span + (words[span] == ' ');
    }
    return false;
}

const flag_alias *flag_alias_find(const char *typed, size_t length) {
    for (const flag_alias *a = FLAG_ALIASES; a->typed; a++)
        if (has_word(a->typed, typed, length)) return a;
    return NULL;
}

const flag *flag_alias_meant(const flag_alias *alias, const flag_table *table, const char **value) {
    size_t command = strlen(table->command);
    for (const char *at = alias->meant; at && *at;) {
        size_t whole = strcspn(at, "|"), span = strcspn(at, " |"), colon = strcspn(at, ":");
        bool other = colon < span && !(colon == command && !memcmp(at, table->command, command));
        const char *name = colon < span ? at + colon + 1 : at;
        const flag *f = other ? NULL : flag_find(table, name, (size_t)(at + span - name));
        *value = at[span] == ' ' ? at + span + 1 : "";
        if (f) return f;
        at += whole + (at[whole] == '|');
    }
    return NULL;
}

const flag *flag_of_letter(const flag_table *table, const char *typed, size_t length) {
    const char *value;
    if (length != 2 || typed[0] != '-' || !strchr(FLAG_LETTERS, typed[1])) return NULL;
    const flag_alias *alias = flag_alias_find(typed, length);
    const flag *f = alias ? flag_alias_meant(alias, table, &value) : NULL;
    return f && !*value ? f : NULL;
}
