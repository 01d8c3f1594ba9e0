/* Models as GGUF files: written, read again and written as a folder. tests/fuzz/corpus/gguf has malformed files. */
#define _GNU_SOURCE /* memmem */
#include "gguf/gguf.h"
#include "io/convert.h"
#include "io/gguf/gguf_names.h"
#include "model_fixture.h"

static int write_gguf(const folder *f, device *d, model *from, const char *format) {
    convert_options options = {.source = in(f, "from"), .config = from->config, .gguf_file = in(f, "model.gguf")};
    options.gguf_dtype = format;
    save_model(from, options.source, 0);
    return checkpoint_convert(d, &options);
}

static model *through_gguf(const folder *f, device *d, model *from, const char *format, dtype type) {
    OK(write_gguf(f, d, from, format));
    return load_model(d, in(f, "model.gguf"), type);
}

/* ---------------------------------------------------------------- without loss */

static const struct {
    const char *type, *more;
} models[] = {
    {"llama", ""},
    {"llama", ",\"tie_word_embeddings\":true,\"num_key_value_heads\":1"},
    {"llama", ",\"attention_bias\":true,\"mlp_bias\":true,\"head_dim\":6,\"eos_token_id\":[3,5],\"pad_token_id\":7"},
    {"llama", ",\"rope_theta\":5e5,\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":2.5}"},
    {"llama", ",\"max_position_embeddings\":64,\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0,"
              "\"original_max_position_embeddings\":16,\"attention_factor\":1.5,\"beta_fast\":20}"},
    {"llama", ",\"rope_theta\":5e5,\"head_dim\":16,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":32.0,"
              "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192}"},
    {"mistral", ",\"sliding_window\":null"},
    {"qwen2", ""},
    {"qwen2", ",\"tie_word_embeddings\":true"},
    {"qwen3", ",\"head_dim\":8,\"rms_norm_eps\":1e-6"},
};

static model_config *config_of(const char *type, const char *more) {
    char text[1024];
    json_t *tree;
    model_config *c;
    snprintf(text, sizeof text,
             "{\"model_type\":\"%s\",\"hidden_size\":16,\"intermediate_size\":20,\"num_attention_heads\":4,"
             "\"vocab_size\":31,\"num_hidden_layers\":3%s%s}",
             type, strstr(more, "num_key_value_heads") ? "" : ",\"num_key_value_heads\":2", more);
    OK(json_parse(text, strlen(text), "test", &tree));
    OK(config_from_json(tree, "test", NULL, &c));
    json_decref(tree);
    return c;
}

static void expect_same_config(const model_config *a, const model_config *b) {
    assert_int_equal(a->head_dim, b->head_dim);
    assert_int_equal(a->max_position_embeddings, b->max_position_embeddings);
    assert_int_equal(a->tie_word_embeddings, b->tie_word_embeddings);
    assert_int_equal(a->bos_token_id, b->bos_token_id);
    assert_int_equal(a->eos_count, b->eos_count);
    for (int i = 0; i < a->eos_count; i++) assert_int_equal(a->eos_token_ids[i], b->eos_token_ids[i]);
    assert_true(a->rms_norm_eps == b->rms_norm_eps && a->rope_theta == b->rope_theta);
    assert_int_equal(a->rope_scaling.type, b->rope_scaling.type);
    double factor = a->rope_scaling.attention_factor, x[8], y[8];
    assert_true(fabs(factor - b->rope_scaling.attention_factor) <= 1e-6 * factor);
    config_inverse_frequencies(a, x);
    config_inverse_frequencies(b, y);
    for (int i = 0; i < a->head_dim / 2; i++) assert_true(fabs(x[i] - y[i]) <= 1e-6 * x[i]);
}

