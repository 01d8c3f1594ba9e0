/* A model's config.json, read, checked, overridden and written again.
 *
 * Model types lckv-llama, llama, mistral, qwen2, qwen3 in the spellings of transformers 4 and 5. Everything is checked
 * here once: whoever holds a model_config may multiply its sizes without overflow. Leaves out: finding the folder
 * (model_path.h), sizes that follow (model_size.h), pictures (layer_picture.h), the weights. */
#ifndef CONFIG_MODEL_CONFIG_H
#define CONFIG_MODEL_CONFIG_H

#include "base/json.h"
#include "config/layer_map.h"

typedef enum architecture { ARCH_LCKV_LLAMA, ARCH_LLAMA, ARCH_MISTRAL, ARCH_QWEN2, ARCH_QWEN3 } architecture;

typedef enum config_dtype { CONFIG_DTYPE_F32, CONFIG_DTYPE_BF16, CONFIG_DTYPE_F16 } config_dtype;

typedef enum rope_type { ROPE_DEFAULT, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_YARN, ROPE_LONGROPE, ROPE_LLAMA3 } rope_type;

typedef struct rope_scaling {
    rope_type type;
    double factor;                            /* all but default */
    double attention_factor;                  /* queries and keys are multiplied by it; 1 but in yarn and longrope */
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow;              /* yarn */
    bool truncate;                            /* yarn: the range of blended pairs is rounded */
    int64_t original_max_position_embeddings; /* yarn, longrope, llama3 */
} rope_scaling;

typedef struct lckv_config {
    architecture architecture;
    int64_t hidden_size, intermediate_size, vocab_size, max_position_embeddings;
    int layers, heads, kv_heads, head_dim; /* heads is a multiple of kv_heads; head_dim is even */

    layer_map map;
    int forward_passes, backward_passes; /* m >= 0, b >= 1 */
    int64_t sliding_window;              /* W: position t sees t-W+1..t in windowed layers; 0: no layer is windowed */
    bool use_sequential;                 /* train token by token instead of by the plan */
    bool force_nodiag;                   /* every layer strictly causal; already in map.strict */

    double rope_theta;
    rope_scaling rope_scaling;
    int64_t positions; /* most tokens of a sequence: max_position_embeddings, with dynamic scaling `factor` times it */
    double rms_norm_eps, initializer_range;
    double attention_dropout; /* of training; nothing here applies it */
    bool tie_word_embeddings;

    /* What the config announces, for new weights and for counting; a checkpoint's own tensors rule. */
    bool attention_bias; /* q, k, v and o projections */
    bool qkv_bias;       /* q, k and v projections (qwen2) */
    bool mlp_bias;
    bool head_norm; /* RMSNorm over each head of q and k (qwen3) */

    config_dtype torch_dtype;
    int32_t bos_token_id;   /* -1: none */
    int32_t *eos_token_ids; /* [eos_count] of config.json, then further ones of generation_config.json */
    int eos_count;
    int32_t pad_token_id; /* -1: none */

    char *name;  /* path of the file, for errors */
    json_t *raw; /* config.json with overrides applied, in the transformers 4 spelling, unknown keys kept */
} model_config;

/* Reads NAME (a folder with config.json, a .json file, or ORG/NAME; see model_path.h) and applies `overrides`
 * ("k=v,k=v", NULL for none; a value is JSON where it parses as such, else a string). A generation_config.json beside
 * the file adds its EOS ids. On success the caller owns *out; on failure *out is NULL. */
int config_read(const char *name, const char *overrides, model_config **out);

/* The same from a parsed tree, which stays the caller's; `name` is quoted in errors. */
int config_from_json(const json_t *tree, const char *name, const char *overrides, model_config **out);

void config_free(model_config *config); /* takes NULL */
int config_copy(const model_config *config, model_config **out);

/* The config as it is now, as published LCKV classes and transformers (4 and 5) read it: fields that a caller may have
 * changed (vocab_size, torch_dtype, passes, tie_word_embeddings) are written over what was read, unknown keys are kept.
 * The caller owns the tree. */
int config_to_json(const model_config *config, json_t **out);

/* out [sets, head_dim / 2]: radians a position for each rotary pair, as transformers 5.24 has them. Longrope has two
 * sets: of sequences up to config_plain_length(), and of longer ones. Dynamic scaling: see op_rope_angles. */
void config_inverse_frequencies(const model_config *config, double *out);
int config_frequency_sets(const model_config *config);

/* Tokens up to which frequencies do not depend on a sequence's length; 0: they never do (all but dynamic, longrope). */
int64_t config_plain_length(const model_config *config);

/* Whether positions turn queries and keys of both in the same way. */
bool config_same_rope(const model_config *a, const model_config *b);

/* Equal for lengths whose tokens are rotated alike; 0 for those up to config_plain_length(). */
int64_t config_length_class(const model_config *config, int64_t length);

const char *config_model_type(const model_config *config); /* "lckv-llama" */
const char *config_dtype_name(config_dtype dtype);         /* "float32" */

#endif
