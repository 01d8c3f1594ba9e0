/* Writing config.json: unknown keys are kept, defaults are written explicitly, and the result describes the same model.
 */
#include "config/model_config.h"
#include "expect.h"

#define SIZES                                                                                                          \
    "\"hidden_size\":32,\"intermediate_size\":44,\"num_hidden_layers\":4,\"num_attention_heads\":4,"                   \
    "\"num_key_value_heads\":4,\"vocab_size\":61"

static model_config *make(const char *text, const char *overrides) {
    json_t *tree;
    model_config *c;
    OK(json_parse(text, strlen(text), "test", &tree));
    OK(config_from_json(tree, "test", overrides, &c));
    json_decref(tree);
    return c;
}

static json_t *write_tree(const model_config *c) {
    json_t *tree;
    OK(config_to_json(c, &tree));
    return tree;
}

static const char *string_at(const json_t *tree, const char *key) {
    const char *value = json_string_value(json_object_get(tree, key));
    return value ? value : "(none)";
}

static void assert_same_config(const model_config *a, const model_config *b) {
    assert_int_equal(a->architecture, b->architecture);
    assert_int_equal(a->hidden_size, b->hidden_size);
    assert_int_equal(a->intermediate_size, b->intermediate_size);
    assert_int_equal(a->vocab_size, b->vocab_size);
    assert_int_equal(a->max_position_embeddings, b->max_position_embeddings);
    assert_int_equal(a->layers, b->layers);
    assert_int_equal(a->heads, b->heads);
    assert_int_equal(a->kv_heads, b->kv_heads);
    assert_int_equal(a->head_dim, b->head_dim);
    assert_int_equal(a->forward_passes, b->forward_passes);
    assert_int_equal(a->backward_passes, b->backward_passes);
    assert_int_equal(a->sliding_window, b->sliding_window);
    assert_int_equal(a->use_sequential, b->use_sequential);
    assert_int_equal(a->force_nodiag, b->force_nodiag);
    assert_true(a->rope_theta == b->rope_theta && a->rms_norm_eps == b->rms_norm_eps);
    assert_true(a->initializer_range == b->initializer_range);
    assert_int_equal(a->rope_scaling.type, b->rope_scaling.type);
    assert_true(a->rope_scaling.factor == b->rope_scaling.factor);
    assert_int_equal(a->tie_word_embeddings, b->tie_word_embeddings);
    assert_int_equal(a->attention_bias, b->attention_bias);
    assert_int_equal(a->qkv_bias, b->qkv_bias);
    assert_int_equal(a->mlp_bias, b->mlp_bias);
    assert_int_equal(a->head_norm, b->head_norm);
    assert_int_equal(a->torch_dtype, b->torch_dtype);
    assert_int_equal(a->bos_token_id, b->bos_token_id);
    assert_int_equal(a->pad_token_id, b->pad_token_id);
    assert_int_equal(a->eos_count, b->eos_count);
    for (int i = 0; i < a->eos_count; i++) assert_int_equal(a->eos_token_ids[i], b->eos_token_ids[i]);
    for (int i = 0; i < a->layers; i++) {
        assert_int_equal(a->map.layer[i].k_source, b->map.layer[i].k_source);
        assert_int_equal(a->map.layer[i].window, b->map.layer[i].window);
        assert_int_equal(a->map.layer[i].strict, b->map.layer[i].strict);
    }
}

static const struct {
    const char *text, *overrides;
} cases[] = {
    {"{\"model_type\":\"llama\"," SIZES "}", NULL},
    {"{\"model_type\":\"mistral\"," SIZES "}", NULL},
    {"{\"model_type\":\"mistral\"," SIZES "}", "layer_types=0s_0_2_2"},
    {"{\"model_type\":\"qwen2\"," SIZES ",\"use_sliding_window\":true,\"max_window_layers\":3}", NULL},
    {"{\"model_type\":\"llama\"," SIZES ",\"eos_token_id\":[1,2],\"mlp_bias\":true,\"odd\":{\"x\":[1,2.5,null]}}",
     NULL},
    {"{\"model_type\":\"llama\"," SIZES "}", "layer_types=0_2_2_3,sliding_window=7,use_sequential=true"},
    {"{\"model_type\":\"mistral\"," SIZES ",\"sliding_window\":8}", NULL},
    {"{\"model_type\":\"mistral\"," SIZES ",\"sliding_window\":8}", "force_nodiag=true"},
    {"{\"model_type\":\"lckv-llama\"," SIZES ",\"sliding_window\":8,\"layer_types\":[\"full_attention\","
     "\"sliding_attention\",\"full_attention\",\"full_attention\"]}",
     "forward_passes=3"},
    {"{\"model_type\":\"qwen2\"," SIZES ",\"sliding_window\":8,\"use_sliding_window\":true,\"max_window_layers\":2}",
     NULL},
    {"{\"model_type\":\"qwen3\"," SIZES ",\"head_dim\":16,\"attention_bias\":true}", "layer_types=0_0_2_2"},
    {"{\"model_type\":\"llama\"," SIZES ",\"dtype\":\"bfloat16\",\"rope_parameters\":{\"rope_type\":\"linear\","
     "\"factor\":2.0,\"rope_theta\":70000.0}}",
     NULL},
};

