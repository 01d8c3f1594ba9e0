/* Memory prediction: the counting device's pool has the same peak as a real one, weights and cache have the sizes that
 * the config implies, and FLOPs follow from the shapes. */
#include "data/blocks.h"
#include "train/step/step.h"

#include "fixture.h"

static lckv_config *load(const char *extra) {
    fixture f;
    lckv_config *copy;
    fixture_open(&f, 4, extra, DTYPE_F32, false);
    OK(config_copy(f.model->config, &copy));
    fixture_close(&f);
    return copy;
}

static const char LCKV[] = ",\"layer_types\":\"0_2_2_3\",\"forward_passes\":3,\"backward_passes\":2";

static model *empty_model(device *d, const lckv_config *config) {
    model_config *c;
    params *p;
    model *m;
    OK(config_copy(config, &c));
    OK(params_create(c, NULL, NULL, &p));
    OK(params_allocate(p, d, DTYPE_F32));
    if (!d->counts_only) OK(params_randomize(p, c, 1));
    OK(model_create(d, c, p, &m));
    return m;
}

enum { BATCH = 3, BLOCK = 21 };

static size_t peak_of_a_step(const char *device_name, const lckv_config *config, dtype compute, bool checkpointing) {
    device *d;
    stepper *s;
    step_result result;
    int32_t ids[BATCH * BLOCK] = {0};
    const int64_t chosen[BATCH] = {0, 1, 2};
    blocks data = blocks_of_ids(ids, BLOCK, BATCH);
    const stepper_options options = {
        .compute = compute,
        .batch_size = BATCH,
        .block_size = BLOCK,
        .gradient_checkpointing = checkpointing,
        .optimizer = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .max_grad_norm = 1},
    };
    fixture_ids(ids, BATCH * BLOCK, 0);
    OK(device_open(device_name, 2, &d));
    model *m = empty_model(d, config);
    OK(stepper_create(m, &options, &s));
    OK(stepper_step(s, &data.examples, chosen, BATCH, 0, &result));
    size_t peak = pool_peak(s->graph->pool);
    stepper_free(s);
    model_free(m);
    device_close(d);
    return peak;
}

static void counted_steps_are_real_ones(void **state) {
    (void)state;
    enum { SEQUENTIAL = 2 };
    const char *const extras[] = {"", LCKV, ",\"layer_types\":\"3_3_3_3\",\"use_sequential\":true"};
    for (int i = 0; i < 3; i++) {
        lckv_config *c = load(extras[i]);
        for (int how = 0; how < 4; how++) {
            dtype compute = how % 2 ? DTYPE_BF16 : DTYPE_F32;
            bool checkpointing = how / 2;
            if (checkpointing && i == SEQUENTIAL) continue;
            size_t real = peak_of_a_step("cpu", c, compute, checkpointing);
            assert_true(real > 0);
            assert_int_equal(peak_of_a_step("count", c, compute, checkpointing), real);
        }
        lckv_config_free(c);
    }
}

static int count(const lckv_config *c, int64_t batch_size, int64_t block_size, bool bf16, lckv_memory *out) {
    lckv_training_shape shape = {
        .struct_size = sizeof shape, .batch_size = batch_size, .block_size = block_size, .bf16 = bf16};
    return lckv_memory_for_training(c, &shape, out);
}

static void training_is_the_sum_of_its_parts(void **state) {
    (void)state;
    lckv_config *c = load(LCKV);
    int64_t bytes = 4 * lckv_config_describe(c).parameters;
    lckv_memory one, two, mixed;
    OK(count(c, 8, 512, false, &one));
    OK(count(c, 16, 512, false, &two));
    OK(count(c, 8, 512, true, &mixed));
    assert_int_equal(one.weights, bytes);
    assert_int_equal(one.gradients, bytes);
    assert_true(one.optimizer >= 2 * bytes && one.optimizer < 2 * bytes + (1 << 19)); /* two moments, and the batch */
    assert_int_equal(one.total, one.weights + one.gradients + one.optimizer + one.activations);
    assert_true(two.activations > one.activations);
    assert_true(fabs(two.flops / one.flops - 2) < 1e-12); /* blocks do not attend to each other */
    assert_int_equal(mixed.weights, bytes / 2);
    assert_true(mixed.optimizer >= 3 * bytes && mixed.activations < one.activations);
    lckv_config_free(c);
}

