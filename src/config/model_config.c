/* Reads and checks the fields of config.json; see model_config.h. config_write.c writes them. */
#include "config/model_config.h"

#include "base/files/file.h"
#include "config/config_source.h"
#include "config/gguf_config.h"
#include "config/rope.h"
#include "gguf/gguf.h"
#include "hub/model_path.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Bounds far above real models, so that products of sizes and the bytes of a model fit 63 bits. */
#define MAX_HIDDEN (INT64_C(1) << 20)
#define MAX_INTERMEDIATE (INT64_C(1) << 24)
#define MAX_VOCABULARY (INT64_C(1) << 24)
#define MAX_POSITIONS (INT64_C(1) << 40)
#define MAX_HEADS 4096
#define MAX_HEAD_DIM 4096
#define MAX_PASSES 65536

/* Defaults of absent keys depend on the class: transformers 5.24 (LlamaConfig, whose subclass is LCKVLlamaConfig,
 * MistralConfig, Qwen2Config, Qwen3Config; 4.57 has the same numbers). Defaults that are equal in all classes are
 * below. */
typedef struct type_defaults {
    const char *model_type;
    architecture architecture;
    int64_t intermediate_size, vocab_size, max_position_embeddings;
    int kv_heads; /* 0: num_attention_heads */
    int head_dim; /* 0: hidden_size / num_attention_heads */
    int32_t bos, eos;
} type_defaults;

static const type_defaults types[] = {{"lckv-llama", ARCH_LCKV_LLAMA, 11008, 32000, 2048, 0, 0, 1, 2},
                                      {"llama", ARCH_LLAMA, 11008, 32000, 2048, 0, 0, 1, 2},
                                      {"mistral", ARCH_MISTRAL, 14336, 32000, 131072, 8, 0, 1, 2},
                                      {"qwen2", ARCH_QWEN2, 22016, 151936, 32768, 32, 0, -1, -1},
                                      {"qwen3", ARCH_QWEN3, 22016, 151936, 32768, 32, 128, -1, -1}};

enum { DEFAULT_HIDDEN = 4096, DEFAULT_LAYERS = 32, DEFAULT_HEADS = 32, DEFAULT_WINDOW = 4096 };

static const char *const dtype_names[] = {"float32", "bfloat16", "float16"}; /* by config_dtype */

enum { TYPES = sizeof types / sizeof *types, DTYPES = sizeof dtype_names / sizeof *dtype_names };

static const type_defaults *defaults_of(const model_config *c) {
    for (int i = 0; i < TYPES; i++)
        if (types[i].architecture == c->architecture) return &types[i];
    return types;
}

const char *config_model_type(const model_config *config) {
    return defaults_of(config)->model_type;
}

const char *config_dtype_name(config_dtype type) {
    return dtype_names[type];
}

/* ---------------------------------------------------------------- single values */

/* An integer from `min` to `max`; `fallback` if absent or null. */
static int read_integer(const model_config *c, const char *key, int64_t fallback, int64_t min, int64_t max,
                        int64_t *out) {
    TRY(json_get_int(c->raw, c->name, key, fallback, out));
    const json_t *given = json_object_get(c->raw, key);
    bool absent = !given || json_is_null(given);
    REQUIRE(absent || (*out >= min && *out <= max), LCKV_ERROR_FORMAT,
            "%s: '%s' should be from %lld to %lld, found %lld", c->name, key, (long long)min, (long long)max,
            (long long)*out);
    return LCKV_OK;
}

/* The same for sizes, where the classes do not accept null. */
static int read_size(const model_config *c, const char *key, int64_t fallback, int64_t max, int64_t *out) {
    REQUIRE(!json_is_null(json_object_get(c->raw, key)), LCKV_ERROR_FORMAT, "%s: '%s' should be a number, found null",
            c->name, key);
    return read_integer(c, key, fallback, 1, max, out);
}

static bool is_absent(const model_config *c, const char *key) {
    return !json_object_get(c->raw, key);
}

