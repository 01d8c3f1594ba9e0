/* Truncated config.json files, values of other types, changed bytes: each gives an error or a model, never a crash.
 * Mainly for sanitizers, and fast without them. */
#include "base/rng.h"
#include "config/layer_picture.h"
#include "config/model_size.h"
#include "expect.h"

static const char *const seeds[] = {
    "{\"model_type\":\"lckv-llama\",\"architectures\":[\"LCKVLlamaForCausalLM\"],\"hidden_size\":32,"
    "\"intermediate_size\":44,\"num_hidden_layers\":6,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
    "\"head_dim\":8,\"vocab_size\":61,\"max_position_embeddings\":128,\"layer_types\":\"3_5_1s_3_2_0\","
    "\"sliding_window\":8,\"forward_passes\":5,\"backward_passes\":1,\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0,"
    "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
    "\"original_max_position_embeddings\":32},\"eos_token_id\":[2,3],\"bos_token_id\":1,\"torch_dtype\":\"float32\","
    "\"tie_word_embeddings\":false,\"attention_bias\":true,\"force_nodiag\":false,\"use_sequential\":false}",
    "{\"model_type\":\"qwen3\",\"hidden_size\":32,\"intermediate_size\":44,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"vocab_size\":61,\"dtype\":\"bfloat16\",\"rope_parameters\":{"
    "\"rope_type\":\"linear\","
    "\"factor\":2,\"rope_theta\":1e6},\"layer_types\":[\"full_attention\",\"sliding_attention\"],\"sliding_window\":4,"
    "\"use_sliding_window\":true,\"max_window_layers\":1,\"hidden_act\":\"silu\",\"quantization_config\":null}",
};

/* Values to try for each key. */
static const char *const values[] = {"null",
                                     "true",
                                     "false",
                                     "0",
                                     "1",
                                     "-1",
                                     "2",
                                     "3",
                                     "4096",
                                     "2147483647",
                                     "2147483648",
                                     "9223372036854775807",
                                     "-9223372036854775808",
                                     "0.5",
                                     "-0.0",
                                     "1e308",
                                     "5e-324",
                                     "\"\"",
                                     "\"0\"",
                                     "\"0_1_2_3_4_5\"",
                                     "\"5_5_5_5_5_5\"",
                                     "\"0s\"",
                                     "\"llama\"",
                                     "\"mistral\"",
                                     "\"qwen2\"",
                                     "\"full_attention\"",
                                     "\"\\u0000\"",
                                     "\"\\u00e4\"",
                                     "[]",
                                     "[1]",
                                     "[null]",
                                     "[\"full_attention\",\"full_attention\"]",
                                     "[[[]]]",
                                     "{}",
                                     "{\"rope_type\":\"linear\"}",
                                     "{\"rope_type\":\"default\",\"factor\":null}",
                                     "{\"type\":1}"};

enum { SEEDS = sizeof seeds / sizeof *seeds, VALUES = sizeof values / sizeof *values };

static int accepted;

/* Uses an accepted config in every way. */
static void exercise(const model_config *c) {
    char *text;
    json_t *tree;
    model_config *copy;
    double frequencies[2048];
    accepted++;
    assert_true(c->heads % c->kv_heads == 0 && c->head_dim % 2 == 0 && c->head_dim <= 4096);
    assert_true(model_parameters(c) > 0 && model_kv_per_token(c).values <= model_kv_per_token_unshared(c).values);
    config_inverse_frequencies(c, frequencies);
    OK(config_copy(c, &copy));
    OK(config_to_json(copy, &tree));
    config_free(copy);
    OK(config_from_json(tree, "again", NULL, &copy)); /* what lckv writes, it can read */
    json_decref(tree);
    if (copy->layers <= 64 && copy->forward_passes + copy->backward_passes <= 100) {
        OK(layer_picture_text(copy, &text));
        free(text);
        OK(layer_picture_svg(copy, &text));
        free(text);
        OK(plan_text(copy, &text));
        free(text);
    }
    config_free(copy);
}

