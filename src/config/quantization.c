/* quantization_config in config.json; see quantization.h. */
#include "config/quantization.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[WEIGHT_FORMATS] = {"auto", "float", "int8", "int4"};

const char *weight_format_name(weight_format format) {
    return names[format];
}

int weight_format_parse(const char *name, weight_format *out) {
    *out = WEIGHT_AUTO;
    if (!name) return LCKV_OK;
    for (int i = 0; i < WEIGHT_FORMATS; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *out = (weight_format)i;
        return LCKV_OK;
    }
    return fail(LCKV_ERROR_ARGUMENT, "weight_dtype: expected auto, float, int8 or int4, found '%.40s'", name);
}

/* ---------------------------------------------------------------- reading */

/* A value that every quantized checkpoint must have, if the key is there at all. */
typedef struct wanted_value {
    const char *key;
    const char *json; /* the value as JSON text; "null" also stands for an absent key and {} */
} wanted_value;

static bool is_value(const json_t *found, const char *text) {
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    bool none = !found || (json_is_object(found) && !json_object_size(found));
    bool same = none ? json_is_null(value) : json_equal(found, value);
    json_decref(value);
    return same;
}

static int check_values(const json_t *object, const char *where, const wanted_value *wanted, size_t count,
                        const char *name) {
    for (size_t i = 0; i < count; i++) {
        const json_t *found = json_object_get(object, wanted[i].key);
        if (is_value(found, wanted[i].json)) continue;
        char *text = found ? json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
        int status = fail(LCKV_ERROR_UNSUPPORTED, "%s: %s: expected %s %s, found %.80s", name, where, wanted[i].key,
                          wanted[i].json, text ? text : "none");
        free(text);
        return status;
    }
    return LCKV_OK;
}

#define CHECK_VALUES(object, where, wanted, name)                                                                      \
    check_values((object), (where), (wanted), sizeof(wanted) / sizeof *(wanted), (name))

/* One entry of config_groups. Raises *out to the format with the fewest bits. */
static int read_group(const json_t *group, const char *name, weight_format *out) {
    static const wanted_value in_group[] = {{"input_activations", "null"}, {"output_activations", "null"}};
    static const wanted_value in_weights[] = {{"type", "\"int\""},
                                              {"symmetric", "true"},
                                              {"strategy", "\"group\""},
                                              {"group_size", "32"},
                                              {"actorder", "null"}};
    const json_t *weights = json_object_get(group, "weights");
    TRY(CHECK_VALUES(group, "quantization_config", in_group, name));
    REQUIRE(json_is_object(weights), LCKV_ERROR_UNSUPPORTED,
            "%s: quantization_config: expected weights in each of config_groups, found none", name);
    TRY(CHECK_VALUES(weights, "quantization_config", in_weights, name));
    json_int_t bits = json_integer_value(json_object_get(weights, "num_bits"));
    REQUIRE(bits == 4 || bits == 8, LCKV_ERROR_UNSUPPORTED,
            "%s: quantization_config: expected num_bits 4 or 8, found %lld", name, (long long)bits);
    weight_format format = bits == 4 ? WEIGHT_INT4 : WEIGHT_INT8;
    if (format > *out) *out = format;
    return LCKV_OK;
}

static int read_quantization(const json_t *quantization, const char *name, weight_format *out) {
    static const wanted_value wanted[] = {{"quant_method", "\"compressed-tensors\""},
                                          {"format", "\"pack-quantized\""},
                                          {"kv_cache_scheme", "null"},
                                          {"transform_config", "null"}};
    REQUIRE(json_is_object(quantization), LCKV_ERROR_FORMAT, "%s: 'quantization_config' should be an object", name);
    if (!json_object_size(quantization)) return LCKV_OK;
    TRY(CHECK_VALUES(quantization, "quantization_config", wanted, name));
    json_t *groups = json_object_get(quantization, "config_groups"), *group;
    REQUIRE(json_object_size(groups), LCKV_ERROR_UNSUPPORTED,
            "%s: quantization_config: expected config_groups, found none", name);
    const char *key;
    json_object_foreach(groups, key, group) TRY(read_group(group, name, out));
    return LCKV_OK;
}

int quantization_read(const json_t *tree, const char *name, weight_format *out) {
    const json_t *quantization = json_object_get(tree, "quantization_config");
    const char *given;
    weight_format format;
    *out = WEIGHT_FLOAT;
    if (quantization && !json_is_null(quantization)) TRY(read_quantization(quantization, name, out));
    TRY(json_get_string(tree, name, "weight_dtype", NULL, &given));
    TRY(weight_format_parse(given, &format));
    if (format != WEIGHT_AUTO) *out = format;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- writing */

int quantization_write(weight_format format, json_t *tree) {
    json_object_del(tree, "weight_dtype");
    if (format != WEIGHT_INT8 && format != WEIGHT_INT4) {
        json_object_del(tree, "quantization_config");
        return 0;
    }
    json_t *weights = json_pack("{s:i, s:s, s:b, s:s, s:i, s:b}", "num_bits", format == WEIGHT_INT4 ? 4 : 8, "type",
                                "int", "symmetric", 1, "strategy", "group", "group_size", 32, "dynamic", 0);
    json_t *group = json_pack("{s:[s], s:o, s:n, s:n}", "targets", "Linear", "weights", weights, "input_activations",
                              "output_activations");
    json_t *quantization = json_pack("{s:s, s:s, s:s, s:{s:o}, s:[s], s:n}", "quant_method", "compressed-tensors",
                                     "format", "pack-quantized", "quantization_status", "compressed", "config_groups",
                                     "group_0", group, "ignore", "lm_head", "kv_cache_scheme");
    return json_object_set_new(tree, "quantization_config", quantization);
}
