/* Conversion between layer maps: means against a plain loop, and the public function. */
#define _GNU_SOURCE /* memmem */
#include "io/convert.h"
#include "model_fixture.h"

#include <math.h>

static const char *const KV_PARTS[] = {"k_proj.weight", "v_proj.weight", "k_proj.bias", "v_proj.bias", "k_norm.weight"};

static int elements_of(const weight *w) {
    return (int)(w->rows * w->cols);
}

static float *values_of(model *m, const char *name) {
    const weight *w = params_find(m->params, name);
    if (!w) fail_msg("no tensor %s", name);
    float *values = malloc((size_t)elements_of(w) * sizeof *values);
    assert_non_null(values);
    OK(params_get(m->params, (int)(w - m->params->table), values));
    return values;
}

/* The mean, in f64, of a part of self_attn over layers of `from` ("0 1 2"), as f32. */
static void expect_mean(model *from, const char *layers, model *to, int owner, const char *part) {
    char name[128];
    snprintf(name, sizeof name, "model.layers.%d.self_attn.%s", owner, part);
    const weight *w = params_find(to->params, name);
    if (!w) fail_msg("no tensor %s", name);
    float *found = values_of(to, name);
    double *sums = calloc((size_t)elements_of(w), sizeof *sums);
    int count = 0;
    for (const char *at = layers; *at; at += strspn(at, " ")) {
        char *end;
        snprintf(name, sizeof name, "model.layers.%ld.self_attn.%s", strtol(at, &end, 10), part);
        at = end;
        float *values = values_of(from, name);
        for (int i = 0; i < elements_of(w); i++) sums[i] += values[i];
        free(values);
        count++;
    }
    for (int i = 0; i < elements_of(w); i++)
        if (found[i] != (float)(sums[i] / count)) fail_msg("%s: %g, expected %g", name, found[i], sums[i] / count);
    free(sums);
    free(found);
}

static void expect_copies(model *from, model *to) {
    for (int i = 0; i < to->params->count; i++) {
        const weight *w = &to->params->table[i];
        if (strstr(w->name, ".k_") || strstr(w->name, ".v_")) continue;
        float *a = values_of(from, w->name), *b = values_of(to, w->name);
        assert_memory_equal(a, b, (size_t)elements_of(w) * sizeof *a);
        free(a);
        free(b);
    }
}

/* Converts `source` (saved in "from") into "to" and loads that. */
static model *convert(const folder *f, device *d, model *source, const char *type, const char *more, kv_merge kv) {
    model_config *c = small_config(type, source->config->layers, more);
    convert_options options = {
        .source = in(f, "from"), .config = c, .output = in(f, "to"), .kv = kv, .type = DTYPE_COUNT};
    save_model(source, in(f, "from"), 6000);
    OK(checkpoint_convert(d, &options));
    config_free(c);
    return load_model(d, in(f, "to"), DTYPE_COUNT);
}

static void owners_get_means(void **state) {
    device *d = cpu();
    model *from = small_model(d, "llama", 6, "", DTYPE_F32, 1);
    model *to = convert(*state, d, from, "lckv-llama", ",\"layer_types\":\"0_4_4_4_4_5\"", KV_AVERAGE);
    for (int part = 0; part < 2; part++) {
        expect_mean(from, "0", to, 0, KV_PARTS[part]);
        expect_mean(from, "1 2 3 4", to, 4, KV_PARTS[part]);
        expect_mean(from, "5", to, 5, KV_PARTS[part]);
    }
    expect_copies(from, to);
    assert_string_equal(config_model_type(to->config), "lckv-llama");
    assert_int_equal(to->config->torch_dtype, CONFIG_DTYPE_F32);
    model_free(to);
    model_free(from);
    device_close(d);
}

/* Slots read by windowed layers, and an owner that does not read its own. */
static void tangled_maps(void **state) {
    device *d = cpu();
    model *from = small_model(d, "llama", 6, "", DTYPE_F32, 2);
    model *to =
        convert(*state, d, from, "lckv-llama", ",\"sliding_window\":8,\"layer_types\":\"3_5s_1_3s_2_1\"", KV_AVERAGE);
    for (int part = 0; part < 2; part++) {
        expect_mean(from, "0 3", to, 3, KV_PARTS[part]);
        expect_mean(from, "1", to, 5, KV_PARTS[part]);
        expect_mean(from, "2 5", to, 1, KV_PARTS[part]);
        expect_mean(from, "4", to, 2, KV_PARTS[part]);
    }
    expect_copies(from, to);
    model_free(to);
    model_free(from);
    device_close(d);
}

