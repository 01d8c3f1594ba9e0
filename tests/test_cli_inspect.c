/* lckv inspect as a program, and the quantized weights that it describes. Uses a small random model that the test
 * creates. */
#include "program.h"

#include "model_folder.h"

#include <math.h>

#define WITH_MODEL(test) cmocka_unit_test_setup_teardown(test, model_folder_open, folder_close)
#define GENERATE(f) "generate", "--model_name_or_path", in((f), "model")

static void inspects(void **state) {
    const folder *f = *state;
    const char *svg = in(f, "map.svg");
    json_t *r = RUN_JSON(f, "inspect", "--model_name_or_path", in(f, "model"), "--svg", svg);
    assert_int_equal(json_integer_value(json_object_get(r, "kv_slots")), 3);
    assert_int_equal(json_integer_value(json_object_get(r, "loops")), 1);
    assert_int_equal(json_integer_value(json_object_get(r, "kv_bytes_per_token")), 3 * 2 * 2 * 6 * 4);
    assert_int_equal(json_integer_value(json_object_get(r, "kv_bytes_per_token_unshared")), 4 * 2 * 2 * 6 * 4);
    int64_t layer = 24 * 24 * 2 + 3 * 24 * 36 + 2 * 24, slot = 2 * 24 * 12;
    assert_int_equal(json_integer_value(json_object_get(r, "parameters")), 4 * layer + 3 * slot + 2 * 277 * 24 + 24);
    assert_int_equal(json_array_size(json_object_get(r, "plan")), 1 + 3 + 1);
    const json_t *memory = json_object_get(r, "memory"), *training = json_object_get(memory, "training");
    assert_int_equal(json_integer_value(json_object_get(training, "weights")),
                     4 * json_integer_value(json_object_get(r, "parameters")));
    assert_int_equal(json_integer_value(json_object_get(training, "block_size")), 64);
    const json_t *again = json_object_get(training, "gradient_checkpointing"); /* such small sizes are rounded */
    assert_true(json_real_value(json_object_get(again, "flops")) > json_real_value(json_object_get(training, "flops")));
    assert_true(json_is_integer(json_object_get(json_object_get(memory, "serving"), "kv_cache")));
    static const struct {
        const char *key;
        int value;
    } SHAPE[] = {{"max_position_embeddings", 64}, {"num_attention_heads", 4},
                 {"num_key_value_heads", 2},      {"head_dim", 6},
                 {"windowed_slots", 0},           {"vocab_size", 277}};
    for (size_t i = 0; i < sizeof SHAPE / sizeof *SHAPE; i++)
        assert_int_equal(json_integer_value(json_object_get(r, SHAPE[i].key)), SHAPE[i].value);
    assert_true(json_is_null(json_object_get(r, "sliding_window")));
    assert_string_equal(json_string_value(json_object_get(r, "kv_dtype")), "float32");
    json_decref(r);
    assert_file_says(svg, "<svg");
    outcome o = RUN(f, "inspect", "--config_name", in(f, "config.json"), "--config_overrides", "layer_types=0_1_2_3");
    assert_int_equal(o.code, 0);
    assert_non_null(strstr(o.output, "no layers share keys and values"));
    assert_non_null(strstr(o.output, "with --gradient_checkpointing "));
    assert_null(strstr(o.output, "with --torch_dtype bfloat16 "));
    outcome_free(&o);
    o = RUN(f, "inspect", "--config_name", in(f, "config.json"), "--bf16");
    assert_non_null(strstr(o.output, "with --torch_dtype bfloat16 "));
    outcome_free(&o);
    REFUSES(f, 2, "expected either --config_name or --model_name_or_path", "inspect");
    REFUSES(f, 1, "layer_types", "inspect", "--config_name", in(f, "config.json"), "--config_overrides",
            "layer_types=0_9_2_3");
}

/* Weights have the given type, keys and values the compute type, per token and in total; windows and defaults of the
 * model type are shown with their effective values. */
