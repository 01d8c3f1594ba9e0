/* Normalizes spellings and applies overrides; see config_source.h. */
#include "config/config_source.h"

#include <stdlib.h>
#include <string.h>

static int no_memory(const char *name) {
    return fail(LCKV_ERROR_MEMORY, "%s: no memory for its JSON", name);
}

/* ---------------------------------------------------------------- one spelling */

/* Moves `from` of `holder` to tree[to]. Fails if both are present with different values. */
static int move_key(json_t *holder, const char *from, json_t *tree, const char *to, const char *name) {
    json_t *value = json_object_get(holder, from), *present = json_object_get(tree, to);
    if (!value) return LCKV_OK;
    bool contradict = present && !json_is_null(present) && !json_is_null(value);
    if (contradict && json_is_number(present) && json_is_number(value))
        contradict = json_number_value(present) != json_number_value(value);
    else if (contradict)
        contradict = !json_equal(present, value);
    REQUIRE(!contradict, LCKV_ERROR_FORMAT, "%s: '%s' and '%s' say different things", name, from, to);
    if (!present || json_is_null(present)) {
        if (json_object_set(tree, to, value) < 0) return no_memory(name);
    }
    json_object_del(holder, from);
    return LCKV_OK;
}

/* transformers 5 keeps RoPE's theta and scaling in one object. A value that means "no scaling" becomes null. */
static int split_rope_parameters(json_t *tree, const char *name) {
    json_t *parameters = json_object_get(tree, "rope_parameters");
    if (!parameters || json_is_null(parameters)) {
        json_object_del(tree, "rope_parameters");
        return LCKV_OK;
    }
    REQUIRE(json_is_object(parameters), LCKV_ERROR_FORMAT, "%s: 'rope_parameters' should be an object", name);
    TRY(move_key(parameters, "rope_theta", tree, "rope_theta", name));
    const char *type = json_string_value(json_object_get(parameters, "rope_type"));
    bool plain =
        json_object_size(parameters) == 0 || (json_object_size(parameters) == 1 && type && !strcmp(type, "default"));
    if (!plain) return move_key(tree, "rope_parameters", tree, "rope_scaling", name);
    if (!json_object_get(tree, "rope_scaling") && json_object_set_new(tree, "rope_scaling", json_null()) < 0)
        return no_memory(name);
    json_object_del(tree, "rope_parameters");
    return LCKV_OK;
}

static int normalise(json_t *tree, const char *name) {
    TRY(move_key(tree, "dtype", tree, "torch_dtype", name));
    return split_rope_parameters(tree, name);
}

/* ---------------------------------------------------------------- overrides */

/* Keys that an override may add to a config that lacks them. Any other key must exist already, so that a misspelt
 * key is an error. */
static const char *const known_keys[] = {
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "layer_types",
    "forward_passes",
    "backward_passes",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "use_sequential",
    "force_nodiag",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "rms_norm_eps",
    "initializer_range",
    "attention_bias",
    "attention_dropout",
    "mlp_bias",
    "tie_word_embeddings",
    "torch_dtype",
    "dtype",
    "weight_dtype",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "hidden_act",
};

static bool is_known(const char *key) {
    for (size_t i = 0; i < sizeof known_keys / sizeof *known_keys; i++)
        if (!strcmp(key, known_keys[i])) return true;
    return false;
}

/* Length of a value: up to the next comma outside quotes and brackets, so that JSON objects and lists may be values. */
static size_t value_length(const char *text) {
    int depth = 0;
    bool quoted = false;
    size_t i = 0;
    for (; text[i]; i++) {
        char c = text[i];
        if (quoted && c == '\\' && text[i + 1])
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '{' || c == '['))
            depth++;
        else if (!quoted && (c == '}' || c == ']'))
            depth--;
        else if (!quoted && depth <= 0 && c == ',')
            break;
    }
    return i;
}

/* The value as JSON if it parses as JSON (or is Python's True, False or None), else as a string. A layer_types of
 * one entry is a string, not a number. */
static int parse_value(const char *key, const char *text, size_t length, json_t **out) {
    bool one_entry = !strcmp(key, "layer_types") && length && strspn(text, "0123456789") >= length;
    *out = NULL;
    if (!one_entry && json_parse(text, length, key, out) >= 0) return LCKV_OK;
    REQUIRE(!length || !strchr("{[\"", *text), LCKV_ERROR_ARGUMENT, "config_overrides: %s=%.*s is not JSON", key,
            (int)(length < 200 ? length : 200), text);
    if (length == 4 && !strncmp(text, "True", 4))
        *out = json_true();
    else if (length == 5 && !strncmp(text, "False", 5))
        *out = json_false();
    else if (length == 4 && !strncmp(text, "None", 4))
        *out = json_null();
    else
        *out = json_stringn(text, length);
    REQUIRE(*out, LCKV_ERROR_ARGUMENT, "config_overrides: the value of %s is not UTF-8", key);
    return LCKV_OK;
}

/* Reads one "key=value" at `text` into `overrides`. *length: bytes read. */
static int parse_override(const char *text, const json_t *tree, json_t *overrides, size_t *length) {
    char key[64];
    size_t bytes = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    REQUIRE(bytes && bytes < sizeof key && text[bytes] == '=', LCKV_ERROR_ARGUMENT,
            "config_overrides: expected key=value, found '%.*s'", (int)strcspn(text, ","), text);
    memcpy(key, text, bytes);
    key[bytes] = 0;
    REQUIRE(is_known(key) || json_object_get(tree, key), LCKV_ERROR_ARGUMENT,
            "config_overrides: '%s' is neither in the config nor a key that lckv reads", key);
    REQUIRE(!json_object_get(overrides, key), LCKV_ERROR_ARGUMENT, "config_overrides: '%s' is given twice", key);
    const char *value = text + bytes + 1;
    size_t value_bytes = value_length(value);
    json_t *parsed;
    TRY(parse_value(key, value, value_bytes, &parsed));
    if (json_object_set_new(overrides, key, parsed) < 0) return no_memory("config_overrides");
    *length = bytes + 1 + value_bytes;
    return LCKV_OK;
}

static int parse_overrides(const char *text, const json_t *tree, json_t *overrides) {
    while (*text) {
        size_t length;
        TRY(parse_override(text, tree, overrides, &length));
        text += length;
        if (!*text) break;
        text++;
        REQUIRE(*text, LCKV_ERROR_ARGUMENT, "config_overrides: expected key=value after the last comma");
    }
    return normalise(overrides, "config_overrides");
}

static int apply_overrides(json_t *tree, const char *name, const char *text) {
    json_t *overrides = json_object();
    if (!overrides) return no_memory(name);
    int status = parse_overrides(text, tree, overrides);
    if (status >= 0 && json_object_update(tree, overrides) < 0) status = no_memory(name);
    json_decref(overrides);
    return status;
}

int config_source_make(const json_t *tree, const char *name, const char *overrides, json_t **out) {
    *out = NULL;
    REQUIRE(json_is_object(tree), LCKV_ERROR_FORMAT, "%s: expected a JSON object", name);
    json_t *copy = json_deep_copy(tree);
    if (!copy) return no_memory(name);
    int status = normalise(copy, name);
    if (status >= 0 && overrides) status = apply_overrides(copy, name, overrides);
    if (status < 0)
        json_decref(copy);
    else
        *out = copy;
    return status;
}
