/* The config of a GGUF file, see gguf_config.h. Sizes and names of the keys are those of llama.cpp. */
#include "config/gguf_config.h"

#include "config/gguf_rope.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- keys of the architecture */

/* Keys that are read, and keys without effect on what a model computes. */
static const char *const known_keys[] = {
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.attn_factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "tensor_data_layout",
};

/* Keys that may have only the value with which they have no effect. */
static const struct {
    const char *key;
    double neutral;
    const char *meaning;
} neutral_keys[] = {
    {"expert_count", 0, "a mixture of experts"},
    {"expert_used_count", 0, "a mixture of experts"},
    {"attention.sliding_window", 0, "a sliding window"},
    {"attention.clamp_kqv", 0, "clipped queries, keys and values"},
    {"attention.scale", 0, "its own attention scale"},
    {"logit_scale", 1, "scaled logits"},
    {"embedding_scale", 1, "scaled embeddings"},
    {"residual_scale", 1, "scaled residuals"},
    {"rope.scaling.yarn_log_multiplier", 0, "its own scale of YaRN"},
    {"pooling_type", 0, "a pooled output"},
};

/* The key without "ARCHITECTURE."; NULL if it is another's. */
static const char *own_part(const gguf_model *m, gguf_text key, size_t *bytes) {
    size_t length = strlen(m->architecture);
    if (key.bytes <= length + 1 || memcmp(key.data, m->architecture, length) != 0 || key.data[length] != '.')
        return NULL;
    *bytes = key.bytes - length - 1;
    return key.data + length + 1;
}

static bool same(const char *part, size_t bytes, const char *key) {
    return strlen(key) == bytes && memcmp(part, key, bytes) == 0;
}

static int check_neutral(const gguf_model *m, const gguf_key *key, double neutral, const char *meaning) {
    bool number = !key->array && key->type != GGUF_STRING && key->type != GGUF_BOOL;
    REQUIRE(number && gguf_number(key, 0) == neutral, LCKV_ERROR_UNSUPPORTED,
            "%s: key '%.*s' asks for %s, which lckv does not do", m->file->path, (int)key->name.bytes, key->name.data,
            meaning);
    return LCKV_OK;
}

static int check_key(const gguf_model *m, const gguf_key *key, const char *part, size_t bytes) {
    for (size_t i = 0; i < sizeof known_keys / sizeof *known_keys; i++)
        if (same(part, bytes, known_keys[i])) return LCKV_OK;
    for (size_t i = 0; i < sizeof neutral_keys / sizeof *neutral_keys; i++)
        if (same(part, bytes, neutral_keys[i].key))
            return check_neutral(m, key, neutral_keys[i].neutral, neutral_keys[i].meaning);
    if (same(part, bytes, "attention.causal") && !key->array && key->type == GGUF_BOOL && *key->data) return LCKV_OK;
    return fail(LCKV_ERROR_UNSUPPORTED, "%s: key '%.*s' is not supported", m->file->path, (int)key->name.bytes,
                key->name.data);
}