/* Two bytes of weight, four of moments, and four of the gradient. */
static void weights_in_bf16_take_ten_bytes(void **state) {
    (void)state;
    lckv_config *c = load(LCKV);
    lckv_training_shape shape = {
        .struct_size = sizeof shape, .batch_size = 8, .block_size = 512, .bf16 = true, .bf16_weights = true};
    int64_t count = lckv_config_describe(c).parameters;
    lckv_memory m;
    OK(lckv_memory_for_training(c, &shape, &m));
    assert_int_equal(m.weights, 2 * count);
    assert_int_equal(m.gradients, 4 * count);
    assert_true(m.optimizer >= 4 * count && m.optimizer < 4 * count + (1 << 19));
    shape.bf16 = false;
    FAILS(lckv_memory_for_training(c, &shape, &m), LCKV_ERROR_ARGUMENT, "bf16_weights needs bf16");
    lckv_config_free(c);
}

/* ZeRO 1: of the 8 bytes of moments per parameter, and of 4 bytes of master weights with bf16, each process has its
 * share. The rest of the memory and the work of a process do not change. */
static void processes_divide_the_optimizer_state(void **state) {
    (void)state;
    lckv_config *c;
    OK(lckv_config_load(SOURCE_DIR "/configs/lckv-50m.json", NULL, &c));
    int64_t parameters = lckv_config_describe(c).parameters, slack = 1 << 20;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        lckv_memory one, four;
        lckv_training_shape shape = {.struct_size = sizeof shape, .batch_size = 2, .block_size = 128, .bf16 = bf16};
        OK(lckv_memory_for_training(c, &shape, &one));
        shape.num_processes = 4;
        OK(lckv_memory_for_training(c, &shape, &four));
        int64_t divided = (bf16 ? 12 : 8) * parameters;
        assert_int_equal(four.weights, one.weights);
        assert_int_equal(four.gradients, one.gradients);
        assert_true(llabs(four.optimizer - divided / 4) < slack && llabs(one.optimizer - divided) < slack);
        assert_true(llabs(four.activations - one.activations) < slack);
        assert_true(fabs(four.flops - one.flops) < 1e-6 * one.flops);
        shape.num_processes = 4097;
        FAILS(lckv_memory_for_training(c, &shape, &four), LCKV_ERROR_ARGUMENT, "num_processes: expected 0 to 4096");
    }
    lckv_config_free(c);
}

static int64_t state_bytes(const lckv_memory *m) {
    return m->weights + m->gradients + m->optimizer;
}

/* ZeRO 3: each process has its share of everything, 16 bytes per parameter (also with bf16, whose weights are rounded
 * from the masters when they are gathered). */
static void processes_divide_weights_and_gradients(void **state) {
    (void)state;
    lckv_config *c;
    OK(lckv_config_load(SOURCE_DIR "/configs/llama-50m.json", NULL, &c));
    int64_t parameters = lckv_config_describe(c).parameters, slack = 1 << 20;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        lckv_memory one, four;
        lckv_training_shape shape = {.struct_size = sizeof shape, .batch_size = 2, .block_size = 128, .bf16 = bf16};
        OK(lckv_memory_for_training(c, &shape, &one));
        shape.num_processes = 4;
        shape.zero = 3;
        OK(lckv_memory_for_training(c, &shape, &four));
        assert_true(llabs(four.weights - parameters) < slack);
        assert_true(llabs(four.gradients - parameters) < slack);
        assert_true(llabs(four.optimizer - 2 * parameters) < slack);
        assert_true(four.activations > one.activations && four.total < one.total);
        assert_true(fabs(four.flops - one.flops) < 1e-6 * one.flops);
    }
    lckv_config_free(c);
}

/* 30B: 18 bytes per parameter with f32 masters are 495 GB. Two processes with 139 GiB each train it with weights,
 * moments and sums of gradients in bf16, if no more than one layer is gathered at a time. */