static int read_int(const model_config *c, const char *key, int64_t fallback, int64_t min, int64_t max, int *out) {
    int64_t value;
    TRY(read_integer(c, key, fallback, min, max, &value));
    *out = (int)value;
    return LCKV_OK;
}

static int read_number(const model_config *c, const char *key, double fallback, double min, double max, double *out) {
    TRY(json_get_number(c->raw, c->name, key, fallback, out));
    REQUIRE(*out >= min && *out <= max, LCKV_ERROR_FORMAT, "%s: '%s' should be from %g to %g, found %g", c->name, key,
            min, max, *out);
    return LCKV_OK;
}

static int read_bool(const model_config *c, const char *key, bool *out) {
    return json_get_bool(c->raw, c->name, key, false, out);
}

/* ---------------------------------------------------------------- what kind of model */

/* Types of the first LCKV releases. Their layer_types would parse here with another meaning. */
static int refuse_older_type(const model_config *c, const char *type) {
    REQUIRE(strcmp(type, "opt-llama") != 0, LCKV_ERROR_UNSUPPORTED,
            "%s: model_type 'opt-llama' is an older form of lckv-llama whose layer_types mean something else (0 and 2: "
            "own KV, 1: the KV of the layer marked 2); say which layer reads whose KV in today's form, with "
            "--config_overrides model_type=lckv-llama,force_nodiag=true,layer_types=0_6_6_6_6_6_6_7 for an old "
            "0_1_1_1_1_1_2_0",
            c->name);
    REQUIRE(strcmp(type, "cla-llama") != 0, LCKV_ERROR_UNSUPPORTED,
            "%s: model_type 'cla-llama' is an older form of lckv-llama whose layer_types mean something else (0 and 2: "
            "own KV, 1: the KV of the nearest such layer below); say which layer reads whose KV in today's form, with "
            "--config_overrides model_type=lckv-llama,layer_types=0_0_2_2 for an old 2_1_2_1",
            c->name);
    return LCKV_OK;
}

static int read_architecture(model_config *c) {
    const char *type;
    TRY(json_get_string(c->raw, c->name, "model_type", NULL, &type));
    REQUIRE(type, LCKV_ERROR_FORMAT, "%s: expected 'model_type', found none", c->name);
    TRY(refuse_older_type(c, type));
    for (int i = 0; i < TYPES; i++) {
        if (strcmp(type, types[i].model_type) != 0) continue;
        c->architecture = types[i].architecture;
        return LCKV_OK;
    }
    return fail(LCKV_ERROR_UNSUPPORTED,
                "%s: model_type '%.60s' is not supported, only lckv-llama, llama, mistral, qwen2 and qwen3", c->name,
                type);
}

static int read_heads(model_config *c) {
    const type_defaults *d = defaults_of(c);
    int64_t heads;
    TRY(read_size(c, "num_attention_heads", DEFAULT_HEADS, MAX_HEADS, &heads));
    c->heads = (int)heads;
    bool absent = is_absent(c, "num_key_value_heads");
    TRY(read_int(c, "num_key_value_heads", absent && d->kv_heads ? d->kv_heads : c->heads, 1, c->heads, &c->kv_heads));
    REQUIRE(c->heads % c->kv_heads == 0, LCKV_ERROR_FORMAT,
            "%s: num_attention_heads %d should be a multiple of num_key_value_heads %d%s%s", c->name, c->heads,
            c->kv_heads, absent ? ", the default of " : "", absent ? d->model_type : "");
    return LCKV_OK;
}

/* LlamaConfig requires that hidden_size is a multiple of the heads; the other classes round down. */
static int read_head_dim(model_config *c) {
    bool llama = c->architecture == ARCH_LLAMA || c->architecture == ARCH_LCKV_LLAMA;
    TRY(read_int(c, "head_dim", is_absent(c, "head_dim") ? defaults_of(c)->head_dim : 0, 2, MAX_HEAD_DIM,
                 &c->head_dim));
    if (!c->head_dim) {
        REQUIRE((!llama || c->hidden_size % c->heads == 0) && c->hidden_size / c->heads <= MAX_HEAD_DIM,
                LCKV_ERROR_FORMAT,
                "%s: without 'head_dim', hidden_size %lld should be a multiple of num_attention_heads %d and at most "
                "%d times it",
                c->name, (long long)c->hidden_size, c->heads, MAX_HEAD_DIM);
        c->head_dim = (int)(c->hidden_size / c->heads);
    }
    REQUIRE(c->head_dim >= 2 && c->head_dim % 2 == 0, LCKV_ERROR_FORMAT,
            "%s: head_dim should be even (RoPE turns pairs), found %d", c->name, c->head_dim);
    return LCKV_OK;
}

