/* Quantized checkpoints: the tensors of a folder, loading and saving without a change of a bit, conversion, other
 * programs' files, malformed files, and adapters beside quantized weights. */
#define _GNU_SOURCE /* memmem */
#include "device/half.h"
#include "device/quantize.h"
#include "io/adapter/adapter_save.h"
#include "io/convert.h"
#include "io/tensors/quantized_tensors.h"
#include "model_fixture.h"

#include <math.h>

static const char Q[] = "model.layers.0.self_attn.q_proj.weight";

static model *load_as(device *d, const char *path, weight_format format, const char *added) {
    checkpoint_load_options options = {.type = DTYPE_COUNT, .format = format, .adapter = added};
    model *m;
    OK(checkpoint_load(d, path, &options, &m));
    return m;
}

static void save_as(model *m, const char *path, dtype type, weight_format format, int64_t shard_bytes) {
    checkpoint_save_options options = {.type = type, .format = format, .shard_bytes = shard_bytes};
    OK(checkpoint_save(m->config, m->params, &options, path));
}

/* Formats, integers, scales and other values are equal. */
static void expect_same_model(model *a, model *b) {
    assert_int_equal(a->params->count, b->params->count);
    assert_int_equal(a->config->weight_format, b->config->weight_format);
    for (int i = 0; i < a->params->count; i++) {
        view x = a->params->table[i].tensor.value, y = b->params->table[i].tensor.value;
        assert_int_equal(x.type, y.type);
        if (memcmp(x.data, y.data, view_bytes(x))) fail_msg("%s differs", a->params->table[i].name);
        if (view_scale_bytes(x)) assert_memory_equal(x.scales, y.scales, view_scale_bytes(x));
    }
}

static const char TYPES[] = ",\"torch_dtype\":\"bfloat16\"";

/* Saves a random model of bf16 weights in "plain". */
static void write_plain(const folder *f, device *d, const char *type, const char *more) {
    char all[256];
    snprintf(all, sizeof all, "%s%s", TYPES, more);
    model *m = small_model(d, type, 3, all, DTYPE_BF16, 4);
    save_model(m, in(f, "plain"), 0);
    model_free(m);
}

/* ---------------------------------------------------------------- the files */

/* compressed_tensors' pack_to_int32: value + 8 or + 128, eight or four to a word, the first in the lowest bits. */
static void words_are_those_of_compressed_tensors(void **state) {
    (void)state;
    for (int bits = 4; bits <= 8; bits += 4) {
        dtype type = bits == 4 ? DTYPE_INT4 : DTYPE_INT8;
        weight w = {.name = "x.weight", .rows = 2, .cols = 10, .dimensions = 2, .tensor.value.type = type};
        quantized_items items;
        unsigned char data[20] = {0};
        uint16_t scales[2] = {0x3c00, 0xbc00};
        int32_t words[2 * 3];
        int64_t shape[2];
        OK(quantized_items_make(&w, type, &items));
        int64_t cols = bits == 4 ? 2 : 3;
        assert_int_equal(items.item[0].shape[1], cols);
        assert_int_equal(items.item[1].shape[1], 1);
        for (int i = 0; i < 20; i++) {
            int value = i % 10 - 5;
            if (bits == 8) data[i] = (unsigned char)value;
            if (bits == 4) data[i / 2] |= (unsigned char)((value & 15) << i % 2 * 4);
        }
        quantized_item_values(0, &w, type, data, scales, words);
        quantized_item_values(2, &w, type, data, scales, shape);
        assert_true(shape[0] == 2 && shape[1] == 10);
        for (int r = 0; r < 2; r++)
            for (int c = 0; c < 10; c++) {
                uint32_t word = (uint32_t)words[r * cols + c / (32 / bits)];
                int stored = (int)(word >> c % (32 / bits) * bits & ((1u << bits) - 1));
                assert_int_equal(stored - (1 << (bits - 1)), c - 5);
            }
    }
    weight narrow = {.name = "x.weight", .rows = 2, .cols = 4, .dimensions = 2};
    quantized_items items;
    FAILS(quantized_items_make(&narrow, DTYPE_INT8, &items), LCKV_ERROR_UNSUPPORTED, "x.weight has 4 columns");
}

