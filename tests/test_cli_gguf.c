/* A GGUF file wherever a command takes a model: the results are those of the folder that it was made from. */
#include "program.h"
#include "small_tokenizer.h"

static const char CONFIG[] = "{\"model_type\":\"llama\",\"hidden_size\":32,\"intermediate_size\":36,"
                             "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"num_hidden_layers\":2,"
                             "\"vocab_size\":277,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,"
                             "\"initializer_range\":0.3,\"bos_token_id\":1,\"eos_token_id\":2}";

/* FOLDER/model and FOLDER/model.gguf. */
static int open_models(void **state) {
    lckv_device *d;
    lckv_config *c;
    lckv_model *m;
    if (folder_open(state)) return -1;
    folder *f = *state, inside;
    snprintf(inside.path, sizeof inside.path, "%.480s/model", f->path);
    OK(folder_create(inside.path));
    OK(lckv_device_open("cpu", 1, &d));
    OK(lckv_config_load(put_text_in(f, "config.json", CONFIG), NULL, &c));
    OK(lckv_model_create(d, c, NULL, 1, &m));
    OK(lckv_model_save(m, inside.path, NULL));
    small_tokenizer_write(&inside);
    put_text(in(&inside, "tokenizer_config.json"),
             "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"tokenizer_class\":\"PreTrainedTokenizerFast\","
             "\"chat_template\":\"{{ messages[0]['content'] }}\"}");
    lckv_model_free(m);
    lckv_config_free(c);
    lckv_device_close(d);
    outcome o = RUN(f, "convert", "--model_name_or_path", inside.path, "--gguf", in(f, "model.gguf"));
    if (o.code) fail_msg("%s", o.messages);
    outcome_free(&o);
    return 0;
}

/* Runs a command with both models and expects the same output. */
static void expect_same(const folder *f, const char *command, const char *const *more) {
    outcome o[2];
    for (int i = 0; i < 2; i++) {
        const char *words[32] = {command, "--model_name_or_path", in(f, i ? "model.gguf" : "model"), "--device", "cpu"};
        int count = 5;
        for (const char *const *word = more; *word; word++) words[count++] = *word;
        o[i] = program_run(f, words);
        if (o[i].code) fail_msg("%s: %s", command, o[i].messages);
    }
    if (strcmp(o[0].output, o[1].output) != 0)
        fail_msg("%s: the folder gives %s, the GGUF file %s", command, o[0].output, o[1].output);
    outcome_free(&o[0]);
    outcome_free(&o[1]);
}

#define SAME(command, ...) expect_same(*state, command, (const char *const[]){__VA_ARGS__, NULL})

static void commands_give_the_same(void **state) {
    const folder *f = *state;
    SAME("generate", "--prompt", "▁the cat a b", "--length", "20", "--temperature", "0");
    SAME("score", "--text", "a b a the cat sat on a b");
    put_text(in(f, "text.txt"), "the cat sat on a. b a b stop. the cat is a b\n");
    SAME("eval", "--file", in(f, "text.txt"), "--block_size", "16", "--stride", "8");
}

static void the_file_is_inspected(void **state) {
    outcome o = RUN(*state, "inspect", "--model_name_or_path", in(*state, "model.gguf"), "--json");
    if (o.code) fail_msg("%s", o.messages);
    assert_non_null(strstr(o.output, "\"llama\""));
    outcome_free(&o);
}

/* The matrices of 36 columns are f16: groups have 32. */
static void inspect_shows_the_formats(void **state) {
    const folder *f = *state;
    outcome o = RUN(f, "convert", "--model_name_or_path", in(f, "model.gguf"), "--gguf", in(f, "q4.gguf"),
                    "--gguf_dtype", "q4_0");
    if (o.code) fail_msg("%s", o.messages);
    outcome_free(&o);
    o = RUN(f, "inspect", "--model_name_or_path", in(f, "q4.gguf"), "--json");
    if (o.code) fail_msg("%s", o.messages);
    json_t *report = json_loads(o.output, 0, NULL), *entry;
    const char *dtypes[] = {"int8", "int4", "float16", "float32"};
    int64_t bytes = 0;
    size_t i;
    assert_string_equal(json_string_value(json_object_get(report, "weight_dtype")), "int4");
    json_array_foreach(json_object_get(report, "weights"), i, entry) {
        assert_string_equal(json_string_value(json_object_get(entry, "dtype")), dtypes[i]);
        bytes += json_integer_value(json_object_get(entry, "bytes"));
    }
    assert_int_equal(i, 4);
    json_t *serving = json_object_get(json_object_get(report, "memory"), "serving");
    assert_int_equal(json_integer_value(json_object_get(serving, "weights")), bytes);
    json_decref(report);
    outcome_free(&o);
    o = RUN(f, "inspect", "--model_name_or_path", in(f, "q4.gguf"), "--weight_dtype", "float");
    if (o.code) fail_msg("%s", o.messages);
    assert_null(strstr(o.output, "int4"));
    outcome_free(&o);
}