static int read_sizes(model_config *c) {
    const type_defaults *d = defaults_of(c);
    int64_t layers;
    TRY(read_size(c, "hidden_size", DEFAULT_HIDDEN, MAX_HIDDEN, &c->hidden_size));
    TRY(read_size(c, "intermediate_size", d->intermediate_size, MAX_INTERMEDIATE, &c->intermediate_size));
    TRY(read_size(c, "vocab_size", d->vocab_size, MAX_VOCABULARY, &c->vocab_size));
    TRY(read_size(c, "max_position_embeddings", d->max_position_embeddings, MAX_POSITIONS,
                  &c->max_position_embeddings));
    TRY(read_integer(c, "sliding_window", is_absent(c, "sliding_window") ? DEFAULT_WINDOW : 0, 1, MAX_POSITIONS,
                     &c->sliding_window));
    TRY(read_size(c, "num_hidden_layers", DEFAULT_LAYERS, LAYER_MAP_MAX_LAYERS, &layers));
    c->layers = (int)layers;
    TRY(read_heads(c));
    return read_head_dim(c);
}

static int read_training(model_config *c) {
    TRY(read_int(c, "forward_passes", 7, 0, MAX_PASSES, &c->forward_passes));
    TRY(read_int(c, "backward_passes", 2, 1, MAX_PASSES, &c->backward_passes));
    TRY(read_bool(c, "use_sequential", &c->use_sequential));
    TRY(read_bool(c, "force_nodiag", &c->force_nodiag));
    TRY(read_number(c, "rms_norm_eps", 1e-6, 1e-30, 1, &c->rms_norm_eps));
    TRY(read_number(c, "attention_dropout", 0, 0, 1, &c->attention_dropout));
    return read_number(c, "initializer_range", 0.02, 0, 1e6, &c->initializer_range);
}

/* As in the class of the model type: Llama and Qwen3 read attention_bias, only Llama reads mlp_bias. */
static int read_flags(model_config *c) {
    bool llama = c->architecture == ARCH_LLAMA || c->architecture == ARCH_LCKV_LLAMA;
    TRY(read_bool(c, "tie_word_embeddings", &c->tie_word_embeddings));
    if (llama || c->architecture == ARCH_QWEN3) TRY(read_bool(c, "attention_bias", &c->attention_bias));
    if (llama) TRY(read_bool(c, "mlp_bias", &c->mlp_bias));
    c->qkv_bias = c->architecture == ARCH_QWEN2;
    c->head_norm = c->architecture == ARCH_QWEN3;
    return LCKV_OK;
}

static int read_dtype(model_config *c) {
    const char *given;
    TRY(json_get_string(c->raw, c->name, "torch_dtype", dtype_names[CONFIG_DTYPE_F32], &given));
    const char *type = strncmp(given, "torch.", 6) ? given : given + 6;
    for (int i = 0; i < DTYPES; i++) {
        if (strcmp(type, dtype_names[i]) != 0) continue;
        c->torch_dtype = (config_dtype)i;
        return LCKV_OK;
    }
    return fail(LCKV_ERROR_UNSUPPORTED, "%s: torch_dtype '%.60s' is not supported, only float32, bfloat16 and float16",
                c->name, given);
}

/* ---------------------------------------------------------------- special tokens */

/* null and -1 mean none. `fallback` if absent. */
static int read_token(const model_config *c, const char *key, int32_t fallback, int32_t *out) {
    int64_t token;
    TRY(read_integer(c, key, is_absent(c, key) ? fallback : -1, -1, INT32_MAX, &token));
    *out = (int32_t)token;
    return LCKV_OK;
}