static void models_return_unchanged(void **state) {
    const folder *f = *state;
    device *d = cpu();
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        model *from, *back;
        OK(model_create_random(d, config_of(models[i].type, models[i].more), DTYPE_F32, 1, &from));
        model *m = through_gguf(f, d, from, NULL, DTYPE_COUNT);
        if (!same_weights(from, m)) fail_msg("model %d: other weights", (int)i);
        expect_same_config(from->config, m->config);
        convert_options options = {
            .source = in(f, "model.gguf"), .config = m->config, .output = in(f, "back"), .type = DTYPE_COUNT};
        OK(checkpoint_convert(d, &options));
        back = load_model(d, options.output, DTYPE_COUNT);
        assert_true(same_weights(from, back));
        expect_same_config(from->config, back->config);
        model_free(back);
        model_free(m);
        model_free(from);
    }
    device_close(d);
}

/* Factors of RoPE that are not those of Llama 3.1 become a longrope, with the same frequencies. */
static void other_frequencies_return_as_longrope(void **state) {
    static const char more[] =
        ",\"head_dim\":16,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,"
        "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":64}";
    device *d = cpu();
    model *from;
    OK(model_create_random(d, config_of("llama", more), DTYPE_F32, 1, &from));
    model *m = through_gguf(*state, d, from, NULL, DTYPE_COUNT);
    double expected[8], found[16];
    assert_int_equal(m->config->rope_scaling.type, ROPE_LONGROPE);
    config_inverse_frequencies(from->config, expected);
    config_inverse_frequencies(m->config, found);
    for (int i = 0; i < 16; i++) assert_true(fabs(found[i] - expected[i % 8]) <= 1e-6 * expected[i % 8]);
    model_free(m);
    model_free(from);
    device_close(d);
}

/* Matrices in 16 bits are used in the mapped file, but for queries and keys, whose rows are reordered. Vectors are f32.
 */
static void matrices_in_16_bits(void **state) {
    static const dtype types[] = {DTYPE_BF16, DTYPE_F16};
    device *d = cpu();
    for (int i = 0; i < 2; i++) {
        model *from;
        OK(model_create_random(d, config_of("llama", ""), types[i], 1, &from));
        model *m = through_gguf(*state, d, from, NULL, DTYPE_COUNT),
              *wide = load_model(d, in(*state, "model.gguf"), DTYPE_F32);
        assert_true(m->params->adopted && m->file_count == 1);
        for (int w = 0; w < m->params->count; w++) {
            const weight *a = &from->params->table[w], *b = &m->params->table[w];
            float x[31 * 20], y[31 * 20], z[31 * 20];
            assert_int_equal(b->tensor.value.type, b->dimensions == 2 ? types[i] : DTYPE_F32);
            OK(params_get(from->params, w, x));
            OK(params_get(m->params, w, y));
            OK(params_get(wide->params, w, z));
            assert_memory_equal(x, y, (size_t)(a->rows * a->cols) * sizeof *x);
            assert_memory_equal(x, z, (size_t)(a->rows * a->cols) * sizeof *x);
        }
        model_free(wide);
        model_free(m);
        model_free(from);
    }
    device_close(d);
}

/* ---------------------------------------------------------------- quantized */

static const char WIDE[] = "{\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":48,\"vocab_size\":31,"
                           "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"num_hidden_layers\":1}";

/* The error of each value, as a part of the largest of its group of 32. */
static void expect_close(model *a, model *b, double matrices, double vocabulary) {
    float x[64 * 64], y[64 * 64];
    for (int w = 0; w < a->params->count; w++) {
        const weight *of = &a->params->table[w];
        bool blocks = of->dimensions == 2 && of->cols % 32 == 0;
        double limit = !blocks ? 1e-3 : strncmp(of->name, "model.layers.", 13) ? vocabulary : matrices;
        OK(params_get(a->params, w, x));
        OK(params_get(b->params, w, y));
        for (int64_t first = 0; first < of->rows * of->cols; first += 32) {
            double largest = 0, error = 0;
            for (int64_t i = first; i < first + 32 && i < of->rows * of->cols; i++) {
                largest = fmax(largest, fabs(x[i]));
                error = fmax(error, fabs((double)x[i] - y[i]));
            }
            if (error > limit * largest) fail_msg("%s: error %g of %g", of->name, error, largest);
        }
    }
}

