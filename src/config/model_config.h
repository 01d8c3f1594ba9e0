/* A model's config.json: reading, checking, overriding and writing.
 *
 * Supports the model types lckv-llama, llama, mistral, qwen2 and qwen3 in the spellings of transformers 4 and 5. All
 * sizes are checked here once, so that code that holds a model_config may multiply them without overflow. Leaves
 * out: finding the folder (model_path.h), derived sizes (model_size.h), pictures (layer_picture.h), weights. */
#ifndef CONFIG_MODEL_CONFIG_H
#define CONFIG_MODEL_CONFIG_H

#include "base/text/json.h"
#include "config/layer_map.h"
#include "config/quantization.h"

typedef enum architecture { ARCH_LCKV_LLAMA, ARCH_LLAMA, ARCH_MISTRAL, ARCH_QWEN2, ARCH_QWEN3 } architecture;

typedef enum config_dtype { CONFIG_DTYPE_F32, CONFIG_DTYPE_BF16, CONFIG_DTYPE_F16 } config_dtype;

typedef enum rope_type { ROPE_DEFAULT, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_YARN, ROPE_LONGROPE, ROPE_LLAMA3 } rope_type;

typedef struct rope_scaling {
    rope_type type;
    double factor;                            /* all types but default */
    double attention_factor;                  /* factor of queries and keys; 1 except in yarn and longrope */
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow;              /* yarn */
    bool truncate;                            /* yarn: whether the bounds of the blended range are rounded */
    int64_t original_max_position_embeddings; /* yarn, longrope, llama3 */
} rope_scaling;

typedef struct lckv_config {
    architecture architecture;
    int64_t hidden_size, intermediate_size, vocab_size, max_position_embeddings;
    int layers, heads, kv_heads, head_dim; /* heads is a multiple of kv_heads; head_dim is even */

    layer_map map;
    int forward_passes, backward_passes; /* m >= 0, b >= 1 */
    int64_t sliding_window;              /* W: position t attends to t-W+1..t in windowed layers; 0: no layer is
                                          * windowed */
    bool use_sequential;                 /* train token by token instead of by the plan */
    bool force_nodiag;                   /* every layer is strictly causal; already in map.layer[i].strict */

    double rope_theta;
    rope_scaling rope_scaling;
    int64_t positions; /* maximum number of tokens of a sequence: max_position_embeddings, times `factor` with
                        * dynamic scaling */
    double rms_norm_eps, initializer_range;
    double attention_dropout; /* of training; lckv does not apply it */
    bool tie_word_embeddings;

    /* Of new weights and of counting. A checkpoint's own tensors take precedence. */
    bool attention_bias; /* q, k, v and o projections */
    bool qkv_bias;       /* q, k and v projections (qwen2) */
    bool mlp_bias;
    bool head_norm; /* RMSNorm over each head of q and k (qwen3) */

    config_dtype torch_dtype;
    weight_format weight_format; /* of the matrices; not WEIGHT_AUTO */
    int32_t bos_token_id;        /* -1: none */
    int32_t *eos_token_ids;      /* [eos_count] of config.json, then those of generation_config.json */
    int eos_count;
    int32_t pad_token_id; /* -1: none */

    char *name;  /* path of the file, for errors */
    json_t *raw; /* config.json with overrides applied, in the transformers 4 spelling, with unknown keys */
} model_config;

/* Reads NAME (a folder with config.json, a .json file, a GGUF file, or ORG/NAME; see model_path.h) and applies
 * `overrides` ("k=v,k=v"; NULL for none; a value is JSON if it parses as JSON, else a string). EOS ids of a
 * generation_config.json beside the file are added. On success the caller owns *out; on failure *out is NULL. */
int config_read(const char *name, const char *overrides, model_config **out);

/* The same from a parsed tree, which the caller keeps. Errors quote `name`. */
int config_from_json(const json_t *tree, const char *name, const char *overrides, model_config **out);

void config_free(model_config *config); /* NULL is fine */
int config_copy(const model_config *config, model_config **out);

/* The config for published LCKV classes and transformers (4 and 5). Fields that a caller may have changed
 * (vocab_size, torch_dtype, weight_format, passes, tie_word_embeddings) replace what was read; unknown keys are
 * kept. The caller owns the tree. */
int config_to_json(const model_config *config, json_t **out);

/* out [sets, head_dim / 2]: radians per position of each rotary pair, as in transformers 5.24. Longrope has two
 * sets: for sequences of up to config_plain_length() tokens, and for longer ones. Dynamic scaling: see
 * op_rope_angles. */
void config_inverse_frequencies(const model_config *config, double *out);
int config_frequency_sets(const model_config *config);

/* Number of tokens up to which the frequencies do not depend on the length of a sequence; 0 if they never do (all
 * types but dynamic and longrope). */
int64_t config_plain_length(const model_config *config);

/* Whether both rotate queries and keys in the same way. */
bool config_same_rope(const model_config *a, const model_config *b);

/* Lengths of the same class have the same rotation; 0 for lengths up to config_plain_length(). */
int64_t config_length_class(const model_config *config, int64_t length);

const char *config_model_type(const model_config *config); /* "lckv-llama" */
const char *config_dtype_name(config_dtype dtype);         /* "float32" */

#endif