static void a_large_model_needs_its_bytes(void **state) {
    (void)state;
    lckv_config *c;
    lckv_memory m;
    OK(lckv_config_load(SOURCE_DIR "/configs/lckv-30b.json", NULL, &c));
    lckv_training_shape shape = {.struct_size = sizeof shape, .batch_size = 1, .block_size = 2048, .bf16 = true};
    OK(lckv_memory_for_training(c, &shape, &m));
    assert_true(llabs(state_bytes(&m) - 495000000000) < 1000000000);
    shape.gradient_checkpointing = shape.bf16_weights = true;
    shape.num_processes = 2;
    shape.zero = 3;
    OK(lckv_memory_for_training(c, &shape, &m));
    int64_t held = m.total, limit = (int64_t)139 << 30;
    shape.zero_regather_loops = true;
    OK(lckv_memory_for_training(c, &shape, &m));
    assert_true((double)m.total < 0.51 * (double)held && m.total > limit);
    shape.bf16_gradients = true;
    OK(lckv_memory_for_training(c, &shape, &m));
    assert_true((double)m.total < 0.9 * (double)limit);
    lckv_lora lora = lckv_lora_defaults();
    lckv_training_shape tuning = shape;
    tuning.bf16_weights = tuning.bf16_gradients = false;
    tuning.lora = &lora;
    OK(lckv_memory_for_training(c, &tuning, &m));
    assert_true(m.total < 0.4 * (double)limit);
    shape.bf16_weights = false;
    FAILS(lckv_memory_for_training(c, &shape, &m), LCKV_ERROR_ARGUMENT, "bf16_gradients needs zero 3 and bf16_weights");
    shape.zero = 2;
    FAILS(lckv_memory_for_training(c, &shape, &m), LCKV_ERROR_ARGUMENT, "zero: expected 0, 1 or 3, found 2");
    lckv_config_free(c);
}

/* What a layer keeps for the backward pass, in bf16: its input and the sum behind attention in f32; q, k, v, and what
 * attention and the products of gate and up gave; statistics of softmax and norms. Outputs of the norms and of swiglu,
 * which are made again, are not kept. */
static void a_layer_keeps_its_products(void **state) {
    (void)state;
    enum { HIDDEN = 2048, INNER = 5632, KV = 256, HEADS = 32, LAYERS = 8 };
    size_t peaks[2], rows = BATCH * BLOCK, parts = 0;
    size_t columns[] = {4 * HIDDEN, 4 * HIDDEN, 2 * HIDDEN, 2 * KV, 2 * KV,
                        2 * HIDDEN, 4 * INNER,  4 * HEADS,  4,      4 /* bytes of a row */};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) parts += (rows * columns[i] + 255) / 256 * 256;
    for (int i = 0; i < 2; i++) {
        lckv_config *c;
        const char *layers = i ? "num_hidden_layers=16" : "num_hidden_layers=8";
        OK(lckv_config_load(SOURCE_DIR "/configs/llama-1.1b.json", layers, &c));
        peaks[i] = peak_of_a_step("count", c, DTYPE_BF16, false);
        lckv_config_free(c);
    }
    assert_int_equal(peaks[1] - peaks[0], LAYERS * parts);
}

/* Compiled PyTorch 2.11 needs 40.7 GiB for this step (docs/performance.md). */
static void a_step_of_one_gpu_fits_where_pytorch_does(void **state) {
    (void)state;
    lckv_config *c;
    lckv_memory m;
    OK(lckv_config_load(SOURCE_DIR "/configs/llama-1.1b.json", NULL, &c));
    OK(count(c, 8, 2048, true, &m));
    assert_true((double)m.total < 40.7 * (1 << 30));
    lckv_config_free(c);
}

/* A model of the size of the published script, 4 blocks of 512 tokens. Checkpointing reduces activations to at most 30
 * % of those of two iterations, and 45 % of those of one. The second forward pass of the layers costs less than a
 * forward pass, a third of the step. */
static void checkpointing_keeps_less(void **state) {
    (void)state;
    const char *const configs[] = {SOURCE_DIR "/configs/lckv-50m.json", SOURCE_DIR "/configs/llama-50m.json"};
    for (int i = 0; i < 2; i++) {
        lckv_config *c;
        lckv_memory kept, again;
        lckv_training_shape shape = {.struct_size = sizeof shape, .batch_size = 4, .block_size = 512};
        OK(lckv_config_load(configs[i], NULL, &c));
        OK(lckv_memory_for_training(c, &shape, &kept));
        shape.gradient_checkpointing = true;
        OK(lckv_memory_for_training(c, &shape, &again));
        assert_true((double)again.activations <= (i ? 0.45 : 0.3) * (double)kept.activations);
        assert_int_equal(again.total - again.activations, kept.total - kept.activations);
        assert_true(again.flops > 1.05 * kept.flops && again.flops < 4.0 / 3 * kept.flops);
        lckv_config_free(c);
    }
}

