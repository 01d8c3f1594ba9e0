/* Sizes by counting; see model_size.h. */
#include "config/model_size.h"

/* input_layernorm, post_attention_layernorm, q_proj, q_norm, o_proj and the MLP: what every layer has. */
static int64_t layer_parameters(const model_config *c) {
    int64_t q_size = (int64_t)c->heads * c->head_dim;
    int64_t count = 2 * c->hidden_size + 2 * q_size * c->hidden_size + 3 * c->intermediate_size * c->hidden_size;
    if (c->attention_bias || c->qkv_bias) count += q_size;
    if (c->attention_bias) count += c->hidden_size;
    if (c->mlp_bias) count += 2 * c->intermediate_size + c->hidden_size;
    if (c->head_norm) count += c->head_dim;
    return count;
}

/* k_proj, v_proj, k_norm: what the owner of a slot has besides. */
static int64_t slot_parameters(const model_config *c) {
    int64_t kv_size = (int64_t)c->kv_heads * c->head_dim;
    int64_t count = 2 * kv_size * c->hidden_size;
    if (c->attention_bias || c->qkv_bias) count += 2 * kv_size;
    if (c->head_norm) count += c->head_dim;
    return count;
}

int64_t model_parameters(const model_config *config) {
    int64_t embeddings = config->vocab_size * config->hidden_size * (config->tie_word_embeddings ? 1 : 2);
    return embeddings + config->hidden_size + config->layers * layer_parameters(config) +
           config->map.slots * slot_parameters(config);
}

static int64_t kv_bytes(const model_config *c, int slots, int bytes_per_value) {
    return 2 * (int64_t)slots * c->kv_heads * c->head_dim * bytes_per_value;
}

int64_t model_kv_bytes_per_token(const model_config *config, int bytes_per_value) {
    return kv_bytes(config, config->map.slots, bytes_per_value);
}

int64_t model_kv_bytes_per_token_unshared(const model_config *config, int bytes_per_value) {
    return kv_bytes(config, config->layers, bytes_per_value);
}

int config_dtype_bytes(config_dtype dtype) {
    return dtype == CONFIG_DTYPE_F32 ? 4 : 2;
}
