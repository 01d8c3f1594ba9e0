/* The table of weights: which tensors a model has, in which order, and that values are stored and read back. */
#include "config/model_size.h"
#include "device/half.h"
#include "model/model.h"

#include "expect.h"

#include <math.h>

#define SIZES                                                                                                          \
    "\"hidden_size\":32,\"intermediate_size\":44,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"vocab_size\":"  \
    "61"

static model_config *config_of(const char *type, int layers, const char *more) {
    char text[1024];
    json_t *tree;
    model_config *c;
    snprintf(text, sizeof text, "{\"model_type\":\"%s\"," SIZES ",\"num_hidden_layers\":%d%s}", type, layers, more);
    OK(json_parse(text, strlen(text), "test", &tree));
    OK(config_from_json(tree, "test", NULL, &c));
    json_decref(tree);
    return c;
}

static params *table_of(const model_config *c) {
    params *p;
    OK(params_create(c, NULL, NULL, &p));
    return p;
}

static device *cpu(void) {
    device *d;
    OK(device_open("cpu", 2, &d));
    return d;
}

/* ---------------------------------------------------------------- which tensors */

/* list(LlamaForCausalLM(LlamaConfig(..., attention_bias=True, mlp_bias=True)).state_dict()), transformers 4.45.2 */
static void order_is_the_state_dicts(void **state) {
    (void)state;
    static const char *const names[] = {
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.k_proj.bias",
        "model.layers.0.self_attn.v_proj.weight",
        "model.layers.0.self_attn.v_proj.bias",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.self_attn.o_proj.bias",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.mlp.gate_proj.bias",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.mlp.up_proj.bias",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.0.mlp.down_proj.bias",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.norm.weight",
        "lm_head.weight",
    };
    model_config *c = config_of("llama", 1, ",\"attention_bias\":true,\"mlp_bias\":true");
    params *p = table_of(c);
    assert_int_equal(p->count, sizeof names / sizeof *names);
    for (int i = 0; i < p->count; i++) assert_string_equal(p->table[i].name, names[i]);
    assert_int_equal(params_elements(p), model_parameters(c));
    params_free(p);
    config_free(c);
}

static void expect_shape(params *p, const char *name, int dimensions, int64_t rows, int64_t cols) {
    const weight *w = params_find(p, name);
    assert_non_null(w);
    assert_int_equal(w->dimensions, dimensions);
    assert_int_equal(w->rows, rows);
    assert_int_equal(w->cols, cols);
    assert_true(w->tensor.weight);
    assert_int_equal(w->tensor.value.rows, rows);
    assert_int_equal(w->tensor.value.cols, cols);
}

static void shapes(void **state) {
    (void)state;
    model_config *c = config_of("qwen3", 2, ",\"head_dim\":16");
    params *p = table_of(c);
    expect_shape(p, "model.embed_tokens.weight", 2, 61, 32);
    expect_shape(p, "model.layers.1.self_attn.q_proj.weight", 2, 64, 32);
    expect_shape(p, "model.layers.1.self_attn.k_proj.weight", 2, 32, 32);
    expect_shape(p, "model.layers.1.self_attn.o_proj.weight", 2, 32, 64);
    expect_shape(p, "model.layers.1.self_attn.q_norm.weight", 1, 1, 16);
    expect_shape(p, "model.layers.1.self_attn.k_norm.weight", 1, 1, 16);
    expect_shape(p, "model.layers.1.mlp.gate_proj.weight", 2, 44, 32);
    expect_shape(p, "model.layers.1.mlp.down_proj.weight", 2, 32, 44);
    expect_shape(p, "model.norm.weight", 1, 1, 32);
    assert_ptr_equal(p->layers[1].q_norm, &params_find(p, "model.layers.1.self_attn.q_norm.weight")->tensor);
    assert_ptr_equal(packed_matrix(&p->layers[0].down, "down"),
                     &params_find(p, "model.layers.0.mlp.down_proj.weight")->tensor);
    assert_ptr_equal(p->head, &params_find(p, "lm_head.weight")->tensor);
    params_free(p);
    config_free(c);
}

