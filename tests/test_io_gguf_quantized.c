/* q8_0 and q4_0 of GGUF files and weights in int8 and int4: values are copied both ways without a change of a bit. */
#define _GNU_SOURCE /* memmem */
#include "gguf/gguf.h"
#include "io/convert.h"
#include "io/gguf/gguf_groups.h"
#include "io/gguf/gguf_names.h"
#include "model_fixture.h"

/* 64 columns are whole groups, 48 are not. */
static const char SHAPE[] = "{\"model_type\":\"%s\",\"hidden_size\":64,\"intermediate_size\":%d,\"vocab_size\":31,"
                            "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"num_hidden_layers\":2%s}";

static model *random_model(device *d, const char *type, int width, const char *more, dtype stored) {
    char text[512];
    json_t *tree;
    model_config *c;
    model *m;
    snprintf(text, sizeof text, SHAPE, type, width, more);
    OK(json_parse(text, strlen(text), "test", &tree));
    OK(config_from_json(tree, "test", NULL, &c));
    json_decref(tree);
    OK(model_create_random(d, c, stored, 1, &m));
    return m;
}

static model *load_as(device *d, const char *path, dtype type, weight_format format) {
    checkpoint_load_options options = {.type = type, .format = format};
    model *m;
    OK(checkpoint_load(d, path, &options, &m));
    return m;
}

/* Converts `source` to a GGUF file, or to a folder if `format` is NULL. */
static void convert(device *d, const char *source, const char *to, const char *format, weight_format weights) {
    model_config *c;
    OK(config_read(source, NULL, &c));
    convert_options options = {.source = source, .config = c, .type = DTYPE_COUNT, .format = weights};
    if (format)
        options.gguf_file = to, options.gguf_dtype = format;
    else
        options.output = to;
    OK(checkpoint_convert(d, &options));
    config_free(c);
}

/* FOLDER/plain and its GGUF file FOLDER/model.gguf. */
static void write_gguf(const folder *f, device *d, model *m, const char *format) {
    save_model(m, in(f, "plain"), 0);
    convert(d, in(f, "plain"), in(f, "model.gguf"), format, WEIGHT_AUTO);
}

/* ---------------------------------------------------------------- reading */

/* The values of a tensor as gguf_decode() has them, in the order of transformers. */
static void decode(const char *path, const char *name, float *out) {
    checkpoint_files files;
    OK(checkpoint_files_open(path, &files));
    const safetensors_entry *e = checkpoint_files_find(&files, name)->entry;
    int64_t cols = e->shape[1];
    size_t bytes = (size_t)(cols / e->format->block) * e->format->bytes;
    for (int64_t r = 0; r < e->shape[0]; r++)
        gguf_decode(e->format, e->data + (size_t)safetensors_stored_row(e, r) * bytes, cols, out + r * cols);
    checkpoint_files_close(&files);
}

/* All matrices have the type, but those with 48 columns, which are f16 in the file. */
static void expect_exact(model *m, const char *path, dtype layers, dtype outer) {
    float x[64 * 64], y[64 * 64];
    for (int i = 0; i < m->params->count; i++) {
        const weight *w = &m->params->table[i];
        dtype type = w->tensor.value.type;
        if (w->dimensions == 1 || w->cols == 48) continue;
        assert_int_equal(type, params_is_outer(m->params, i) ? outer : layers);
        OK(params_get(m->params, i, x));
        decode(path, w->name, y);
        if (memcmp(x, y, (size_t)(w->rows * w->cols) * sizeof *x)) fail_msg("%s has other values", w->name);
    }
}