static void expect_tensors(const char *path, bool int4) {
    checkpoint_files files;
    OK(checkpoint_files_open(path, &files));
    const checkpoint_tensor *packed = checkpoint_files_find(&files, "model.layers.1.mlp.down_proj.weight_packed");
    const checkpoint_tensor *scale = checkpoint_files_find(&files, "model.layers.1.mlp.down_proj.weight_scale");
    const checkpoint_tensor *shape = checkpoint_files_find(&files, "model.layers.1.mlp.down_proj.weight_shape");
    assert_true(packed && scale && shape);
    assert_int_equal(packed->entry->type, DTYPE_I32);
    assert_int_equal(scale->entry->type, DTYPE_F16);
    assert_int_equal(shape->entry->type, DTYPE_I64);
    assert_true(packed->entry->shape[0] == 16 && packed->entry->shape[1] == (int4 ? 3 : 5)); /* 20 columns */
    assert_null(checkpoint_files_find(&files, "model.layers.1.mlp.down_proj.weight"));
    assert_int_equal(checkpoint_files_find(&files, "lm_head.weight")->entry->type, DTYPE_BF16);
    assert_int_equal(checkpoint_files_find(&files, "model.norm.weight")->entry->type, DTYPE_BF16);
    checkpoint_files_close(&files);
}

/* Quantized at load; saved; converted: all have the same bits, in one file or in shards. */
static void nothing_changes_a_bit(void **state) {
    device *d = cpu();
    static const weight_format formats[] = {WEIGHT_INT8, WEIGHT_INT4};
    static const char *const types[] = {"llama", "qwen2", "lckv-llama"};
    for (int t = 0; t < 6; t++) {
        weight_format format = formats[t % 2];
        write_plain(*state, d, types[t / 2], t / 2 == 2 ? ",\"layer_types\":\"1_1_2\"" : "");
        model *at_load = load_as(d, in(*state, "plain"), format, NULL);
        assert_int_equal(at_load->config->weight_format, format);
        assert_int_equal(at_load->params->embed->value.type, DTYPE_INT8);
        assert_int_equal(at_load->params->norm->value.type, DTYPE_BF16);

        model_config *c = small_config(types[t / 2], 3, t / 2 == 2 ? ",\"layer_types\":\"1_1_2\"" : "");
        convert_options options = {.source = in(*state, "plain"),
                                   .config = c,
                                   .output = in(*state, "converted"),
                                   .type = DTYPE_COUNT,
                                   .format = format};
        OK(checkpoint_convert(d, &options));
        expect_tensors(in(*state, "converted"), format == WEIGHT_INT4);
        model *converted = load_as(d, in(*state, "converted"), WEIGHT_AUTO, NULL);
        expect_same_model(at_load, converted);

        options = (convert_options){.source = in(*state, "converted"),
                                    .config = c,
                                    .output = in(*state, "again"),
                                    .type = DTYPE_COUNT,
                                    .shard_bytes = 500};
        OK(checkpoint_convert(d, &options));
        assert_true(file_exists(in(*state, "again/model.safetensors.index.json")));
        model *again = load_as(d, in(*state, "again"), WEIGHT_AUTO, NULL);
        expect_same_model(at_load, again);

        save_as(again, in(*state, "saved"), DTYPE_COUNT, WEIGHT_AUTO, 0);
        assert_file_says(in(*state, "saved/config.json"), "\"format\": \"pack-quantized\"");
        model *saved = load_as(d, in(*state, "saved"), WEIGHT_AUTO, NULL);
        expect_same_model(at_load, saved); /* embeddings are f32 in the file, and get the same integers again */
        config_free(c);
        model_free(saved);
        model_free(again);
        model_free(converted);
        model_free(at_load);
    }
    device_close(d);
}

static void expect_values(model *a, model *b, int i, double most) {
    const weight *w = &a->params->table[i];
    size_t count = (size_t)(w->rows * w->cols);
    float *x = malloc(count * sizeof *x), *y = malloc(count * sizeof *y);
    OK(params_get(a->params, i, x));
    OK(params_get(b->params, i, y));
    for (size_t k = 0; k < count; k++)
        if (!(fabs((double)x[k] - (double)y[k]) <= most))
            fail_msg("%s: %g and %g", w->name, (double)x[k], (double)y[k]);
    free(x);
    free(y);
}

