/* Estimates of the memory and the FLOPs of training and serving, from a config alone. */
#ifndef LCKV_ESTIMATES_H
#define LCKV_ESTIMATES_H

#include "base.h"
#include "configs.h"
#include "training.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of device memory and FLOPs of a run. They are exact for what they count: the same code runs on the device
 * "count", which computes nothing. */
typedef struct lckv_memory {
    int64_t weights;
    int64_t gradients, optimizer; /* Training; f32 master weights of bfloat16 weights count as optimizer. */
    int64_t kv_cache;             /* Serving: pages that the sequences use, an engine's kv_bytes_used. */
    int64_t kv_cache_plain;       /* Serving: the engine's kv_bytes_plain. */
    /* Serving: memory of a KV cache that holds the sequences however they are scheduled; kv_bytes of an engine that
     * chooses the size itself. */
    int64_t kv_cache_reserved;
    int64_t activations; /* Peak of all temporary memory. */
    int64_t total;       /* Sum of the above without kv_cache and kv_cache_plain, which kv_cache_reserved contains. */
    /* Products and attention, 2 per multiply-add: of one training step, or of one decoded token for each sequence (0 if
     * all sequences end with their prompts). */
    double flops;
} lckv_memory;

/* Options that determine the memory of training, as in lckv_train_options. */
typedef struct lckv_training_shape {
    size_t struct_size;                /* Size of this struct, set by lckv_training_shape_defaults(). */
    int64_t batch_size, block_size;    /* Micro-batch size in blocks, and block length in tokens. */
    bool bf16, gradient_checkpointing; /* As in lckv_train_options. */
    bool bf16_weights;                 /* torch_dtype is "bfloat16". */
    const lckv_lora *lora;             /* Adapter to train (use_peft); NULL if all weights are trained. */
    lckv_loop_form loop_form;          /* As in lckv_train_options. */
    int64_t loop_group_size;           /* As in lckv_train_options; 0 (default): batch_size. */
    bool loop_start;                   /* With a learned start of the default width (default false). */
    int64_t num_processes;             /* Processes that train together; 0 (default): one. */
    int64_t zero;                      /* As in lckv_train_options; 0 and 1: stage 1 (default). */
    bool zero_regather_loops;          /* As in lckv_train_options (default false). */
    bool bf16_gradients;               /* grad_accum_dtype is "bfloat16" (default false). */
    double loop_plan_share;            /* As in lckv_train_options (default 0); flops is the mean over the steps. */
    double loop_iteration_weight;      /* As in lckv_train_options (default 0). */
} lckv_training_shape;

LCKV_API void lckv_training_shape_init(lckv_training_shape *options, size_t struct_size);
static inline lckv_training_shape lckv_training_shape_defaults(void) {
    lckv_training_shape options;
    lckv_training_shape_init(&options, sizeof options);
    return options;
}

/* Estimates the memory of training with AdamW. Frozen matrices below an adapter have the config's weight_dtype.
 * LCKV_ERROR_UNSUPPORTED: these are quantized, and there is no adapter. With several processes, it is that of one
 * of them: the one with the largest share of the optimizer state. */
LCKV_API int lckv_memory_for_training(const lckv_config *config, const lckv_training_shape *shape, lckv_memory *out);

/* Options that determine the memory of serving. Weights have the config's torch_dtype and weight_dtype. */
typedef struct lckv_serving_shape {
    size_t struct_size;                     /* Size of this struct, set by lckv_serving_shape_defaults(). */
    int64_t sequences;                      /* Number of sequences that run together. */
    int64_t length;                         /* Tokens per sequence, new ones included. */
    int64_t prompt_length;                  /* Of these, tokens of the prompt; 0 for all but the last two (default). */
    bool bf16;                              /* Products and KV cache in bfloat16 (default false: f32). */
    int64_t window_length, num_sink_tokens; /* Sink cache, as in lckv_engine_options; 0 for none (default). */
    const char *kv_dtype; /* Type of keys and values, as in lckv_engine_options; NULL for "auto" (default). */
    /* Processes that run the model together (lckv_model_options.processes). The estimate is that of rank 0, whose
     * part is the largest. 0 (default): one. */
    int64_t tensor_parallel;
} lckv_serving_shape;

LCKV_API void lckv_serving_shape_init(lckv_serving_shape *options, size_t struct_size);
static inline lckv_serving_shape lckv_serving_shape_defaults(void) {
    lckv_serving_shape options;
    lckv_serving_shape_init(&options, sizeof options);
    return options;
}

/* Estimates the memory of serving sequences that share nothing: prefill of all prompts, then one decoding step.
 *   LCKV_ERROR_ARGUMENT: a value is out of range, or the model cannot be divided between tensor_parallel processes. */
LCKV_API int lckv_memory_for_serving(const lckv_config *config, const lckv_serving_shape *shape, lckv_memory *out);

#ifdef __cplusplus
}
#endif
#endif