/* Parts are found by name; without biases between them they are one matrix in memory, and so are the scales of
 * quantized ones. */
static void parts_of_a_packed_weight(void **state) {
    (void)state;
    static const dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_INT8, DTYPE_INT4};
    device *d;
    OK(device_open("count", 0, &d)); /* only sizes: no op reads grouped formats yet */
    for (int i = 0; i < 4; i++) {
        model_config *c = config_of("llama", 2, ",\"head_dim\":16");
        params *p = table_of(c);
        OK(params_allocate(p, d, types[i]));
        const layer_weights *w = &p->layers[1];
        const tensor *q = packed_matrix(&w->qkv, "q"), *k = packed_matrix(&w->qkv, "k");
        assert_ptr_equal(q, &params_find(p, "model.layers.1.self_attn.q_proj.weight")->tensor);
        assert_null(packed_part(&w->qkv, "gate"));
        assert_null(packed_bias(&w->qkv, "q"));
        assert_int_equal(q->value.scales != NULL, i > 1);
        view all = packed_view(&w->qkv);
        if (i < 2) {
            assert_ptr_equal(all.data, q->value.data);
            assert_ptr_equal(k->value.data, (char *)q->value.data + view_bytes(q->value));
            assert_int_equal(all.rows, q->value.rows + 2 * k->value.rows);
            assert_int_equal(packed_view(&w->gate_up).data != NULL, 44 * 32 * 2 % 256 == 0 && 44 * 32 * 4 % 256 == 0);
        } else { /* without gaps: 8 rows of 16 or 32 bytes are no multiple of the alignment */
            assert_ptr_equal(all.data, q->value.data);
            assert_ptr_equal(all.scales, q->value.scales);
            assert_int_equal(all.rows, q->value.rows + 2 * k->value.rows);
            assert_ptr_equal(k->value.scales, (char *)q->value.scales + view_scale_bytes(q->value));
            assert_non_null(packed_view(&w->gate_up).data);
        }
        params_free(p);
        config_free(c);
    }
    model_config *c = config_of("qwen2", 2, ",\"head_dim\":16"); /* a bias is between q and k */
    params *p = table_of(c);
    OK(params_allocate(p, d, DTYPE_F32));
    assert_int_equal(p->layers[0].qkv.count, 3);
    assert_non_null(packed_bias(&p->layers[0].qkv, "v"));
    assert_null(packed_view(&p->layers[0].qkv).data);
    params_free(p);
    config_free(c);
    device_close(d);
}

/* The largest difference of entry i from `values`, as a share of the largest value. */
static double change_of(params *p, int i, const float *values) {
    const weight *w = &p->table[i];
    int64_t count = w->rows * w->cols;
    float *found = malloc((size_t)count * sizeof *found);
    double most = 0, largest = 0;
    OK(params_get(p, i, found));
    for (int64_t k = 0; k < count; k++) {
        most = fmax(most, fabs((double)found[k] - (double)values[k]));
        largest = fmax(largest, fabs((double)values[k]));
    }
    free(found);
    return most / largest;
}

/* int8 changes a value by at most half a scale, 1.001 / 254 of the largest of its group; int4 by one, where the value
 * opposite to the extreme one is cut to 7. */
