/* Adapters in the format of peft: an adapter that peft wrote gives the same numbers here (tests/tune/peft.json), lckv
 * writes what peft writes, and unsupported or incomplete files are rejected. */
#include "base/text/json.h"
#include "io/adapter/adapter_file.h"
#include "io/adapter/adapter_save.h"
#include "io/hf_folder.h"
#include "lckv.h"

#include "model_folder.h"

#include <math.h>

static int value_of(void *user, int entry, element_range range, dtype type, void *host) {
    return params_read_range(user, entry, range, type, host);
}

static void save(const adapter *a, const char *path) {
    adapter_save_options options = {.type = DTYPE_F32, .values = value_of, .user = a->weights};
    OK(adapter_save(a, &options, path));
}

/* ---------------------------------------------------------------- peft's results */

static const char *stories(void) {
    const char *path = SHARED_DIR "/data/models/stories260k";
    if (folder_exists(path)) return path;
    printf("skipped: %s is absent\n", path);
    skip();
    return NULL;
}

static json_t *reference(void) {
    json_t *tree;
    OK(json_read_file(SOURCE_DIR "/tests/tune/peft.json", &tree));
    return tree;
}

/* The numbers of peft_reference.py, with matrices in the order of their names. */
static void fill(adapter *a) {
    params *p = a->weights;
    for (int i = 0; i < p->count; i++) {
        int number = 0;
        for (int k = 0; k < p->count; k++) number += strcmp(p->table[k].name, p->table[i].name) < 0;
        float *values = p->table[i].tensor.value.data;
        for (int64_t k = 0; k < p->table[i].rows * p->table[i].cols; k++)
            values[k] = 0.25f * ((float)((k * 7919 + number * 104729) % 2003) / 2003.0f - 0.5f);
    }
}

/* Writes the script's adapter on the model of that folder to FOLDER/adapter. */
static void write_ours(const folder *f, const char *name) {
    device *d;
    model *m;
    const checkpoint_load_options load = {.type = DTYPE_COUNT};
    const adapter_options options = {.rank = 3, .alpha = 5, .targets = ADAPTER_ALL};
    OK(device_open("cpu", 2, &d));
    OK(checkpoint_load(d, name, &load, &m));
    OK(adapter_create(m->params, &options, &m->adapter));
    fill(m->adapter);
    save(m->adapter, in(f, "adapter"));
    model_free(m);
    device_close(d);
}

static void score(const char *name, const char *added, const int32_t *ids, int count, float *logprobs) {
    lckv_device *d;
    lckv_model *m;
    lckv_model_options options = lckv_model_defaults();
    lckv_score_options plain = lckv_score_defaults();
    options.adapter = added;
    OK(lckv_device_open("cpu", 2, &d));
    OK(lckv_model_open(d, name, &options, &m));
    OK(lckv_score(m, ids, count, &plain, logprobs));
    lckv_model_free(m);
    lckv_device_close(d);
}

/* peft computed in f64. Here logits up to 20 are sums of 172 f32 products, after 5 such layers: 20 * 2^-23 * sqrt(172)
 * is 3e-5, and the nll uses two of them. */
static void numbers_are_those_of_peft(void **state) {
    const char *name = stories();
    json_t *tree = reference();
    const json_t *expected = json_object_get(tree, "nll"), *given = json_object_get(tree, "ids");
    int32_t ids[64];
    float found[64], plain[64];
    double largest = 0;
    int count = (int)json_array_size(given);
    for (int i = 0; i < count; i++) ids[i] = (int32_t)json_integer_value(json_array_get(given, (size_t)i));
    write_ours(*state, name);
    score(name, in(*state, "adapter"), ids, count, found);
    score(name, NULL, ids, count, plain);
    for (int i = 0; i < count - 1; i++) {
        double nll = json_real_value(json_array_get(expected, (size_t)i));
        if (!(fabs(nll + (double)found[i]) < 6e-5)) fail_msg("token %d: %g, peft has %g", i, -(double)found[i], nll);
        largest = fmax(largest, fabs((double)(found[i] - plain[i])));
    }
    assert_true(largest > 0.1);
    json_decref(tree);
}

static bool is_listed(const json_t *list, const json_t *value) {
    size_t i;
    json_t *entry;
    json_array_foreach((json_t *)(uintptr_t)list, i, entry) {
        if (json_equal(entry, value)) return true;
    }
    return false;
}