/* Weights of the loaded model by data type, and commands that take --weight_dtype. */
static void weights_can_be_quantized(void **state) {
    const folder *f = *state;
    json_t *r = RUN_JSON(f, "inspect", "--model_name_or_path", in(f, "model"), "--weight_dtype", "int4");
    const json_t *weights = json_object_get(r, "weights");
    assert_string_equal(json_string_value(json_object_get(r, "weight_dtype")), "int4");
    assert_true(json_is_null(json_object_get(json_object_get(r, "memory"), "training")));
    int64_t parameters = 0;
    for (size_t i = 0; i < json_array_size(weights); i++)
        parameters += json_integer_value(json_object_get(json_array_get(weights, i), "parameters"));
    assert_int_equal(parameters, json_integer_value(json_object_get(r, "parameters")));
    assert_int_equal(json_array_size(weights), 3); /* int8, int4, float32 */
    json_decref(r);
    outcome o = RUN(f, "inspect", "--config_name", in(f, "model"), "--weight_dtype", "int8");
    assert_non_null(strstr(o.output, "weights     int8: "));
    assert_non_null(strstr(o.output, "quantized weights are not trained; with --use_peft"));
    outcome_free(&o);
    o = RUN(f, "inspect", "--config_name", in(f, "model"), "--weight_dtype", "int8", "--use_peft");
    assert_non_null(strstr(o.output, "adapter only"));
    outcome_free(&o);
    REFUSES(f, 1, "are divided at multiples of 32 columns", "inspect", "--config_name", in(f, "model"),
            "--weight_dtype", "int8", "--tensor_parallel", "2");
    o = RUN(f, "convert", "--model_name_or_path", in(f, "model"), "--weight_dtype", "int4", "--output_dir",
            in(f, "q4"));
    outcome_free(&o);
    static const char *const formats[] = {"auto", "int4"};
    char *lines[2];
    for (int i = 0; i < 2; i++) {
        o = RUN(f, "generate", "--model_name_or_path", in(f, i ? "model" : "q4"), "--weight_dtype", formats[i],
                "--prompt_ids", "3,4,5", "--length", "8", "--temperature", "0");
        lines[i] = strdup(o.output);
        outcome_free(&o);
    }
    assert_string_equal(lines[0], lines[1]);
    free(lines[0]);
    free(lines[1]);
    REFUSES(f, 2, "int5", "generate", "--model_name_or_path", in(f, "model"), "--weight_dtype", "int5", "--prompt_ids",
            "3");
    REFUSES(f, 2, "--weight_dtype int4", "generate", "--model_name_or_path", in(f, "model"), "--load_in_4bit");
    REFUSES(f, 1, "expected auto, float, int8 or int4, found 'q4'", "convert", "--model_name_or_path", in(f, "model"),
            "--weight_dtype", "q4", "--output_dir", in(f, "x"));
}

/* What each of two processes holds. Embeddings, output layer and norms are not divided when serving. */
static void inspects_parts_of_processes(void **state) {
    const folder *f = *state;
    json_t *r = RUN_JSON(f, "inspect", "--model_name_or_path", in(f, "model"), "--num_processes", "2", "--zero", "3",
                         "--tensor_parallel", "2");
    const json_t *memory = json_object_get(r, "memory"), *training = json_object_get(memory, "training");
    const json_t *serving = json_object_get(memory, "serving");
    int64_t bytes = 4 * json_integer_value(json_object_get(r, "parameters")), whole = 4 * (2 * 277 * 24 + 9 * 24);
    int64_t part = json_integer_value(json_object_get(training, "weights"));
    int64_t served = json_integer_value(json_object_get(serving, "weights"));
    assert_true(llabs(part - bytes / 2) < 8192);
    assert_true(served >= whole + (bytes - whole) / 2 && served < whole + (bytes - whole) / 2 + 10240);
    json_decref(r);
    outcome o = RUN(f, "inspect", "--config_name", in(f, "config.json"), "--num_processes", "2");
    assert_non_null(strstr(o.output, "in each of 2 processes (ZeRO 1)"));
    outcome_free(&o);
    REFUSES(f, 2, "--zero", "inspect", "--config_name", in(f, "config.json"), "--zero", "0");
    REFUSES(f, 1, "zero: expected 0, 1 or 3, found 2", "inspect", "--config_name", in(f, "config.json"), "--zero", "2");
}

