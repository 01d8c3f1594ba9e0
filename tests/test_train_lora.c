/* LoRA through lckv.h: which weights are trained and written, resuming, merging, and memory. Gradients:
 * test_model_adapter.c; peft's files: test_generate_adapter.c. */
#include "model/model.h"

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

static void read_whole(run *t, const char *name, char **bytes, size_t *count) {
    OK(file_read(in(t->folder, name), bytes, count));
}

/* The number of parameters of the adapter: 24 wide, 12 of K and V, 36 inside; layer 1 of 0_2_2_3 has no K and V. */
static int64_t adapter_numbers(void) {
    int64_t every = (24 + 24) + (24 + 24) + 2 * (24 + 36) + (36 + 24), owner = 2 * (24 + 12);
    return LORA_RANK * (4 * every + 3 * owner);
}

static void the_adapter_alone_learns_and_is_written(void **state) {
    run t;
    begin(&t, state);
    char *before, *after;
    size_t bytes, later;
    read_whole(&t, "base/model.safetensors", &before, &bytes);
    OK(run_go(&t));
    assert_true(t.story.steps[11].loss < 0.95 * t.story.steps[0].loss);
    assert_int_equal(t.summary.trainable_parameters, adapter_numbers());
    assert_true(t.summary.parameters > 4 * t.summary.trainable_parameters);
    assert_true(output_has(&t, "adapter_config.json") && output_has(&t, "adapter_model.safetensors"));
    assert_false(output_has(&t, "config.json") || output_has(&t, "model.safetensors"));
    assert_true(output_has(&t, "checkpoint-4/adapter_model.safetensors"));
    read_whole(&t, "base/model.safetensors", &after, &later);
    assert_int_equal(bytes, later);
    assert_memory_equal(before, after, bytes);
    safetensors_file moments;
    OK(safetensors_open(in(t.folder, "out/checkpoint-12/optimizer.safetensors"), &moments));
    int64_t numbers = 0;
    for (int i = 0; i < moments.count; i++) numbers += moments.entries[i].elements;
    assert_int_equal(numbers, 2 * adapter_numbers());
    safetensors_close(&moments);
    free(before);
    free(after);
}

static void a_run_that_was_stopped_ends_with_the_same_bytes(void **state) {
    static const char *const outs[][2] = {{"whole", "parts"}, {"whole16", "parts16"}, {"dropped", "partsdropped"}};
    for (int i = 0; i < 3; i++) {
        run whole, parts;
        char left[64], right[64];
        begin(&whole, state);
        whole.options.bf16 = i == 1;
        shape_of_adapter.dropout = i == 2 ? 0.2 : 0;
        whole.options.gradient_accumulation_steps = 2;
        parts = whole;
        use_output(&whole, outs[i][0]);
        OK(run_go(&whole));
        use_output(&parts, outs[i][1]);
        parts.story.stop_after = 6;
        FAILS(run_go(&parts), LCKV_ERROR_INTERRUPTED, "after step 6");
        parts.story.stop_after = 0;
        OK(run_go(&parts));
        assert_int_equal(parts.summary.first_step, 6);
        static const char *const files[] = {"adapter_model.safetensors", "checkpoint-12/optimizer.safetensors",
                                            "checkpoint-12/adapter_model.safetensors"};
        for (int k = 0; k < 3; k++) {
            snprintf(left, sizeof left, "%s/%s", outs[i][0], files[k]);
            snprintf(right, sizeof right, "%s/%s", outs[i][1], files[k]);
            expect_same_file(&whole, left, right);
        }
        assert_true(whole.result.eval_loss == parts.result.eval_loss);
        remove_tree(in(whole.folder, "base"));
    }
}

/* Dropout: gradient checkpointing gives the same bits; no dropout or another seed gives others. The config has the
 * options. */
static void dropout_is_a_function_of_the_seed(void **state) {
    static const char *const outs[] = {"plain", "dropped", "checkpointed", "reseeded"};
    run t;
    char *bytes[4], file[64];
    size_t counts[4];
    begin(&t, state);
    t.options.gradient_accumulation_steps = 2;
    t.options.max_steps = 4;
    for (int i = 0; i < 4; i++) {
        shape_of_adapter.dropout = i ? 0.2 : 0;
        t.options.gradient_checkpointing = i == 2;
        use_output(&t, outs[i]);
        t.options.seed += i == 3;
        OK(run_go(&t));
        snprintf(file, sizeof file, "%s/adapter_model.safetensors", outs[i]);
        read_whole(&t, file, &bytes[i], &counts[i]);
        assert_int_equal(counts[i], counts[0]);
    }
    assert_memory_equal(bytes[1], bytes[2], counts[0]);
    assert_memory_not_equal(bytes[0], bytes[1], counts[0]);
    assert_memory_not_equal(bytes[1], bytes[3], counts[0]);
    for (int i = 0; i < 4; i++) free(bytes[i]);
    char *config;
    read_whole(&t, "dropped/adapter_config.json", &config, &counts[0]);
    assert_non_null(strstr(config, "\"lora_dropout\": 0.2"));
    free(config);
    shape_of_adapter.dropout = 1;
    use_output(&t, "all");
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "lora_dropout should be at least 0 and below 1");
}