static int add_eos(model_config *c, const json_t *token, const char *name) {
    int64_t id = json_integer_value(token);
    if (!json_is_integer(token) || id < -1 || id > INT32_MAX)
        return json_wrong_type(name, "eos_token_id", "a token id or a list of them", token);
    if (id < 0) return LCKV_OK;
    for (int i = 0; i < c->eos_count; i++)
        if (c->eos_token_ids[i] == id) return LCKV_OK;
    int32_t *ids = realloc(c->eos_token_ids, ((size_t)c->eos_count + 1) * sizeof *ids);
    REQUIRE(ids, LCKV_ERROR_MEMORY, "%s: no memory for its EOS tokens", name);
    c->eos_token_ids = ids;
    ids[c->eos_count++] = (int32_t)id;
    return LCKV_OK;
}

/* Adds the eos_token_id of `tree`: none, one, or a list. */
static int add_eos_tokens(model_config *c, const json_t *tree, const char *name) {
    enum { MAX_EOS = 1024 };
    const json_t *given = json_object_get(tree, "eos_token_id");
    if (!given || json_is_null(given)) return LCKV_OK;
    if (!json_is_array(given)) return add_eos(c, given, name);
    REQUIRE(json_array_size(given) <= MAX_EOS, LCKV_ERROR_FORMAT, "%s: 'eos_token_id' has %zu tokens, at most %d fit",
            name, json_array_size(given), MAX_EOS);
    for (size_t i = 0; i < json_array_size(given); i++) TRY(add_eos(c, json_array_get(given, i), name));
    return LCKV_OK;
}

static int read_tokens(model_config *c) {
    const type_defaults *d = defaults_of(c);
    TRY(read_token(c, "bos_token_id", d->bos, &c->bos_token_id));
    TRY(read_token(c, "pad_token_id", -1, &c->pad_token_id));
    if (!is_absent(c, "eos_token_id")) return add_eos_tokens(c, c->raw, c->name);
    json_t *fallback = json_integer(d->eos);
    int status = fallback ? add_eos(c, fallback, c->name) : fail(LCKV_ERROR_MEMORY, "%s: no memory", c->name);
    json_decref(fallback);
    return status;
}

/* ---------------------------------------------------------------- the layer map */

static bool is_qwen(const model_config *c) {
    return c->architecture == ARCH_QWEN2 || c->architecture == ARCH_QWEN3;
}

/* Why no layer of this model can have a window; NULL if one can. */
static const char *no_window(const model_config *c, bool used) {
    if (c->architecture == ARCH_LLAMA) return "model_type llama has no windows (lckv-llama has)";
    if (is_qwen(c) && !used) return "use_sliding_window is not true";
    return c->sliding_window ? NULL : "sliding_window is null";
}

/* transformers 5: a list of the kinds of layers. Each layer has its own KV. */
static int windows_from_list(const model_config *c, const json_t *list, bool used, int64_t *windows) {
    REQUIRE(json_array_size(list) == (size_t)c->layers, LCKV_ERROR_FORMAT, "%s: layer_types has %zu %s for %d layer%s",
            c->name, json_array_size(list), json_array_size(list) == 1 ? "entry" : "entries", c->layers,
            plural(c->layers));
    for (int i = 0; i < c->layers; i++) {
        const char *kind = json_string_value(json_array_get(list, (size_t)i)), *why = no_window(c, used);
        REQUIRE(kind, LCKV_ERROR_FORMAT, "%s: layer_types: entry %d should be a string", c->name, i);
        bool windowed = !strcmp(kind, "sliding_attention");
        windows[i] = windowed ? c->sliding_window : 0;
        REQUIRE(windowed || !strcmp(kind, "full_attention"), LCKV_ERROR_UNSUPPORTED,
                "%s: layer_types: entry %d is '%.60s', expected full_attention or sliding_attention", c->name, i, kind);
        REQUIRE(!windowed || !why, LCKV_ERROR_FORMAT, "%s: layer_types: entry %d is '%s', but %s", c->name, i, kind,
                why);
    }
    return LCKV_OK;
}