/* weight_dtype float dequantizes; a float model can be saved quantized; int8 can become int4. */
static void formats_change_on_request(void **state) {
    device *d = cpu();
    write_plain(*state, d, "llama", "");
    model *plain = load_as(d, in(*state, "plain"), WEIGHT_AUTO, NULL);
    save_as(plain, in(*state, "q8"), DTYPE_COUNT, WEIGHT_INT8, 0);
    model *q8 = load_as(d, in(*state, "q8"), WEIGHT_AUTO, NULL);
    checkpoint_load_options wide = {.type = DTYPE_F32, .format = WEIGHT_FLOAT};
    model *floats;
    OK(checkpoint_load(d, in(*state, "q8"), &wide, &floats));
    assert_int_equal(floats->config->weight_format, WEIGHT_FLOAT);
    for (int i = 0; i < plain->params->count; i++) {
        assert_int_equal(params_type(floats->params, i), DTYPE_F32);
        if (!params_is_outer(q8->params, i)) expect_values(q8, floats, i, 0);
        if (params_is_outer(q8->params, i)) expect_values(plain, floats, i, 0);
    }
    model *as_norms = load_as(d, in(*state, "q8"), WEIGHT_FLOAT, NULL);
    assert_int_equal(params_type(as_norms->params, 1), DTYPE_BF16);
    save_as(floats, in(*state, "wide"), DTYPE_COUNT, WEIGHT_AUTO, 0);
    model *again = load_as(d, in(*state, "wide"), WEIGHT_AUTO, NULL);
    assert_true(same_weights(floats, again));
    size_t bytes;
    char *config = get(in(*state, "wide/config.json"), &bytes);
    assert_null(memmem(config, bytes, "quantization_config", 19));
    free(config);
    model *q4 = load_as(d, in(*state, "q8"), WEIGHT_INT4, NULL);
    assert_int_equal(params_type(q4->params, 1), DTYPE_INT4);
    expect_values(q8, q4, 1, 0.02 / 4); /* normal with deviation 0.02, some 16 steps of up to 6 deviations */
    model *all[] = {plain, q8, floats, as_norms, again, q4};
    for (int i = 0; i < 6; i++) model_free(all[i]);
    device_close(d);
}

/* ---------------------------------------------------------------- files of other programs */

typedef struct tensor_change {
    const char *name;   /* of the tensor to change */
    const char *rename; /* its new name; NULL: it is removed */
    dtype type;         /* its new type; DTYPE_COUNT: as before */
    int64_t shape[2];   /* zeros: as before */
    int byte;           /* to overwrite with 0xff; -1: none */
} tensor_change;

typedef struct rewriting {
    const safetensors_file *from;
    const safetensors_entry *entries[64];
    const tensor_change *change;
} rewriting;

static int rewritten_values(void *user, int index, element_range range, void *bytes) {
    (void)range;
    const rewriting *r = user;
    const safetensors_entry *e = r->entries[index];
    const tensor_change *c = r->change;
    bool changed = !strcmp(e->name, c->name);
    if (changed && c->type == DTYPE_BF16 && e->type == DTYPE_F16) { /* scales: powers of two, exact in both */
        for (int64_t i = 0; i < e->elements; i++) ((uint16_t *)bytes)[i] = 0x3c80;
        return LCKV_OK;
    }
    memcpy(bytes, e->data, e->bytes);
    if (changed && c->byte >= 0) memset((char *)bytes + c->byte, 0xff, 2);
    return LCKV_OK;
}

/* Writes the folder "bad" with a tensor of "good" changed. */
static void rewrite(const folder *f, const tensor_change *c) {
    safetensors_file from;
    safetensors_item items[64];
    rewriting r = {.from = &from, .change = c};
    int count = 0;
    OK(safetensors_open(in(f, "good/model.safetensors"), &from));
    for (int i = 0; i < from.count; i++) {
        const safetensors_entry *e = &from.entries[i];
        bool changed = !strcmp(e->name, c->name);
        if (changed && !c->rename) continue;
        r.entries[count] = e;
        items[count] = (safetensors_item){.name = changed ? c->rename : e->name,
                                          .type = changed && c->type != DTYPE_COUNT ? c->type : e->type,
                                          .dimensions = e->dimensions};
        memcpy(items[count].shape, changed && c->shape[0] ? c->shape : e->shape, 2 * sizeof(int64_t));
        count++;
    }
    size_t bytes;
    char *config = get(in(f, "good/config.json"), &bytes);
    OK(folder_create(in(f, "bad")));
    put(in(f, "bad/config.json"), config, bytes);
    new_file file;
    OK(file_begin(in(f, "bad/model.safetensors"), &file));
    OK(safetensors_write(&file, items, count, rewritten_values, &r));
    OK(file_commit(&file));
    safetensors_close(&from);
    free(config);
}

