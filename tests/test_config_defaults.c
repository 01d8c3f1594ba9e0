/* Defaults of absent keys: those of the transformers class of the model type. The numbers are from
 * AutoConfig.for_model(TYPE) in transformers 5.24.0, where 4.57.6 has the same. */
#include "config/model_config.h"
#include "expect.h"

static model_config *read_text(const char *text) {
    json_t *tree;
    model_config *c;
    OK(json_parse(text, strlen(text), "test", &tree));
    OK(config_from_json(tree, "test", NULL, &c));
    json_decref(tree);
    return c;
}

/* `keys` start with a comma. */
static model_config *make(const char *type, const char *keys) {
    char text[1024];
    snprintf(text, sizeof text, "{\"model_type\":\"%s\"%s}", type, keys);
    return read_text(text);
}

static int windowed(const model_config *c) {
    int count = 0;
    for (int i = 0; i < c->layers; i++) count += c->map.layer[i].window > 0;
    return count;
}

/* Only {"model_type": TYPE}. */
static void nothing_but_a_type(void **state) {
    (void)state;
    static const struct {
        const char *type;
        int64_t intermediate_size, vocab_size, positions, window;
        int kv_heads, head_dim, windowed, bos, eos;
    } cases[] = {
        {"llama", 11008, 32000, 2048, 0, 32, 128, 0, 1, 2},
        {"lckv-llama", 11008, 32000, 2048, 0, 32, 128, 0, 1, 2},
        {"mistral", 14336, 32000, 131072, 4096, 8, 128, 32, 1, 2},
        {"qwen2", 22016, 151936, 32768, 0, 32, 128, 0, -1, -1},
        {"qwen3", 22016, 151936, 32768, 0, 32, 128, 0, -1, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model_config *c = make(cases[i].type, "");
        assert_int_equal(c->hidden_size, 4096);
        assert_int_equal(c->intermediate_size, cases[i].intermediate_size);
        assert_int_equal(c->vocab_size, cases[i].vocab_size);
        assert_int_equal(c->max_position_embeddings, cases[i].positions);
        assert_int_equal(c->layers, 32);
        assert_int_equal(c->heads, 32);
        assert_int_equal(c->kv_heads, cases[i].kv_heads);
        assert_int_equal(c->head_dim, cases[i].head_dim);
        assert_int_equal(c->sliding_window, cases[i].window);
        assert_int_equal(windowed(c), cases[i].windowed);
        assert_int_equal(c->bos_token_id, cases[i].bos);
        assert_int_equal(c->eos_count, cases[i].eos >= 0);
        if (c->eos_count) assert_int_equal(c->eos_token_ids[0], cases[i].eos);
        assert_int_equal(c->pad_token_id, -1);
        assert_true(c->rope_theta == 10000 && c->rope_scaling.type == ROPE_DEFAULT);
        assert_true(c->rms_norm_eps == 1e-6 && c->initializer_range == 0.02);
        assert_false(c->tie_word_embeddings || c->attention_bias || c->mlp_bias);
        config_free(c);
    }
}

/* Defaults that depend on other keys; and null, which differs from an absent key. */
static void derived(void **state) {
    (void)state;
    static const struct {
        const char *type, *keys;
        int kv_heads, head_dim, windowed;
    } cases[] = {
        {"llama", ",\"hidden_size\":512,\"num_attention_heads\":16", 16, 32, 0},
        {"mistral", ",\"hidden_size\":512,\"num_attention_heads\":16", 8, 32, 32},
        {"mistral", ",\"hidden_size\":100,\"num_attention_heads\":16,\"num_key_value_heads\":null", 16, 6, 32},
        {"mistral", ",\"sliding_window\":null", 8, 128, 0},
        {"qwen2", ",\"hidden_size\":512", 32, 16, 0},
        {"qwen2", ",\"num_attention_heads\":4,\"num_key_value_heads\":null,\"hidden_size\":64", 4, 16, 0},
        {"qwen2", ",\"use_sliding_window\":true", 32, 128, 4},
        {"qwen2", ",\"use_sliding_window\":true,\"max_window_layers\":30", 32, 128, 2},
        {"qwen3", ",\"hidden_size\":512", 32, 128, 0},
        {"qwen3", ",\"hidden_size\":512,\"head_dim\":16", 32, 16, 0},
        {"qwen3", ",\"use_sliding_window\":true,\"sliding_window\":null", 32, 128, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model_config *c = make(cases[i].type, cases[i].keys);
        assert_int_equal(c->kv_heads, cases[i].kv_heads);
        assert_int_equal(c->head_dim, cases[i].head_dim);
        assert_int_equal(windowed(c), cases[i].windowed);
        assert_int_equal(c->sliding_window, cases[i].windowed ? 4096 : 0);
        config_free(c);
    }
    model_config *c = make("llama", ",\"bos_token_id\":null,\"eos_token_id\":null");
    assert_true(c->bos_token_id == -1 && c->eos_count == 0);
    config_free(c);
}

/* If a default contradicts the keys that are present, the error says where it comes from. */
static void defaults_that_do_not_fit(void **state) {
    (void)state;
    json_t *tree;
    model_config *c;
    static const char text[] = "{\"model_type\":\"qwen2\",\"num_attention_heads\":4,\"hidden_size\":64}";
    OK(json_parse(text, strlen(text), "test", &tree));
    FAILS(config_from_json(tree, "test", NULL, &c), LCKV_ERROR_FORMAT,
          "num_attention_heads 4 should be a multiple of num_key_value_heads 32, the default of qwen2");
    json_decref(tree);
}

/* The default window of LCKVLlamaConfig is 4096 if a layer has one. */
static void windows_of_lckv(void **state) {
    (void)state;
    model_config *c = make("lckv-llama", ",\"num_hidden_layers\":4,\"layer_types\":\"0s_0_2_2s\"");
    assert_int_equal(c->sliding_window, 4096);
    config_free(c);
}

static void published_files(void **state) {
    (void)state;
    static const struct {
        const char *file;
        int64_t positions, window;
        int kv_heads, head_dim;
    } cases[] = {{"config_defaults_mistral.json", 131072, 4096, 8, 32},
                 {"config_defaults_qwen3.json", 32768, 0, 32, 128}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[512];
        model_config *c;
        snprintf(path, sizeof path, "%s/faults/%s", SHARED_DIR, cases[i].file);
        if (config_read(path, NULL, &c) == LCKV_ERROR_FILE) {
            print_message("skipped: there is no %s\n", path);
            continue;
        }
        assert_non_null(c);
        assert_int_equal(c->max_position_embeddings, cases[i].positions);
        assert_int_equal(c->sliding_window, cases[i].window);
        assert_int_equal(c->kv_heads, cases[i].kv_heads);
        assert_int_equal(c->head_dim, cases[i].head_dim);
        config_free(c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_but_a_type),       cmocka_unit_test(derived),
        cmocka_unit_test(defaults_that_do_not_fit), cmocka_unit_test(windows_of_lckv),
        cmocka_unit_test(published_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