static void expect_same_list(const json_t *left, const json_t *right) {
    size_t i;
    json_t *entry;
    assert_int_equal(json_array_size(left), json_array_size(right));
    json_array_foreach((json_t *)(uintptr_t)left, i, entry) assert_true(is_listed(right, entry));
}

/* Other keys that peft writes have their default values. */
static void what_is_written_is_what_peft_writes(void **state) {
    json_t *tree, *config, *value;
    const char *key;
    safetensors_file file;
    write_ours(*state, stories());
    tree = reference();
    const json_t *theirs = json_object_get(tree, "config"), *shapes = json_object_get(tree, "tensors");
    OK(json_read_file(in(*state, "adapter/" ADAPTER_CONFIG), &config));
    assert_true(json_object_size(config) >= 20);
    json_object_foreach(config, key, value) {
        const json_t *other = json_object_get(theirs, key);
        if (!strcmp(key, "target_modules"))
            expect_same_list(value, other);
        else if (!other || !json_equal(value, (json_t *)(uintptr_t)other))
            fail_msg("%s is not what peft writes", key);
    }
    OK(safetensors_open(in(*state, "adapter/" ADAPTER_WEIGHTS), &file));
    assert_int_equal(file.count, json_object_size(shapes));
    for (int i = 0; i < file.count; i++) {
        const json_t *shape = json_object_get(shapes, file.entries[i].name);
        for (size_t k = 0; k < 2; k++)
            assert_int_equal(file.entries[i].shape[k], json_integer_value(json_array_get(shape, k)));
    }
    safetensors_close(&file);
    json_decref(config);
    json_decref(tree);
}

/* ---------------------------------------------------------------- invalid adapters */

/* Writes an adapter of q_proj and k_proj of the small model to FOLDER/adapter. */
static void write_small(const folder *f, int64_t rank) {
    device *d;
    model *m;
    const checkpoint_load_options load = {.type = DTYPE_COUNT};
    const adapter_options options = {.rank = rank, .alpha = 4, .targets = 1 | 2};
    OK(device_open("cpu", 1, &d));
    OK(checkpoint_load(d, in(f, "model"), &load, &m));
    OK(adapter_create(m->params, &options, &m->adapter));
    fill(m->adapter);
    save(m->adapter, in(f, "adapter"));
    model_free(m);
    device_close(d);
}

static void write_config(const folder *f, const char *more) {
    char text[512];
    snprintf(text, sizeof text, "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4%s}", more);
    put_text(in(f, "adapter/" ADAPTER_CONFIG), text);
}

static int open_small(const folder *f) {
    lckv_device *d;
    lckv_model *m;
    lckv_model_options options = lckv_model_defaults();
    options.adapter = in(f, "adapter");
    OK(lckv_device_open("cpu", 1, &d));
    int status = lckv_model_open(d, in(f, "model"), &options, &m);
    lckv_model_free(m);
    lckv_device_close(d);
    return status;
}

