/* Reading adapter_config.json, see adapter_config.h. Follows peft 0.18 to 0.21 (tuners/lora, tuners_utils). */
#include "io/adapter/adapter_config.h"

#include "base/files/file.h"
#include "text/unicode/pattern.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- unsupported features */

/* Absent, null, false, or empty. */
static bool is_off(const json_t *value) {
    return !value || json_is_null(value) || json_is_false(value) ||
           (json_is_object(value) && !json_object_size(value)) || (json_is_array(value) && !json_array_size(value));
}

/* Rejects keys that change the result. Keys that only matter in training (lora_dropout, loftq_config, eva_config) are
 * ignored. */
static int check_features(const json_t *tree, const char *path) {
    static const char *const features[][2] = {
        {"modules_to_save", "fully trained modules"},
        {"use_dora", "DoRA"},
        {"lora_bias", "LoRA biases"},
        {"fan_in_fan_out", "transposed weights"},
        {"layer_replication", "repeated layers"},
        {"trainable_token_indices", "trained embedding rows"},
        {"target_parameters", "LoRA on parameters outside of modules"},
        {"use_qalora", "QA-LoRA"},
        {"use_bdlora", "block-diagonal LoRA"},
        {"alora_invocation_tokens", "aLoRA"},
        {"arrow_config", "a router over adapters"},
        {"monteclora_config", "MonteCLoRA"},
        {"megatron_config", "Megatron layers"},
    };
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        REQUIRE(is_off(json_object_get(tree, features[i][0])), LCKV_ERROR_UNSUPPORTED,
                "%s uses %s (%s), which lckv does not support; merge the adapter with peft's merge_and_unload() and "
                "use the merged checkpoint",
                path, features[i][0], features[i][1]);
    return LCKV_OK;
}

static int check_bias(const json_t *tree, const char *path) {
    const char *bias;
    TRY(json_get_string(tree, path, "bias", "none", &bias));
    REQUIRE(!strcmp(bias, "none"), LCKV_ERROR_UNSUPPORTED,
            "%s: expected bias 'none', found '%.40s': lckv does not support trained biases", path, bias);
    return LCKV_OK;
}

/* PiSSA, OLoRA, CorDA and LoftQ change the base model's weights when training starts. */
static int check_initialization(const json_t *tree, const char *path) {
    static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
    const char *start = json_string_value(json_object_get(tree, "init_lora_weights"));
    if (!start) return LCKV_OK;
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        if (!strcmp(start, harmless[i])) return LCKV_OK;
    return fail(
        LCKV_ERROR_UNSUPPORTED,
        "%s has init_lora_weights '%.40s', which changes the base model's weights; save the adapter with peft's "
        "path_initial_model_for_weight_conversion, which converts it to a plain adapter",
        path, start);
}

/* ---------------------------------------------------------------- reading */

static int read_numbers(const json_t *tree, adapter_config *out) {
    TRY(json_get_int(tree, out->path, "r", 8, &out->rank));
    TRY(json_get_number(tree, out->path, "lora_alpha", 8, &out->alpha));
    TRY(json_get_bool(tree, out->path, "use_rslora", false, &out->rank_stabilized));
    TRY(json_get_string(tree, out->path, "base_model_name_or_path", NULL, &out->base));
    REQUIRE(out->rank >= 1 && isfinite(out->alpha), LCKV_ERROR_FORMAT,
            "%s: expected r of at least 1 and a finite lora_alpha, found %lld and %g", out->path, (long long)out->rank,
            out->alpha);
    return LCKV_OK;
}

static int check_tree(const json_t *tree, adapter_config *out) {
    const char *kind;
    REQUIRE(json_is_object(tree), LCKV_ERROR_FORMAT, "%s: expected an object", out->path);
    TRY(json_get_string(tree, out->path, "peft_type", "", &kind));
    REQUIRE(!strcmp(kind, "LORA"), LCKV_ERROR_UNSUPPORTED, "%s: expected peft_type LORA, found '%.40s'", out->path,
            kind);
    TRY(check_features(tree, out->path));
    TRY(check_bias(tree, out->path));
    TRY(check_initialization(tree, out->path));
    return read_numbers(tree, out);
}

int adapter_config_read(const char *path, adapter_config *out) {
    *out = (adapter_config){.path = strdup(path)};
    REQUIRE(out->path, LCKV_ERROR_MEMORY, "no memory for a path");
    int status = json_read_file(path, &out->tree);
    if (status >= 0) status = check_tree(out->tree, out);
    if (status < 0) adapter_config_free(out);
    return status;
}

void adapter_config_free(adapter_config *c) {
    json_decref(c->tree);
    free(c->path);
    *c = (adapter_config){0};
}

/* ---------------------------------------------------------------- patterns */

