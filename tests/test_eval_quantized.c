/* Adapters on quantized weights: training them, and using them without merging. */
#include "train_run_fixture.h"

static const char *const ALL_LINEAR[] = {"all-linear"};
enum { LORA_RANK = 3 };

static lckv_lora make_lora(void) {
    lckv_lora lora = lckv_lora_defaults();
    lora.r = LORA_RANK;
    lora.alpha = 6;
    lora.target_modules = ALL_LINEAR;
    lora.target_module_count = 1;
    return lora;
}

static lckv_lora shape_of_adapter; /* of the latest begin() */

/* A checkpoint after a few steps, and a run that adds an adapter to it. */
static void begin(run *t, void **state) {
    run_begin(t, state);
    use_output(t, "base");
    t->options.save_strategy = LCKV_INTERVAL_NO;
    OK(run_go(t));
    t->options.model_name_or_path = t->options.output_dir;
    t->options.config_name = NULL;
    t->options.use_peft = true;
    shape_of_adapter = make_lora();
    t->options.lora = &shape_of_adapter;
    t->options.max_steps = 12;
    t->options.save_strategy = LCKV_INTERVAL_STEPS;
    t->options.save_steps = 4;
    t->options.weight_decay = 0.1;
    t->options.learning_rate = 0.02;
    use_output(t, "out");
    use_validation(t, 5);
}

static void score_on(const char *device_name, const char *base, const char *weight_dtype, const char *added,
                     float *logprobs, int count) {
    lckv_device *d;
    lckv_model *m;
    lckv_model_options options = lckv_model_defaults();
    lckv_score_options plain = lckv_score_defaults();
    int32_t ids[16];
    for (int i = 0; i < count; i++) ids[i] = 3 + i % 5;
    options.adapter = added;
    options.weight_dtype = weight_dtype;
    OK(lckv_device_open(device_name, 2, &d));
    OK(lckv_model_open(d, base, &options, &m));
    OK(lckv_score(m, ids, count, &plain, logprobs));
    lckv_model_free(m);
    lckv_device_close(d);
}

static void score_base(const char *base, const char *weight_dtype, const char *added, float *logprobs, int count) {
    score_on("cpu", base, weight_dtype, added, logprobs, count);
}

/* Quantizes the model that the run began with; returns the folder. */
static const char *convert_base(const run *t, const char *weight_dtype) {
    lckv_convert_options convert = lckv_convert_defaults();
    convert.model_name_or_path = t->options.model_name_or_path;
    convert.weight_dtype = weight_dtype;
    convert.output_dir = in(t->folder, "quantized");
    OK(lckv_convert(&convert));
    return convert.output_dir;
}

static double largest_difference(const float *a, const float *b, int count) {
    double largest = 0;
    for (int i = 0; i < count; i++) largest = fmax(largest, fabs((double)a[i] - (double)b[i]));
    return largest;
}

/* An adapter learns on weights in 4 bits, which stay fixed, and is used on them without being merged: the result is
 * that of the same matrices in f32 with the adapter merged, up to the 8 bits of embeddings and output layer, which
 * change much less than the adapter does. */
