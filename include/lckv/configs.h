/* Configs: what a config.json says about a model, and the layer map as a picture, a plan and a string. */
#ifndef LCKV_CONFIGS_H
#define LCKV_CONFIGS_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A config.json of model type lckv-llama, llama, mistral, qwen2 or qwen3, as transformers 4 or 5 writes it. */
typedef struct lckv_config lckv_config;

/* LCKV_INT8 is a type of keys and values only: bytes, with an f32 scale for each token and KV head. */
typedef enum lckv_dtype { LCKV_FLOAT32, LCKV_BFLOAT16, LCKV_FLOAT16, LCKV_INT8 } lckv_dtype;

/* Resolves a NAME_OR_PATH to a folder or a GGUF file: `name` itself, or the snapshot of ORG/NAME in the Hugging Face
 * cache. A folder without config.json that has one GGUF file stands for that file. Free *folder with lckv_free().
 * LCKV_ERROR_FILE: neither exists; the message contains the command that downloads it. */
LCKV_API int lckv_find_folder(const char *name, char **folder);

/* Loads a config. `name`: a folder with config.json, a .json file, a GGUF file, or ORG/NAME in the Hugging Face cache.
 * `overrides`: "k=v,k=v", applied to the file; NULL for none. A value is parsed as JSON; if that fails, it is a string.
 * A Llama or Mistral config becomes an lckv-llama if layer_types is given as a string. The override weight_dtype sets
 * the format of the matrices, as in lckv_model_options. EOS tokens of a
 * generation_config.json beside the file are added. Error messages quote the file, the key, and the entry of
 * layer_types. LCKV_ERROR_FILE: no such file; for ORG/NAME the message contains the command that downloads it.
 * LCKV_ERROR_FORMAT: a value is missing, has another type, or is out of range. LCKV_ERROR_UNSUPPORTED: another model
 * type, or a key that asks for a computation that lckv does not do. */
LCKV_API int lckv_config_load(const char *name, const char *overrides, lckv_config **out);
LCKV_API void lckv_config_free(lckv_config *config);

typedef struct lckv_config_info {
    const char *model_type; /* Owned by the config. */
    int64_t hidden_size, intermediate_size, vocab_size;
    int64_t
        max_position_embeddings; /* Context length in tokens; with dynamic RoPE scaling, `factor` times the file's. */
    int layers, heads, kv_heads, head_dim;
    int kv_slots;                        /* Layers whose KV some entry of layer_types names. */
    int loops;                           /* Ranges of layers that the plan iterates. */
    int forward_passes, backward_passes; /* Iterations per loop: m without gradient, then b with gradient. */
    int64_t sliding_window;              /* Tokens, the current one included; 0 if there is no window. */
    bool tie_word_embeddings;
    bool use_sequential; /* Training runs token by token, in the sequential (exact) form. */
    lckv_dtype dtype;    /* Of the weights, as torch_dtype says. */
    /* Number of parameters: K and V of slot owners only, the biases and head norms that the config names, tied
     * embeddings once. A checkpoint may have biases that no config names. */
    int64_t parameters;
    /* Slots whose readers all have sliding windows. A cache keeps sliding_window - 1 tokens of them. */
    int windowed_slots;
    const char *weight_dtype; /* Format of the matrices of layers: "float" (see dtype), "int8" or "int4"; a constant. */
} lckv_config_info;

LCKV_API lckv_config_info lckv_config_describe(const lckv_config *config);

/* Returns the bytes of KV that one token adds to the cache, over all slots: kv_slots * 2 * kv_heads * head_dim values,
 * with LCKV_INT8 also kv_slots * 2 * kv_heads scales of 4 bytes. */
LCKV_API int64_t lckv_config_kv_bytes_per_token(const lckv_config *config, lckv_dtype dtype);
/* The same for a model in which every layer keeps its own KV. */
LCKV_API int64_t lckv_config_kv_bytes_per_token_unshared(const lckv_config *config, lckv_dtype dtype);

typedef enum lckv_picture { LCKV_PICTURE_TEXT, LCKV_PICTURE_SVG } lckv_picture;

/* Draws the layer map: which layer reads whose KV, slots, windows and loops. Text is UTF-8 for a terminal. SVG is a
 * complete file that suits light and dark pages. Free *text with lckv_free(). */
LCKV_API int lckv_config_picture(const lckv_config *config, lckv_picture kind, char **text);

/* Describes the plan in words, one line per range of layers. Free *text with lckv_free(). */
LCKV_API int lckv_config_plan_text(const lckv_config *config, char **text);
/* Describes the plan as JSON, one object per step in order:
 * [{"first": 0, "last": 0, "with_grad": true, "commit": true}, ...]. Both layers are included in the range. Free *text
 * with lckv_free(). */
LCKV_API int lckv_config_plan_json(const lckv_config *config, char **text);

/* Returns config.json with the overrides applied and unknown keys kept, in the form that transformers and the published
 * LCKV classes read. Free *text with lckv_free(). */
LCKV_API int lckv_config_json(const lckv_config *config, char **text);

/* Returns layer_types as one string, also if the file has a list or no layer_types. Free *text with lckv_free(). */
LCKV_API int lckv_config_layer_types(const lckv_config *config, char **text);

#ifdef __cplusplus
}
#endif
#endif