static void quantized_values_are_near(void **state) {
    (void)state;
    static const dtype hosts[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    float values[88 * 32], read[88 * 32];
    uint16_t narrow[88 * 32];
    device *d = cpu();
    for (int t = 0; t < 6; t++) {
        model_config *c = config_of("llama", 1, "");
        params *p = table_of(c);
        dtype host = hosts[t / 2];
        params_choose_types(p, DTYPE_F32, t % 2 ? WEIGHT_INT4 : WEIGHT_INT8);
        OK(params_allocate_as_typed(p, d));
        assert_true(params_quantized(p));
        assert_int_equal(params_format(p), t % 2 ? WEIGHT_INT4 : WEIGHT_INT8);
        for (int i = 0; i < p->count; i++) {
            const weight *w = &p->table[i];
            int64_t count = w->rows * w->cols;
            dtype expected = w->dimensions == 1                    ? DTYPE_F32
                             : params_is_outer(p, i) || t % 2 == 0 ? DTYPE_INT8
                                                                   : DTYPE_INT4;
            assert_int_equal(params_type(p, i), expected);
            for (int64_t k = 0; k < count; k++)
                values[k] = float_of_bf16(bf16_of_float(sinf((float)(k * 37 + i)) * 0.03f)); /* exact in all types */
            cpu_narrow(narrow, host, values, host == DTYPE_F32 ? 0 : count);
            OK(params_set(p, i, host == DTYPE_F32 ? (void *)values : narrow, host));
            double change = change_of(p, i, values);
            assert_true(change <= (expected == DTYPE_INT8 ? 1.01 / 254 : expected == DTYPE_INT4 ? 1.01 / 8 : 0));
            OK(params_read(p, i, DTYPE_F32, read));
            uint16_t half[88 * 32], rounded[88 * 32];
            OK(params_read(p, i, DTYPE_BF16, half));
            cpu_narrow(rounded, DTYPE_BF16, read, count);
            assert_memory_equal(half, rounded, (size_t)count * 2);
        }
        params_free(p);
        config_free(c);
    }
    device_close(d);
}

static void integers_and_scales_are_copied(void **state) {
    (void)state;
    device *d = cpu();
    model_config *c = config_of("llama", 1, "");
    params *p = table_of(c);
    params_choose_types(p, DTYPE_F32, WEIGHT_INT4);
    OK(params_allocate_as_typed(p, d));
    unsigned char data[32 * 16], scales[32 * 2], data_again[sizeof data], scales_again[sizeof scales];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i * 7);
    for (size_t i = 0; i < sizeof scales; i++) scales[i] = i % 2 ? 0x2c : (unsigned char)i;
    OK(params_set_quantized(p, 1, data, scales));
    OK(params_read_quantized(p, 1, data_again, scales_again));
    assert_memory_equal(data, data_again, sizeof data);
    assert_memory_equal(scales, scales_again, sizeof scales);
    params_free(p);
    config_free(c);
    device_close(d);
}

/* Types as stored: quantized matrices stay, and the embeddings follow them. Without quantization all become floats. */
static void formats_of_stored_weights(void **state) {
    (void)state;
    model_config *c = config_of("llama", 1, "");
    params *p = table_of(c);
    enum { Q = 1, K = 2 };
    for (int i = 0; i < p->count; i++) p->table[i].tensor.value.type = DTYPE_BF16;
    params_choose_types(p, DTYPE_COUNT, WEIGHT_AUTO);
    assert_false(params_quantized(p));
    assert_int_equal(params_format(p), WEIGHT_FLOAT);
    p->table[Q].tensor.value.type = DTYPE_INT4;
    params_choose_types(p, DTYPE_F16, WEIGHT_AUTO);
    assert_int_equal(p->table[Q].tensor.value.type, DTYPE_INT4);
    assert_int_equal(p->table[K].tensor.value.type, DTYPE_F16);
    assert_int_equal(p->embed->value.type, DTYPE_INT8);
    assert_int_equal(p->head->value.type, DTYPE_INT8);
    assert_int_equal(params_float_type(p), DTYPE_F16);
    params_choose_types(p, DTYPE_COUNT, WEIGHT_FLOAT);
    for (int i = 0; i < p->count; i++) assert_int_equal(p->table[i].tensor.value.type, DTYPE_F16);
    params_free(p);
    config_free(c);
}

