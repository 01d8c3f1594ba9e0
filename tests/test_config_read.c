/* config.json in the forms that users and transformers write: spellings, defaults, windows, overrides, and errors. */
#include "config/model_config.h"
#include "config/model_size.h"
#include "expect.h"

#include <math.h>

#define SIZES                                                                                                          \
    "\"hidden_size\":32,\"intermediate_size\":44,\"num_hidden_layers\":4,\"num_attention_heads\":4,"                   \
    "\"num_key_value_heads\":4,\"vocab_size\":61"

/* Reads a config of `type` with additional keys `more`; fails like config_from_json(). */
static int make(const char *type, const char *more, const char *overrides, model_config **out) {
    char text[4096];
    json_t *tree;
    *out = NULL;
    snprintf(text, sizeof text, "{\"model_type\":\"%s\"," SIZES "%s%s}", type, *more ? "," : "", more);
    TRY(json_parse(text, strlen(text), "test", &tree));
    int status = config_from_json(tree, "test", overrides, out);
    json_decref(tree);
    return status;
}

#define MAKE(type, more, overrides, c) OK(make(type, more, overrides, &(c)))
#define REFUSES(type, more, overrides, code, part)                                                                     \
    do {                                                                                                               \
        model_config *none;                                                                                            \
        FAILS(make(type, more, overrides, &none), code, part);                                                         \
        assert_null(none);                                                                                             \
    } while (0)

/* The windows of layers as a string of 's' and '.'. */
static const char *windows(const model_config *c) {
    static char text[64];
    for (int i = 0; i < c->layers; i++) text[i] = c->map.layer[i].window ? 's' : '.';
    text[c->layers] = 0;
    return text;
}

/* ---------------------------------------------------------------- values */

static void defaults(void **state) {
    (void)state;
    model_config *c;
    MAKE("llama", "", NULL, c);
    assert_int_equal(c->architecture, ARCH_LLAMA);
    assert_int_equal(c->kv_heads, 4);
    assert_int_equal(c->head_dim, 8);
    assert_int_equal(c->forward_passes, 7);
    assert_int_equal(c->backward_passes, 2);
    assert_int_equal(c->sliding_window, 0);
    assert_int_equal(c->torch_dtype, CONFIG_DTYPE_F32);
    assert_int_equal(c->pad_token_id, -1);
    assert_int_equal(c->map.slots, 4);
    assert_true(c->rope_theta == 10000 && c->rms_norm_eps == 1e-6 && c->initializer_range == 0.02);
    assert_false(c->tie_word_embeddings || c->attention_bias || c->mlp_bias || c->qkv_bias || c->head_norm);
    config_free(c);
}

static void types_and_their_parts(void **state) {
    (void)state;
    model_config *c;
    MAKE("qwen2", "\"attention_bias\":true", NULL, c); /* not a key of Qwen2 */
    assert_true(c->qkv_bias && !c->attention_bias && !c->head_norm);
    config_free(c);
    MAKE("qwen3", "\"attention_bias\":true,\"use_qk_norm\":true", NULL, c);
    assert_true(!c->qkv_bias && c->attention_bias && c->head_norm);
    config_free(c);
    MAKE("llama", "\"attention_bias\":true,\"mlp_bias\":true,\"layer_types\":null", NULL, c);
    assert_true(c->attention_bias && c->mlp_bias);
    config_free(c);
    REFUSES("gpt2", "", NULL, LCKV_ERROR_UNSUPPORTED, "model_type 'gpt2'");
    REFUSES("opt-llama", "\"layer_types\":\"0_1_1_2\"", NULL, LCKV_ERROR_UNSUPPORTED,
            "--config_overrides model_type=lckv-llama,force_nodiag=true,layer_types=");
    REFUSES("cla-llama", "\"layer_types\":\"2_1_2_1\"", NULL, LCKV_ERROR_UNSUPPORTED,
            "--config_overrides model_type=lckv-llama,layer_types=");
    MAKE("opt-llama", "\"layer_types\":\"0_1_2_0\"", "model_type=lckv-llama,force_nodiag=true,layer_types=0_2_2_3", c);
    assert_string_equal(config_model_type(c), "lckv-llama");
    assert_true(c->map.layer[0].strict);
    config_free(c);
}