static void malformed_tensors_are_rejected(void **state) {
    static const char scale[] = "model.layers.0.self_attn.q_proj.weight_scale",
                      packed[] = "model.layers.0.self_attn.q_proj.weight_packed",
                      shape[] = "model.layers.0.self_attn.q_proj.weight_shape";
    static const struct {
        tensor_change change;
        const char *error;
    } cases[] = {
        {{scale, NULL, DTYPE_COUNT, {0}, -1}, "q_proj.weight_scale is missing"},
        {{shape, NULL, DTYPE_COUNT, {0}, -1}, "q_proj.weight_shape is missing"},
        {{packed, NULL, DTYPE_COUNT, {0}, -1}, "q_proj.weight is missing"},
        {{shape, shape, DTYPE_COUNT, {0}, 0}, "q_proj.weight_shape: expected [16, 16], found ["},
        {{shape, shape, DTYPE_F64, {0}, -1}, "q_proj.weight_shape: expected two numbers"},
        {{scale, scale, DTYPE_COUNT, {8, 2}, -1},
         "q_proj.weight_scale: expected shape [16, 1], one scale for 32 columns"},
        {{scale, scale, DTYPE_COUNT, {0}, 2}, "q_proj.weight_scale: scale 1: expected a finite f16, found"},
        {{packed, packed, DTYPE_F32, {0}, -1}, "q_proj.weight_packed: expected dtype I32, found F32"},
        {{packed, packed, DTYPE_COUNT, {8, 4}, -1},
         "q_proj.weight_packed: expected shape [16, 2] of int4 or [16, 4] of int8"},
        {{"model.norm.weight", "model.norm.weight_packed", DTYPE_COUNT, {0}, -1}, "only matrices can be quantized"},
        {{"lm_head.weight", "lm_head.weight_scale", DTYPE_COUNT, {0}, -1}, "lm_head.weight is missing"},
        {{"model.layers.0.self_attn.k_proj.weight_scale",
          "model.layers.0.self_attn.k_proj.weight_zero_point",
          DTYPE_COUNT,
          {0},
          -1},
         "k_proj.weight_scale is missing"},
    };
    device *d = cpu();
    model *m = small_model(d, "llama", 1, "", DTYPE_F32, 4), *again;
    save_as(m, in(*state, "good"), DTYPE_COUNT, WEIGHT_INT4, 0);
    checkpoint_load_options options = {.type = DTYPE_COUNT};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rewrite(*state, &cases[i].change);
        FAILS(checkpoint_load(d, in(*state, "bad"), &options, &again), LCKV_ERROR_FORMAT, cases[i].error);
        assert_non_null(strstr(lckv_last_error(), "bad/"));
        assert_null(again);
    }
    OK(folder_create(in(*state, "plain")));
    size_t bytes;
    char *tensors = get(in(*state, "good/model.safetensors"), &bytes);
    put(in(*state, "plain/model.safetensors"), tensors, bytes);
    free(tensors);
    json_t *tree;
    OK(json_read_file(in(*state, "good/config.json"), &tree));
    json_object_del(tree, "quantization_config");
    char *text = json_dumps(tree, 0);
    put_text(in(*state, "plain/config.json"), text);
    free(text);
    json_decref(tree);
    FAILS(checkpoint_load(d, in(*state, "plain"), &options, &again), LCKV_ERROR_FORMAT, "has no quantization_config");
    model_free(m);
    device_close(d);
}