static void an_adapter_learns_on_quantized_weights(void **state) {
    static const char *const formats[] = {"int8", "int4"};
    run t;
    float beside[15], merged[15], bare[15];
    for (int i = 0; i < 4; i++) {
        begin(&t, state);
        t.options.weight_dtype = formats[i % 2];
        t.options.bf16 = i > 1;
        t.options.gradient_checkpointing = i == 2;
        OK(run_go(&t));
        assert_true(t.story.steps[11].loss < 0.95 * t.story.steps[0].loss);
        const char *base = t.options.model_name_or_path, *added = t.options.output_dir;
        const char *quantized = convert_base(&t, formats[i % 2]);
        score_base(base, formats[i % 2], added, beside, 16);
        score_base(quantized, NULL, added, merged, 16); /* the same bits */
        assert_memory_equal(beside, merged, sizeof beside);
        score_base(quantized, "float", added, merged, 16);
        score_base(quantized, NULL, NULL, bare, 16);
        assert_true(largest_difference(beside, bare, 15) > 0.1);
        assert_true(largest_difference(beside, merged, 15) < 0.2 * largest_difference(beside, bare, 15));
        if (i == 0) { /* training on the quantized folder gives the same bytes */
            run again = t;
            again.options.model_name_or_path = quantized;
            again.options.weight_dtype = NULL;
            use_output(&again, "again");
            OK(run_go(&again));
            expect_same_file(&t, "out/adapter_model.safetensors", "again/adapter_model.safetensors");
            again.options.use_peft = false;
            use_output(&again, "all");
            FAILS(run_go(&again), LCKV_ERROR_UNSUPPORTED, "are not trained; train an adapter");
            again.options.weight_dtype = "float"; /* dequantized, all weights are trained */
            OK(run_go(&again));
        }
        remove_tree(in(t.folder, "base"));
        remove_tree(in(t.folder, "out"));
        remove_tree(in(t.folder, "quantized"));
    }
    begin(&t, state);
    t.options.weight_dtype = "int5";
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "expected auto, float, int8 or int4, found 'int5'");
    t.options.weight_dtype = "int8";
    t.options.use_peft = false;
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "weight_dtype int8 needs use_peft");
}

static bool has_gpu(void) {
    lckv_device *d;
    if (lckv_device_open("cuda", 0, &d) < 0) {
        printf("skipped: %s\n", lckv_last_error());
        return false;
    }
    lckv_device_close(d);
    return true;
}

/* A GPU quantizes when it loads, reads a quantized folder and trains an adapter as the CPU does. In f32 they differ by
 * rounding, and by the rounding of the CPU's rows to 15 bits. */
static void a_gpu_gives_the_same(void **state) {
    static const char *const formats[] = {"int8", "int4"};
    run t;
    float cpu[15], gpu[15];
    if (!has_gpu()) skip();
    for (int i = 0; i < 4; i++) {
        begin(&t, state);
        t.options.weight_dtype = formats[i % 2];
        t.options.bf16 = i > 1;
        run on_gpu = t;
        OK(run_go(&t));
        on_gpu.options.device = "cuda";
        use_output(&on_gpu, "gpu");
        OK(run_go(&on_gpu));
        for (int step = 0; step < 12; step++)
            assert_true(fabs(t.story.steps[step].loss - on_gpu.story.steps[step].loss) < (i > 1 ? 0.05 : 2e-3));
        const char *base = t.options.model_name_or_path, *added = t.options.output_dir;
        const char *quantized = convert_base(&t, formats[i % 2]);
        score_base(base, formats[i % 2], added, cpu, 16);
        score_on("cuda", base, formats[i % 2], added, gpu, 16);
        assert_true(largest_difference(cpu, gpu, 15) < 2e-3);
        score_on("cuda", quantized, NULL, added, cpu, 16); /* the same bits */
        assert_memory_equal(cpu, gpu, sizeof cpu);
        remove_tree(in(t.folder, "base"));
        remove_tree(in(t.folder, "out"));
        remove_tree(in(t.folder, "gpu"));
        remove_tree(in(t.folder, "quantized"));
    }
}

/* Weights in 4 bits need less memory than in f32; the KV cache and the work are the same. */
static void serving_needs_less_memory(void **state) {
    run t;
    lckv_config *wide, *narrow;
    run_begin(&t, state);
    OK(lckv_config_load(t.options.config_name, NULL, &wide));
    OK(lckv_config_load(t.options.config_name, "weight_dtype=int4", &narrow));
    lckv_serving_shape serving = {.struct_size = sizeof serving, .sequences = 2, .length = 20};
    lckv_memory a, b;
    OK(lckv_memory_for_serving(wide, &serving, &a));
    OK(lckv_memory_for_serving(narrow, &serving, &b));
    assert_true(b.weights < a.weights / 2 && b.kv_cache == a.kv_cache && b.flops == a.flops);
    lckv_config_free(wide);
    lckv_config_free(narrow);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(an_adapter_learns_on_quantized_weights),
        IN_FOLDER(a_gpu_gives_the_same),
        IN_FOLDER(serving_needs_less_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