/* The largest difference between the weights of two models, each with an adapter (NULL: none). */
static double apart(const char *left, const char *left_adapter, const char *right, const char *right_adapter) {
    lckv_device *d;
    lckv_model *m[2];
    lckv_model_options options = lckv_model_defaults();
    double largest = 0;
    OK(lckv_device_open("cpu", 1, &d));
    options.adapter = left_adapter;
    OK(lckv_model_open(d, left, &options, &m[0]));
    options.adapter = right_adapter;
    OK(lckv_model_open(d, right, &options, &m[1]));
    for (int i = 0; i < m[0]->params->count; i++) {
        const weight *w = &m[0]->params->table[i];
        const float *x = w->tensor.value.data, *y = m[1]->params->table[i].tensor.value.data;
        for (int64_t k = 0; k < w->rows * w->cols; k++) largest = fmax(largest, fabs((double)x[k] - (double)y[k]));
    }
    lckv_model_free(m[0]);
    lckv_model_free(m[1]);
    lckv_device_close(d);
    return largest;
}

/* The evaluation with the adapter equals that of the merged model. Losses of 4 are known to 2^-23 times the
 * square root of some thousand terms a logit, 4 * 4e-6; merging rounds each weight once more, of which some 200 make a
 * logit: 1e-4 is above both, and far below what the adapter changes. */
static void merging_changes_nothing(void **state) {
    run t, merged;
    begin(&t, state);
    OK(run_go(&t));
    lckv_convert_options convert = lckv_convert_defaults();
    convert.model_name_or_path = t.options.model_name_or_path;
    convert.adapter = t.options.output_dir;
    convert.output_dir = in(t.folder, "merged");
    OK(lckv_convert(&convert));
    merged = t;
    merged.options.use_peft = merged.options.do_train = false;
    merged.options.model_name_or_path = convert.output_dir;
    use_output(&merged, "evaluated");
    OK(run_go(&merged));
    assert_true(fabs(merged.result.eval_loss - t.result.eval_loss) < 1e-4);
    const char *base = t.options.model_name_or_path, *added = t.options.output_dir;
    assert_true(apart(convert.output_dir, NULL, base, added) == 0);
    assert_true(apart(convert.output_dir, NULL, added, NULL) == 0); /* an adapter's folder names its checkpoint */
    assert_true(apart(convert.output_dir, NULL, base, NULL) > 0.01);
}

/* Merged first, then averaged. */
static void an_adapter_is_merged_before_layers_share(void **state) {
    run t;
    begin(&t, state);
    OK(run_go(&t));
    lckv_convert_options convert = lckv_convert_defaults();
    const char *const other = "layer_types=0_1_1_3";
    convert.model_name_or_path = t.options.model_name_or_path;
    convert.adapter = t.options.output_dir;
    convert.output_dir = in(t.folder, "merged");
    OK(lckv_convert(&convert));
    convert.config_overrides = other;
    convert.output_dir = in(t.folder, "at once");
    OK(lckv_convert(&convert));
    convert.adapter = NULL;
    convert.model_name_or_path = in(t.folder, "merged");
    convert.output_dir = in(t.folder, "one by one");
    OK(lckv_convert(&convert));
    expect_same_file(&t, "at once/model.safetensors", "one by one/model.safetensors");
}

static void the_best_adapter_is_taken(void **state) {
    run t;
    char best[64];
    begin(&t, state);
    t.options.eval_strategy = LCKV_INTERVAL_STEPS;
    t.options.eval_steps = 4;
    t.options.load_best_model_at_end = true;
    t.options.learning_rate = 0.3; /* too high to improve for long */
    OK(run_go(&t));
    for (int step = 4; step <= 12; step += 4) {
        snprintf(best, sizeof best, "out/checkpoint-%d/adapter_model.safetensors", step);
        char *a, *b;
        size_t x, y;
        read_whole(&t, best, &a, &x);
        read_whole(&t, "out/adapter_model.safetensors", &b, &y);
        bool same = x == y && !memcmp(a, b, x);
        free(a);
        free(b);
        if (same) return;
    }
    fail_msg("what was written is none of the checkpoints");
}

