/* Keys that change what a model computes and that lckv does not support; see config_source.h.
 *
 * A key is rejected only if its value differs from the neutral one, because many tools write such keys with their
 * neutral value. */
#include "config/config_source.h"

#include <string.h>

static const struct {
    const char *key;
    double neutral; /* the number without effect; null, false, and empty lists and objects never have an effect */
    const char *meaning;
} unsupported[] = {
    /* positions */
    {"partial_rotary_factor", 1, "RoPE over a part of each head"},
    {"rotary_pct", 1, "RoPE over a part of each head"},
    {"rope_interleaved", 0, "RoPE over neighbouring pairs"},
    {"rope_interleave", 0, "RoPE over neighbouring pairs"},
    {"no_rope_layers", 0, "layers without RoPE"},
    {"no_rope_layer_interval", 0, "layers without RoPE"},
    {"alibi", 0, "ALiBi positions"},
    {"use_mrope", 0, "multimodal RoPE"},
    /* attention */
    {"attention_multiplier", 0, "its own attention scale"},
    {"query_pre_attn_scalar", 0, "its own attention scale"},
    {"attn_logit_softcapping", 0, "soft-capped attention scores"},
    {"attn_temperature_tuning", 0, "attention scaled by position"},
    {"attention_chunk_size", 0, "chunked attention"},
    {"sliding_window_pattern", 0, "a window pattern (write layer_types instead)"},
    {"clip_qkv", 0, "clipped queries, keys and values"},
    /* scales */
    {"embedding_multiplier", 1, "scaled embeddings"},
    {"residual_multiplier", 1, "scaled residuals"},
    {"logits_scaling", 1, "scaled logits"},
    {"logit_scale", 1, "scaled logits"},
    {"scale_emb", 1, "scaled embeddings"},
    {"scale_depth", 0, "scaled residuals"},
    {"logit_softcapping", 0, "soft-capped logits"},
    {"final_logit_softcapping", 0, "soft-capped logits"},
    /* blocks */
    {"use_parallel_residual", 0, "parallel attention and MLP"},
    {"parallel_attn", 0, "parallel attention and MLP"},
    {"num_local_experts", 0, "a mixture of experts"},
    {"num_experts", 0, "a mixture of experts"},
    {"n_routed_experts", 0, "a mixture of experts"},
    {"cross_attention_layers", 0, "cross-attention"},
    {"add_cross_attention", 0, "cross-attention"},
    {"is_encoder_decoder", 0, "an encoder"},
    {"pruned_heads", 0, "pruned heads"},
    /* weights */
    {"compression_config", 0, "compressed weights (decompress the checkpoint first)"},
};

static bool is_neutral(const json_t *value, double neutral) {
    if (!value || json_is_null(value) || json_is_false(value)) return true;
    if (json_is_array(value)) return json_array_size(value) == 0;
    if (json_is_object(value)) return json_object_size(value) == 0;
    return json_is_number(value) && json_number_value(value) == neutral;
}

/* Qwen3 has norms of queries and keys. Other types that ask for them are rejected. */
static int check_head_norm(const json_t *tree, const char *name) {
    static const char *const keys[] = {"use_qk_norm", "qk_norm", "qk_layernorm"};
    const char *type = json_string_value(json_object_get(tree, "model_type"));
    if (type && !strcmp(type, "qwen3")) return LCKV_OK;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        REQUIRE(is_neutral(json_object_get(tree, keys[i]), 0), LCKV_ERROR_UNSUPPORTED,
                "%s: '%s' asks for norms of queries and keys, which only model_type qwen3 has", name, keys[i]);
    return LCKV_OK;
}

static int check_activation(const json_t *tree, const char *name) {
    const char *activation;
    TRY(json_get_string(tree, name, "hidden_act", "silu", &activation));
    REQUIRE(!strcmp(activation, "silu") || !strcmp(activation, "swish"), LCKV_ERROR_UNSUPPORTED,
            "%s: hidden_act '%.60s' is not supported, only silu", name, activation);
    return LCKV_OK;
}

int config_source_check(const json_t *tree, const char *name) {
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        REQUIRE(is_neutral(json_object_get(tree, unsupported[i].key), unsupported[i].neutral), LCKV_ERROR_UNSUPPORTED,
                "%s: '%s' asks for %s, which lckv does not do", name, unsupported[i].key, unsupported[i].meaning);
    TRY(check_head_norm(tree, name));
    return check_activation(tree, name);
}