static void convert_writes_a_folder(void **state) {
    const folder *f = *state;
    outcome o = RUN(f, "convert", "--model_name_or_path", in(f, "model.gguf"), "--output_dir", in(f, "back"));
    if (o.code) fail_msg("%s", o.messages);
    outcome_free(&o);
    assert_same_bytes(in(f, "back/model.safetensors"), in(f, "model/model.safetensors"));
    assert_file_says(in(f, "back/tokenizer_config.json"), "messages[0]['content']");
    assert_file_says(in(f, "back/tokenizer.json"), "byte_fallback");
    o = RUN(f, "convert", "--model_name_or_path", in(f, "model.gguf"), "--output_dir", in(f, "shared"),
            "--config_overrides", "layer_types=0_0");
    if (o.code) fail_msg("%s", o.messages);
    outcome_free(&o);
    o = RUN(f, "convert", "--model_name_or_path", in(f, "model.gguf"), "--gguf", in(f, "small.gguf"), "--gguf_dtype",
            "q8_0", "--json");
    if (o.code) fail_msg("%s", o.messages);
    assert_non_null(strstr(o.output, "\"gguf\":"));
    outcome_free(&o);
}

static void training_starts_from_the_file(void **state) {
    const folder *f = *state;
    put_text(in(f, "text.txt"), "the cat sat on a. b a b stop. the cat is a b the cat sat on a. b a b stop.\n");
    for (int i = 0; i < 2; i++) {
        outcome o = RUN(f, "train", "--model_name_or_path", in(f, i ? "model.gguf" : "model"), "--train_file",
                        in(f, "text.txt"), "--output_dir", in(f, i ? "b" : "a"), "--block_size", "8", "--max_steps",
                        "2", "--threads", "1", "--device", "cpu", "--keep_linebreaks", "true");
        if (o.code) fail_msg("%s", o.messages);
        outcome_free(&o);
    }
    assert_same_bytes(in(f, "a/model.safetensors"), in(f, "b/model.safetensors"));
    assert_file_says(in(f, "b/tokenizer.json"), "byte_fallback");
}

#define MODEL "--model_name_or_path", "model"

static void outputs_exclude_each_other(void **state) {
    const folder *f = *state;
    static const struct {
        const char *words[10], *error;
    } cases[] = {
        {{"convert", MODEL}, "missing --output_dir (a folder to write) or --gguf"},
        {{"convert", MODEL, "--output_dir", "x", "--gguf", "y"}, "--output_dir and --gguf exclude each other"},
        {{"convert", MODEL, "--output_dir", "x", "--gguf_dtype", "f16"}, "--gguf_dtype needs --gguf"},
        {{"convert", MODEL, "--gguf", "y", "--fit_loop_start", "z"}, "--fit_loop_start needs --output_dir"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        outcome o = program_run(f, cases[i].words);
        assert_int_equal(o.code, 2);
        if (!strstr(o.messages, cases[i].error)) fail_msg("expected %s, found %s", cases[i].error, o.messages);
        outcome_free(&o);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(commands_give_the_same, open_models, folder_close),
        cmocka_unit_test_setup_teardown(the_file_is_inspected, open_models, folder_close),
        cmocka_unit_test_setup_teardown(inspect_shows_the_formats, open_models, folder_close),
        cmocka_unit_test_setup_teardown(convert_writes_a_folder, open_models, folder_close),
        cmocka_unit_test_setup_teardown(training_starts_from_the_file, open_models, folder_close),
        IN_FOLDER(outputs_exclude_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