/* Without layer_types: all layers of a Mistral have the window, and the layers of a Qwen from max_window_layers on. */
static int windows_by_type(const model_config *c, bool used, int64_t *windows) {
    int first = 0;
    if (c->architecture == ARCH_MISTRAL) used = true;
    if (is_qwen(c)) TRY(read_int(c, "max_window_layers", 28, 0, INT32_MAX, &first));
    for (int i = first; i < c->layers; i++) windows[i] = used ? c->sliding_window : 0;
    return LCKV_OK;
}

static int read_plain_map(model_config *c, const json_t *list) {
    int64_t windows[LAYER_MAP_MAX_LAYERS] = {0};
    bool used = false;
    if (is_qwen(c)) TRY(read_bool(c, "use_sliding_window", &used));
    if (list)
        TRY(windows_from_list(c, list, used, windows));
    else
        TRY(windows_by_type(c, used, windows));
    return layer_map_plain(windows, c->layers, c->force_nodiag, &c->map);
}

static int check_plan(const model_config *c) {
    plan p;
    int status = plan_make(&c->map, c->forward_passes, c->backward_passes, &p);
    plan_free(&p);
    return status < 0 ? fail_within(status, "%s", c->name) : LCKV_OK;
}

/* Without a windowed layer there is no window. */
static void drop_unused_window(model_config *c) {
    for (int i = 0; i < c->layers; i++)
        if (c->map.layer[i].window) return;
    c->sliding_window = 0;
}

/* All layers of the supported model types have the same parts. */
static int describe_layers(model_config *c) {
    layer_description *parts = calloc((size_t)c->layers, sizeof *parts);
    REQUIRE(parts, LCKV_ERROR_MEMORY, "%s: no memory for its layers", c->name);
    for (int i = 0; i < c->layers; i++)
        parts[i] = (layer_description){.heads = c->heads,
                                       .kv_heads = c->kv_heads,
                                       .head_dim = c->head_dim,
                                       .intermediate_size = c->intermediate_size,
                                       .norms = LAYER_NORM_INPUT | LAYER_NORM_MLP |
                                                (c->head_norm ? LAYER_NORM_Q | LAYER_NORM_K : 0),
                                       .attention_scale = 1.0f / sqrtf((float)c->head_dim)};
    int status = layer_map_describe(&c->map, parts);
    free(parts);
    return status < 0 ? fail_within(status, "%s", c->name) : LCKV_OK;
}

/* A Llama or Mistral that shares KV, or is strictly causal throughout, becomes an lckv-llama. */
static int read_map(model_config *c) {
    const json_t *given = json_object_get(c->raw, "layer_types");
    bool list = json_is_array(given), text = json_is_string(given);
    REQUIRE(!given || json_is_null(given) || list || text, LCKV_ERROR_FORMAT,
            "%s: 'layer_types' should be a string such as 0_1_2 or a list", c->name);
    if (text) {
        const char *layer_types;
        TRY(json_get_string(c->raw, c->name, "layer_types", NULL, &layer_types));
        int status = layer_map_parse(layer_types, c->layers, c->sliding_window, c->force_nodiag, &c->map);
        if (status < 0) return fail_within(status, "%s", c->name);
    } else {
        TRY(read_plain_map(c, list ? given : NULL));
    }
    bool shares = text || c->force_nodiag;
    if (shares && (c->architecture == ARCH_LLAMA || c->architecture == ARCH_MISTRAL)) c->architecture = ARCH_LCKV_LLAMA;
    drop_unused_window(c);
    TRY(describe_layers(c));
    return check_plan(c);
}

/* ---------------------------------------------------------------- whole configs */

static int read_fields(model_config *c) {
    TRY(read_architecture(c));
    TRY(config_source_check(c->raw, c->name));
    TRY(read_sizes(c));
    TRY(read_training(c));
    TRY(read_flags(c));
    TRY(read_dtype(c));
    TRY(quantization_read(c->raw, c->name, &c->weight_format));
    TRY(read_tokens(c));
    TRY(rope_read(c->raw, c->name, c));
    return read_map(c);
}