static void configs_that_ask_for_more_are_refused(void **state) {
    static const char *const more[][2] = {
        {",\"use_dora\":true", "uses use_dora (DoRA)"},
        {",\"modules_to_save\":[\"lm_head\"]", "uses modules_to_save"},
        {",\"bias\":\"all\"", "expected bias 'none', found 'all'"},
        {",\"lora_bias\":true", "uses lora_bias"},
        {",\"fan_in_fan_out\":true", "uses fan_in_fan_out"},
        {",\"layer_replication\":[[0,2]]", "uses layer_replication"},
        {",\"trainable_token_indices\":[1]", "uses trainable_token_indices"},
        {",\"target_parameters\":[\"x\"]", "uses target_parameters"},
        {",\"init_lora_weights\":\"pissa_niter_4\"", "init_lora_weights 'pissa_niter_4'"},
    };
    write_small(*state, 2);
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        write_config(*state, more[i][0]);
        FAILS(open_small(*state), LCKV_ERROR_UNSUPPORTED, more[i][1]);
    }
    put_text(in(*state, "adapter/" ADAPTER_CONFIG), "{\"peft_type\":\"PREFIX_TUNING\"}");
    FAILS(open_small(*state), LCKV_ERROR_UNSUPPORTED, "expected peft_type LORA, found 'PREFIX_TUNING'");
    write_config(*state, ",\"r\":0");
    FAILS(open_small(*state), LCKV_ERROR_FORMAT, "r");
    write_config(*state, ",\"target_modules\":[\"q_proj\"]");
    FAILS(open_small(*state), LCKV_ERROR_FORMAT, "has tensors for model.layers.0.self_attn.k_proj, which ");
    write_config(*state, ",\"target_modules\":[\"q_proj\",\"self_attn.k_proj\"],\"layers_to_transform\":[0,1]");
    FAILS(open_small(*state), LCKV_ERROR_FORMAT, "has tensors for model.layers.2.self_attn.q_proj, which ");
    write_config(*state, ",\"exclude_modules\":\".*k_proj\"");
    FAILS(open_small(*state), LCKV_ERROR_FORMAT, "has tensors for model.layers.0.self_attn.k_proj");
    write_config(*state, ",\"alpha_pattern\":{\"q_proj\":\"8\"}");
    FAILS(open_small(*state), LCKV_ERROR_FORMAT, "alpha_pattern");
    write_config(*state, ",\"rank_pattern\":{\"q_proj\":3}");
    FAILS(open_small(*state), LCKV_ERROR_FORMAT, "has rank 3 for model.layers.0.self_attn.q_proj");
    write_config(*state, ",\"rank_pattern\":{\"(q_proj\":3}");
    FAILS(open_small(*state), LCKV_ERROR_UNSUPPORTED, "rank_pattern");
    write_config(*state,
                 ",\"target_modules\":\".*self_attn.(q|k)_proj\",\"bias\":\"none\",\"init_lora_weights\":\"gaussian\"");
    OK(open_small(*state));
    write_config(*state, ",\"alpha_pattern\":{},\"modules_to_save\":null,\"lora_dropout\":0.05");
    OK(open_small(*state));
    assert_int_equal(unlink(in(*state, "adapter/" ADAPTER_WEIGHTS)), 0);
    FAILS(open_small(*state), LCKV_ERROR_FILE, ADAPTER_WEIGHTS);
    put_text(in(*state, "adapter/adapter_model.bin"), "");
    FAILS(open_small(*state), LCKV_ERROR_UNSUPPORTED, "has only adapter_model.bin");
}

static int zeros(void *user, int index, element_range range, void *bytes) {
    (void)user, (void)index;
    memset(bytes, 0, (size_t)range.count * 4);
    return LCKV_OK;
}

static void write_tensors(const folder *f, const safetensors_item *items, int count) {
    new_file file;
    OK(file_begin(in(f, "adapter/" ADAPTER_WEIGHTS), &file));
    OK(safetensors_write(&file, items, count, zeros, (void *)(uintptr_t)items));
    OK(file_commit(&file));
}

#define LAYER(n, rest) "base_model.model.model.layers." #n "." rest ".weight"
static void tensors_that_do_not_fit_are_refused(void **state) {
    static const struct {
        const char *error;
        safetensors_item items[2];
        int count;
    } cases[] = {
        {"has lora_A but no lora_B", {{LAYER(0, "self_attn.q_proj.lora_A"), DTYPE_F32, {2, 24}, 2}}, 1},
        {"has lora_B but no lora_A", {{LAYER(0, "self_attn.q_proj.lora_B"), DTYPE_F32, {24, 2}, 2}}, 1},
        {"of shape [2, 24]",
         {{LAYER(0, "self_attn.q_proj.lora_A"), DTYPE_F32, {2, 23}, 2},
          {LAYER(0, "self_attn.q_proj.lora_B"), DTYPE_F32, {24, 2}, 2}},
         2},
        {"of shape [24, 2]",
         {{LAYER(0, "self_attn.q_proj.lora_A"), DTYPE_F32, {2, 24}, 2},
          {LAYER(0, "self_attn.q_proj.lora_B"), DTYPE_F32, {24, 3}, 2}},
         2},
        {"belongs to no matrix", /* layer 1 reads the KV of layer 2 */
         {{LAYER(1, "self_attn.k_proj.lora_A"), DTYPE_F32, {2, 24}, 2},
          {LAYER(1, "self_attn.k_proj.lora_B"), DTYPE_F32, {12, 2}, 2}},
         2},
        {"belongs to no matrix",
         {{"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight", DTYPE_F32, {2, 24}, 2}},
         1},
        {"has rank 2 for model.layers.0.self_attn.q_proj",
         {{LAYER(0, "self_attn.q_proj.lora_A"), DTYPE_F32, {4, 24}, 2},
          {LAYER(0, "self_attn.q_proj.lora_B"), DTYPE_F32, {24, 4}, 2}},
         2},
    };
    static const struct {
        const char *error;
        safetensors_item item;
    } features[] = {
        {"LoRA on lm_head", {"base_model.model.lm_head.lora_A.weight", DTYPE_F32, {2, 24}, 2}},
        {"LoRA on embeddings", {"base_model.model.model.embed_tokens.lora_embedding_A", DTYPE_F32, {2, 37}, 2}},
        {"DoRA", {LAYER(0, "self_attn.q_proj.lora_magnitude_vector"), DTYPE_F32, {1, 24}, 2}},
        {"trained biases", {"base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias", DTYPE_F32, {1, 24}, 2}},
        {"modules_to_save", {"base_model.model.lm_head.weight", DTYPE_F32, {37, 24}, 2}},
    };
    write_small(*state, 2);
    OK(open_small(*state));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_tensors(*state, cases[i].items, cases[i].count);
        FAILS(open_small(*state), LCKV_ERROR_FORMAT, cases[i].error);
    }
    for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
        write_tensors(*state, &features[i].item, 1);
        FAILS(open_small(*state), LCKV_ERROR_UNSUPPORTED, features[i].error);
    }
}