static void dtypes(void **state) {
    (void)state;
    model_config *c;
    static const struct {
        const char *keys;
        config_dtype dtype;
    } cases[] = {{"\"torch_dtype\":\"bfloat16\"", CONFIG_DTYPE_BF16},
                 {"\"dtype\":\"float16\"", CONFIG_DTYPE_F16},
                 {"\"dtype\":\"bfloat16\",\"torch_dtype\":\"bfloat16\"", CONFIG_DTYPE_BF16},
                 {"\"dtype\":null,\"torch_dtype\":\"float16\"", CONFIG_DTYPE_F16},
                 {"\"dtype\":\"bfloat16\",\"torch_dtype\":null", CONFIG_DTYPE_BF16},
                 {"\"torch_dtype\":\"torch.float32\"", CONFIG_DTYPE_F32}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        MAKE("llama", cases[i].keys, NULL, c);
        assert_int_equal(c->torch_dtype, cases[i].dtype);
        config_free(c);
    }
    MAKE("llama", "\"dtype\":\"float16\"", "torch_dtype=bfloat16", c);
    assert_int_equal(c->torch_dtype, CONFIG_DTYPE_BF16);
    config_free(c);
    MAKE("llama", "\"torch_dtype\":\"float16\"", "dtype=bfloat16", c);
    assert_int_equal(c->torch_dtype, CONFIG_DTYPE_BF16);
    config_free(c);
    REFUSES("llama", "\"dtype\":\"float16\",\"torch_dtype\":\"float32\"", NULL, LCKV_ERROR_FORMAT, "dtype");
    REFUSES("llama", "\"torch_dtype\":\"float64\"", NULL, LCKV_ERROR_UNSUPPORTED, "float64");
    REFUSES("llama", "\"torch_dtype\":16", NULL, LCKV_ERROR_FORMAT, "torch_dtype");
}

static void special_tokens(void **state) {
    (void)state;
    model_config *c;
    MAKE("llama", "\"bos_token_id\":5,\"eos_token_id\":[7,9,7],\"pad_token_id\":-1", NULL, c);
    assert_int_equal(c->bos_token_id, 5);
    assert_int_equal(c->pad_token_id, -1);
    assert_int_equal(c->eos_count, 2);
    assert_int_equal(c->eos_token_ids[0], 7);
    assert_int_equal(c->eos_token_ids[1], 9);
    config_free(c);
    MAKE("llama", "\"eos_token_id\":2", NULL, c);
    assert_int_equal(c->eos_count, 1);
    config_free(c);
    MAKE("llama", "\"eos_token_id\":null", NULL, c);
    assert_int_equal(c->eos_count, 0);
    config_free(c);
    REFUSES("llama", "\"eos_token_id\":\"</s>\"", NULL, LCKV_ERROR_FORMAT, "eos_token_id");
    REFUSES("llama", "\"eos_token_id\":[1,[2]]", NULL, LCKV_ERROR_FORMAT, "eos_token_id");
    REFUSES("llama", "\"eos_token_id\":4294967296", NULL, LCKV_ERROR_FORMAT, "eos_token_id");
    REFUSES("llama", "\"bos_token_id\":-2", NULL, LCKV_ERROR_FORMAT, "bos_token_id");
}

/* ---------------------------------------------------------------- RoPE */