static void blocks_become_integers(void **state) {
    static const struct {
        const char *model, *format;
        weight_format weights, found;
        dtype layers, outer;
    } cases[] = {
        {"llama", "q8_0", WEIGHT_AUTO, WEIGHT_INT8, DTYPE_INT8, DTYPE_INT8},
        {"llama", "q4_0", WEIGHT_AUTO, WEIGHT_INT4, DTYPE_INT4, DTYPE_INT8},
        {"qwen2", "q4_0", WEIGHT_INT4, WEIGHT_INT4, DTYPE_INT4, DTYPE_INT8},
        {"qwen3", "q8_0", WEIGHT_INT8, WEIGHT_INT8, DTYPE_INT8, DTYPE_INT8},
        {"llama", "q4_0", WEIGHT_INT8, WEIGHT_INT8, DTYPE_INT8, DTYPE_INT8},
    };
    const folder *f = *state;
    device *d = cpu();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model *from = random_model(d, cases[i].model, i % 2 ? 48 : 64, ",\"head_dim\":16", DTYPE_F32);
        write_gguf(f, d, from, cases[i].format);
        model *m = load_as(d, in(f, "model.gguf"), DTYPE_COUNT, cases[i].weights);
        assert_int_equal(m->config->weight_format, cases[i].found);
        expect_exact(m, in(f, "model.gguf"), cases[i].layers, cases[i].outer);
        model_free(m);
        model_free(from);
    }
    device_close(d);
}

/* With weight_dtype float they are bf16, or of the type that is asked for. Other formats are quantized on request. */
static void weight_dtype_decides(void **state) {
    const folder *f = *state;
    device *d = cpu();
    model *from = random_model(d, "llama", 64, "", DTYPE_F32);
    write_gguf(f, d, from, "q8_0");
    model *rounded = load_as(d, in(f, "model.gguf"), DTYPE_COUNT, WEIGHT_FLOAT);
    assert_int_equal(rounded->params->table[1].tensor.value.type, DTYPE_BF16);
    assert_int_equal(rounded->params->embed->value.type, DTYPE_BF16);
    assert_int_equal(rounded->config->weight_format, WEIGHT_FLOAT);
    model *wide = load_as(d, in(f, "model.gguf"), DTYPE_F32, WEIGHT_FLOAT);
    expect_exact(wide, in(f, "model.gguf"), DTYPE_F32, DTYPE_F32);
    model *narrow = load_as(d, in(f, "model.gguf"), DTYPE_COUNT, WEIGHT_INT4);
    assert_int_equal(narrow->params->table[1].tensor.value.type, DTYPE_INT4);
    assert_int_equal(narrow->params->embed->value.type, DTYPE_INT8);
    model_free(narrow);
    model_free(wide);
    model_free(rounded);
    write_gguf(f, d, from, "f16");
    model *quantized = load_as(d, in(f, "model.gguf"), DTYPE_COUNT, WEIGHT_INT8);
    assert_int_equal(quantized->params->table[1].tensor.value.type, DTYPE_INT8);
    model_free(quantized);
    model_free(from);
    device_close(d);
}

/* Replaces the scale of the first block of a tensor. */
static void set_scale(const char *path, const char *name, uint16_t scale) {
    gguf_file file;
    size_t count;
    char *bytes = get(path, &count);
    OK(gguf_open(path, &file));
    size_t at = (size_t)(gguf_find_tensor(&file, name)->data - (const unsigned char *)file.map.data);
    gguf_close(&file);
    memcpy(bytes + at, &scale, sizeof scale);
    put(path, bytes, count);
    free(bytes);
}

static void scales_are_finite(void **state) {
    const folder *f = *state;
    device *d = cpu();
    checkpoint_load_options options = {.type = DTYPE_COUNT};
    model *from = random_model(d, "llama", 64, "", DTYPE_F32), *m;
    static const char *const formats[] = {"q8_0", "q4_0"};
    for (int i = 0; i < 2; i++) {
        write_gguf(f, d, from, formats[i]);
        set_scale(in(f, "model.gguf"), "blk.1.attn_v.weight", i ? 0x7c00 : 0x7e01);
        FAILS(checkpoint_load(d, in(f, "model.gguf"), &options, &m), LCKV_ERROR_FORMAT,
              "v_proj.weight: scale 0: expected a finite f16, found");
    }
    model_free(from);
    device_close(d);
}

/* Rows and columns of the whole, with the same type. */
static void expect_part(model *whole, model *part) {
    float all[64 * 64], mine[64 * 64];
    for (int i = 0; i < part->params->count; i++) {
        const weight *w = &part->params->table[i], *of = &whole->params->table[i];
        assert_int_equal(w->tensor.value.type, of->tensor.value.type);
        OK(params_get(whole->params, i, all));
        OK(params_get(part->params, i, mine));
        for (int64_t r = 0; r < w->rows; r++)
            assert_memory_equal(mine + r * w->cols, all + (w->first_row + r) * of->cols + w->first_col,
                                (size_t)w->cols * sizeof *mine);
    }
}