/* Rows of 48 numbers are f16. Half a step of q8_0 is 1 / 254 of the largest value, and the scale is rounded to 11 bits;
 * a step of q4_0 is 1 / 8, and 8 steps are cut to 7. */
static void quantized_matrices(void **state) {
    const folder *f = *state;
    device *d = cpu();
    model_config *c;
    model *from;
    gguf_file file;
    json_t *tree;
    OK(json_parse(WIDE, sizeof WIDE - 1, "test", &tree));
    OK(config_from_json(tree, "test", NULL, &c));
    json_decref(tree);
    OK(model_create_random(d, c, DTYPE_F32, 1, &from));
    static const struct {
        const char *name;
        double matrices, vocabulary;
    } cases[] = {{"q8_0", 1.0 / 254 + 0x1p-11, 1.0 / 254 + 0x1p-11}, {"q4_0", 1.0 / 8 + 0x1p-10, 1.0 / 254 + 0x1p-11}};
    for (int i = 0; i < 2; i++) {
        model *m = through_gguf(f, d, from, cases[i].name, DTYPE_F32);
        expect_close(from, m, cases[i].matrices, cases[i].vocabulary);
        OK(gguf_open(in(f, "model.gguf"), &file));
        assert_string_equal(gguf_find_tensor(&file, "blk.0.attn_q.weight")->format->name, cases[i].name);
        assert_string_equal(gguf_find_tensor(&file, "token_embd.weight")->format->name, "q8_0");
        assert_string_equal(gguf_find_tensor(&file, "output.weight")->format->name, "q8_0");
        assert_string_equal(gguf_find_tensor(&file, "blk.0.ffn_down.weight")->format->name, "f16");
        assert_string_equal(gguf_find_tensor(&file, "output_norm.weight")->format->name, "f32");
        gguf_close(&file);
        model_free(m);
    }
    model_free(from);
    device_close(d);
}

/* ---------------------------------------------------------------- refusals */

static void what_llama_cpp_does_not_run_is_named(void **state) {
    static const struct {
        const char *type, *more, *error;
    } cases[] = {
        {"lckv-llama", ",\"layer_types\":\"0_0_2\"",
         "layer_types: llama.cpp does not run layer 1 of \"0_0_2\", which reads another layer's slot"},
        {"lckv-llama", ",\"layer_types\":\"0_2_2\"",
         "does not run layer 1 of \"0_2_2\", which reads another layer's slot"},
        {"lckv-llama", ",\"layer_types\":\"0_1s_2\"", "does not run layer 1 of \"0_1s_2\", which has a sliding window"},
        {"lckv-llama", ",\"force_nodiag\":true", "layer 0 of \"0_1_2\", which is strictly causal"},
        {"mistral", ",\"sliding_window\":8", "which has a sliding window"},
        {"llama", ",\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":2.0}", "does not run the rope_type dynamic"},
        {"llama",
         ",\"rope_scaling\":{\"rope_type\":\"longrope\",\"short_factor\":[1,1],\"long_factor\":[2,2],"
         "\"original_max_position_embeddings\":64}",
         "does not run the rope_type longrope"},
        {"qwen3", ",\"attention_bias\":true", "does not run qwen3 with model.layers.0.self_attn.q_proj.bias"},
        {"qwen2", ",\"head_dim\":8", "qwen2 with a head_dim other than hidden_size / num_attention_heads"},
    };
    const folder *f = *state;
    device *d = cpu();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char more[512];
        model *m;
        snprintf(more, sizeof more, "%s%s", cases[i].more, strstr(cases[i].more, "head_dim") ? "" : ",\"head_dim\":4");
        OK(model_create_random(d, config_of(cases[i].type, more), DTYPE_F32, 1, &m));
        FAILS(write_gguf(f, d, m, NULL), LCKV_ERROR_UNSUPPORTED, cases[i].error);
        assert_false(file_exists(in(f, "model.gguf")));
        model_free(m);
    }
    device_close(d);
}

