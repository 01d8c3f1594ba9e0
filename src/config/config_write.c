/* Writes a model_config as config.json; see config_to_json() in model_config.h.
 *
 * All fields that lckv knows are written, because classes differ in their defaults (transformers' Qwen3 has a
 * head_dim of 128). */
#include "config/model_config.h"

#include <stdlib.h>

static const char *class_name(architecture a) {
    switch (a) {
    case ARCH_LCKV_LLAMA:
        return "LCKVLlamaForCausalLM";
    case ARCH_LLAMA:
        return "LlamaForCausalLM";
    case ARCH_MISTRAL:
        return "MistralForCausalLM";
    case ARCH_QWEN2:
        return "Qwen2ForCausalLM";
    case ARCH_QWEN3:
        return "Qwen3ForCausalLM";
    }
    return "";
}

/* Each function returns 0, or a negative number if memory ran out, like jansson; callers add the results. */
static int set_integer(json_t *tree, const char *key, int64_t value) {
    return json_object_set_new(tree, key, json_integer(value));
}

static int set_bool(json_t *tree, const char *key, bool value) {
    return json_object_set_new(tree, key, json_boolean(value));
}

static int set_real(json_t *tree, const char *key, double value) {
    return json_object_set_new(tree, key, json_real(value));
}

static int set_string(json_t *tree, const char *key, const char *value) {
    return json_object_set_new(tree, key, json_string(value));
}

static int set_null_where_absent(json_t *tree, const char *key) {
    return json_object_get(tree, key) ? 0 : json_object_set_new(tree, key, json_null());
}

/* If the file named no tokens: those of the class or of generation_config.json. */
static int set_tokens(const model_config *c, json_t *tree) {
    int errors = 0;
    if (!json_object_get(tree, "bos_token_id"))
        errors += json_object_set_new(tree, "bos_token_id",
                                      c->bos_token_id < 0 ? json_null() : json_integer(c->bos_token_id));
    if (json_object_get(tree, "eos_token_id")) return errors;
    json_t *eos = c->eos_count ? json_array() : json_null();
    for (int i = 0; i < c->eos_count; i++) errors += json_array_append_new(eos, json_integer(c->eos_token_ids[i]));
    if (c->eos_count == 1) errors += json_object_set(tree, "eos_token_id", json_array_get(eos, 0));
    if (c->eos_count != 1) errors += json_object_set(tree, "eos_token_id", eos);
    json_decref(eos);
    return errors;
}

static int set_sizes(const model_config *c, json_t *tree) {
    return set_integer(tree, "hidden_size", c->hidden_size) +
           set_integer(tree, "intermediate_size", c->intermediate_size) +
           set_integer(tree, "vocab_size", c->vocab_size) +
           set_integer(tree, "max_position_embeddings", c->max_position_embeddings) +
           set_integer(tree, "num_hidden_layers", c->layers) + set_integer(tree, "num_attention_heads", c->heads) +
           set_integer(tree, "num_key_value_heads", c->kv_heads) + set_integer(tree, "head_dim", c->head_dim);
}

/* A window in the file is kept, even if no layer uses it. */
static int set_window(const model_config *c, json_t *tree) {
    if (json_object_get(tree, "sliding_window") || !c->sliding_window) return 0;
    return set_integer(tree, "sliding_window", c->sliding_window);
}

static int set_kind(const model_config *c, json_t *tree) {
    return set_string(tree, "model_type", config_model_type(c)) +
           json_object_set_new(tree, "architectures", json_pack("[s]", class_name(c->architecture))) +
           set_string(tree, "hidden_act", "silu") + quantization_write(c->weight_format, tree) +
           set_string(tree, "torch_dtype", config_dtype_name(c->torch_dtype)) +
           set_bool(tree, "tie_word_embeddings", c->tie_word_embeddings) +
           set_real(tree, "rms_norm_eps", c->rms_norm_eps) + set_real(tree, "rope_theta", c->rope_theta) +
           set_real(tree, "initializer_range", c->initializer_range) + set_null_where_absent(tree, "rope_scaling") +
           set_tokens(c, tree) + set_window(c, tree);
}

static int set_biases(const model_config *c, json_t *tree) {
    bool llama = c->architecture == ARCH_LLAMA || c->architecture == ARCH_LCKV_LLAMA;
    int errors = 0;
    if (llama || c->architecture == ARCH_QWEN3) errors += set_bool(tree, "attention_bias", c->attention_bias);
    if (llama) errors += set_bool(tree, "mlp_bias", c->mlp_bias);
    return errors;
}

/* Keys of LCKVLlamaConfig; also for other types if the file has layer_types as a string. */
static int set_sharing(const model_config *c, const char *layer_types, json_t *tree) {
    bool shares = c->architecture == ARCH_LCKV_LLAMA || json_is_string(json_object_get(tree, "layer_types"));
    if (!shares) return 0;
    return set_string(tree, "layer_types", layer_types) + set_integer(tree, "forward_passes", c->forward_passes) +
           set_integer(tree, "backward_passes", c->backward_passes) +
           set_bool(tree, "use_sequential", c->use_sequential) + set_bool(tree, "force_nodiag", c->force_nodiag);
}

int config_to_json(const model_config *config, json_t **out) {
    *out = NULL;
    char *layer_types;
    TRY(layer_map_format(&config->map, &layer_types));
    json_t *tree = json_deep_copy(config->raw);
    int errors = tree ? set_kind(config, tree) + set_sizes(config, tree) + set_biases(config, tree) +
                            set_sharing(config, layer_types, tree)
                      : -1;
    free(layer_types);
    if (errors) {
        json_decref(tree);
        return fail(LCKV_ERROR_MEMORY, "%s: no memory to write it", config->name);
    }
    *out = tree;
    return LCKV_OK;
}