static void rope_spellings(void **state) {
    (void)state;
    model_config *c;
    static const char *const llama3[] = {
        "\"rope_theta\":500000,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
        "\"high_freq_factor\":4,\"original_max_position_embeddings\":32}",
        "\"rope_parameters\":{\"rope_theta\":500000.0,\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
        "\"high_freq_factor\":4,\"original_max_position_embeddings\":32}",
        "\"rope_theta\":500000,\"rope_parameters\":{\"rope_theta\":500000.0,\"rope_type\":\"llama3\",\"type\":"
        "\"llama3\","
        "\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":32,"
        "\"partial_rotary_factor\":1.0}",
    };
    for (size_t i = 0; i < sizeof llama3 / sizeof *llama3; i++) {
        MAKE("llama", llama3[i], NULL, c);
        assert_int_equal(c->rope_scaling.type, ROPE_LLAMA3);
        assert_true(c->rope_theta == 500000 && c->rope_scaling.factor == 8 && c->rope_scaling.high_freq_factor == 4);
        assert_int_equal(c->rope_scaling.original_max_position_embeddings, 32);
        config_free(c);
    }
    MAKE("llama", "\"rope_parameters\":{\"rope_theta\":70000,\"rope_type\":\"default\"}", NULL, c);
    assert_true(c->rope_theta == 70000 && c->rope_scaling.type == ROPE_DEFAULT);
    config_free(c);
    MAKE("llama", "\"rope_parameters\":{\"rope_theta\":70000,\"rope_type\":\"default\"}", "rope_theta=80000", c);
    assert_true(c->rope_theta == 80000);
    config_free(c);
    MAKE("llama", "\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.5}", NULL, c);
    assert_true(c->rope_scaling.type == ROPE_LINEAR && c->rope_scaling.factor == 2.5);
    config_free(c);
    MAKE("llama", "", "rope_scaling={\"type\":\"linear\",\"factor\":4},rope_theta=1e6", c);
    assert_true(c->rope_scaling.factor == 4 && c->rope_theta == 1e6);
    config_free(c);
}

static void rope_refusals(void **state) {
    (void)state;
    static const struct {
        const char *keys;
        int code;
        const char *part;
    } cases[] = {
        {"\"rope_scaling\":{\"type\":\"su\",\"factor\":2}", LCKV_ERROR_UNSUPPORTED, "su"},
        {"\"rope_scaling\":{\"type\":\"dynamic\"}", LCKV_ERROR_FORMAT, "factor"},
        {"\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":0.5}", LCKV_ERROR_FORMAT, "factor"},
        {"\"head_dim\":2,\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}", LCKV_ERROR_UNSUPPORTED, "head_dim"},
        {"\"rope_parameters\":{\"rope_type\":\"yarn\"}", LCKV_ERROR_FORMAT, "factor"},
        {"\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":2,\"attention_factor\":0}", LCKV_ERROR_FORMAT,
         "attention_factor"},
        {"\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":2,\"beta_fast\":-1}", LCKV_ERROR_FORMAT, "beta_fast"},
        {"\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":2,\"short_factor\":[]}", LCKV_ERROR_UNSUPPORTED,
         "short_factor"},
        {"\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":2,\"truncate\":1}", LCKV_ERROR_FORMAT, "truncate"},
        {"\"rope_theta\":1,\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2}", LCKV_ERROR_FORMAT, "rope_theta"},
        {"\"rope_parameters\":{\"rope_type\":\"longrope\",\"long_factor\":[1,1,1,1]}", LCKV_ERROR_FORMAT,
         "short_factor"},
        {"\"rope_parameters\":{\"rope_type\":\"longrope\",\"short_factor\":[1,1,1],\"long_factor\":[1,1,1,1]}",
         LCKV_ERROR_FORMAT, "short_factor"},
        {"\"rope_parameters\":{\"rope_type\":\"longrope\",\"short_factor\":[1,1,1,1],\"long_factor\":[1,1,0,1]}",
         LCKV_ERROR_FORMAT, "long_factor"},
        {"\"rope_scaling\":{\"rope_type\":\"default\",\"type\":\"mrope\"}", LCKV_ERROR_FORMAT, "mrope"},
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":2,\"mscale\":3}", LCKV_ERROR_UNSUPPORTED, "mscale"},
        {"\"rope_parameters\":{\"rope_type\":\"default\",\"partial_rotary_factor\":0.5}", LCKV_ERROR_UNSUPPORTED,
         "partial_rotary_factor"},
        {"\"partial_rotary_factor\":0.5", LCKV_ERROR_UNSUPPORTED, "partial_rotary_factor"},
        {"\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1e6}}", LCKV_ERROR_FORMAT, "rope_type"},
        {"\"rope_scaling\":{\"factor\":2}", LCKV_ERROR_FORMAT, "rope_type"},
        {"\"rope_scaling\":{\"type\":\"linear\"}", LCKV_ERROR_FORMAT, "factor"},
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}", LCKV_ERROR_FORMAT, "factor"},
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":-2}", LCKV_ERROR_FORMAT, "factor"},
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":\"2\"}", LCKV_ERROR_FORMAT, "factor"},
        {"\"rope_scaling\":\"linear\"", LCKV_ERROR_FORMAT, "rope_scaling"},
        {"\"rope_parameters\":[]", LCKV_ERROR_FORMAT, "rope_parameters"},
        {"\"rope_theta\":0", LCKV_ERROR_FORMAT, "rope_theta"},
        {"\"rope_theta\":-1e4", LCKV_ERROR_FORMAT, "rope_theta"},
        {"\"rope_theta\":1e-320", LCKV_ERROR_FORMAT, "rope_theta"},
        {"\"rope_theta\":1e4,\"rope_parameters\":{\"rope_theta\":2e4}", LCKV_ERROR_FORMAT, "rope_theta"},
        {"\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4,"
         "\"original_max_position_embeddings\":32}",
         LCKV_ERROR_FORMAT, "low_freq_factor"},
        {"\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
         "\"original_max_position_embeddings\":0}",
         LCKV_ERROR_FORMAT, "original_max_position_embeddings"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        REFUSES("llama", cases[i].keys, NULL, cases[i].code, cases[i].part);
}

