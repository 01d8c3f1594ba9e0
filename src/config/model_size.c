/* Sizes derived from a config; see model_size.h. */
#include "config/model_size.h"

static int64_t norm_parameters(const model_config *c, int layer) {
    const layer_description *l = &c->map.layer[layer];
    int64_t count = 0;
    if (l->norms & LAYER_NORM_INPUT) count += c->hidden_size;
    if (l->norms & LAYER_NORM_MLP) count += c->hidden_size;
    if (l->norms & LAYER_NORM_Q) count += l->head_dim;
    if ((l->norms & LAYER_NORM_K) && layer_map_stores_keys(&c->map, layer)) count += l->head_dim;
    return count;
}

/* q_proj, o_proj, the MLP and the norms of a layer. */
static int64_t layer_parameters(const model_config *c, int layer) {
    const layer_description *l = &c->map.layer[layer];
    int64_t q_width = (int64_t)l->heads * l->head_dim;
    int64_t count =
        norm_parameters(c, layer) + 2 * q_width * c->hidden_size + 3 * l->intermediate_size * c->hidden_size;
    if (c->attention_bias || c->qkv_bias) count += q_width;
    if (c->attention_bias) count += c->hidden_size;
    if (c->mlp_bias) count += 2 * l->intermediate_size + c->hidden_size;
    return count;
}

/* k_proj and v_proj of the slot's owner, as far as some layer reads them. */
static int64_t slot_parameters(const model_config *c, int slot) {
    int64_t width = layer_map_k_width(&c->map, slot) + layer_map_v_width(&c->map, slot);
    bool bias = c->attention_bias || c->qkv_bias;
    return width * c->hidden_size + (bias ? width : 0);
}

int64_t model_parameters(const model_config *config) {
    int64_t embeddings = config->vocab_size * config->hidden_size * (config->tie_word_embeddings ? 1 : 2);
    int64_t count = embeddings + config->hidden_size;
    for (int i = 0; i < config->layers; i++) count += layer_parameters(config, i);
    for (int s = 0; s < config->map.slots; s++) count += slot_parameters(config, s);
    return count;
}

model_kv model_kv_per_token(const model_config *config) {
    const layer_map *map = &config->map;
    model_kv kv = {0, 0};
    for (int s = 0; s < map->slots; s++) {
        int64_t width = layer_map_k_width(map, s) + layer_map_v_width(map, s);
        kv.values += width;
        kv.heads += width / map->layer[map->slot[s].layer].head_dim;
    }
    return kv;
}

model_kv model_kv_per_token_unshared(const model_config *config) {
    model_kv kv = {0, 0};
    for (int i = 0; i < config->layers; i++) {
        kv.values += 2 * layer_kv_width(&config->map.layer[i]);
        kv.heads += 2 * config->map.layer[i].kv_heads;
    }
    return kv;
}

int config_dtype_bytes(config_dtype dtype) {
    return dtype == CONFIG_DTYPE_F32 ? 4 : 2;
}