static void expect_parts(device *d, const char *path, weight_format format) {
    model *whole = load_as(d, path, DTYPE_COUNT, WEIGHT_AUTO);
    assert_int_equal(whole->config->weight_format, format);
    for (int rank = 0; rank < 2; rank++) {
        checkpoint_load_options options = {.type = DTYPE_COUNT, .rank = rank, .ranks = 2};
        model *part;
        OK(checkpoint_load(d, path, &options, &part));
        const weight *q = &part->params->table[1];
        assert_int_equal(q->rows, 32);
        assert_int_equal(q->first_row, 32 * rank);
        expect_part(whole, part);
        model_free(part);
    }
    model_free(whole);
}

static void ranks_have_the_integers_of_their_part(void **state) {
    static const char *const formats[] = {"q8_0", "q4_0"};
    const folder *f = *state;
    device *d = cpu();
    model *from = random_model(d, "llama", 64, "", DTYPE_F32);
    for (int i = 0; i < 2; i++) {
        weight_format format = i ? WEIGHT_INT4 : WEIGHT_INT8;
        write_gguf(f, d, from, formats[i]);
        expect_parts(d, in(f, "model.gguf"), format);
        convert(d, in(f, "plain"), in(f, "folder"), NULL, format);
        expect_parts(d, in(f, "folder"), format);
    }
    model_free(from);
    device_close(d);
}

/* ---------------------------------------------------------------- writing */

/* The tensor has the same format and bytes in both files. */
static void expect_same_tensor(const char *a, const char *b, const char *name) {
    gguf_file x, y;
    OK(gguf_open(a, &x));
    OK(gguf_open(b, &y));
    const gguf_tensor *s = gguf_find_tensor(&x, name), *t = gguf_find_tensor(&y, name);
    assert_true(s && t);
    assert_string_equal(s->format->name, t->format->name);
    assert_memory_equal(s->data, t->data, s->bytes);
    gguf_close(&x);
    gguf_close(&y);
}

/* Types and values are equal. */
static void expect_equal(model *a, model *b) {
    float x[64 * 64], y[64 * 64];
    for (int i = 0; i < a->params->count; i++) {
        const weight *w = &a->params->table[i];
        assert_int_equal(w->tensor.value.type, b->params->table[i].tensor.value.type);
        OK(params_get(a->params, i, x));
        OK(params_get(b->params, i, y));
        if (memcmp(x, y, (size_t)(w->rows * w->cols) * sizeof *x)) fail_msg("%s differs", w->name);
    }
}

static const char *const LAYER[] = {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.1.attn_output.weight",
                                    "blk.1.ffn_down.weight", "blk.1.ffn_gate.weight"};

/* Through a folder and back: the blocks of layers are the same bytes. A folder has embeddings and lm_head as f32, whose
 * q8_0 blocks are the same again. */
static void blocks_return(void **state) {
    const folder *f = *state;
    device *d = cpu();
    static const char *const formats[] = {"q8_0", "q4_0"};
    for (int i = 0; i < 2; i++) {
        model *from = random_model(d, i ? "llama" : "qwen2", 64, "", DTYPE_F32);
        write_gguf(f, d, from, formats[i]);
        convert(d, in(f, "model.gguf"), in(f, "folder"), NULL, WEIGHT_AUTO);
        convert(d, in(f, "folder"), in(f, "back.gguf"), "auto", WEIGHT_AUTO);
        convert(d, in(f, "folder"), in(f, "same.gguf"), formats[i], WEIGHT_AUTO);
        convert(d, in(f, "model.gguf"), in(f, "copy.gguf"), "auto", WEIGHT_AUTO);
        for (size_t t = 0; t < sizeof LAYER / sizeof *LAYER; t++) {
            expect_same_tensor(in(f, "model.gguf"), in(f, "back.gguf"), LAYER[t]);
            expect_same_tensor(in(f, "model.gguf"), in(f, "same.gguf"), LAYER[t]);
            expect_same_tensor(in(f, "model.gguf"), in(f, "copy.gguf"), LAYER[t]);
        }
        expect_same_tensor(in(f, "model.gguf"), in(f, "same.gguf"), "token_embd.weight");
        expect_same_tensor(in(f, "model.gguf"), in(f, "copy.gguf"), "output.weight");
        model *a = load_as(d, in(f, "model.gguf"), DTYPE_COUNT, WEIGHT_AUTO),
              *b = load_as(d, in(f, "folder"), DTYPE_COUNT, WEIGHT_AUTO);
        assert_int_equal(a->config->weight_format, b->config->weight_format);
        expect_equal(a, b);
        model_free(b);
        model_free(a);
        model_free(from);
    }
    device_close(d);
}