static void feed_tree(const json_t *tree, const char *overrides) {
    model_config *c;
    int status = config_from_json(tree, "fuzz", overrides, &c);
    if (status >= 0)
        exercise(c);
    else
        assert_true(!c && *lckv_last_error());
    config_free(c);
}

static void feed(const char *text, size_t bytes) {
    json_t *tree;
    if (json_parse(text, bytes, "fuzz", &tree) < 0) return;
    feed_tree(tree, NULL);
    json_decref(tree);
}

static void cut_short(void **state) {
    (void)state;
    for (int s = 0; s < SEEDS; s++)
        for (size_t bytes = 0; bytes <= strlen(seeds[s]); bytes++) feed(seeds[s], bytes);
    assert_true(accepted == SEEDS); /* the whole ones alone */
}

static json_t *parse(const char *text) {
    json_t *tree;
    OK(json_parse(text, strlen(text), "fuzz", &tree));
    return tree;
}

/* Each key with each value, at the top level and in the object of RoPE. */
static void other_values(void **state) {
    (void)state;
    for (int s = 0; s < SEEDS; s++) {
        json_t *original = parse(seeds[s]), *ignored;
        const char *key;
        json_object_foreach(original, key, ignored) {
            for (int v = 0; v < VALUES; v++) {
                json_t *changed = json_deep_copy(original);
                json_object_set_new(changed, key, parse(values[v]));
                feed_tree(changed, NULL);
                json_decref(changed);
            }
        }
        json_decref(original);
    }
}

/* Several random keys at once. */
static void many_other_values(void **state) {
    (void)state;
    for (uint64_t round = 0; round < 1500; round++) {
        json_t *tree = parse(seeds[round % SEEDS]);
        const char *keys[64];
        int count = 0;
        const char *key;
        json_t *ignored;
        json_object_foreach(tree, key, ignored) keys[count++] = key;
        uint32_t words[4];
        rng_block(round, 0, 0, words);
        for (int i = 0; i < 3; i++)
            json_object_set_new(tree, keys[words[i] % (uint32_t)count], parse(values[(words[i] >> 16) % VALUES]));
        feed_tree(tree, NULL);
        json_decref(tree);
    }
}

static void changed_bytes(void **state) {
    (void)state;
    static const char marks[] = "0123456789_s\"{}[],:.-";
    char text[2048];
    for (uint64_t round = 0; round < 6000; round++) {
        const char *seed = seeds[round % SEEDS];
        size_t bytes = strlen(seed);
        memcpy(text, seed, bytes);
        uint32_t words[4];
        rng_block(round, 1, 0, words);
        for (int i = 0; i < 1 + (int)(words[3] % 3); i++)
            text[words[i] % bytes] =
                words[3] & 8 ? marks[(words[i] >> 16) % (sizeof marks - 1)] : (char)(words[i] >> 24);
        feed(text, bytes);
    }
}

static void odd_overrides(void **state) {
    (void)state;
    static const char alphabet[] = "=,_s0123[]{}\"\\: tTNu\xc3";
    static const char *const keys[] = {"layer_types", "rope_parameters", "dtype", "eos_token_id", "num_hidden_layers"};
    json_t *tree = parse(seeds[0]);
    for (uint64_t round = 0; round < 6000; round++) {
        char text[64];
        uint32_t words[4];
        int at = 0;
        rng_block(round, 2, 0, words);
        if (round % 4) at = sprintf(text, "%s=", keys[words[3] % 5]);
        for (int i = 0; i < 12; i++) text[at++] = alphabet[(words[i % 4] >> (i / 4 * 8) & 255) % (sizeof alphabet - 1)];
        text[at] = 0;
        feed_tree(tree, text);
    }
    json_decref(tree);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_short),     cmocka_unit_test(other_values),  cmocka_unit_test(many_other_values),
        cmocka_unit_test(changed_bytes), cmocka_unit_test(odd_overrides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