static void quantized_weights_are_not_trained(void **state) {
    (void)state;
    device *d;
    model_config *c = config_of("llama", 1, "");
    params *p = table_of(c);
    float value[64 * 64] = {0};
    OK(device_open("cpu", 1, &d));
    params_choose_types(p, DTYPE_BF16, WEIGHT_INT8);
    OK(params_allocate_as_typed(p, d));
    FAILS(params_enable_masters(p, DTYPE_F32, NULL), LCKV_ERROR_UNSUPPORTED, "are not trained; train an adapter");
    FAILS(params_enable_masters(p, DTYPE_BF16, NULL), LCKV_ERROR_UNSUPPORTED, "are not trained");
    FAILS(params_enable_values(p, DTYPE_BF16), LCKV_ERROR_UNSUPPORTED, "are not trained");
    OK(params_convert(p, DTYPE_F32)); /* leaves them */
    assert_int_equal(params_type(p, 1), DTYPE_INT8);
    FAILS(params_set(p, 1, value, DTYPE_INT8), LCKV_ERROR_UNSUPPORTED, "not as int8");
    value[5] = NAN;
    FAILS(params_set(p, 1, value, DTYPE_F32), LCKV_ERROR_ARGUMENT,
          "model.layers.0.self_attn.q_proj.weight: expected finite values");
    params_free(p);
    config_free(c);
    device_close(d);
}

/* A random quantized model has the values of the float model with the same seed, quantized. */
static void random_values_are_quantized(void **state) {
    (void)state;
    device *d = cpu();
    model *wide, *narrow;
    OK(model_create_random(d, config_of("llama", 2, ",\"pad_token_id\":3"), DTYPE_F32, 5, &wide));
    model_config *c = config_of("llama", 2, ",\"pad_token_id\":3");
    c->weight_format = WEIGHT_INT4;
    OK(model_create_random(d, c, DTYPE_F32, 5, &narrow));
    float values[88 * 32], expected[88 * 32];
    for (int i = 0; i < wide->params->count; i++) {
        const weight *w = &wide->params->table[i];
        size_t bytes = (size_t)(w->rows * w->cols) * sizeof(float);
        OK(params_get(wide->params, i, values));
        if (w->dimensions == 2) {
            params *p = narrow->params;
            OK(params_get(p, i, expected));
            OK(params_set(p, i, values, DTYPE_F32));
            OK(params_get(p, i, values));
            assert_memory_equal(values, expected, bytes);
        }
    }
    OK(params_get(narrow->params, 0, values));
    for (int k = 0; k < 32; k++) assert_true(values[3 * 32 + k] == 0);
    model_free(wide);
    model_free(narrow);
    device_close(d);
}

static void only_owners_have_keys_and_values(void **state) {
    (void)state;
    model_config *c = config_of("lckv-llama", 8, ",\"layer_types\":\"0_6_6_6_6_6_6_7\",\"attention_bias\":true");
    params *p = table_of(c);
    for (int layer = 0; layer < 8; layer++) {
        bool owner = layer == 0 || layer == 6 || layer == 7;
        const layer_weights *w = &p->layers[layer];
        assert_int_equal(packed_matrix(&w->qkv, "k") != NULL, owner);
        assert_int_equal(packed_matrix(&w->qkv, "v") != NULL, owner);
        assert_int_equal(packed_bias(&w->qkv, "k") != NULL, owner);
        assert_int_equal(packed_bias(&w->qkv, "v") != NULL, owner);
        assert_true(packed_matrix(&w->qkv, "q") && packed_matrix(&w->o, "o") && packed_bias(&w->qkv, "q") &&
                    packed_bias(&w->o, "o") && w->input_norm && w->post_norm && packed_matrix(&w->gate_up, "gate"));
        assert_null(w->k_norm);
    }
    assert_int_equal(params_elements(p), model_parameters(c));
    params_free(p);
    config_free(c);
}

static void tied_head_is_the_embedding(void **state) {
    (void)state;
    model_config *c = config_of("llama", 2, ",\"tie_word_embeddings\":true");
    params *p = table_of(c);
    assert_ptr_equal(p->head, p->embed);
    assert_null(params_find(p, "lm_head.weight"));
    params_free(p);
    config_free(c);
}

static bool has_one(void *user, const char *name) {
    return strcmp(user, name) == 0;
}