/* In the source, layers 1 to 4 read slot 4, so that layers 1, 2 and 3 contribute the K and V of layer 4. */
static void a_source_may_share_already(void **state) {
    device *d = cpu();
    model *from = small_model(d, "lckv-llama", 6, ",\"layer_types\":\"0_4_4_4_4_5\"", DTYPE_F32, 3);
    model *to = convert(*state, d, from, "lckv-llama", ",\"layer_types\":\"0_3_3_3_5_5\"", KV_AVERAGE);
    for (int part = 0; part < 2; part++) {
        expect_mean(from, "0", to, 0, KV_PARTS[part]);
        expect_mean(from, "4 4 4", to, 3, KV_PARTS[part]);
        expect_mean(from, "4 5", to, 5, KV_PARTS[part]);
    }
    model_free(to);
    to = convert(*state, d, from, "llama", "", KV_AVERAGE); /* and back into a plain one */
    static const char *const reads[] = {"0", "4", "4", "4", "4", "5"};
    for (int layer = 0; layer < 6; layer++) expect_mean(from, reads[layer], to, layer, KV_PARTS[0]);
    model_free(to);
    model_free(from);
    device_close(d);
}

static void owners_may_keep_their_own(void **state) {
    device *d = cpu();
    model *from = small_model(d, "lckv-llama", 4, ",\"layer_types\":\"0_1_3_3\"", DTYPE_F32, 4);
    model *to = convert(*state, d, from, "lckv-llama", ",\"layer_types\":\"2_2_2_3\"", KV_COPY);
    for (int part = 0; part < 2; part++) {
        expect_mean(from, "3", to, 2, KV_PARTS[part]); /* layer 2 owns no slot: the K and V that it reads */
        expect_mean(from, "3", to, 3, KV_PARTS[part]);
    }
    model_free(to);
    model_free(from);
    device_close(d);
}

static void biases_and_norms_too(void **state) {
    device *d = cpu();
    model *from = small_model(d, "llama", 3, ",\"attention_bias\":true,\"mlp_bias\":true", DTYPE_F32, 5);
    for (int i = 0; i < from->params->count; i++) { /* random biases and norms as well */
        weight *w = &from->params->table[i];
        if (w->dimensions == 2) continue;
        struct op_fill_normal fill = {w->tensor.value, 1, 9, (uint64_t)i};
        OK(d->ops.fill_normal(d, &fill));
    }
    model *to = convert(*state, d, from, "lckv-llama", ",\"layer_types\":\"1_1_1\"", KV_AVERAGE);
    for (int part = 0; part < 4; part++) expect_mean(from, "0 1 2", to, 1, KV_PARTS[part]);
    expect_copies(from, to);
    assert_file_says(in(*state, "to/config.json"),
                     "\"attention_bias\": true"); /* although the given config has no such key */
    assert_file_says(in(*state, "to/config.json"), "\"mlp_bias\": true");
    model_free(to);
    model_free(from);
    from = small_model(d, "qwen3", 3, ",\"head_dim\":8", DTYPE_F32, 6);
    to = convert(*state, d, from, "qwen3", ",\"head_dim\":8,\"layer_types\":\"0_2_2\"", KV_AVERAGE);
    expect_mean(from, "1 2", to, 2, "k_norm.weight");
    expect_mean(from, "1 2", to, 2, "k_proj.weight");
    expect_copies(from, to);
    model_free(to);
    model_free(from);
    device_close(d);
}

/* bf16 stays bf16: the mean is computed in f64 and rounded to bf16 (half a unit in the 8th bit). */
static void types_stay(void **state) {
    device *d = cpu();
    model *from = small_model(d, "llama", 3, ",\"torch_dtype\":\"bfloat16\"", DTYPE_BF16, 7);
    model *to = convert(*state, d, from, "lckv-llama", ",\"layer_types\":\"1_1_1\"", KV_AVERAGE);
    for (int i = 0; i < to->params->count; i++) assert_int_equal(params_type(to->params, i), DTYPE_BF16);
    assert_int_equal(to->config->torch_dtype, CONFIG_DTYPE_BF16);
    float *mean = values_of(to, "model.layers.1.self_attn.v_proj.weight"), *layer[3];
    for (int i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "model.layers.%d.self_attn.v_proj.weight", i);
        layer[i] = values_of(from, name);
    }
    for (int k = 0; k < 8 * 16; k++) {
        double exact = ((double)layer[0][k] + layer[1][k] + layer[2][k]) / 3;
        assert_true(fabs(mean[k] - exact) <= fabs(exact) * (0x1p-8 + 0x1p-23));
    }
    for (int i = 0; i < 3; i++) free(layer[i]);
    free(mean);
    model_free(to);
    model_free(from);
    device_close(d);
}

