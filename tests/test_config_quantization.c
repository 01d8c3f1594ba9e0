/* quantization_config: what is read, what is written, and what is rejected. */
#include "config/model_config.h"

#include "expect.h"

static int read_config(const char *quantization, const char *overrides, model_config **out) {
    char text[2048];
    json_t *tree;
    snprintf(text, sizeof text,
             "{\"model_type\":\"llama\",\"hidden_size\":32,\"intermediate_size\":64,\"num_attention_heads\":4,"
             "\"vocab_size\":61,\"num_hidden_layers\":2%s%s}",
             quantization ? ",\"quantization_config\":" : "", quantization ? quantization : "");
    OK(json_parse(text, strlen(text), "test", &tree));
    int status = config_from_json(tree, "test", overrides, out);
    json_decref(tree);
    return status;
}

static weight_format format_of(const char *quantization, const char *overrides) {
    model_config *c;
    OK(read_config(quantization, overrides, &c));
    weight_format format = c->weight_format;
    config_free(c);
    return format;
}

#define GROUP(bits, more)                                                                                              \
    "{\"targets\":[\"Linear\"],\"weights\":{\"num_bits\":" bits ",\"type\":\"int\",\"symmetric\":true,"                \
    "\"strategy\":\"group\",\"group_size\":32" more "},\"input_activations\":null}"
#define CONFIG(groups, more)                                                                                           \
    "{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\",\"config_groups\":{" groups "}" more "}"

static void formats_are_read(void **state) {
    (void)state;
    assert_int_equal(format_of(NULL, NULL), WEIGHT_FLOAT);
    assert_int_equal(format_of("null", NULL), WEIGHT_FLOAT);
    assert_int_equal(format_of("{}", NULL), WEIGHT_FLOAT);
    assert_int_equal(format_of(CONFIG("\"group_0\":" GROUP("8", ""), ""), NULL), WEIGHT_INT8);
    assert_int_equal(format_of(CONFIG("\"group_0\":" GROUP("4", ""), ""), NULL), WEIGHT_INT4);
    /* what llm-compressor writes besides */
    assert_int_equal(
        format_of(CONFIG("\"group_0\":" GROUP("4", ",\"actorder\":null,\"observer\":\"minmax\",\"dynamic\":"
                                                   "false,\"block_structure\":null,\"observer_kwargs\":{}"),
                         ",\"ignore\":[\"lm_head\"],\"kv_cache_scheme\":null,\"transform_config\":{},"
                         "\"quantization_status\":\"compressed\",\"global_compression_ratio\":null"),
                  NULL),
        WEIGHT_INT4);
    /* the one with the fewest bits */
    assert_int_equal(format_of(CONFIG("\"a\":" GROUP("4", "") ",\"b\":" GROUP("8", ""), ""), NULL), WEIGHT_INT4);
    assert_int_equal(format_of(NULL, "weight_dtype=int8"), WEIGHT_INT8);
    assert_int_equal(format_of(CONFIG("\"group_0\":" GROUP("4", ""), ""), "weight_dtype=float"), WEIGHT_FLOAT);
    assert_int_equal(format_of(CONFIG("\"group_0\":" GROUP("4", ""), ""), "weight_dtype=auto"), WEIGHT_INT4);
}

static void other_quantizations_are_rejected(void **state) {
    (void)state;
    static const struct {
        const char *config, *error;
    } cases[] = {
        {"{\"quant_method\":\"gptq\",\"bits\":4}", "expected quant_method \"compressed-tensors\", found \"gptq\""},
        {"{\"load_in_4bit\":true}", "expected quant_method \"compressed-tensors\", found none"},
        {"{\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\"}", "found \"float-quantized\""},
        {CONFIG("\"g\":" GROUP("4", ""), ",\"kv_cache_scheme\":{\"num_bits\":8}"), "kv_cache_scheme null"},
        {CONFIG("\"g\":" GROUP("4", ""), ",\"transform_config\":{\"config_groups\":{\"R1\":{}}}"),
         "transform_config null"},
        {CONFIG("", ""), "expected config_groups, found none"},
        {CONFIG("\"g\":{\"targets\":[]}", ""), "expected weights"},
        {CONFIG("\"g\":" GROUP("4", ",\"actorder\":\"group\""), ""), "actorder null, found \"group\""},
        {CONFIG("\"g\":" GROUP("3", ""), ""), "expected num_bits 4 or 8, found 3"},
        {CONFIG("\"g\":{\"weights\":{\"num_bits\":4,\"type\":\"float\"}}", ""),
         "expected type \"int\", found \"float\""},
        {CONFIG("\"g\":{\"weights\":{\"num_bits\":4,\"type\":\"int\",\"symmetric\":false}}", ""), "symmetric true"},
        {CONFIG("\"g\":{\"weights\":{\"num_bits\":4,\"type\":\"int\",\"symmetric\":true,\"strategy\":\"channel\"}}",
                ""),
         "strategy \"group\""},
        {CONFIG("\"g\":{\"weights\":{\"num_bits\":4,\"type\":\"int\",\"symmetric\":true,\"strategy\":\"group\","
                "\"group_size\":128}}",
                ""),
         "group_size 32, found 128"},
        {CONFIG("\"g\":{\"input_activations\":{\"num_bits\":8},\"weights\":{}}", ""), "input_activations null"},
    };
    model_config *c;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FAILS(read_config(cases[i].config, NULL, &c), LCKV_ERROR_UNSUPPORTED, cases[i].error);
        assert_null(c);
    }
    FAILS(read_config("[]", NULL, &c), LCKV_ERROR_FORMAT, "'quantization_config' should be an object");
    FAILS(read_config(NULL, "weight_dtype=int2", &c), LCKV_ERROR_ARGUMENT,
          "expected auto, float, int8 or int4, found 'int2'");
    FAILS(read_config(NULL, "weight_dtype=4", &c), LCKV_ERROR_FORMAT, "weight_dtype");
}

/* What is written is read again, and replaces what was there. */
static void formats_are_written(void **state) {
    (void)state;
    static const weight_format formats[] = {WEIGHT_FLOAT, WEIGHT_INT8, WEIGHT_INT4};
    for (int from = 0; from < 3; from++)
        for (int to = 0; to < 3; to++) {
            model_config *c, *again;
            json_t *tree;
            char overrides[32];
            snprintf(overrides, sizeof overrides, "weight_dtype=%s", weight_format_name(formats[from]));
            OK(read_config(NULL, overrides, &c));
            c->weight_format = formats[to];
            OK(config_to_json(c, &tree));
            assert_null(json_object_get(tree, "weight_dtype"));
            assert_int_equal(json_object_get(tree, "quantization_config") != NULL, formats[to] != WEIGHT_FLOAT);
            OK(config_from_json(tree, "again", NULL, &again));
            assert_int_equal(again->weight_format, formats[to]);
            json_decref(tree);
            config_free(again);
            config_free(c);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_are_read),
        cmocka_unit_test(other_quantizations_are_rejected),
        cmocka_unit_test(formats_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