/* The biases in the checkpoint decide; if one layer has a bias, all have it. */
static void biases_as_the_checkpoint_has_them(void **state) {
    (void)state;
    model_config *c = config_of("lckv-llama", 4, ",\"layer_types\":\"0_2_2_3\",\"attention_bias\":true");
    params *p;
    char one[] = "model.layers.3.self_attn.k_proj.bias";
    OK(params_create(c, has_one, one, &p));
    for (int layer = 0; layer < 4; layer++) {
        assert_int_equal(packed_bias(&p->layers[layer].qkv, "k") != NULL, layer != 1);
        assert_true(!packed_bias(&p->layers[layer].qkv, "q") && !packed_bias(&p->layers[layer].qkv, "v") &&
                    !packed_bias(&p->layers[layer].o, "o"));
    }
    params_free(p);
    char unowned[] = "model.layers.1.self_attn.k_proj.bias"; /* ignored */
    OK(params_create(c, has_one, unowned, &p));
    for (int layer = 0; layer < 4; layer++) assert_null(packed_bias(&p->layers[layer].qkv, "k"));
    params_free(p);
    config_free(c);
}

/* ---------------------------------------------------------------- values */

static void carved_in_order(void **state) {
    (void)state;
    model_config *c = config_of("qwen3", 2, "");
    params *p = table_of(c);
    device *d = cpu();
    OK(params_allocate(p, d, DTYPE_BF16));
    char *at = p->memory;
    for (int i = 0; i < p->count; i++) {
        view v = p->table[i].tensor.value;
        assert_int_equal(v.type, DTYPE_BF16);
        assert_ptr_equal(v.data, at);
        at += (view_bytes(v) + 255) / 256 * 256;
    }
    params_free(p);
    device_close(d);
    config_free(c);
}

static float number_at(int i) {
    return (float)((i * 37 % 101) - 50) / 16; /* exact in f32, bf16 and f16 */
}

static void values_come_back(void **state) {
    (void)state;
    static const dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    model_config *c = config_of("llama", 1, "");
    device *d = cpu();
    float in[61 * 32], out[61 * 32], again[61 * 32];
    for (int i = 0; i < 61 * 32; i++) in[i] = number_at(i);
    for (int t = 0; t < 3; t++) {
        params *p = table_of(c);
        OK(params_allocate(p, d, types[t]));
        assert_int_equal(params_type(p, 0), types[t]);
        OK(params_set(p, 0, in, DTYPE_F32));
        OK(params_get(p, 0, out));
        assert_memory_equal(in, out, sizeof in);
        for (int other = 0; other < 3; other++) { /* read as any type, and written back */
            OK(params_read(p, 0, types[other], again));
            OK(params_set(p, 0, again, types[other]));
        }
        OK(params_get(p, 0, out));
        assert_memory_equal(in, out, sizeof in);
        params_free(p);
    }
    device_close(d);
    config_free(c);
}

/* More elements than are converted at once. */
static void large_tensors_in_pieces(void **state) {
    (void)state;
    enum { ROWS = 70001, COLS = 64, COUNT = ROWS * COLS };
    json_t *tree =
        json_pack("{s:s,s:i,s:i,s:i,s:i,s:i}", "model_type", "llama", "hidden_size", COLS, "intermediate_size", 1,
                  "num_attention_heads", 1, "num_hidden_layers", 1, "vocab_size", ROWS);
    model_config *c;
    OK(config_from_json(tree, "test", NULL, &c));
    json_decref(tree);
    device *d = cpu();
    params *p = table_of(c);
    OK(params_allocate(p, d, DTYPE_BF16));
    float *in = malloc(COUNT * sizeof *in), *out = malloc(COUNT * sizeof *out);
    assert_true(in && out);
    for (int i = 0; i < COUNT; i++) in[i] = number_at(i % 1009);
    OK(params_set(p, 0, in, DTYPE_F32));
    OK(params_get(p, 0, out));
    assert_memory_equal(in, out, COUNT * sizeof *in);
    free(in);
    free(out);
    params_free(p);
    device_close(d);
    config_free(c);
}

/* ---------------------------------------------------------------- random values */