/* int4 as q8_0, rows that are no whole groups, and weight_dtype. */
static void what_each_format_holds(void **state) {
    const folder *f = *state;
    device *d = cpu();
    gguf_file file;
    model *from = random_model(d, "llama", 48, "", DTYPE_F32);
    save_model(from, in(f, "plain"), 0);
    convert(d, in(f, "plain"), in(f, "int4"), NULL, WEIGHT_INT4);
    model *stored = load_as(d, in(f, "int4"), DTYPE_F32, WEIGHT_FLOAT), *m;
    static const struct {
        const char *format, *layer, *narrow, *outer;
        weight_format weights;
        dtype loaded;
    } cases[] = {{"auto", "q4_0", "f32", "f32", WEIGHT_AUTO, DTYPE_INT4},
                 {"q8_0", "q8_0", "f16", "q8_0", WEIGHT_AUTO, DTYPE_INT8},
                 {"q4_0", "q4_0", "f16", "q8_0", WEIGHT_AUTO, DTYPE_INT4},
                 {"auto", "bf16", "bf16", "f32", WEIGHT_FLOAT, DTYPE_BF16}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        convert(d, in(f, "int4"), in(f, "x.gguf"), cases[i].format, cases[i].weights);
        OK(gguf_open(in(f, "x.gguf"), &file));
        assert_string_equal(gguf_find_tensor(&file, "blk.0.attn_q.weight")->format->name, cases[i].layer);
        assert_string_equal(gguf_find_tensor(&file, "blk.0.ffn_down.weight")->format->name, cases[i].narrow);
        assert_string_equal(gguf_find_tensor(&file, "output.weight")->format->name, cases[i].outer);
        gguf_close(&file);
        m = load_as(d, in(f, "x.gguf"), DTYPE_COUNT, WEIGHT_AUTO); /* a head of another format is int8, as in folders */
        assert_int_equal(m->params->head->value.type, i < 3 ? DTYPE_INT8 : DTYPE_F32);
        assert_int_equal(m->params->table[1].tensor.value.type, cases[i].loaded);
        model_free(m);
        m = load_as(d, in(f, "x.gguf"), DTYPE_F32, WEIGHT_FLOAT);
        float x[64 * 64], y[64 * 64];
        for (int w = 0; w < m->params->count && i < 3; w++) {
            const weight *of = &m->params->table[w];
            if (of->dimensions == 1 || params_is_outer(m->params, w) || (of->cols == 48 && i)) continue;
            OK(params_get(m->params, w, x));
            OK(params_get(stored->params, w, y));
            if (memcmp(x, y, (size_t)(of->rows * of->cols) * sizeof *x)) fail_msg("%s: %s", cases[i].format, of->name);
        }
        model_free(m);
    }
    convert(d, in(f, "plain"), in(f, "x.gguf"), "auto", WEIGHT_INT4); /* lckv's integers, not those of ggml */
    m = load_as(d, in(f, "x.gguf"), DTYPE_F32, WEIGHT_FLOAT);
    for (int w = 0; w < 2; w++) {
        float x[64 * 64], y[64 * 64];
        const weight *of =
            params_find(m->params, w ? "model.layers.1.mlp.up_proj.weight" : "model.layers.0.self_attn.q_proj.weight");
        int entry = (int)(of - m->params->table);
        OK(params_get(m->params, entry, x));
        OK(params_get(stored->params, entry, y));
        assert_memory_equal(x, y, (size_t)(of->rows * of->cols) * sizeof *x);
    }
    model_free(m);
    model_free(stored);
    model_free(from);
    device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(blocks_become_integers), IN_FOLDER(weight_dtype_decides),
        IN_FOLDER(scales_are_finite),      IN_FOLDER(ranks_have_the_integers_of_their_part),
        IN_FOLDER(blocks_return),          IN_FOLDER(what_each_format_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