static void tied_embeddings_may_part(void **state) {
    device *d = cpu();
    model *from = small_model(d, "llama", 2, ",\"tie_word_embeddings\":true", DTYPE_F32, 8);
    model *to = convert(*state, d, from, "lckv-llama", ",\"layer_types\":\"1_1\"", KV_AVERAGE);
    assert_ptr_not_equal(to->params->head, to->params->embed);
    assert_memory_equal(to->params->head->value.data, from->params->embed->value.data, 31 * 16 * 4);
    model_free(to);
    model_free(from);
    device_close(d);
}

/* ---------------------------------------------------------------- incompatible models */

static void sizes_must_agree(void **state) {
    static const struct {
        const char *type, *more, *error;
    } cases[] = {
        {"llama", ",\"hidden_size\":32", "hidden_size 32, but"},
        {"llama", ",\"intermediate_size\":21", "intermediate_size 21, but"},
        {"llama", ",\"vocab_size\":32", "vocab_size 32, but"},
        {"llama", ",\"num_hidden_layers\":5", "num_hidden_layers 5, but"},
        {"llama", ",\"num_attention_heads\":2,\"head_dim\":4", "num_attention_heads 2, but"},
        {"llama", ",\"num_key_value_heads\":4", "num_key_value_heads 4, but"},
        {"llama", ",\"head_dim\":8", "head_dim 8, but"},
        {"llama", ",\"tie_word_embeddings\":true", "has tie_word_embeddings, but"},
        {"qwen3", ",\"head_dim\":4", "has norms of queries and keys, but"},
    };
    device *d = cpu();
    model *from = small_model(d, "llama", 2, "", DTYPE_F32, 1);
    save_model(from, in(*state, "from"), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512], overrides[256];
        snprintf(text, sizeof text, "{\"model_type\":\"%s\"%s}", cases[i].type, cases[i].more);
        json_t *tree =
            json_pack("{s:s,s:i,s:i,s:i,s:i,s:i,s:i}", "model_type", "llama", "hidden_size", 16, "intermediate_size",
                      20, "num_attention_heads", 4, "num_key_value_heads", 2, "vocab_size", 31, "num_hidden_layers", 2);
        json_t *changes = json_loads(text, 0, NULL);
        assert_non_null(changes);
        json_object_update(tree, changes);
        model_config *c;
        OK(config_from_json(tree, "B", NULL, &c));
        convert_options options = {.source = in(*state, "from"), .config = c, .output = in(*state, "to")};
        FAILS(checkpoint_convert(d, &options), LCKV_ERROR_ARGUMENT, cases[i].error);
        snprintf(overrides, sizeof overrides, "%s/config.json", in(*state, "from"));
        assert_non_null(strstr(lckv_last_error(), overrides));
        assert_false(folder_exists(in(*state, "to")));
        config_free(c);
        json_decref(changes);
        json_decref(tree);
    }
    model_free(from);
    device_close(d);
}

/* A value that f16 cannot hold would be written as infinite. */
static void values_must_fit_float16(void **state) {
    static const char NAME[] = "model.layers.1.self_attn.v_proj.weight";
    device *d = cpu();
    model *from = small_model(d, "llama", 2, "", DTYPE_F32, 9);
    lckv_convert_options o = lckv_convert_defaults();
    char source[600], output[600];
    snprintf(source, sizeof source, "%s", in(*state, "from"));
    snprintf(output, sizeof output, "%s", in(*state, "to"));
    o.model_name_or_path = source;
    o.output_dir = output;
    o.torch_dtype = "float16";
    const float values[] = {65504, 65520, NAN};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        float *v = values_of(from, NAME);
        v[5] = values[i];
        for (int e = 0; e < from->params->count; e++)
            if (!strcmp(from->params->table[e].name, NAME)) OK(params_set(from->params, e, v, DTYPE_F32));
        free(v);
        save_model(from, source, 0);
        if (i == 0)
            OK(lckv_convert(&o));
        else
            FAILS(lckv_convert(&o), LCKV_ERROR_ARGUMENT, NAME);
    }
    model_free(from);
    device_close(d);
}

/* ---------------------------------------------------------------- public function */

static bool until_half(void *user, double fraction) {
    (void)user;
    assert_true(fraction >= 0 && fraction < 1);
    return fraction < 0.5;
}