/* For n independent normal numbers, the mean is within 5 s / sqrt(n) of 0 and the variance within 5 s^2 sqrt(2 / n) of
 * s^2, except once in two million times; the seed is fixed. */
static void expect_normal(const float *x, int count, double deviation) {
    double sum = 0, squares = 0;
    for (int i = 0; i < count; i++) sum += x[i], squares += (double)x[i] * x[i];
    double mean = sum / count, variance = squares / count - mean * mean, square = deviation * deviation;
    assert_true(fabs(mean) < 5 * deviation / sqrt(count));
    assert_true(fabs(variance - square) < 5 * square * sqrt(2.0 / count));
}

static void random_weights(void **state) {
    (void)state;
    model_config *c = config_of("llama", 2, ",\"attention_bias\":true,\"initializer_range\":0.05,\"pad_token_id\":7");
    device *d = cpu();
    params *p = table_of(c), *same = table_of(c), *other = table_of(c);
    OK(params_allocate(p, d, DTYPE_F32));
    OK(params_allocate(same, d, DTYPE_F32));
    OK(params_allocate(other, d, DTYPE_F32));
    OK(params_randomize(p, c, 3));
    OK(params_randomize(same, c, 3));
    OK(params_randomize(other, c, 4));
    for (int i = 0; i < p->count; i++) {
        const weight *w = &p->table[i];
        const float *x = w->tensor.value.data;
        int count = (int)(w->rows * w->cols);
        size_t bytes = view_bytes(w->tensor.value);
        assert_memory_equal(x, same->table[i].tensor.value.data, bytes);
        if (w->dimensions == 1) {
            float constant = strstr(w->name, ".bias") ? 0.0f : 1.0f;
            for (int k = 0; k < count; k++) assert_true(x[k] == constant);
            continue;
        }
        assert_memory_not_equal(x, other->table[i].tensor.value.data, bytes);
        if (i) expect_normal(x, count, 0.05);
    }
    const float *embed = p->embed->value.data;
    for (int k = 0; k < 32; k++) assert_true(embed[7 * 32 + k] == 0 && embed[6 * 32 + k] != 0);
    assert_memory_not_equal(packed_matrix(&p->layers[0].qkv, "q")->value.data,
                            packed_matrix(&p->layers[1].qkv, "q")->value.data, 32 * 32 * 4);
    params_free(p);
    params_free(same);
    params_free(other);
    device_close(d);
    config_free(c);
}

/* ---------------------------------------------------------------- for training */

static void masters_keep_what_bf16_rounds(void **state) {
    (void)state;
    model_config *c = config_of("llama", 1, "");
    device *d = cpu();
    params *p = table_of(c);
    float *before = malloc(61 * 32 * sizeof *before), *after = malloc(61 * 32 * sizeof *after);
    assert_true(before && after);
    OK(params_allocate(p, d, DTYPE_F32));
    OK(params_randomize(p, c, 5));
    OK(params_get(p, 0, before));
    OK(params_enable_masters(p, DTYPE_BF16, NULL));
    for (int i = 0; i < p->count; i++) {
        assert_int_equal(p->table[i].tensor.value.type, DTYPE_BF16);
        assert_int_equal(p->table[i].master.type, DTYPE_F32);
        assert_int_equal(params_type(p, i), DTYPE_F32);
    }
    OK(params_get(p, 0, after));
    assert_memory_equal(before, after, 61 * 32 * sizeof *before);
    const uint16_t *value = p->embed->value.data;
    for (int k = 0; k < 61 * 32;
         k++) { /* bf16 has 8 bits: half a unit in the last place is at most 2^-8 of the number */
        uint32_t bits = (uint32_t)value[k] << 16;
        float rounded;
        memcpy(&rounded, &bits, sizeof rounded);
        assert_true(fabsf(rounded - before[k]) <= fabsf(before[k]) * 0x1p-8f);
    }
    for (int k = 0; k < 61 * 32; k++) before[k] = number_at(k); /* setting one sets both */
    OK(params_set(p, 0, before, DTYPE_F32));
    assert_int_equal(value[1], (uint16_t)0xbf50); /* number_at(1) = -13/16 */
    OK(params_get(p, 0, after));
    assert_memory_equal(before, after, 61 * 32 * sizeof *before);
    FAILS(params_enable_masters(p, DTYPE_BF16, NULL), LCKV_ERROR_ARGUMENT, "already have masters");
    free(before);
    free(after);
    params_free(p);
    device_close(d);
    config_free(c);
}