/* The slots of a group are filled together, which takes more memory than the micro-batches that are trained on. */
static void inspects_groups_of_exact_training(void **state) {
    const folder *f = *state;
    double total[2], plan[2];
    static const char *const SIZES[] = {"0", "4096"};
    for (int i = 0; i < 2; i++) {
        json_t *r = RUN_JSON(f, "inspect", "--config_name", in(f, "config.json"), "--per_device_train_batch_size", "1",
                             "--block_size", "16", "--loop_group_size", SIZES[i]);
        const json_t *training = json_object_get(json_object_get(r, "memory"), "training");
        plan[i] = (double)json_integer_value(json_object_get(training, "total"));
        total[i] = (double)json_integer_value(json_object_get(json_object_get(training, "loop_form_exact"), "total"));
        json_decref(r);
    }
    assert_true(total[0] > 0 && total[1] > 2 * total[0]);
    assert_true(plan[0] == plan[1]);
}

static void inspects_types_and_windows(void **state) {
    const folder *f = *state;
    const char *windows = "layer_types=0s_1s_3_3,sliding_window=17";
    put_text(in(f, "bare.json"), "{\"model_type\":\"mistral\",\"num_hidden_layers\":2,\"vocab_size\":64,"
                                 "\"hidden_size\":32,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
                                 "\"intermediate_size\":48,\"max_position_embeddings\":256,\"sliding_window\":17}");
    for (int narrow = 0; narrow < 2; narrow++) {
        json_t *r = RUN_JSON(f, "inspect", "--config_name", in(f, "config.json"), "--config_overrides", windows,
                             "--length", "50", "--torch_dtype", narrow ? "bfloat16" : "float32");
        json_t *half = RUN_JSON(f, "inspect", "--config_name", in(f, "config.json"), "--config_overrides", windows,
                                "--length", "50", "--torch_dtype", narrow ? "bfloat16" : "float32", "--bf16");
        const json_t *serving = json_object_get(json_object_get(r, "memory"), "serving");
        const json_t *less = json_object_get(json_object_get(half, "memory"), "serving");
        int64_t slot = 16 * 2 * 2 * 6 * 4; /* one page per slot */
        assert_int_equal(json_integer_value(json_object_get(r, "windowed_slots")), 2);
        assert_int_equal(json_integer_value(json_object_get(serving, "kv_cache")), (4 + 2 * 2) * slot);
        assert_int_equal(json_integer_value(json_object_get(less, "kv_cache")), (4 + 2 * 2) * slot / 2);
        assert_int_equal(json_integer_value(json_object_get(r, "kv_bytes_per_token")), 3 * slot / 16);
        assert_int_equal(json_integer_value(json_object_get(half, "kv_bytes_per_token")), 3 * slot / 32);
        assert_string_equal(json_string_value(json_object_get(half, "kv_dtype")), "bfloat16");
        json_t *int8 = RUN_JSON(f, "inspect", "--config_name", in(f, "config.json"), "--config_overrides", windows,
                                "--length", "50", "--kv_dtype", "int8", "--bf16");
        const json_t *least = json_object_get(json_object_get(int8, "memory"), "serving");
        assert_string_equal(json_string_value(json_object_get(int8, "kv_dtype")), "int8");
        assert_int_equal(json_integer_value(json_object_get(int8, "kv_bytes_per_token")), 3 * 2 * 2 * (6 + 4));
        assert_int_equal(json_integer_value(json_object_get(int8, "kv_bytes_per_token_unshared")), 4 * 2 * 2 * (6 + 4));
        assert_int_equal(json_integer_value(json_object_get(least, "kv_cache")), (4 + 2 * 2) * 16 * 2 * 2 * (6 + 4));
        json_decref(int8);
        assert_string_equal(json_string_value(json_object_get(r, "torch_dtype")), narrow ? "bfloat16" : "float32");
        int64_t weights = json_integer_value(json_object_get(serving, "weights"));
        int64_t values = json_integer_value(json_object_get(r, "parameters"));
        assert_true(weights >= (narrow ? 2 : 4) * values && weights < (narrow ? 2 : 4) * values + 8192);
        json_decref(half);
        json_decref(r);
    }
    json_t *r = RUN_JSON(f, "inspect", "--config_name", in(f, "bare.json"), "--sink_cache", "--window_length", "32",
                         "--num_sink_tokens", "2", "--length", "200");
    assert_int_equal(json_integer_value(json_object_get(r, "sliding_window")), 17);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(r, "layer_windows"), 1)), 17);
    const json_t *serving = json_object_get(json_object_get(r, "memory"), "serving");
    assert_true(json_integer_value(json_object_get(serving, "kv_cache")) <=
                64 *
                    json_integer_value(json_object_get(r, "kv_bytes_per_token"))); /* one page of sinks, three others */
    json_decref(r);
}