/* Frequencies of head_dim 12 by hand: plain, divided, and Llama 3's three cases (wavelengths 2 pi theta^(2j/12) against
 * 32/4 and 32/1). */
static void inverse_frequencies(void **state) {
    (void)state;
    model_config *c;
    double f[6];
    MAKE("llama", "\"head_dim\":12,\"rope_theta\":500000", NULL, c);
    config_inverse_frequencies(c, f);
    for (int j = 0; j < 6; j++) assert_true(fabs(f[j] * exp(log(500000.0) * j / 6) - 1) < 1e-14);
    config_free(c);
    MAKE("llama", "\"head_dim\":12,\"rope_theta\":500000", "rope_scaling={\"type\":\"linear\",\"factor\":4}", c);
    double g[6];
    config_inverse_frequencies(c, g);
    for (int j = 0; j < 6; j++) assert_true(g[j] == f[j] / 4);
    config_free(c);
    MAKE("llama", "\"head_dim\":12,\"rope_theta\":10",
         "rope_scaling={\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
         "\"original_max_position_embeddings\":32}",
         c);
    config_inverse_frequencies(c, g);
    /* wavelengths 6.28 9.22 13.5 19.9 29.2 42.8: the first stays, the last is divided, the rest are blended */
    assert_true(g[0] == 1);
    assert_true(fabs(g[5] * pow(10, 5 / 6.0) * 8 - 1) < 1e-14);
    for (int j = 1; j < 5; j++) {
        double plain = pow(10, -j / 6.0), share = (32 * plain / (2 * acos(-1)) - 1) / 3;
        assert_true(fabs(g[j] - plain * (share + (1 - share) / 8)) < 1e-14);
    }
    config_free(c);
}

/* ---------------------------------------------------------------- layer types and windows */