static void round_trips(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model_config *first = make(cases[i].text, cases[i].overrides), *again, *copy;
        json_t *tree = write_tree(first), *second;
        OK(config_from_json(tree, "again", NULL, &again));
        assert_same_config(first, again);
        OK(config_copy(first, &copy));
        assert_same_config(first, copy);
        config_free(first);
        second = write_tree(again);
        assert_true(json_equal(tree, second));
        json_decref(second);
        second = write_tree(copy);
        assert_true(json_equal(tree, second));
        json_decref(second);
        json_decref(tree);
        config_free(again);
        config_free(copy);
    }
}

static void unknown_keys_are_kept(void **state) {
    (void)state;
    model_config *c = make(cases[4].text, NULL);
    json_t *tree = write_tree(c);
    char *odd = json_dumps(json_object_get(tree, "odd"), JSON_COMPACT);
    assert_string_equal(odd, "{\"x\":[1,2.5,null]}");
    assert_int_equal(json_array_size(json_object_get(tree, "eos_token_id")), 2);
    assert_string_equal(string_at(tree, "model_type"), "llama");
    assert_null(json_object_get(tree, "layer_types"));
    assert_null(json_object_get(tree, "forward_passes"));
    free(odd);
    json_decref(tree);
    config_free(c);
}

/* Defaults of LCKVLlamaConfig are written, in the spelling of transformers 4, which 5 reads as well. */
static void sharing_is_written_for_the_published_classes(void **state) {
    (void)state;
    model_config *c = make("{\"model_type\":\"mistral\",\"architectures\":[\"MistralForCausalLM\"]," SIZES
                           ",\"sliding_window\":8,\"dtype\":\"float16\",\"rope_parameters\":{\"rope_theta\":70000.0,"
                           "\"rope_type\":\"default\"}}",
                           "layer_types=0_2s_2s_3,forward_passes=4");
    json_t *tree = write_tree(c);
    assert_string_equal(string_at(tree, "model_type"), "lckv-llama");
    assert_string_equal(json_string_value(json_array_get(json_object_get(tree, "architectures"), 0)),
                        "LCKVLlamaForCausalLM");
    assert_string_equal(string_at(tree, "layer_types"), "0_2s_2s_3");
    assert_string_equal(string_at(tree, "torch_dtype"), "float16");
    assert_int_equal(json_integer_value(json_object_get(tree, "forward_passes")), 4);
    assert_int_equal(json_integer_value(json_object_get(tree, "backward_passes")), 2);
    assert_int_equal(json_integer_value(json_object_get(tree, "sliding_window")), 8);
    assert_true(json_is_false(json_object_get(tree, "use_sequential")));
    assert_true(json_is_false(json_object_get(tree, "force_nodiag")));
    assert_true(json_number_value(json_object_get(tree, "rope_theta")) == 70000);
    assert_true(json_is_null(json_object_get(tree, "rope_scaling")));
    assert_null(json_object_get(tree, "rope_parameters"));
    assert_null(json_object_get(tree, "dtype"));
    json_decref(tree);
    config_free(c);
}

/* Fields that the library changes after reading. */
static void changed_fields_are_written(void **state) {
    (void)state;
    model_config *c = make(cases[0].text, NULL);
    c->vocab_size = 70;
    c->torch_dtype = CONFIG_DTYPE_BF16;
    c->tie_word_embeddings = true;
    json_t *tree = write_tree(c);
    assert_int_equal(json_integer_value(json_object_get(tree, "vocab_size")), 70);
    assert_string_equal(string_at(tree, "torch_dtype"), "bfloat16");
    assert_true(json_is_true(json_object_get(tree, "tie_word_embeddings")));
    assert_int_equal(json_integer_value(json_object_get(tree, "num_key_value_heads")), 4);
    json_decref(tree);
    config_free(c);
}

/* An absent key is written with the default of its class, so that every reader sees the same value. */
static void defaults_are_written(void **state) {
    (void)state;
    model_config *c = make("{\"model_type\":\"mistral\"," SIZES "}", NULL);
    json_t *tree = write_tree(c);
    assert_int_equal(json_integer_value(json_object_get(tree, "sliding_window")), 4096);
    assert_int_equal(json_integer_value(json_object_get(tree, "max_position_embeddings")), 131072);
    assert_int_equal(json_integer_value(json_object_get(tree, "bos_token_id")), 1);
    assert_int_equal(json_integer_value(json_object_get(tree, "eos_token_id")), 2);
    json_decref(tree);
    config_free(c);
    c = make("{\"model_type\":\"qwen3\"," SIZES "}", NULL);
    tree = write_tree(c);
    assert_int_equal(json_integer_value(json_object_get(tree, "head_dim")), 128);
    assert_true(json_is_null(json_object_get(tree, "eos_token_id")) &&
                json_is_null(json_object_get(tree, "bos_token_id")));
    assert_null(json_object_get(tree, "sliding_window"));
    json_decref(tree);
    config_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(unknown_keys_are_kept),
        cmocka_unit_test(sharing_is_written_for_the_published_classes),
        cmocka_unit_test(changed_fields_are_written),
        cmocka_unit_test(defaults_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