/* Weights in borrowed memory are copied to memory of the params before anything writes to them. */
static void adopted_weights_are_left_alone(void **state) {
    (void)state;
    model_config *c = config_of("llama", 1, "");
    device *d = cpu();
    params *p = table_of(c);
    static float mine[61 * 32];
    for (int k = 0; k < 61 * 32; k++) mine[k] = number_at(k);
    params_adopt(p, 0, d, mine, DTYPE_F32);
    OK(params_allocate(p, d, DTYPE_F32));
    assert_ptr_equal(p->embed->value.data, mine);
    OK(params_randomize(p, c, 1)); /* writes in place */
    for (int k = 0; k < 61 * 32; k++) mine[k] = number_at(k);
    OK(params_enable_masters(p, DTYPE_F32, NULL));
    assert_ptr_not_equal(p->embed->value.data, mine);
    assert_memory_equal(p->embed->value.data, mine, sizeof mine);
    assert_true(!p->has_masters && !p->masters);
    void *memory = p->memory;
    OK(params_enable_masters(p, DTYPE_F32, NULL)); /* nothing to do */
    assert_ptr_equal(p->memory, memory);
    OK(params_enable_gradients(p));
    for (int i = 0; i < p->count; i++) {
        const tensor *t = &p->table[i].tensor;
        assert_true(t->needs_grad && t->grad.type == DTYPE_F32);
        for (int64_t k = 0; k < t->grad.rows * t->grad.cols; k++) assert_true(((float *)t->grad.data)[k] == 0);
    }
    params_free(p);
    device_close(d);
    config_free(c);
}

/* ---------------------------------------------------------------- the model */

static void model_of_its_parts(void **state) {
    (void)state;
    device *d = cpu();
    model *m;
    OK(model_create_random(d, config_of("lckv-llama", 4, ",\"layer_types\":\"0_2_2_1\",\"head_dim\":4"), DTYPE_BF16, 9,
                           &m));
    assert_int_equal(m->last_slot_layer, 2);
    assert_int_equal(m->plan.count, 1 + 9 + 1);
    const double *f = m->rope.inverse_frequencies.data; /* theta^(-2j / head_dim) */
    assert_true(f[0] == 1 && fabs(f[1] - 0.01) < 1e-15);
    model_free(m);
    params *p;
    model_config *c = config_of("llama", 1, "");
    OK(params_create(c, NULL, NULL, &p));
    FAILS(model_create(d, c, p, &m), LCKV_ERROR_ARGUMENT, "model.embed_tokens.weight has no value");
    assert_null(m);
    device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_the_state_dicts),
        cmocka_unit_test(shapes),
        cmocka_unit_test(parts_of_a_packed_weight),
        cmocka_unit_test(quantized_values_are_near),
        cmocka_unit_test(integers_and_scales_are_copied),
        cmocka_unit_test(formats_of_stored_weights),
        cmocka_unit_test(quantized_weights_are_not_trained),
        cmocka_unit_test(random_values_are_quantized),
        cmocka_unit_test(only_owners_have_keys_and_values),
        cmocka_unit_test(tied_head_is_the_embedding),
        cmocka_unit_test(biases_as_the_checkpoint_has_them),
        cmocka_unit_test(carved_in_order),
        cmocka_unit_test(values_come_back),
        cmocka_unit_test(large_tensors_in_pieces),
        cmocka_unit_test(random_weights),
        cmocka_unit_test(masters_keep_what_bf16_rounds),
        cmocka_unit_test(adopted_weights_are_left_alone),
        cmocka_unit_test(model_of_its_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