/* The products of a plain model cost 6 FLOPs per weight and token (Kaplan et al. 2020), without the embedding.
 * Attention adds 2 products of head_dim per pair and head in the forward pass, and at most 5 in the backward pass
 * (FlashAttention-2 recomputes the scores). */
static void flops_follow_from_the_shapes(void **state) {
    (void)state;
    enum { TOKENS = 32, HEADS = 4, HEAD_DIM = 6, LAYERS = 4, HIDDEN = 24 };
    lckv_config *c = load("");
    lckv_memory m;
    OK(count(c, 1, TOKENS, false, &m));
    double norms = (2 * LAYERS + 1) * HIDDEN, table = FIXTURE_VOCAB * HIDDEN;
    double products = 6 * ((double)lckv_config_describe(c).parameters - norms - table) * TOKENS;
    double pairs = TOKENS * (TOKENS + 1) / 2.0, attention = 2.0 * pairs * HEADS * HEAD_DIM * LAYERS;
    assert_true(m.flops >= products + 6 * attention && m.flops <= products + 7 * attention);
    lckv_config_free(c);
}

/* Exact training with one more backward pass multiplies once with each weight of the loop, which has two of four
 * layers, and computes at most 5 products of its attention. */
static void walks_compute_no_gradients_of_weights(void **state) {
    (void)state;
    enum { TOKENS = 32, HEADS = 4, HEAD_DIM = 6, LOOP_LAYERS = 2, LAYERS = 4, HIDDEN = 24 };
    static const char *const extras[] = {",\"layer_types\":\"0_2_2_3\",\"backward_passes\":1",
                                         ",\"layer_types\":\"0_2_2_3\",\"backward_passes\":2",
                                         ",\"layer_types\":\"0_2_2_3\",\"backward_passes\":3"};
    const lckv_training_shape shape = {
        .struct_size = sizeof shape, .batch_size = 1, .block_size = TOKENS, .loop_form = LCKV_LOOP_EXACT};
    lckv_config *plain = load("");
    double tables = 2.0 * FIXTURE_VOCAB * HIDDEN;
    double weights = ((double)lckv_config_describe(plain).parameters - tables) * LOOP_LAYERS / LAYERS;
    double attention = 2.0 * TOKENS * (TOKENS + 1) / 2.0 * HEADS * HEAD_DIM * LOOP_LAYERS;
    lckv_memory m[3];
    for (int i = 0; i < 3; i++) {
        lckv_config *c = load(extras[i]);
        OK(lckv_memory_for_training(c, &shape, &m[i]));
        lckv_config_free(c);
    }
    for (int i = 1; i < 3; i++) {
        assert_true(m[i].flops > m[i - 1].flops);
        assert_true(m[i].flops - m[i - 1].flops <= 2 * weights * TOKENS + 5 * attention);
    }
    lckv_config_free(plain);
}

static void the_cache_is_what_the_config_says(void **state) {
    (void)state;
    lckv_config *c = load(LCKV);
    const int64_t shapes[][2] = {{1, 100}, {5, 333}, {3, 1}};
    for (int i = 0; i < 3; i++) {
        lckv_memory m, half;
        int64_t tokens = shapes[i][0] * shapes[i][1], token = lckv_config_kv_bytes_per_token(c, LCKV_FLOAT32);
        lckv_serving_shape shape = {.struct_size = sizeof shape, .sequences = shapes[i][0], .length = shapes[i][1]};
        OK(lckv_memory_for_serving(c, &shape, &m));
        shape.bf16 = true;
        OK(lckv_memory_for_serving(c, &shape, &half));
        assert_true(m.kv_cache >= tokens * token);
        assert_true(m.kv_cache < (tokens + 16 * shapes[i][0]) * token); /* partially filled pages of 16 */
        assert_true(m.kv_cache_reserved <= (tokens + 32 * shapes[i][0]) * token);
        assert_int_equal(half.kv_cache, m.kv_cache / 2);
        assert_int_equal(m.total, m.weights + m.kv_cache_reserved + m.activations);
        assert_true(m.flops > 0);
    }
    lckv_config_free(c);
}

/* Two processes: the embeddings, the output layer and the norms are whole, the other weights and the cache are
 * halves. Parts of weights begin at multiples of 256 bytes. */