/* The same model with heads of whole groups of columns, in int4, as FOLDER/wide. */
static void write_wide(const folder *f) {
    lckv_device *d;
    lckv_config *c;
    lckv_model *m;
    lckv_save_options options = lckv_save_defaults();
    options.weight_dtype = "int4";
    OK(lckv_device_open("cpu", 1, &d));
    OK(lckv_config_load(in(f, "config.json"), "head_dim=32,intermediate_size=128", &c));
    OK(lckv_model_create(d, c, NULL, 1, &m));
    OK(lckv_model_save(m, in(f, "wide"), &options));
    lckv_model_free(m);
    lckv_config_free(c);
    lckv_device_close(d);
}

static int64_t serving_weights(const folder *f, const char *from, const char *processes) {
    json_t *r = RUN_JSON(f, "inspect", from, in(f, "wide"), "--tensor_parallel", processes);
    const json_t *serving = json_object_get(json_object_get(r, "memory"), "serving");
    int64_t bytes = json_integer_value(json_object_get(serving, "weights"));
    json_decref(r);
    return bytes;
}

static void quantized_weights_are_divided(void **state) {
    const folder *f = *state;
    static const char *const processes[] = {"1", "2", "3"};
    outcome o[3];
    write_wide(f);
    for (int i = 0; i < 3; i++)
        o[i] = RUN(f, "generate", "--model_name_or_path", in(f, "wide"), "--prompt_ids", "3,4,5", "--length", "12",
                   "--temperature", "0", "--threads", "1", "--tensor_parallel", processes[i]);
    for (int i = 0; i < 3; i++) assert_string_equal(o[i].output, o[0].output);
    for (int i = 0; i < 3; i++) outcome_free(&o[i]);
    assert_true(serving_weights(f, "--model_name_or_path", "2") < serving_weights(f, "--model_name_or_path", "1"));
    assert_int_equal(serving_weights(f, "--model_name_or_path", "2"), serving_weights(f, "--config_name", "2"));
    REFUSES(f, 1, "choose at most 2, or weight_dtype float", "inspect", "--config_name", in(f, "wide"),
            "--config_overrides", "intermediate_size=36", "--tensor_parallel", "3");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_MODEL(inspects),
        WITH_MODEL(weights_can_be_quantized),
        WITH_MODEL(inspects_parts_of_processes),
        WITH_MODEL(quantized_weights_are_divided),
        WITH_MODEL(inspects_groups_of_exact_training),
        WITH_MODEL(inspects_types_and_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
