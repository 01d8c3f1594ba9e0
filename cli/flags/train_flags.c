/* Flags of lckv train: those of run_clm.py and TrainingArguments; see train_flags.h. */
#include "train_flags.h"
#include "foreign_flags.h"

#include <math.h>

#define AT(member) .offset = offsetof(struct train_flags, member)
static const flag FLAGS[] = {
    {"config_name", FLAG_TEXT, NULL, "Model",
     "config of a new model with random weights: a folder, a .json file or ORG/NAME", AT(train.config_name)},
    {"model_name_or_path", FLAG_TEXT, NULL, "Model",
     "checkpoint to start from: a folder, a GGUF file or ORG/NAME. With --config_name, its weights are converted to "
     "that config, as "
     "by lckv convert",
     AT(train.model_name_or_path)},
    {"kv", FLAG_CHOICE, "average", "Model",
     "K and V weights of each slot owner in that conversion: average takes the mean over the layers that read the "
     "slot, copy keeps the owner's",
     AT(train.kv), .choices = "average|copy"},
    {"config_overrides", FLAG_TEXT, NULL, "Model",
     "changes to the config, such as layer_types=0_6_6_6_6_6_6_7,forward_passes=7", AT(train.config_overrides),
     .value = "K=V,..."},
    {"loop_form", FLAG_CHOICE, "plan", "Model",
     "how models with loops are trained: plan runs forward_passes iterations without gradient and backward_passes with "
     "it; exact fills the slots token by token, then trains one pass at the fixed point; sequential trains token by "
     "token, which is slow. A config with use_sequential trains in the sequential form by default",
     AT(train.loop_form), .choices = "plan|exact|sequential"},
    {"use_sequential", FLAG_SWITCH, NULL, "Model", "same as --loop_form sequential", AT(use_sequential)},
    {"loop_group_size", FLAG_INT, "0", "Model",
     "with --loop_form exact, number of examples whose slots are filled together; 0 takes all examples of a step, or "
     "as "
     "many as memory allows",
     AT(train.loop_group_size), .min = 0, .max = 2147483647},
    {"loop_plan_share", FLAG_NUMBER, "0", "Model",
     "with --loop_form exact, fraction of the steps that run by the plan, below 1: 0.1 is every tenth step",
     AT(train.loop_plan_share), .min = 0, .max = 1},
    {"loop_iteration_weight", FLAG_NUMBER, "0", "Model",
     "with --loop_form exact, weight of the mean squared error of keys and values after one iteration from the start, "
     "beside the loss; it costs one more iteration per step",
     AT(train.loop_iteration_weight), .min = 0, .max = 1e9},
    {"loop_start", FLAG_SWITCH, NULL, "Model",
     "train a learned start of the loops beside the model (loop_start.safetensors), with which they need fewer "
     "iterations; it continues from that of --model_name_or_path if there is one",
     AT(train.loop_start)},
    {"loop_start_weight", FLAG_NUMBER, "1", "Model",
     "weight of the start's mean squared error of keys and values beside the loss", AT(train.loop_start_weight),
     .min = 1e-9, .max = 1e9},
    {"loop_start_width", FLAG_INT, "0", "Model", "width of a new start's hidden layer; 0 is 2 * hidden_size",
     AT(train.loop_start_width), .min = 0, .max = 1048576},
    {"tokenizer_name", FLAG_TEXT, NULL, "Model",
     "tokenizer: a folder or ORG/NAME; by default the model's own. Required if the data contains text. If it has more "
     "tokens than the model, the embeddings are extended",
     AT(train.tokenizer_name)},
    {"use_peft", FLAG_SWITCH, NULL, "LoRA",
     "train a LoRA adapter and keep the weights of --model_name_or_path frozen; the adapter is written in peft's "
     "format (adapter_config.json, adapter_model.safetensors), and lckv convert --adapter merges it",
     AT(train.use_peft)},
    {"lora_r", FLAG_INT, "16", "LoRA", "rank of the LoRA matrices", AT(lora.r), .min = 1, .max = 1048576},
    {"lora_alpha", FLAG_NUMBER, "32", "LoRA", "scale of the adapter; its output is multiplied by lora_alpha / lora_r",
     AT(lora.alpha), .min = 1e-6, .max = 1e6},
    {"lora_dropout", FLAG_NUMBER, "0", "LoRA",
     "dropout probability of the adapter's input during training, below 1; 0 disables dropout (the default of trl is "
     "0.05)",
     AT(lora.dropout), .min = 0, .max = 1},
    {"lora_target_modules", FLAG_LIST, NULL, "LoRA",
     "matrices to adapt: q_proj, k_proj and v_proj (of slot owners), o_proj, gate_proj, up_proj, down_proj, or "
     "all-linear; by default q_proj and v_proj",
     AT(lora_target_modules), .value = "NAMES"},

    {"train_file", FLAG_FILES, NULL, "Data",
     "training data in this order: files, folders or patterns (a/b-*.jsonl) of text (one document per line), .jsonl, "
     ".json, .csv or token ids (.bin, .npy), plain or compressed (.gz, .bz2, .xz, .zst), and .parquet. NAME:WEIGHT "
     "NAME:WEIGHT... is "
     "a mixture; a weight is the share of the blocks of an epoch",
     AT(train_files), .value = "FILES"},
    {"dataset_name", FLAG_TEXT, NULL, "Data",
     "data set: a file, a folder, or ORG/NAME in the Hugging Face cache (lckv fetch --repo_type dataset). Files with "
     "train in their path are training data; validation, valid, val or dev mark evaluation data",
     AT(train.dataset_name), .value = "NAME"},
    {"dataset_config_name", FLAG_TEXT, NULL, "Data",
     "configuration of the data set: only files with this word or folder in their path are used",
     AT(train.dataset_config_name), .value = "NAME"},
    {"validation_file", FLAG_FILES, NULL, "Data", "evaluation data, in the same formats as --train_file",
     AT(validation_files), .value = "FILES"},
    {"validation_split_percentage", FLAG_INT, "0", "Data",
     "percentage of the training documents, from the start, to use for evaluation instead if there is no "
     "validation_file; 0 uses none",
     AT(train.validation_split_percentage), .min = 0, .max = 99, .note = "default in run_clm.py: 5"},
    {"keep_linebreaks", FLAG_SWITCH, "True", "Data", "keep the line break of each line of a text file",
     AT(train.keep_linebreaks)},
    {"text_column", FLAG_TEXT, NULL, "Data",
     "field of JSON rows or column of CSV to train on; by default input_ids or text, and in CSV text or the first "
     "column",
     AT(train.text_column)},
    {"ids_dtype", FLAG_CHOICE, "uint16", "Data", "type of the token ids in .bin files, little-endian",
     AT(train.ids_dtype), .choices = "uint16|uint32"},
    {"append_eos", FLAG_SWITCH, NULL, "Data", "append EOS to each text if the tokenizer does not",
     AT(train.append_eos)},
    {"token_cache_dir", FLAG_TEXT, NULL, "Data",
     "token cache: folder for encoded data, which later runs reuse; by default lckv-ids in HF_HOME or "
     "~/.cache/huggingface",
     AT(train.token_cache_dir), .value = "DIR"},
    {"overwrite_cache", FLAG_SWITCH, NULL, "Data", "encode the data again even if it is in the token cache",
     AT(train.overwrite_cache)},
    {"preprocessing_num_workers", FLAG_INT, "0", "Data",
     "number of encoding threads, each with its own tokenizer; 0 uses all processors, at most 16",
     AT(train.preprocessing_num_workers), .min = 0, .max = 4096, .note = "default in run_clm.py: 1"},
    {"block_size", FLAG_INT, "0", "Data",
     "block size: tokens per training sequence. Documents are joined and cut into blocks, 1000 at a time, as in "
     "run_clm.py; 0 uses the model's max_position_embeddings, at most 1024",
     AT(train.block_size), .min = 0, .max = 2147483647},
    {"group_all", FLAG_SWITCH, NULL, "Data",
     "join all documents before cutting them into blocks, instead of 1000 at a time, so that no tokens are dropped in "
     "between",
     AT(train.group_all)},
    {"document_mask", FLAG_SWITCH, NULL, "Data",
     "restrict attention and positions to each document if a block contains several", AT(train.document_mask)},
    {"max_train_samples", FLAG_INT, "0", "Data", "maximum number of training blocks; 0 uses all",
     AT(train.max_train_samples), .min = 0, .max = INFINITY},
    {"max_eval_samples", FLAG_INT, "0", "Data", "maximum number of evaluation blocks; 0 uses all",
     AT(train.max_eval_samples), .min = 0, .max = INFINITY},
    {"no_shuffle", FLAG_SWITCH, NULL, "Data", "keep the blocks in order in every epoch", AT(no_shuffle)},

    {"output_dir", FLAG_TEXT, NULL, "Output",
     "output folder for the model, its tokenizer, checkpoints, train_log.jsonl, report.html and results",
     AT(train.output_dir), .required = true},
    {"overwrite_output_dir", FLAG_SWITCH, NULL, "Output",
     "start a new run even if output_dir is not empty; older checkpoints are removed once this run has written its "
     "first one",
     AT(train.overwrite_output_dir)},
    {"logging_steps", FLAG_INT, "500", "Output", "steps between log entries; the last step is logged too",
     AT(train.logging_steps), .min = 1, .max = INFINITY},
    {"report_to", FLAG_LIST, "none", "Output",
     "tensorboard (or all) also writes event files for TensorBoard to logging_dir; none writes only train_log.jsonl "
     "and report.html",
     AT(report_to), .value = "NAMES", .note = "default in TrainingArguments: all"},
    {"logging_dir", FLAG_TEXT, NULL, "Output", "folder for TensorBoard event files; by default OUTPUT_DIR/runs",
     AT(train.logging_dir)},
    {"run_name", FLAG_TEXT, NULL, "Output", "name of the run: its subfolder of logging_dir", AT(train.run_name)},
    {"save_strategy", FLAG_CHOICE, "steps", "Output",
     "when to write checkpoints (OUTPUT_DIR/checkpoint-STEP); the last step has one too", AT(train.save_strategy),
     .choices = "no|steps|epoch"},
    {"save_steps", FLAG_NUMBER, "500", "Output", "steps between checkpoints; below 1, a fraction of all steps",
     AT(train.save_steps), .min = 1e-9, .max = 9e15},
    {"save_total_limit", FLAG_INT, "0", "Output",
     "maximum number of checkpoints to keep: the newest, and with load_best_model_at_end the best; 0 keeps all",
     AT(train.save_total_limit), .min = 0, .max = INFINITY},
    {"resume_from_checkpoint", FLAG_TEXT, NULL, "Output",
     "checkpoint folder to resume from. Without a value, or with True, the newest checkpoint in output_dir, which must "
     "exist. Without this flag, lckv resumes from the newest checkpoint if there is one",
     AT(train.resume_from_checkpoint), .value = "DIR", .implicit = "True"},

    {"do_train", FLAG_SWITCH, "True", "Evaluation", "train", AT(train.do_train),
     .note = "default in run_clm.py: False"},
    {"do_eval", FLAG_SWITCH, "True", "Evaluation", "evaluate at the end if there is evaluation data", AT(train.do_eval),
     .note = "default in run_clm.py: False"},
    {"eval_strategy", FLAG_CHOICE, "no", "Evaluation", "when to evaluate during training", AT(train.eval_strategy),
     .choices = "no|steps|epoch"},
    {"eval_steps", FLAG_NUMBER, "0", "Evaluation",
     "steps between evaluations; below 1, a fraction of all steps; 0 uses logging_steps", AT(train.eval_steps),
     .min = 0, .max = 9e15},
    {"per_device_eval_batch_size", FLAG_INT, "8", "Evaluation", "batch size per process for evaluation, in blocks",
     AT(train.per_device_eval_batch_size), .min = 1, .max = 2147483647},
    {"load_best_model_at_end", FLAG_SWITCH, NULL, "Evaluation",
     "write the model of the best checkpoint instead of the last one", AT(train.load_best_model_at_end)},
    {"metric_for_best_model", FLAG_CHOICE, "eval_loss", "Evaluation",
     "metric that selects the best checkpoint; lower is better", AT(metric_for_best_model),
     .choices = "eval_loss|loss"},
    {"early_stopping_patience", FLAG_INT, "0", "Evaluation",
     "evaluations in a row without improvement before training stops; 0 disables early stopping",
     AT(train.early_stopping_patience), .min = 0, .max = INFINITY},

    {"per_device_train_batch_size", FLAG_INT, "8", "Steps", "batch size per process for training, in blocks",
     AT(train.per_device_train_batch_size), .min = 1, .max = 2147483647},
    {"auto_find_batch_size", FLAG_SWITCH, NULL, "Steps",
     "reduce the batch size until it fits into memory, with more gradient accumulation so that steps stay the same; "
     "single process only",
     AT(train.auto_find_batch_size)},
    {"memory_limit", FLAG_INT, "0", "Steps",
     "memory limit in bytes; a run that would need more is rejected at the start; 0 uses the free memory",
     AT(train.memory_limit), .min = 0, .max = INFINITY},
    {"gradient_accumulation_steps", FLAG_INT, "1", "Steps",
     "number of batches per optimizer step; the last step of an epoch may have fewer",
     AT(train.gradient_accumulation_steps), .min = 1, .max = 2147483647},
    {"num_train_epochs", FLAG_NUMBER, "3", "Steps", "number of passes over the training data",
     AT(train.num_train_epochs), .min = 1e-6, .max = 1e9},
    {"max_steps", FLAG_INT, "-1", "Steps",
     "number of optimizer steps, overrides num_train_epochs; -1 uses num_train_epochs", AT(train.max_steps), .min = -1,
     .max = INFINITY},
    {"seed", FLAG_INT, "42", "Steps", "random seed for new weights and the order of blocks", AT(train.seed), .min = 0,
     .max = INFINITY},

    {"learning_rate", FLAG_NUMBER, "5e-5", "Optimizer", "peak learning rate of AdamW", AT(train.learning_rate),
     .min = 0, .max = 1e6},
    {"lr_scheduler_type", FLAG_CHOICE, "linear", "Optimizer", "learning-rate schedule after the warmup",
     AT(train.lr_scheduler_type),
     .choices = "linear|cosine|constant|constant_with_warmup|cosine_with_min_lr|warmup_stable_decay"},
    {"min_lr_rate", FLAG_NUMBER, "0", "Optimizer",
     "final learning rate of cosine_with_min_lr and warmup_stable_decay, as a fraction of learning_rate",
     AT(train.min_lr_rate), .min = 0, .max = 1},
    {"num_decay_steps", FLAG_INT, "0", "Optimizer",
     "decay steps at the end of warmup_stable_decay; 0 uses a tenth of all steps", AT(train.num_decay_steps), .min = 0,
     .max = INFINITY},
    {"warmup_steps", FLAG_INT, "0", "Optimizer",
     "number of warmup steps, in which the learning rate rises from 0 (constant has no warmup)", AT(train.warmup_steps),
     .min = 0, .max = INFINITY},
    {"warmup_ratio", FLAG_NUMBER, "0", "Optimizer", "warmup as a fraction of all steps; used if warmup_steps is 0",
     AT(train.warmup_ratio), .min = 0, .max = 1},
    {"weight_decay", FLAG_NUMBER, "0", "Optimizer", "weight decay of matrices; norms and biases have none",
     AT(train.weight_decay), .min = 0, .max = 1e6},
    {"adam_beta1", FLAG_NUMBER, "0.9", "Optimizer", "decay rate of the gradient average", AT(train.adam_beta1),
     .min = 0, .max = 0.9999999},
    {"adam_beta2", FLAG_NUMBER, "0.999", "Optimizer", "decay rate of the average of squared gradients",
     AT(train.adam_beta2), .min = 0, .max = 0.9999999},
    {"adam_epsilon", FLAG_NUMBER, "1e-8", "Optimizer", "constant added to the denominator of AdamW's update",
     AT(train.adam_epsilon), .min = 0, .max = 1},
    {"max_grad_norm", FLAG_NUMBER, "1", "Optimizer",
     "maximum gradient norm; larger gradients are clipped to it; 0 disables clipping", AT(train.max_grad_norm),
     .min = 0, .max = INFINITY},
    {"max_skipped_steps", FLAG_INT, "0", "Optimizer",
     "maximum number of skipped steps, whose loss or gradient is not finite; one more stops the run with an error",
     AT(train.max_skipped_steps), .min = 0, .max = INFINITY},
    {"skip_grad_norm", FLAG_NUMBER, "0", "Optimizer",
     "gradient norm above which a step is skipped; 0 disables skipping", AT(train.skip_grad_norm), .min = 0,
     .max = INFINITY},
    {"bf16", FLAG_SWITCH, NULL, "Optimizer", "mixed precision: compute in bfloat16, with master weights in float32",
     AT(train.bf16)},
    {"torch_dtype", FLAG_TEXT, "auto", "Optimizer",
     "data type of weights and optimizer moments: bfloat16 (requires --bf16) stores both in bfloat16 with stochastic "
     "rounding; auto and float32 use float32",
     AT(train.torch_dtype), .value = "TYPE"},
    {"weight_dtype", FLAG_TEXT, "auto", "Optimizer",
     "format of the frozen matrices with --use_peft: int8 or int4, in groups of 32 with a scale; float dequantizes "
     "them; "
     "auto keeps that of the checkpoint",
     AT(train.weight_dtype), .value = "TYPE"},
    {"gradient_checkpointing", FLAG_SWITCH, NULL, "Optimizer",
     "activation checkpointing: recompute layers in the backward pass to save memory; the result is the same",
     AT(train.gradient_checkpointing)},

    {"num_processes", FLAG_INT, "0", "Processes",
     "number of processes on this host, each of which trains its share of every step: one per GPU or CPU socket. 0 "
     "starts "
     "none; under torchrun, accelerate, srun or mpirun it must be their number",
     AT(num_processes), .min = 0, .max = 4096},
    {"zero", FLAG_INT, "1", "Processes",
     "ZeRO stage: 1 divides the optimizer state between the processes, 3 also weights and gradients", AT(train.zero),
     .min = 0, .max = 3},
    {"zero_regather_loops", FLAG_SWITCH, NULL, "Processes",
     "with --zero 3: gather the weights of a loop's layers in each iteration instead of once for all; needs less "
     "memory "
     "and communicates more",
     AT(train.zero_regather_loops)},
    {"grad_accum_dtype", FLAG_TEXT, "auto", "Processes",
     "with --zero 3: data type of the sum of gradients that each process keeps: bfloat16 (requires --torch_dtype "
     "bfloat16) "
     "needs 2 bytes less per parameter; auto and float32 use float32",
     AT(train.grad_accum_dtype), .value = "TYPE"},
    {"ddp_timeout", FLAG_NUMBER, "1800", "Processes",
     "seconds to wait for the other processes, at the start and in each exchange of data, before the job ends with an "
     "error; no limit with mpirun",
     AT(ddp_timeout), .min = 1, .max = 1e9},

    {"use_cpu", FLAG_SWITCH, NULL, "Common", "same as --device cpu", AT(use_cpu)},
    {"no_cuda", FLAG_SWITCH, NULL, "Common", "same as --device cpu", AT(no_cuda)},
    FLAG_DEVICE(struct train_flags, train.device),
    FLAG_THREADS(struct train_flags, threads),
    FLAG_ARGS_FILE(struct train_flags, args_file),
    FLAG_JSON(struct train_flags, json),
    {0},
};
static const char *const EXAMPLES[] = {
    "train a small model from random weights on a novel",
    "lckv train --config_name data/demo-config.json --tokenizer_name data/tokenizer --train_file "
    "data/pride_and_prejudice.txt --block_size 128 --max_steps 300 --learning_rate 3e-3 --output_dir my-model",
    "continue training a checkpoint on other data; files are separated by spaces or commas",
    "lckv train --model_name_or_path demo-model --train_file more.txt \"a file.txt\" --num_train_epochs 1 --output_dir "
    "my-model-2",
    "train with two processes",
    "lckv train --num_processes 2 --args_file flags.json",
    NULL,
};

const flag_table TRAIN_FLAGS = {
    "train",
    "Trains a model on text or token ids and writes it as a Hugging Face folder. train_log.jsonl has the loss, the "
    "learning rate and the throughput. To resume, run the same command again. Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP "
    "write a checkpoint and stop.",
    "[--config_name CONFIG] [--model_name_or_path MODEL] --train_file FILES --output_dir DIR",
    FLAGS,
    TRAINING_FOREIGN,
    .positional = "train_file",
    .examples = EXAMPLES};