/* Frozen weights have no gradients, no masters and no moments. */
static void frozen_weights_take_their_values_alone(void **state) {
    run t;
    lckv_config *c;
    lckv_memory all, lora;
    run_begin(&t, state);
    const lckv_lora options = make_lora();
    lckv_training_shape shape = {.struct_size = sizeof shape, .batch_size = 2, .block_size = 16};
    OK(lckv_config_load(t.options.config_name, NULL, &c));
    for (int bf16 = 0; bf16 < 2; bf16++) {
        shape.bf16 = bf16;
        shape.lora = NULL;
        OK(lckv_memory_for_training(c, &shape, &all));
        shape.lora = &options;
        OK(lckv_memory_for_training(c, &shape, &lora));
        int64_t numbers = adapter_numbers(), value = bf16 ? 2 : 4,
                gaps = 256 * 60; /* alignment of 50 matrices to 256 bytes */
        assert_int_equal(lora.weights, all.weights + numbers * value);
        assert_int_equal(lora.gradients, 4 * numbers);
        int64_t kept = (bf16 ? 12 : 8) * numbers;
        assert_true(lora.optimizer >= kept && lora.optimizer <= kept + 4 * gaps);
        assert_true(lora.total < all.total && lora.flops < all.flops);
    }
    lckv_config_free(c);
}

/* Frozen weights in 4 bits take the bytes of their format; full training of them is refused. */
static void quantized_weights_need_less_memory(void **state) {
    run t;
    lckv_config *wide, *narrow;
    lckv_memory floats, quantized;
    run_begin(&t, state);
    const lckv_lora options = make_lora();
    lckv_training_shape shape = {.struct_size = sizeof shape, .batch_size = 2, .block_size = 16, .lora = &options};
    OK(lckv_config_load(t.options.config_name, NULL, &wide));
    OK(lckv_config_load(t.options.config_name, "weight_dtype=int4", &narrow));
    OK(lckv_memory_for_training(wide, &shape, &floats));
    OK(lckv_memory_for_training(narrow, &shape, &quantized));
    int64_t added = 4 * adapter_numbers(), vectors = 4 * 24 * 9;
    assert_true(quantized.weights - added - vectors < (floats.weights - added - vectors) / 3);
    assert_true(quantized.gradients == floats.gradients && quantized.flops == floats.flops);
    shape.lora = NULL;
    FAILS(lckv_memory_for_training(narrow, &shape, &quantized), LCKV_ERROR_UNSUPPORTED, "are not trained");
    lckv_config_free(wide);
    lckv_config_free(narrow);
}

static void what_does_not_go_together_is_refused(void **state) {
    run t;
    begin(&t, state);
    OK(run_go(&t));
    const char *base = t.options.model_name_or_path, *added = t.options.output_dir;
    t.options.model_name_or_path = added;
    use_output(&t, "other");
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "is an adapter, expected a checkpoint");
    t.options.model_name_or_path = base;
    t.options.output_dir = added;
    shape_of_adapter.r = 4;
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "is a checkpoint of another adapter");
    shape_of_adapter.r = LORA_RANK;
    shape_of_adapter.target_module_count = 0;
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "is a checkpoint of another adapter");
    t.options.use_peft = false;
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "it is a checkpoint of a run with use_peft");
    t.options.use_peft = true;
    t.options.config_name = in(t.folder, "tiny.json");
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "expected model_name_or_path and no config_name");
    t.options.config_name = NULL;
    shape_of_adapter.r = 0;
    use_output(&t, "other");
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "lora_r should be 1 to");
    shape_of_adapter.r = 2;
    t.options.output_dir = t.options.model_name_or_path; /* has a model, and no adapter */
    t.options.resume_from_checkpoint = NULL;
    FAILS(run_go(&t), LCKV_ERROR_ARGUMENT, "is not empty and has no checkpoint");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(the_adapter_alone_learns_and_is_written),  IN_FOLDER(a_run_that_was_stopped_ends_with_the_same_bytes),
        IN_FOLDER(dropout_is_a_function_of_the_seed),        IN_FOLDER(merging_changes_nothing),
        IN_FOLDER(an_adapter_is_merged_before_layers_share), IN_FOLDER(the_best_adapter_is_taken),
        IN_FOLDER(frozen_weights_take_their_values_alone),   IN_FOLDER(what_does_not_go_together_is_refused),
        IN_FOLDER(quantized_weights_need_less_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