static void ranks_divide_a_served_model(void **state) {
    (void)state;
    enum { HIDDEN = 24, LAYERS = 4, ALIGNED = 256, ENTRIES = LAYERS * 9 + 3 };
    lckv_config *c = load(LCKV);
    lckv_memory one, two;
    lckv_serving_shape shape = {.struct_size = sizeof shape, .sequences = 3, .length = 50};
    OK(lckv_memory_for_serving(c, &shape, &one));
    shape.tensor_parallel = 2;
    OK(lckv_memory_for_serving(c, &shape, &two));
    int64_t whole = 4 * (2 * FIXTURE_VOCAB * HIDDEN + (2 * LAYERS + 1) * HIDDEN);
    int64_t parameters = 4 * lckv_config_describe(c).parameters;
    if (lckv_config_describe(c).tie_word_embeddings) whole -= 4 * FIXTURE_VOCAB * HIDDEN;
    int64_t expected = whole + (parameters - whole) / 2;
    assert_true(two.weights >= expected && two.weights <= expected + ENTRIES * ALIGNED);
    assert_int_equal(two.kv_cache, one.kv_cache / 2);
    assert_true(two.flops < one.flops);
    shape.tensor_parallel = 5;
    assert_int_equal(lckv_memory_for_serving(c, &shape, &two), LCKV_ERROR_ARGUMENT);
    lckv_config_free(c);
}

/* Integers and scales of the matrices of layers are divided, the embeddings and the output layer are not. */
static void ranks_divide_quantized_weights(void **state) {
    (void)state;
    enum { HEADS = 4, WIDTH = 32, COLUMNS = 128, HIDDEN = 24, LAYERS = 4, ALIGNED = 256, PARTS = LAYERS * 9 + 3 };
    lckv_config *c = load(LCKV);
    lckv_memory one, two;
    lckv_serving_shape shape = {.struct_size = sizeof shape, .sequences = 1, .length = 50};
    json_t *tree;
    model_config *wide;
    OK(config_to_json(c, &tree));
    OK(config_from_json(tree, "test", "head_dim=32,num_key_value_heads=4,intermediate_size=128,weight_dtype=int8",
                        &wide));
    OK(lckv_memory_for_serving(wide, &shape, &one));
    shape.tensor_parallel = 2;
    OK(lckv_memory_for_serving(wide, &shape, &two));
    int64_t layers = LAYERS * (4 * HEADS * WIDTH + 3 * COLUMNS) * HIDDEN;
    int64_t saved = one.weights - two.weights;
    assert_true(saved > layers / 2 - PARTS * ALIGNED && saved < layers * 9 / 16 + PARTS * ALIGNED);
    lckv_config_free(wide);
    json_decref(tree);
    lckv_config_free(c);
}

static void shapes_are_checked(void **state) {
    (void)state;
    lckv_config *c = load("");
    lckv_memory m;
    assert_int_equal(count(c, 0, 8, false, &m), LCKV_ERROR_ARGUMENT);
    assert_int_equal(count(c, 1, 1, false, &m), LCKV_ERROR_ARGUMENT);
    assert_int_equal(count(c, 1 << 20, 1 << 20, false, &m), LCKV_ERROR_ARGUMENT);
    enum { S = sizeof(lckv_serving_shape) };
    const lckv_serving_shape wrong[] = {{S, 0, 8}, {S, 1, 0}, {S, 1, 8, 8}, {S, 1, 8, -1}, {S, 1, INT32_MAX}};
    for (int i = 0; i < 5; i++) assert_int_equal(lckv_memory_for_serving(c, &wrong[i], &m), LCKV_ERROR_ARGUMENT);
    lckv_config_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counted_steps_are_real_ones),
        cmocka_unit_test(training_is_the_sum_of_its_parts),
        cmocka_unit_test(processes_divide_the_optimizer_state),
        cmocka_unit_test(processes_divide_weights_and_gradients),
        cmocka_unit_test(a_large_model_needs_its_bytes),
        cmocka_unit_test(checkpointing_keeps_less),
        cmocka_unit_test(a_layer_keeps_its_products),
        cmocka_unit_test(a_step_of_one_gpu_fits_where_pytorch_does),
        cmocka_unit_test(weights_in_bf16_take_ten_bytes),
        cmocka_unit_test(flops_follow_from_the_shapes),
        cmocka_unit_test(walks_compute_no_gradients_of_weights),
        cmocka_unit_test(the_cache_is_what_the_config_says),
        cmocka_unit_test(shapes_are_checked),
        cmocka_unit_test(ranks_divide_a_served_model),
        cmocka_unit_test(ranks_divide_quantized_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
