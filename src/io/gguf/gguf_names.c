/* Names of tensors, see gguf_names.h. */
#include "io/gguf/gguf_names.h"

#include <stdio.h>
#include <string.h>

/* Both names without ".weight" or ".bias", in a layer after "blk.N." and "model.layers.N.". */
static const struct {
    const char *gguf, *hf;
} in_layer[] =
    {
        {"attn_norm", "input_layernorm"},    {"ffn_norm", "post_attention_layernorm"},
        {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},
        {"attn_v", "self_attn.v_proj"},      {"attn_output", "self_attn.o_proj"},
        {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
        {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
        {"ffn_down", "mlp.down_proj"},
},
  outside[] = {
      {"token_embd", "model.embed_tokens"},
      {"output_norm", "model.norm"},
      {"output", "lm_head"},
};

enum { IN_LAYER = sizeof in_layer / sizeof *in_layer, OUTSIDE = sizeof outside / sizeof *outside };

/* Whether `name` is `part` with ".weight" or ".bias" after it, which is *ending. */
static bool is_part(const char *name, const char *part, const char **ending) {
    size_t bytes = strlen(part);
    if (strncmp(name, part, bytes) != 0) return false;
    *ending = name + bytes;
    return strcmp(*ending, ".weight") == 0 || strcmp(*ending, ".bias") == 0;
}

bool gguf_name_of_hf(const char *hf, char out[TENSOR_NAME_BYTES]) {
    const char *ending;
    int layer, at = 0;
    bool layered = sscanf(hf, "model.layers.%9d.%n", &layer, &at) == 1 && at && layer >= 0;
    for (int i = 0; layered && i < IN_LAYER; i++)
        if (is_part(hf + at, in_layer[i].hf, &ending))
            return snprintf(out, TENSOR_NAME_BYTES, "blk.%d.%s%s", layer, in_layer[i].gguf, ending) > 0;
    for (int i = 0; !layered && i < OUTSIDE; i++)
        if (is_part(hf, outside[i].hf, &ending))
            return snprintf(out, TENSOR_NAME_BYTES, "%s%s", outside[i].gguf, ending) > 0;
    return false;
}

static bool to_hf(const char *gguf, char out[TENSOR_NAME_BYTES]) {
    const char *ending;
    int layer, at = 0;
    bool layered = sscanf(gguf, "blk.%9d.%n", &layer, &at) == 1 && at && layer >= 0;
    for (int i = 0; layered && i < IN_LAYER; i++)
        if (is_part(gguf + at, in_layer[i].gguf, &ending))
            return snprintf(out, TENSOR_NAME_BYTES, "model.layers.%d.%s%s", layer, in_layer[i].hf, ending) > 0;
    for (int i = 0; !layered && i < OUTSIDE; i++)
        if (is_part(gguf, outside[i].gguf, &ending))
            return snprintf(out, TENSOR_NAME_BYTES, "%s%s", outside[i].hf, ending) > 0;
    return false;
}

/* A number such as 007 has the same meaning as 7; only one of the two is a name. */
bool gguf_name_to_hf(const char *gguf, char out[TENSOR_NAME_BYTES]) {
    char again[TENSOR_NAME_BYTES];
    return to_hf(gguf, out) && gguf_name_of_hf(out, again) && strcmp(gguf, again) == 0;
}

gguf_rows gguf_rows_of(const char *hf) {
    if (strstr(hf, ".self_attn.q_proj.")) return GGUF_ROWS_QUERIES;
    return strstr(hf, ".self_attn.k_proj.") ? GGUF_ROWS_KEYS : GGUF_ROWS_OTHER;
}