static int check_keys(const gguf_model *m) {
    for (int64_t i = 0; i < m->file->key_count; i++) {
        const gguf_key *key = &m->file->keys[i];
        size_t bytes;
        const char *part = own_part(m, key->name, &bytes);
        if (part) TRY(check_key(m, key, part, bytes));
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- what kind of file */

static int check_kind(const gguf_file *f) {
    gguf_text type;
    int64_t parts;
    TRY(gguf_get_string(f, "general.type", &type));
    REQUIRE(!type.data || gguf_text_is(type, "model"), LCKV_ERROR_UNSUPPORTED,
            "%s: general.type is '%.*s', expected a model", f->path, (int)(type.bytes < 40 ? type.bytes : 40),
            type.data);
    TRY(gguf_get_int(f, "split.count", 0, 0, UINT16_MAX, &parts));
    REQUIRE(parts <= 1, LCKV_ERROR_UNSUPPORTED,
            "%s: the model is split into %lld files; merge them with llama-gguf-split --merge", f->path,
            (long long)parts);
    return LCKV_OK;
}

static int find_architecture(gguf_model *m) {
    static const char *const known[] = {"llama", "qwen2", "qwen3"};
    gguf_text name;
    TRY(gguf_get_string(m->file, "general.architecture", &name));
    REQUIRE(name.data, LCKV_ERROR_FORMAT, "%s: expected the key 'general.architecture', found none", m->file->path);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (gguf_text_is(name, known[i])) m->architecture = known[i];
    REQUIRE(m->architecture, LCKV_ERROR_UNSUPPORTED,
            "%s: the architecture '%.*s' is not supported, only llama, qwen2 and qwen3", m->file->path,
            (int)(name.bytes < 60 ? name.bytes : 60), name.data);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- values */

/* A null value means that memory ran out. */
static int set(const gguf_model *m, const char *key, json_t *value) {
    REQUIRE(json_object_set_new(m->config, key, value) == 0, LCKV_ERROR_MEMORY, "%s: no memory for its config",
            m->file->path);
    return LCKV_OK;
}

/* A size that the file must have. */
static int set_size(gguf_model *m, const char *key, const char *name) {
    int64_t size;
    TRY(gguf_model_int(m, key, 0, &size));
    REQUIRE(size, LCKV_ERROR_FORMAT, "%s: expected the key '%s.%s', found none", m->file->path, m->architecture, key);
    return set(m, name, json_integer(size));
}

static int set_heads(gguf_model *m) {
    int64_t heads, kv_heads, width, keys, values, turned;
    TRY(set_size(m, "attention.head_count", "num_attention_heads"));
    TRY(gguf_model_int(m, "embedding_length", 0, &width));
    TRY(gguf_model_int(m, "attention.head_count", 0, &heads));
    TRY(gguf_model_int(m, "attention.head_count_kv", heads, &kv_heads));
    TRY(gguf_model_int(m, "attention.key_length", width / heads, &keys));
    TRY(gguf_model_int(m, "attention.value_length", width / heads, &values));
    TRY(gguf_model_int(m, "rope.dimension_count", keys, &turned));
    REQUIRE(keys == values, LCKV_ERROR_UNSUPPORTED,
            "%s: keys of %lld and values of %lld numbers per head are not supported, only equal sizes", m->file->path,
            (long long)keys, (long long)values);
    REQUIRE(keys == turned, LCKV_ERROR_UNSUPPORTED,
            "%s: key '%s.rope.dimension_count' asks for RoPE over %lld of the %lld numbers of a head, which lckv does "
            "not do",
            m->file->path, m->architecture, (long long)turned, (long long)keys);
    TRY(set(m, "num_key_value_heads", json_integer(kv_heads)));
    m->head_dim = keys;
    return set(m, "head_dim", json_integer(keys));
}

/* The embeddings have a row per token. */
static int set_vocabulary(gguf_model *m) {
    const gguf_tensor *embed = gguf_find_tensor(m->file, "token_embd.weight");
    int64_t rows;
    TRY(gguf_model_int(m, "vocab_size", 0, &rows));
    REQUIRE(embed || rows, LCKV_ERROR_FORMAT, "%s: tensor token_embd.weight is missing", m->file->path);
    return set(m, "vocab_size", json_integer(embed ? embed->shape[1] : rows));
}

static int set_flags(gguf_model *m) {
    bool tied = !gguf_find_tensor(m->file, "output.weight");
    TRY(set(m, "tie_word_embeddings", json_boolean(tied)));
    if (strcmp(m->architecture, "qwen2") == 0) return LCKV_OK;
    bool attention = gguf_find_tensor(m->file, "blk.0.attn_q.bias") != NULL;
    if (attention) TRY(set(m, "attention_bias", json_true()));
    bool mlp = gguf_find_tensor(m->file, "blk.0.ffn_gate.bias") != NULL;
    return mlp ? set(m, "mlp_bias", json_true()) : LCKV_OK;
}

/* Matrices in q8_0 and q4_0 keep their integers (io/gguf/gguf_groups.h). The format is that of the layers with the
 * fewest bits. */
static int set_format(gguf_model *m) {
    const char *format = "float";
    for (int64_t i = 0; i < m->file->count; i++) {
        const gguf_tensor *t = &m->file->tensors[i];
        bool layer = strncmp(t->name, "blk.", 4) == 0;
        if (t->dimensions != 2) continue;
        if (layer && t->format == gguf_format_of(GGUF_Q4_0)) return set(m, "weight_dtype", json_string("int4"));
        if (t->format == gguf_format_of(GGUF_Q8_0)) format = "int8";
    }
    return set(m, "weight_dtype", json_string(format));
}

/* Of the matrices. Other quantized ones become bfloat16. */
static int set_dtype(gguf_model *m) {
    const gguf_tensor *t = gguf_find_tensor(m->file, "blk.0.attn_q.weight");
    const gguf_format *format = t ? t->format : gguf_format_of(GGUF_BF16);
    const char *name = format == gguf_format_of(GGUF_F32)   ? "float32"
                       : format == gguf_format_of(GGUF_F16) ? "float16"
                                                            : "bfloat16";
    return set(m, "torch_dtype", json_string(name));
}

static int set_sizes(gguf_model *m) {
    double epsilon;
    TRY(set(m, "model_type", json_string(m->architecture)));
    TRY(set_size(m, "embedding_length", "hidden_size"));
    TRY(set_size(m, "block_count", "num_hidden_layers"));
    TRY(set_size(m, "feed_forward_length", "intermediate_size"));
    TRY(set_size(m, "context_length", "max_position_embeddings"));
    TRY(gguf_model_number(m, "attention.layer_norm_rms_epsilon", 0, &epsilon));
    REQUIRE(epsilon > 0, LCKV_ERROR_FORMAT, "%s: key '%s.attention.layer_norm_rms_epsilon': expected a number above 0",
            m->file->path, m->architecture);
    TRY(set(m, "rms_norm_eps", json_real(epsilon)));
    TRY(set_heads(m));
    TRY(set_vocabulary(m));
    TRY(set_flags(m));
    TRY(set_format(m));
    return set_dtype(m);
}

/* ---------------------------------------------------------------- tokens */

/* The id of a named token; -1 if the file names none. */
static int token_id(const gguf_model *m, const char *key, int64_t *out) {
    return gguf_get_int(m->file, key, -1, 0, INT32_MAX, out);
}

/* Tokens that end a text or a turn. */
static int set_eos(const gguf_model *m, json_t *list) {
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    int failed = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int64_t id;
        TRY(token_id(m, keys[i], &id));
        if (id >= 0) failed += json_array_append_new(list, json_integer(id));
    }
    REQUIRE(!failed, LCKV_ERROR_MEMORY, "%s: no memory for its EOS tokens", m->file->path);
    if (json_array_size(list) == 1) return set(m, "eos_token_id", json_incref(json_array_get(list, 0)));
    return set(m, "eos_token_id", json_array_size(list) ? json_incref(list) : json_null());
}

/* A SentencePiece vocabulary that names no tokens has 1 and 2, the defaults of a Llama config. */
static int set_tokens(const gguf_model *m) {
    gguf_text kind;
    int64_t bos, eos, pad;
    TRY(gguf_get_string(m->file, "tokenizer.ggml.model", &kind));
    TRY(token_id(m, "tokenizer.ggml.bos_token_id", &bos));
    TRY(token_id(m, "tokenizer.ggml.eos_token_id", &eos));
    TRY(token_id(m, "tokenizer.ggml.padding_token_id", &pad));
    bool pieces = gguf_text_is(kind, "llama");
    if (pad >= 0) TRY(set(m, "pad_token_id", json_integer(pad)));
    if (bos < 0 && pieces) bos = 1;
    TRY(set(m, "bos_token_id", bos >= 0 ? json_integer(bos) : json_null()));
    if (eos < 0 && pieces) return set(m, "eos_token_id", json_integer(2));
    json_t *list = json_array();
    int status = list ? set_eos(m, list) : fail(LCKV_ERROR_MEMORY, "%s: no memory for its EOS tokens", m->file->path);
    json_decref(list);
    return status;
}

/* ---------------------------------------------------------------- all */

static int read_model(gguf_model *m) {
    TRY(check_kind(m->file));
    TRY(find_architecture(m));
    TRY(check_keys(m));
    m->config = json_object();
    REQUIRE(m->config, LCKV_ERROR_MEMORY, "%s: no memory for its config", m->file->path);
    TRY(set_sizes(m));
    TRY(gguf_rope_read(m));
    return set_tokens(m);
}

int gguf_config_read(const char *path, json_t **out) {
    gguf_file file;
    *out = NULL;
    TRY(gguf_open(path, &file));
    gguf_model m = {.file = &file};
    int status = read_model(&m);
    gguf_close(&file);
    if (status < 0)
        json_decref(m.config);
    else
        *out = m.config;
    return status;
}
