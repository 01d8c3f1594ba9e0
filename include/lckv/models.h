/* Models: a config and its weights, loaded, created, saved, and converted to another layer_types. */
#ifndef LCKV_MODELS_H
#define LCKV_MODELS_H

#include "base.h"
#include "configs.h"
#include "devices.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A config and its weights on a device. */
typedef struct lckv_model lckv_model;

typedef struct lckv_model_options {
    size_t struct_size;           /* Size of this struct, set by lckv_model_defaults(). */
    const char *config_overrides; /* Changes to config.json, "k=v,k=v"; NULL for none (default). */
    /* Data type of the weights that are not quantized: "float32", "bfloat16", "float16", or "auto" for the stored type
     * (default). */
    const char *torch_dtype;
    /* LoRA adapter in peft's layout, NAME_OR_PATH, merged into the weights: W + scale B A in f32, then rounded to the
     * type of the weights. Into quantized weights it is not merged: each product adds it. NULL for none (default). */
    const char *adapter;
    /* Start loops from zeros even if the folder has a learned start, loop_start.safetensors (default false). */
    bool no_loop_start;
    /* Processes that run the model together (tensor parallelism, docs/scaling.md): each loads its part of every layer.
     * All of them open the model with the same arguments. Rank 0 then uses it like any other model, except for
     * lckv_model_save() and lckv_score_options.dump; the others call lckv_model_follow(). Close the processes after the
     * model. NULL or one process: this process alone (default). */
    lckv_processes *processes;
    /* Format of the matrices of layers: "int8" or "int4", in groups of 32 with an f16 scale; embeddings and output
     * layer are then "int8". "float" for torch_dtype, also if the folder is quantized. "auto" or NULL for the
     * format of the folder or the GGUF file, in which q8_0 is "int8" and q4_0 is "int4" (default). */
    const char *weight_dtype;
} lckv_model_options;

LCKV_API void lckv_model_options_init(lckv_model_options *options, size_t struct_size);
static inline lckv_model_options lckv_model_defaults(void) {
    lckv_model_options options;
    lckv_model_options_init(&options, sizeof options);
    return options;
}

/* Loads a model from a Hugging Face folder: config.json with model.safetensors, or with shards and
 * model.safetensors.index.json; f32, bf16 or f16, or quantized to 8 or 4 bits (docs/file-formats.md). Or loads a GGUF
 * file, whose quantized weights become torch_dtype, by default bf16 (docs/file-formats.md, "GGUF files"). `name` is a
 * NAME_OR_PATH. `options` NULL uses the defaults. The
 * device remains the caller's and must outlive the model.
 *
 * On the CPU, weights that keep their stored type are used in the mapped files, which other processes share. lckv
 * ignores K and V tensors of layers that own no slot, rotary_emb.inv_freq, and the lm_head.weight of tied embeddings.
 * Every other tensor must belong to the model. If a folder has an adapter but no model, lckv loads the checkpoint that
 * its adapter_config.json names and merges the adapter. The learned start of the model's loops, if the folder has
 * loop_start.safetensors, is loaded too. LCKV_ERROR_FILE: a file is missing. LCKV_ERROR_FORMAT: a tensor
 * is missing or unknown, or has another shape or data type, or a file is malformed; the message names file and tensor.
 *   LCKV_ERROR_UNSUPPORTED: the folder has only pytorch_model.bin, or lckv_config_load() does not support the config.
 */
LCKV_API int lckv_model_open(lckv_device *device, const char *name, const lckv_model_options *options,
                             lckv_model **out);

/* Creates a model with random weights, which are a function of `seed`: matrices are normal with the config's
 * initializer_range, norms are 1, biases are 0, as in transformers. `torch_dtype`: "float32" (also NULL and
 * "auto"), "bfloat16" or "float16". Matrices are quantized if the config's weight_dtype is "int8" or "int4". The
 * model copies the config. */
LCKV_API int lckv_model_create(lckv_device *device, const lckv_config *config, const char *torch_dtype, uint64_t seed,
                               lckv_model **out);
/* The same with options, of which it reads torch_dtype and processes. With several processes, each has random weights
 * of its own in its part. */
LCKV_API int lckv_model_create_with(lckv_device *device, const lckv_config *config, const lckv_model_options *options,
                                    uint64_t seed, lckv_model **out);

/* For ranks other than 0 of lckv_model_options.processes: does this rank's part of the work of rank 0, and returns
 * LCKV_OK after rank 0 has called lckv_model_free(). Signals do not interrupt it.
 *   LCKV_ERROR_ARGUMENT: the model is not divided, or this is rank 0.
 *   LCKV_ERROR_DEVICE: another process is lost or has failed; the message names it. */
LCKV_API int lckv_model_follow(lckv_model *model);

typedef struct lckv_save_options {
    size_t struct_size; /* Size of this struct, set by lckv_save_defaults(). */
    /* Data type on disk: "float32", "bfloat16", "float16", or "auto" for a type that loses nothing (default). */
    const char *torch_dtype;
    int64_t max_shard_bytes; /* Maximum size of a weight file in bytes; 0 for 5e9 (default). */
    /* NAME_OR_PATH of the tokenizer files to copy; NULL for those of the folder that the model was loaded from, if any
     * (default). */
    const char *tokenizer_name;
    /* Format of the matrices of layers on disk: "float", "int8", "int4", or "auto" or NULL for that in memory
     * (default). Embeddings and output layer are not quantized on disk, as other programs expect; if they are in
     * memory, torch_dtype "auto" stores them as float32. */
    const char *weight_dtype;
} lckv_save_options;