int config_from_json(const json_t *tree, const char *name, const char *overrides, model_config **out) {
    *out = NULL;
    model_config *c = calloc(1, sizeof *c);
    REQUIRE(c, LCKV_ERROR_MEMORY, "%s: no memory for a config", name);
    c->name = strdup(name);
    int status = c->name ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "%s: no memory for its name", name);
    if (status >= 0) status = config_source_make(tree, name, overrides, &c->raw);
    if (status >= 0) status = read_fields(c);
    if (status < 0)
        config_free(c);
    else
        *out = c;
    return status;
}

void config_free(model_config *config) {
    if (!config) return;
    layer_map_free(&config->map);
    free(config->eos_token_ids);
    free(config->name);
    json_decref(config->raw);
    free(config);
}

int config_copy(const model_config *config, model_config **out) {
    *out = NULL;
    model_config *c = malloc(sizeof *c);
    REQUIRE(c, LCKV_ERROR_MEMORY, "%s: no memory for a config", config->name);
    *c = *config;
    c->map = (layer_map){0};
    c->eos_token_ids = calloc((size_t)config->eos_count + 1, sizeof *c->eos_token_ids);
    c->name = strdup(config->name);
    c->raw = json_deep_copy(config->raw);
    int status = c->eos_token_ids && c->name && c->raw
                     ? layer_map_copy(&config->map, &c->map)
                     : fail(LCKV_ERROR_MEMORY, "%s: no memory for a copy", config->name);
    if (status < 0) {
        config_free(c);
        return status;
    }
    if (config->eos_count)
        memcpy(c->eos_token_ids, config->eos_token_ids, (size_t)config->eos_count * sizeof *c->eos_token_ids);
    *out = c;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- files */

/* The path of NAME's config.json, or of NAME if that is a GGUF file. Release it with free(). */
static int find_file(const char *name, char **path) {
    *path = NULL;
    size_t length = strlen(name);
    if (length > 5 && !strcmp(name + length - 5, ".json") && !folder_exists(name)) {
        *path = strdup(name);
        REQUIRE(*path, LCKV_ERROR_MEMORY, "no memory for a path");
        return LCKV_OK;
    }
    char *folder;
    TRY(model_path_resolve(name, &folder));
    if (!folder_exists(folder)) {
        *path = folder;
        return LCKV_OK;
    }
    int status = path_join(folder, "config.json", path);
    free(folder);
    return status;
}

/* Chat models name the tokens that end a turn only in generation_config.json. */
static int add_generation_eos(model_config *c) {
    char *folder = strndup(c->name, (size_t)(path_base(c->name) - c->name)), *path = NULL;
    REQUIRE(folder, LCKV_ERROR_MEMORY, "no memory for a path");
    int status =
        *folder ? path_join(folder, "generation_config.json", &path) : path_join(".", "generation_config.json", &path);
    json_t *tree = NULL;
    if (status >= 0 && path_exists(path)) {
        status = json_read_file(path, &tree);
        bool rules = is_absent(c, "eos_token_id") && json_object_get(tree, "eos_token_id");
        if (rules) c->eos_count = 0; /* a file of the model overrides a default */
        if (status >= 0) status = add_eos_tokens(c, tree, path);
    }
    json_decref(tree);
    free(path);
    free(folder);
    return status;
}

int config_read(const char *name, const char *overrides, model_config **out) {
    *out = NULL;
    char *path;
    json_t *tree = NULL;
    model_config *c = NULL;
    TRY(find_file(name, &path));
    bool gguf = gguf_is_file(path);
    int status = gguf ? gguf_config_read(path, &tree) : json_read_file(path, &tree);
    if (status >= 0) status = config_from_json(tree, path, overrides, &c);
    if (status >= 0 && !gguf) status = add_generation_eos(c);
    json_decref(tree);
    free(path);
    if (status < 0)
        config_free(c);
    else
        *out = c;
    return status;
}