/* Scales may be bf16, the shape i32. */
static void other_types_of_scales_are_read(void **state) {
    device *d = cpu();
    model *m = small_model(d, "llama", 1, "", DTYPE_F32, 4);
    save_as(m, in(*state, "good"), DTYPE_COUNT, WEIGHT_INT4, 0);
    tensor_change change = {"model.layers.0.self_attn.q_proj.weight_scale",
                            "model.layers.0.self_attn.q_proj.weight_scale",
                            DTYPE_BF16,
                            {0},
                            -1};
    rewrite(*state, &change);
    model *again = load_as(d, in(*state, "bad"), WEIGHT_AUTO, NULL);
    const uint16_t *scales = params_find(again->params, Q)->tensor.value.scales;
    for (int i = 0; i < 16; i++) assert_true(float_of_f16(scales[i]) == 0.015625f);
    model_free(again);
    model_free(m);
    device_close(d);
}

/* ---------------------------------------------------------------- conversion and adapters */

/* Slots of quantized layers get the mean of the dequantized matrices, quantized again. */
static void means_are_quantized_again(void **state) {
    device *d = cpu();
    model *m = small_model(d, "llama", 3, "", DTYPE_F32, 4);
    save_as(m, in(*state, "good"), DTYPE_COUNT, WEIGHT_INT8, 0);
    model *q = load_as(d, in(*state, "good"), WEIGHT_AUTO, NULL);
    model_config *c = small_config("lckv-llama", 3, ",\"layer_types\":\"0_1_1\"");
    convert_options options = {
        .source = in(*state, "good"), .config = c, .output = in(*state, "to"), .type = DTYPE_COUNT};
    OK(checkpoint_convert(d, &options));
    model *to = load_as(d, in(*state, "to"), WEIGHT_AUTO, NULL);
    static const char *const names[] = {"model.layers.1.self_attn.k_proj.weight",
                                        "model.layers.2.self_attn.k_proj.weight"};
    float a[8 * 16], b[8 * 16], mean[8 * 16], found[8 * 16];
    uint8_t data[8 * 16];
    uint16_t scales[8];
    OK(params_get(q->params, (int)(params_find(q->params, names[0]) - q->params->table), a));
    OK(params_get(q->params, (int)(params_find(q->params, names[1]) - q->params->table), b));
    for (int i = 0; i < 8 * 16; i++) mean[i] = (float)(((double)a[i] + (double)b[i]) / 2);
    OK(quantize_rows(DTYPE_INT8, 8, 16, mean, data, scales, 1));
    dequantize_rows(DTYPE_INT8, 8, 16, data, scales, mean, 1);
    OK(params_get(to->params, (int)(params_find(to->params, names[0]) - to->params->table), found));
    assert_memory_equal(found, mean, sizeof found);
    config_free(c);
    model_free(to);
    model_free(q);
    model_free(m);
    device_close(d);
}

static int adapter_values(void *user, int entry, element_range range, dtype type, void *host) {
    return params_read_range(user, entry, range, type, host);
}

/* Writes an adapter of rank 2 on all matrices to "adapter". */
static void write_adapter(const folder *f, model *m) {
    const adapter_options options = {.rank = 2, .alpha = 3, .targets = ADAPTER_ALL};
    adapter *a;
    OK(adapter_create(m->params, &options, &a));
    for (int i = 0; i < a->weights->count; i++) {
        float *values = a->weights->table[i].tensor.value.data;
        for (int64_t k = 0; k < a->weights->table[i].rows * a->weights->table[i].cols; k++)
            values[k] = 0.3f * sinf((float)(k * 7 + i));
    }
    adapter_save_options save = {.type = DTYPE_F32, .values = adapter_values, .user = a->weights};
    OK(adapter_save(a, &save, in(f, "adapter")));
    adapter_free(a);
    for (int i = 0; i < m->params->count; i++) m->params->table[i].tensor.plus = NULL;
}