LCKV_API void lckv_save_options_init(lckv_save_options *options, size_t struct_size);
static inline lckv_save_options lckv_save_defaults(void) {
    lckv_save_options options;
    lckv_save_options_init(&options, sizeof options);
    return options;
}

/* Saves a model as a Hugging Face folder, which is created if missing: config.json (unknown keys kept), weights,
 * tokenizer files, generation_config.json, and the *.py files that auto_map names. `options` NULL uses the
 * defaults. lckv writes everything under temporary names and renames it once all of it is on disk. A failure or
 * crash therefore leaves the old checkpoint, the new one, or none that loads. LCKV_ERROR_UNSUPPORTED: the model has
 * an adapter that is not merged. */
LCKV_API int lckv_model_save(lckv_model *model, const char *folder, const lckv_save_options *options);

/* Returns the model's config, which the model owns. */
LCKV_API const lckv_config *lckv_model_config(const lckv_model *model);
/* Returns the number of parameters, as in the checkpoint (tied embeddings count once). */
LCKV_API int64_t lckv_model_parameters(const lckv_model *model);

/* A weight of a model. */
typedef struct lckv_weight_info {
    const char *name;   /* In the checkpoint; owned by the model. */
    int64_t rows, cols; /* A vector has one row. */
    const char *dtype;  /* In memory: "float32", "bfloat16", "float16", "int8" or "int4"; a constant. */
    int64_t bytes;      /* In memory, with scales. */
} lckv_weight_info;

/* Lists the weights of a model in the order of the checkpoint: *weights [*count]. Free *weights with lckv_free(). */
LCKV_API int lckv_model_weights(const lckv_model *model, lckv_weight_info **weights, int64_t *count);
LCKV_API void lckv_model_free(lckv_model *model);

/* K and V of a slot's owner when a checkpoint is converted to another layer_types. */
typedef enum lckv_convert_kv {
    LCKV_KV_AVERAGE, /* The mean over the layers that read the slot. */
    LCKV_KV_COPY     /* The owner's own. */
} lckv_convert_kv;

typedef struct lckv_convert_options {
    size_t struct_size;             /* Size of this struct, set by lckv_convert_defaults(). */
    const char *model_name_or_path; /* Checkpoint to convert; required. */
    const char *config_name;        /* Target config: folder, .json file or ORG/NAME; NULL for the checkpoint's own. */
    const char *adapter;            /* NAME_OR_PATH of a LoRA adapter to merge first; NULL for none. */
    const char *config_overrides;   /* Changes to the target config, "k=v,k=v"; NULL for none. */
    const char *tokenizer_name;     /* NAME_OR_PATH of the tokenizer files; NULL for the checkpoint's own. */
    const char *output_dir;         /* Folder to write, not the checkpoint; either it or gguf_file is required. */
    lckv_convert_kv kv;             /* How KV weights of slots are formed (default: the average). */
    const char *torch_dtype;        /* Data type on disk; "auto" keeps the checkpoint's (default). */
    int64_t max_shard_bytes;        /* Maximum size of a weight file in bytes; 0 for 5e9 (default). */
    /* Progress callback, called before each tensor with the fraction written, 0 to 1. Return false to stop. NULL for
     * none. */
    bool (*go_on)(void *user, double fraction);
    void *user;            /* User data, passed to `go_on`. */
    const char *gguf_file; /* GGUF file for llama.cpp to write instead of output_dir; NULL for none (default). */
    /* Format of the matrices in gguf_file: "f32", "f16", "bf16", "q8_0", "q4_0"; NULL or "auto" keeps the checkpoint's,
     * with int8 as q8_0 and int4 as q4_0 (default). With q4_0, the embeddings and lm_head are q8_0. */
    const char *gguf_dtype;
    /* Format of the matrices of layers on disk: "float", "int8", "int4", or "auto" or NULL for the checkpoint's
     * (default). */
    const char *weight_dtype;
} lckv_convert_options;

LCKV_API void lckv_convert_options_init(lckv_convert_options *options, size_t struct_size);
static inline lckv_convert_options lckv_convert_defaults(void) {
    lckv_convert_options options;
    lckv_convert_options_init(&options, sizeof options);
    return options;
}

/* Converts a checkpoint to a model with another layer_types. K and V weights, biases and k_norm of each slot's owner
 * are merged as `kv` says (means in f64); everything else is copied. If a layer of the checkpoint owns no slot, the K
 * and V of the slot that it reads are used in its place. One tensor at a time is in memory. LCKV_ERROR_ARGUMENT: a size
 * differs between the two configs; the message names it. LCKV_ERROR_INTERRUPTED: `go_on` returned false; output_dir is
 * unchanged. LCKV_ERROR_UNSUPPORTED: llama.cpp cannot run the model in gguf_file, such as one whose layers share KV;
 * the message names the reason. Quantized matrices are copied as they are if nothing changes them; an adapter for them
 * is LCKV_ERROR_UNSUPPORTED unless weight_dtype is given. Other errors as in lckv_model_open() and lckv_model_save().
 */
LCKV_API int lckv_convert(const lckv_convert_options *options);

#ifdef __cplusplus
}
#endif
#endif
