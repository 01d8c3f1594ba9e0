/* Public functions on configs (lckv.h). An lckv_config is a model_config. */
#include "config/layer_picture.h"
#include "config/model_size.h"

_Static_assert((int)LCKV_FLOAT32 == (int)CONFIG_DTYPE_F32 && (int)LCKV_BFLOAT16 == (int)CONFIG_DTYPE_BF16 &&
                   (int)LCKV_FLOAT16 == (int)CONFIG_DTYPE_F16,
               "the public dtypes are the config's");

int lckv_config_load(const char *name, const char *overrides, lckv_config **out) {
    return config_read(name, overrides, out);
}

void lckv_config_free(lckv_config *config) {
    config_free(config);
}

static int count_windowed_slots(const layer_map *map) {
    int count = 0;
    for (int i = 0; i < map->slots; i++) count += map->slot[i].windowed;
    return count;
}

lckv_config_info lckv_config_describe(const lckv_config *config) {
    return (lckv_config_info){.model_type = config_model_type(config),
                              .hidden_size = config->hidden_size,
                              .intermediate_size = config->intermediate_size,
                              .vocab_size = config->vocab_size,
                              .max_position_embeddings = config->positions,
                              .layers = config->layers,
                              .heads = config->heads,
                              .kv_heads = config->kv_heads,
                              .head_dim = config->head_dim,
                              .kv_slots = config->map.slots,
                              .loops = config->map.loops,
                              .forward_passes = config->forward_passes,
                              .backward_passes = config->backward_passes,
                              .sliding_window = config->sliding_window,
                              .tie_word_embeddings = config->tie_word_embeddings,
                              .use_sequential = config->use_sequential,
                              .dtype = (lckv_dtype)config->torch_dtype,
                              .parameters = model_parameters(config),
                              .windowed_slots = count_windowed_slots(&config->map),
                              .weight_dtype = weight_format_name(config->weight_format)};
}

static int64_t kv_bytes(model_kv kv, lckv_dtype dtype) {
    if (dtype == LCKV_INT8) return kv.values + kv.heads * (int64_t)sizeof(float);
    return kv.values * config_dtype_bytes((config_dtype)dtype);
}

int64_t lckv_config_kv_bytes_per_token(const lckv_config *config, lckv_dtype dtype) {
    return kv_bytes(model_kv_per_token(config), dtype);
}

int64_t lckv_config_kv_bytes_per_token_unshared(const lckv_config *config, lckv_dtype dtype) {
    return kv_bytes(model_kv_per_token_unshared(config), dtype);
}

int lckv_config_picture(const lckv_config *config, lckv_picture kind, char **text) {
    return kind == LCKV_PICTURE_SVG ? layer_picture_svg(config, text) : layer_picture_text(config, text);
}

int lckv_config_plan_text(const lckv_config *config, char **text) {
    return plan_text(config, text);
}

/* Formats `tree` and releases it. */
static int format_tree(json_t *tree, int indent, char **text) {
    int status = json_format(tree, indent, text);
    json_decref(tree);
    return status;
}

int lckv_config_plan_json(const lckv_config *config, char **text) {
    json_t *steps;
    *text = NULL;
    TRY(plan_json(config, &steps));
    return format_tree(steps, 0, text);
}

int lckv_config_json(const lckv_config *config, char **text) {
    json_t *tree;
    *text = NULL;
    TRY(config_to_json(config, &tree));
    return format_tree(tree, 2, text);
}

int lckv_config_layer_types(const lckv_config *config, char **text) {
    return layer_map_format(&config->map, text);
}