/* Beside quantized weights there are A and B; merged into the dequantized weights they give W + scale B A. */
static void adapters_stay_beside_quantized_weights(void **state) {
    device *d = cpu();
    write_plain(*state, d, "llama", "");
    model *plain = load_as(d, in(*state, "plain"), WEIGHT_AUTO, NULL);
    save_as(plain, in(*state, "q4"), DTYPE_F32, WEIGHT_INT4, 0);
    write_adapter(*state, plain);
    model *q4 = load_as(d, in(*state, "q4"), WEIGHT_AUTO, NULL);
    for (int from = 0; from < 2; from++) {
        model *m =
            load_as(d, in(*state, from ? "q4" : "plain"), from ? WEIGHT_AUTO : WEIGHT_INT4, in(*state, "adapter"));
        const low_rank *pair = params_find(m->params, Q)->tensor.plus;
        assert_non_null(m->adapter);
        assert_int_equal(m->adapter->count, 3 * 7);
        assert_true(pair && pair->a->value.rows == 2 && pair->b->value.rows == 16 && pair->scale == 1.5f);
        assert_true(fabsf(((const float *)pair->a->value.data)[1] - 0.3f * sinf(7)) < 1e-6f);
        if (from) expect_values(m, q4, 1, 0);
        lckv_save_options save = lckv_save_defaults();
        FAILS(lckv_model_save(m, in(*state, "x"), &save), LCKV_ERROR_UNSUPPORTED,
              "has an adapter beside its quantized");
        model_free(m);
    }
    model *merged = load_as(d, in(*state, "q4"), WEIGHT_FLOAT, in(*state, "adapter"));
    assert_null(merged->adapter);
    model_config *c = small_config("llama", 3, "");
    convert_options options = {.source = in(*state, "q4"),
                               .config = c,
                               .output = in(*state, "to"),
                               .adapter = in(*state, "adapter"),
                               .type = DTYPE_F32};
    FAILS(checkpoint_convert(d, &options), LCKV_ERROR_UNSUPPORTED, "into which no adapter is merged without loss");
    assert_false(file_exists(in(*state, "to/config.json")));
    options.format = WEIGHT_FLOAT;
    OK(checkpoint_convert(d, &options));
    model *to = load_as(d, in(*state, "to"), WEIGHT_AUTO, NULL);
    expect_values(merged, to, 1, 1e-6);
    config_free(c);
    model *all[] = {to, merged, q4, plain};
    for (int i = 0; i < 4; i++) model_free(all[i]);
    device_close(d);
}

/* The public functions and their errors. */
static void by_the_public_functions(void **state) {
    device *d = cpu();
    write_plain(*state, d, "llama", "");
    lckv_convert_options convert = lckv_convert_defaults();
    char from[600], to[600];
    snprintf(from, sizeof from, "%s", in(*state, "plain"));
    snprintf(to, sizeof to, "%s", in(*state, "q8"));
    convert.model_name_or_path = from;
    convert.output_dir = to;
    convert.weight_dtype = "int3";
    FAILS(lckv_convert(&convert), LCKV_ERROR_ARGUMENT, "expected auto, float, int8 or int4, found 'int3'");
    convert.weight_dtype = "int8";
    OK(lckv_convert(&convert));
    lckv_model *m;
    OK(lckv_model_open(d, to, NULL, &m));
    assert_string_equal(lckv_config_describe(lckv_model_config(m)).weight_dtype, "int8");
    lckv_weight_info *weights;
    int64_t count;
    OK(lckv_model_weights(m, &weights, &count));
    assert_int_equal(count, m->params->count);
    assert_string_equal(weights[1].name, Q);
    assert_string_equal(weights[1].dtype, "int8");
    assert_int_equal(weights[1].bytes, 16 * 16 + 16 * 2);
    lckv_free(weights);
    lckv_model_options options = lckv_model_defaults();
    lckv_model *floats;
    options.weight_dtype = "float";
    OK(lckv_model_open(d, to, &options, &floats));
    assert_string_equal(lckv_config_describe(lckv_model_config(floats)).weight_dtype, "float");
    options.weight_dtype = "8";
    lckv_model *none;
    FAILS(lckv_model_open(d, to, &options, &none), LCKV_ERROR_ARGUMENT, "weight_dtype");
    lckv_model_free(floats);
    lckv_model_free(m);
    device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_those_of_compressed_tensors),
        IN_FOLDER(nothing_changes_a_bit),
        IN_FOLDER(formats_change_on_request),
        IN_FOLDER(malformed_tensors_are_rejected),
        IN_FOLDER(other_types_of_scales_are_read),
        IN_FOLDER(means_are_quantized_again),
        IN_FOLDER(adapters_stay_beside_quantized_weights),
        IN_FOLDER(by_the_public_functions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