/* Whether the regular expression before + (expression) + after matches all of `name`, as in Python's re. */
static int matches(const adapter_config *c, const char *key, const char *before, const char *expression,
                   const char *after, const char *name, bool *out) {
    text_buffer text = {0}, where = {0};
    pattern *p = NULL;
    int status = text_printf(&text, "\\A%s(?:%s)%s\\z", before, expression, after);
    if (status >= 0) status = text_printf(&where, "%s: %s", c->path, key);
    if (status >= 0) status = pattern_compile(text.data, text.length, false, where.data, &p);
    int found = 0;
    if (status >= 0) {
        pattern_scan scan = pattern_scan_start(p, name, strlen(name));
        found = pattern_scan_next(p, &scan);
    }
    if (found < 0) status = found;
    *out = found > 0;
    pattern_free(p);
    text_free(&text);
    text_free(&where);
    return status;
}

/* The value of the first key in c[what] that matches the end of a module's name; NULL if none does. */
static int pattern_value(const adapter_config *c, const char *what, const char *module, const json_t **out) {
    json_t *patterns = json_object_get(c->tree, what), *value;
    const char *key;
    *out = NULL;
    if (is_off(patterns)) return LCKV_OK;
    REQUIRE(json_is_object(patterns), LCKV_ERROR_FORMAT, "%s: '%s': expected an object", c->path, what);
    json_object_foreach(patterns, key, value) {
        bool found;
        TRY(matches(c, what, "(.*\\.)?", key, "", module, &found));
        if (!found) continue;
        *out = value;
        return LCKV_OK;
    }
    return LCKV_OK;
}

int adapter_config_rank(const adapter_config *c, const char *module, int64_t *rank) {
    const json_t *value;
    TRY(pattern_value(c, "rank_pattern", module, &value));
    REQUIRE(!value || (json_is_integer(value) && json_integer_value(value) > 0), LCKV_ERROR_FORMAT,
            "%s: rank_pattern: expected integers of at least 1", c->path);
    *rank = value ? json_integer_value(value) : c->rank;
    return LCKV_OK;
}

int adapter_config_alpha(const adapter_config *c, const char *module, double *alpha) {
    const json_t *value;
    TRY(pattern_value(c, "alpha_pattern", module, &value));
    REQUIRE(!value || (json_is_number(value) && isfinite(json_number_value(value))), LCKV_ERROR_FORMAT,
            "%s: alpha_pattern: expected numbers", c->path);
    *alpha = value ? json_number_value(value) : c->alpha;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- targets */

/* Whether `module` is the name, or the end of the name after a dot. */
static bool ends_with_module(const char *name, const char *module) {
    size_t length = strlen(name), tail = strlen(module);
    if (length < tail || strcmp(name + length - tail, module) != 0) return false;
    return length == tail || name[length - tail - 1] == '.';
}

/* A list contains ends of names; a string is a regular expression for whole names. */
static int is_listed(const adapter_config *c, const char *key, const json_t *list, const char *module, bool *out) {
    *out = false;
    if (json_is_string(list)) return matches(c, key, "", json_string_value(list), "", module, out);
    REQUIRE(json_is_array(list), LCKV_ERROR_FORMAT, "%s: '%s': expected a list of names or a string", c->path, key);
    for (size_t i = 0; i < json_array_size(list) && !*out; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        REQUIRE(name, LCKV_ERROR_FORMAT, "%s: '%s': expected a list of names", c->path, key);
        *out = ends_with_module(module, name);
    }
    return LCKV_OK;
}

/* layers_to_transform is a number or a list of numbers. peft only applies it if target_modules is a list. */
static bool transforms(const json_t *layers, const char *module) {
    int layer;
    if (is_off(layers) || sscanf(module, "model.layers.%9d.", &layer) != 1) return true;
    if (json_is_integer(layers)) return json_integer_value(layers) == layer;
    for (size_t i = 0; i < json_array_size(layers); i++)
        if (json_integer_value(json_array_get(layers, i)) == layer) return true;
    return false;
}

int adapter_config_targets(const adapter_config *c, const char *module, bool *targeted) {
    const json_t *targets = json_object_get(c->tree, "target_modules");
    const json_t *excluded = json_object_get(c->tree, "exclude_modules");
    const char *all = json_string_value(targets);
    bool out = false;
    if (!is_off(excluded)) TRY(is_listed(c, "exclude_modules", excluded, module, &out));
    *targeted = !out;
    if (out || is_off(targets) || (all && !strcmp(all, "all-linear"))) return LCKV_OK;
    TRY(is_listed(c, "target_modules", targets, module, targeted));
    if (!all) *targeted = *targeted && transforms(json_object_get(c->tree, "layers_to_transform"), module);
    return LCKV_OK;
}