/* ---------------------------------------------------------------- scaling */

static float first_weight(const folder *f, const char *added) {
    device *d;
    model *m;
    float values[24 * 24];
    const checkpoint_load_options load = {.type = DTYPE_COUNT, .adapter = added};
    OK(device_open("cpu", 1, &d));
    OK(checkpoint_load(d, in(f, "model"), &load, &m));
    OK(params_get(m->params, (int)(params_find(m->params, "model.layers.0.self_attn.q_proj.weight") - m->params->table),
                  values));
    model_free(m);
    device_close(d);
    return values[0];
}

/* The scale is alpha / r, or with use_rslora alpha / sqrt(r), with alpha and r of the first pattern that matches a
 * matrix. */
static void scales_are_those_of_peft(void **state) {
    static const struct {
        int64_t rank;
        const char *more;
        double scale;
    } cases[] = {
        {2, "", 2},
        {2, ",\"use_rslora\":true", 4 / 1.4142135623730951},
        {8, ",\"rank_pattern\":{\"q_proj\":8,\"self_attn\\\\.k_proj\":8}", 0.5},
        {8, ",\"rank_pattern\":{\".*\":8},\"use_rslora\":true", 4 / 2.8284271247461903},
        {2, ",\"alpha_pattern\":{\"k_proj\":100,\"layers.0.self_attn.q_proj\":3,\"q_proj\":50}", 1.5},
        {2, ",\"alpha_pattern\":{\"proj\":100,\"q_pro\":50,\"model.layers.1.self_attn.q_proj\":9}", 2},
        {2, ",\"alpha_pattern\":{\"model\\\\.layers\\\\.[0-3]\\\\.self_attn\\\\..*\":5}", 2.5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_small(*state, cases[i].rank);
        double base = (double)first_weight(*state, NULL), product = 0;
        safetensors_file file;
        OK(safetensors_open(in(*state, "adapter/" ADAPTER_WEIGHTS), &file));
        float a[8 * 24], b[24 * 8];
        memcpy(a, safetensors_find(&file, LAYER(0, "self_attn.q_proj.lora_A"))->data, (size_t)cases[i].rank * 96);
        memcpy(b, safetensors_find(&file, LAYER(0, "self_attn.q_proj.lora_B"))->data, (size_t)cases[i].rank * 96);
        for (int k = 0; k < cases[i].rank; k++) product += (double)b[k] * (double)a[k * 24];
        safetensors_close(&file);
        write_config(*state, cases[i].more);
        double found = (double)first_weight(*state, in(*state, "adapter"));
        assert_true(fabs(product) > 1e-4);
        assert_true(fabs(found - (base + cases[i].scale * product)) < 1e-6);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(numbers_are_those_of_peft),
        IN_FOLDER(what_is_written_is_what_peft_writes),
        cmocka_unit_test_setup_teardown(configs_that_ask_for_more_are_refused, model_folder_open, folder_close),
        cmocka_unit_test_setup_teardown(tensors_that_do_not_fit_are_refused, model_folder_open, folder_close),
        cmocka_unit_test_setup_teardown(scales_are_those_of_peft, model_folder_open, folder_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