static void window_rules(void **state) {
    (void)state;
    static const struct {
        const char *type, *keys, *windows;
    } cases[] = {
        {"mistral", "\"sliding_window\":8", "ssss"},
        {"mistral", "\"sliding_window\":null", "...."},
        {"mistral", "", "ssss"},
        {"llama", "\"sliding_window\":8", "...."},
        {"lckv-llama", "\"sliding_window\":8", "...."},
        {"lckv-llama", "\"sliding_window\":8,\"layer_types\":\"0_1s_1s_0\"", ".ss."},
        {"qwen2", "\"sliding_window\":8,\"max_window_layers\":1", "...."},
        {"qwen2", "\"sliding_window\":8,\"use_sliding_window\":false,\"max_window_layers\":1", "...."},
        {"qwen2", "\"sliding_window\":8,\"use_sliding_window\":true,\"max_window_layers\":1", ".sss"},
        {"qwen3", "\"sliding_window\":8,\"use_sliding_window\":true,\"max_window_layers\":0", "ssss"},
        {"qwen3", "\"sliding_window\":8,\"use_sliding_window\":true", "...."}, /* from layer 28 on */
        {"qwen3", "\"sliding_window\":null,\"use_sliding_window\":true,\"max_window_layers\":0", "...."},
        {"qwen2",
         "\"sliding_window\":8,\"use_sliding_window\":true,\"layer_types\":[\"full_attention\",\"sliding_attention\","
         "\"full_attention\","
         "\"sliding_attention\"]",
         ".s.s"},
        {"mistral",
         "\"sliding_window\":8,\"layer_types\":[\"full_attention\",\"full_attention\",\"full_attention\","
         "\"full_attention\"]",
         "...."},
        {"mistral", "\"sliding_window\":8,\"force_nodiag\":true", "ssss"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model_config *c;
        MAKE(cases[i].type, cases[i].keys, NULL, c);
        assert_string_equal(windows(c), cases[i].windows);
        config_free(c);
    }
}

static void layer_types_refusals(void **state) {
    (void)state;
    REFUSES("lckv-llama", "\"layer_types\":\"0_1t_2_3\"", NULL, LCKV_ERROR_FORMAT,
            "test: layer_types: entry 1 is '1t'");
    REFUSES("lckv-llama", "\"sliding_window\":null,\"layer_types\":\"0_1s_2_3\"", NULL, LCKV_ERROR_FORMAT, "'1s'");
    REFUSES("lckv-llama", "\"layer_types\":\"\"", NULL, LCKV_ERROR_FORMAT, "layer_types is ''");
    REFUSES("lckv-llama", "\"layer_types\":7", NULL, LCKV_ERROR_FORMAT, "layer_types");
    REFUSES("lckv-llama", "\"layer_types\":\"0_1_2_3\\u0000_4\"", NULL, LCKV_ERROR_FORMAT, "layer_types");
    REFUSES("qwen2", "\"layer_types\":[]", NULL, LCKV_ERROR_FORMAT, "0 entries for 4 layers");
    REFUSES("qwen2", "\"layer_types\":[\"full_attention\",\"full_attention\",\"full_attention\",1]", NULL,
            LCKV_ERROR_FORMAT, "entry 3");
    REFUSES("qwen2", "\"layer_types\":[\"full_attention\",\"linear_attention\",\"full_attention\",\"full_attention\"]",
            NULL, LCKV_ERROR_UNSUPPORTED, "entry 1 is 'linear_attention'");
    REFUSES("qwen2", "\"layer_types\":[\"full_attention\",\"full_attention\",\"sliding_attention\",\"full_attention\"]",
            NULL, LCKV_ERROR_FORMAT, "entry 2 is 'sliding_attention', but use_sliding_window is not true");
    REFUSES("mistral",
            "\"sliding_window\":null,\"layer_types\":[\"full_attention\",\"full_attention\",\"sliding_attention\","
            "\"full_attention\"]",
            NULL, LCKV_ERROR_FORMAT, "entry 2 is 'sliding_attention', but sliding_window is null");
    REFUSES("llama", "\"layer_types\":[\"full_attention\",\"full_attention\",\"sliding_attention\",\"full_attention\"]",
            NULL, LCKV_ERROR_FORMAT, "entry 2 is 'sliding_attention', but model_type llama has no windows");
    REFUSES("lckv-llama", "\"layer_types\":\"1_1_3_3\"",
            "forward_passes=65536,backward_passes=65536,num_hidden_layers=20,"
            "layer_types=1_1_3_3_5_5_7_7_9_9_11_11_13_13_15_15_17_17_19_19",
            LCKV_ERROR_ARGUMENT, "steps");
}

static void sharing_makes_lckv(void **state) {
    (void)state;
    model_config *c;
    MAKE("llama", "", "layer_types=0_2_2_3,forward_passes=5", c);
    assert_string_equal(config_model_type(c), "lckv-llama");
    assert_int_equal(c->map.loops, 1);
    assert_int_equal(c->forward_passes, 5);
    config_free(c);
    MAKE("mistral", "\"sliding_window\":8", "layer_types=0s_0_2_2s", c);
    assert_string_equal(config_model_type(c), "lckv-llama");
    assert_string_equal(windows(c), "s..s");
    config_free(c);
    MAKE("qwen3", "", "layer_types=0_0_2_2", c);
    assert_string_equal(config_model_type(c), "qwen3");
    assert_int_equal(c->map.slots, 2);
    config_free(c);
    MAKE("lckv-llama", "\"layer_types\":\"0_2_2_3\"", "model_type=llama,layer_types=null", c);
    assert_string_equal(config_model_type(c), "llama");
    assert_int_equal(c->map.slots, 4);
    config_free(c);
}

/* ---------------------------------------------------------------- overrides */

static void overrides(void **state) {
    (void)state;
    model_config *c;
    MAKE("llama", "\"custom\":1",
         "num_hidden_layers=1,layer_types=0,tie_word_embeddings=True,rope_scaling=None,rms_norm_eps=1e-5,custom=[1,\"a,"
         "b\"],"
         "bos_token_id=null,vocab_size=100",
         c);
    assert_int_equal(c->layers, 1);
    assert_int_equal(c->vocab_size, 100);
    assert_true(c->tie_word_embeddings && c->rms_norm_eps == 1e-5);
    assert_string_equal(json_string_value(json_array_get(json_object_get(c->raw, "custom"), 1)), "a,b");
    config_free(c);
    MAKE("llama", "", "", c);
    config_free(c);
    REFUSES("llama", "", "layer_typs=0_1_2_3", LCKV_ERROR_ARGUMENT, "'layer_typs'");
    REFUSES("llama", "", "vocab_size", LCKV_ERROR_ARGUMENT, "'vocab_size'");
    REFUSES("llama", "", "=3", LCKV_ERROR_ARGUMENT, "key=value");
    REFUSES("llama", "", "vocab_size=9,", LCKV_ERROR_ARGUMENT, "key=value");
    REFUSES("llama", "", "vocab_size=9,,head_dim=8", LCKV_ERROR_ARGUMENT, "key=value");
    REFUSES("llama", "", "vocab_size=9,vocab_size=8", LCKV_ERROR_ARGUMENT, "twice");
    REFUSES("llama", "", "rope_scaling={\"type\":", LCKV_ERROR_ARGUMENT, "rope_scaling");
    REFUSES("llama", "", "vocab_size=9.5", LCKV_ERROR_FORMAT, "vocab_size");
    REFUSES("llama", "", "vocab_size=many", LCKV_ERROR_FORMAT, "vocab_size");
    REFUSES("llama", "", "vocab_size=", LCKV_ERROR_FORMAT, "vocab_size");
    REFUSES("llama", "", "model_type=\xff", LCKV_ERROR_ARGUMENT, "UTF-8");
    REFUSES("llama", "", "num_hidden_layers=3,layer_types=0_1", LCKV_ERROR_FORMAT, "'0_1' has 2 entries for 3 layers");
    REFUSES("llama", "", "dtype=float16,torch_dtype=float32", LCKV_ERROR_FORMAT, "config_overrides");
}

/* ---------------------------------------------------------------- ranges and unsupported keys */

static void ranges(void **state) {
    (void)state;
    static const char *const wrong[] = {"hidden_size=0",
                                        "hidden_size=-32",
                                        "hidden_size=9007199254740993",
                                        "hidden_size=null",
                                        "hidden_size=33",
                                        "intermediate_size=0",
                                        "intermediate_size=4611686018427387904",
                                        "vocab_size=0",
                                        "vocab_size=4294967296",
                                        "num_hidden_layers=0",
                                        "num_hidden_layers=4097",
                                        "num_hidden_layers=9223372036854775807",
                                        "num_attention_heads=0",
                                        "num_attention_heads=5",
                                        "num_key_value_heads=3",
                                        "num_key_value_heads=0",
                                        "num_key_value_heads=8",
                                        "head_dim=7",
                                        "head_dim=0",
                                        "head_dim=1048576",
                                        "forward_passes=-1",
                                        "forward_passes=1000000",
                                        "backward_passes=0",
                                        "backward_passes=-1",
                                        "sliding_window=0",
                                        "sliding_window=-4",
                                        "sliding_window=true",
                                        "rms_norm_eps=0",
                                        "rms_norm_eps=-1",
                                        "rms_norm_eps=\"x\"",
                                        "initializer_range=-1",
                                        "max_position_embeddings=0",
                                        "max_position_embeddings=1.5",
                                        "use_sequential=1",
                                        "force_nodiag=\"yes\"",
                                        "tie_word_embeddings=0"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char key[64];
        snprintf(key, sizeof key, "%.*s", (int)strcspn(wrong[i], "="), wrong[i]);
        REFUSES("llama", "", wrong[i], LCKV_ERROR_FORMAT, key);
    }
    model_config *c;
    MAKE("llama", "", "forward_passes=0,backward_passes=1,num_key_value_heads=1,head_dim=2", c);
    config_free(c);
    json_t *tree;
    OK(json_parse("{\"hidden_size\":8}", 17, "x", &tree));
    FAILS(config_from_json(tree, "x", NULL, &c), LCKV_ERROR_FORMAT, "x: expected 'model_type'");
    json_decref(tree);
    OK(json_parse("[1]", 3, "x", &tree));
    FAILS(config_from_json(tree, "x", NULL, &c), LCKV_ERROR_FORMAT, "x: expected a JSON object");
    json_decref(tree);
}

static void unsupported_keys(void **state) {
    (void)state;
    static const char *const wrong[] = {"\"hidden_act\":\"gelu\"",
                                        "\"attention_multiplier\":0.1",
                                        "\"logit_softcapping\":30",
                                        "\"final_logit_softcapping\":30.0",
                                        "\"partial_rotary_factor\":0.25",
                                        "\"embedding_multiplier\":12",
                                        "\"quantization_config\":{\"bits\":4}",
                                        "\"compression_config\":{\"format\":\"dense\"}",
                                        "\"num_local_experts\":8",
                                        "\"qk_norm\":true",
                                        "\"no_rope_layers\":[1,1,1,0]",
                                        "\"logits_scaling\":\"x\"",
                                        "\"pruned_heads\":{\"0\":[1]}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char key[64];
        snprintf(key, sizeof key, "%.*s", (int)strcspn(wrong[i] + 1, "\""), wrong[i] + 1);
        REFUSES("llama", wrong[i], NULL, LCKV_ERROR_UNSUPPORTED, key);
    }
    static const char *const harmless[] = {
        "\"hidden_act\":\"silu\",\"attention_dropout\":0.1,\"pretraining_tp\":1,\"use_cache\":true",
        "\"attention_dropout\":null,\"hidden_dropout\":0.1,\"resid_pdrop\":0.1",
        "\"final_logit_softcapping\":null,\"quantization_config\":null,\"pruned_heads\":{},\"logit_scale\":1.0",
        "\"is_encoder_decoder\":false,\"embedding_multiplier\":1,\"partial_rotary_factor\":1.0,\"num_experts\":0",
        "\"auto_map\":{\"AutoConfig\":\"x.Y\"},\"transformers_version\":\"5.0.0\",\"anything\":[{\"at\":\"all\"}]"};
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        model_config *c;
        MAKE("llama", harmless[i], NULL, c);
        config_free(c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(types_and_their_parts),
        cmocka_unit_test(dtypes),
        cmocka_unit_test(special_tokens),
        cmocka_unit_test(rope_spellings),
        cmocka_unit_test(rope_refusals),
        cmocka_unit_test(inverse_frequencies),
        cmocka_unit_test(window_rules),
        cmocka_unit_test(layer_types_refusals),
        cmocka_unit_test(sharing_makes_lckv),
        cmocka_unit_test(overrides),
        cmocka_unit_test(ranges),
        cmocka_unit_test(unsupported_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