static void options_are_checked(void **state) {
    const folder *f = *state;
    device *d = cpu();
    model *m;
    OK(model_create_random(d, config_of("llama", ""), DTYPE_F32, 1, &m));
    FAILS(write_gguf(f, d, m, "q5_K"), LCKV_ERROR_ARGUMENT, "expected gguf_dtype auto, f32, f16, bf16, q8_0 or q4_0");
    lckv_convert_options o = lckv_convert_defaults();
    o.model_name_or_path = in(f, "from");
    FAILS(lckv_convert(&o), LCKV_ERROR_ARGUMENT, "either output_dir or gguf_file");
    o.output_dir = o.gguf_file = in(f, "x");
    FAILS(lckv_convert(&o), LCKV_ERROR_ARGUMENT, "either output_dir or gguf_file");
    o.gguf_file = NULL;
    o.gguf_dtype = "f16";
    FAILS(lckv_convert(&o), LCKV_ERROR_ARGUMENT, "gguf_dtype is only for a gguf_file");
    o.output_dir = NULL;
    o.gguf_file = in(f, "none/x.gguf");
    FAILS(lckv_convert(&o), LCKV_ERROR_FILE, "none/x.gguf");
    model_free(m);
    device_close(d);
}

/* ---------------------------------------------------------------- names */

static void names_of_tensors(void **state) {
    char out[TENSOR_NAME_BYTES];
    (void)state;
    assert_true(gguf_name_to_hf("blk.12.attn_output.weight", out));
    assert_string_equal(out, "model.layers.12.self_attn.o_proj.weight");
    assert_true(gguf_name_to_hf("output.weight", out));
    assert_string_equal(out, "lm_head.weight");
    assert_true(gguf_name_of_hf("model.layers.0.self_attn.q_norm.weight", out));
    assert_string_equal(out, "blk.0.attn_q_norm.weight");
    static const char *const others[] = {"blk.1.attn_q",
                                         "blk.1.attn_q.scale",
                                         "blk.01.attn_q.weight",
                                         "blk.+1.attn_q.weight",
                                         "blk.-1.attn_q.weight",
                                         "blk.attn_q.weight",
                                         "blk.1.token_embd.weight",
                                         "attn_q.weight",
                                         "",
                                         "blk.4294967296.attn_q.weight"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (gguf_name_to_hf(others[i], out)) fail_msg("'%s' became '%s'", others[i], out);
}

/* A Hugging Face folder with a GGUF file beside it stays a folder; without a config.json, one GGUF file is the model.
 */
static void folders_of_gguf_files(void **state) {
    const folder *f = *state;
    device *d = cpu();
    model *m;
    char *path;
    size_t bytes;
    OK(model_create_random(d, config_of("llama", ""), DTYPE_F32, 1, &m));
    OK(write_gguf(f, d, m, NULL));
    OK(folder_create(in(f, "hub")));
    char *file = get(in(f, "model.gguf"), &bytes);
    put(in(f, "hub/a.gguf"), file, bytes);
    put(in(f, "from/a.gguf"), file, bytes);
    model_free(m);
    lckv_model_options options = lckv_model_defaults();
    OK(lckv_model_open(d, in(f, "hub"), &options, &m));
    assert_string_equal(m->folder, in(f, "hub/a.gguf"));
    model_free(m);
    OK(lckv_find_folder(in(f, "from"), &path));
    assert_string_equal(path, in(f, "from"));
    lckv_free(path);
    put(in(f, "hub/b.gguf"), file, bytes);
    FAILS(lckv_find_folder(in(f, "hub"), &path), LCKV_ERROR_ARGUMENT, "has several GGUF files (");
    free(file);
    device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(models_return_unchanged),
        IN_FOLDER(other_frequencies_return_as_longrope),
        IN_FOLDER(matrices_in_16_bits),
        IN_FOLDER(quantized_matrices),
        IN_FOLDER(what_llama_cpp_does_not_run_is_named),
        IN_FOLDER(options_are_checked),
        cmocka_unit_test(names_of_tensors),
        IN_FOLDER(folders_of_gguf_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