/* b.json, and a Llama of its sizes in the folder `from`, saved in shards with a tokenizer. */
static void save_source(void **state, lckv_device *d) {
    lckv_config *c;
    lckv_model *m, *again;
    put_text(in(*state, "b.json"),
             "{\"model_type\":\"lckv-llama\",\"hidden_size\":16,\"intermediate_size\":20,\"vocab_size\":31,"
             "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"num_hidden_layers\":3,\"my_key\":true,"
             "\"rope_theta\":5e5}");
    OK(lckv_config_load(in(*state, "b.json"), "model_type=llama,rope_theta=1e4", &c));
    FAILS(lckv_model_create(d, c, "float64", 1, &m), LCKV_ERROR_ARGUMENT, "found 'float64'");
    assert_null(m);
    OK(lckv_model_create(d, c, "auto", 1, &m));
    assert_int_equal(lckv_model_parameters(m), lckv_config_describe(c).parameters);
    assert_ptr_not_equal(lckv_model_config(m), c);
    lckv_config_free(c);
    put_text(in(*state, "tokenizer.json"), "tokens");
    lckv_save_options save = lckv_save_defaults();
    save.tokenizer_name = (*(folder **)state)->path;
    save.max_shard_bytes = 4000;
    OK(lckv_model_save(m, in(*state, "from"), &save));
    lckv_model_free(m);
    lckv_model_options open = lckv_model_defaults();
    open.torch_dtype = "bfloat16";
    OK(lckv_model_open(d, in(*state, "from"), &open, &again));
    assert_int_equal(again->params->embed->value.type, DTYPE_BF16);
    lckv_model_free(again);
    FAILS(lckv_model_open(d, in(*state, "nothing"), NULL, &again), LCKV_ERROR_FILE, "nothing");
    assert_null(again);
}

static void by_the_public_functions(void **state) {
    lckv_device *d;
    lckv_model *to;
    OK(lckv_device_open("cpu", 1, &d));
    save_source(state, d);
    lckv_convert_options convert = lckv_convert_defaults();
    FAILS(lckv_convert(&convert), LCKV_ERROR_ARGUMENT,
          "expected model_name_or_path, and either output_dir or gguf_file");
    convert.model_name_or_path = in(*state, "from");
    convert.config_name = in(*state, "b.json");
    convert.config_overrides = "layer_types=0_2_2";
    char output[600];
    snprintf(output, sizeof output, "%s/to", ((folder *)*state)->path);
    convert.output_dir = output;
    convert.torch_dtype = "float16";
    convert.output_dir = in(*state, "from/../from");
    FAILS(lckv_convert(&convert), LCKV_ERROR_ARGUMENT, "output_dir: expected another place");
    convert.output_dir = output;
    convert.go_on = until_half;
    FAILS(lckv_convert(&convert), LCKV_ERROR_INTERRUPTED, "stopped before ");
    assert_false(file_exists(in(*state, "to/config.json")));
    convert.go_on = NULL;
    capture_log(LCKV_LOG_INFO);
    OK(lckv_convert(&convert));
    end_capture();
    assert_non_null(strstr(logged, "rope_theta 500000, but the weights were trained with 10000"));
    assert_file_says(in(*state, "to/tokenizer.json"), "tokens");
    assert_file_says(in(*state, "to/config.json"), "\"my_key\": true");
    assert_file_says(in(*state, "to/config.json"), "\"layer_types\": \"0_2_2\"");
    OK(lckv_model_open(d, in(*state, "to"), NULL, &to));
    assert_int_equal(to->params->embed->value.type, DTYPE_F16);
    assert_null(packed_matrix(&to->params->layers[1].qkv, "k"));
    OK(lckv_model_save(to, in(*state, "copy"), NULL));
    assert_same_bytes(in(*state, "to/model.safetensors"), in(*state, "copy/model.safetensors"));
    assert_same_bytes(in(*state, "to/config.json"), in(*state, "copy/config.json"));
    assert_same_bytes(in(*state, "to/tokenizer.json"), in(*state, "copy/tokenizer.json"));
    lckv_model_free(to);
    lckv_device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(owners_get_means),          IN_FOLDER(tangled_maps),         IN_FOLDER(a_source_may_share_already),
        IN_FOLDER(owners_may_keep_their_own), IN_FOLDER(biases_and_norms_too), IN_FOLDER(types_stay),
        IN_FOLDER(tied_embeddings_may_part),  IN_FOLDER(sizes_must_agree),     IN_FOLDER(by_the_public_functions),
        IN_FOLDER(values_must_fit_float16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
