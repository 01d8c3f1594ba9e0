/* loop_start.safetensors: exact values and metadata come back; a folder without it, or with the file switched off,
 * loads as before; a file that does not fit is an error that names it. */
#define _GNU_SOURCE /* memmem */
#include "io/loop_start_file.h"

#include "model_fixture.h"

static const char MORE[] = ",\"layer_types\":\"0_2_2_3\",\"forward_passes\":1,\"backward_passes\":2";
enum { WIDTH = 6 };

static model *model_with_start(device *d) {
    model *m = small_model(d, "lckv-llama", 4, MORE, DTYPE_F32, 1);
    OK(loop_start_create(d, m->config, WIDTH, &m->loop_start));
    params *p = m->loop_start->weights;
    OK(params_allocate(p, d, DTYPE_F32));
    for (int i = 0; i < p->count; i++) OK(params_fill_normal(p, i, 1, 3));
    m->loop_start->kl = (loop_start_kl){.zeros = {2.5, 0.75, 1.25e-7}, .start = {0.5, 1e-9, 0}, .count = 3};
    return m;
}

static void save_with_start(const model *m, const char *path, dtype type) {
    checkpoint_save_options options = {.type = type, .loop_start = m->loop_start};
    OK(checkpoint_save(m->config, m->params, &options, path));
}

static int load_with_start(device *d, const char *path, model **out) {
    checkpoint_load_options options = {.type = DTYPE_COUNT, .loop_start = true};
    return checkpoint_load(d, path, &options, out);
}

static void values_and_metadata_come_back(void **state) {
    device *d = cpu();
    const char *path = in(*state, "model");
    model *m = model_with_start(d), *again;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        save_with_start(m, path, bf16 ? DTYPE_BF16 : DTYPE_F32);
        OK(load_with_start(d, path, &again));
        const params *a = m->loop_start->weights, *b = again->loop_start->weights;
        assert_int_equal(a->count, b->count);
        assert_int_equal(again->loop_start->width, WIDTH);
        for (int i = 0; i < a->count; i++) {
            float x[6 * 3 * 16], y[6 * 3 * 16];
            assert_string_equal(a->table[i].name, b->table[i].name);
            OK(params_get((params *)(uintptr_t)a, i, x));
            OK(params_get((params *)(uintptr_t)b, i, y));
            for (int64_t k = 0; k < a->table[i].rows * a->table[i].cols; k++)
                assert_true(bf16 ? fabsf(x[k] - y[k]) <= fabsf(x[k]) / 256 : x[k] == y[k]);
        }
        const loop_start_kl *kl = &again->loop_start->kl;
        assert_int_equal(kl->count, 3);
        for (int i = 0; i < 3; i++) {
            assert_true(fabs(kl->zeros[i] - m->loop_start->kl.zeros[i]) <= 1e-5 * kl->zeros[i]);
            assert_true(fabs(kl->start[i] - m->loop_start->kl.start[i]) <= 1e-5 * kl->start[i]);
        }
        assert_int_equal(model_default_iterations(again), 2);
        assert_false(kl->trained);
        model_free(again);
    }
    /* a start that was trained beside its model takes the iterations of training */
    m->loop_start->kl.trained = true;
    save_with_start(m, path, DTYPE_F32);
    OK(load_with_start(d, path, &again));
    assert_true(again->loop_start->kl.trained);
    assert_int_equal(again->loop_start->kl.count, 3);
    assert_int_equal(model_default_iterations(again), 3);
    model_free(again);
    model_free(m);
    device_close(d);
}

static void a_start_can_be_left_out(void **state) {
    device *d = cpu();
    const char *path = in(*state, "model"), *file = in(*state, "model/loop_start.safetensors");
    model *m = model_with_start(d), *again;
    save_with_start(m, path, DTYPE_COUNT);
    put_text(file, "damaged");
    again = load_model(d, path, DTYPE_COUNT); /* without the start */
    assert_null(again->loop_start);
    assert_true(same_weights(m, again));
    assert_int_equal(model_default_iterations(again), 3);
    model_free(again);
    FAILS(load_with_start(d, path, &again), LCKV_ERROR_FORMAT, "loop_start.safetensors");
    assert_null(again);
    save_model(m, path, 0); /* a checkpoint without a start removes the old one */
    assert_false(file_exists(file));
    OK(load_with_start(d, path, &again));
    assert_null(again->loop_start);
    model_free(again);
    model_free(m);
    device_close(d);
}

/* The start cannot be written, so saving fails: the old model is still there, or none that loads. */
static void new_weights_never_meet_an_old_start(void **state) {
    device *d = cpu();
    const char *path = in(*state, "model");
    model *m = model_with_start(d), *other = small_model(d, "lckv-llama", 4, MORE, DTYPE_F32, 2), *again;
    save_model(other, path, 0);
    OK(folder_create(in(*state, "model/loop_start.safetensors")));
    checkpoint_save_options options = {.type = DTYPE_COUNT, .loop_start = m->loop_start};
    assert_true(checkpoint_save(m->config, m->params, &options, path) < 0);
    if (load_with_start(d, path, &again) >= 0) assert_true(same_weights(other, again) && !again->loop_start);
    model_free(again);
    OK(remove(in(*state, "model/loop_start.safetensors")));
    save_with_start(m, path, DTYPE_COUNT);
    OK(load_with_start(d, path, &again));
    assert_true(same_weights(m, again));
    model_free(again);
    model_free(other);
    model_free(m);
    device_close(d);
}

static void bad_files_are_errors(void **state) {
    device *d = cpu();
    const char *path = in(*state, "model"), *file = in(*state, "model/loop_start.safetensors");
    model *m = model_with_start(d), *again;
    const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"loops.0.gate_proj.weight", "loops.0.gate_proj.weighs", "tensor loops.0.gate_proj.weight"},
        {"loops.0.up_proj.weight", "loops.0.up_proj.weighs", "tensor loops.0.up_proj.weight is missing"},
        {"loops.0.slots.2.k_proj.bias", "loops.0.slots.1.k_proj.bias", "tensor loops.0.slots.2.k_proj.bias is missing"},
        {"\"shape\":[8,6]", "\"shape\":[6,8]", "expected shape [8, 6], found [6, 8]"},
        {"\"dtype\":\"F32\"", "\"dtype\":\"I32\"", "expected dtype F32, BF16 or F16, found I32"},
        {"kl_start\":\"[", "kl_start\":\"{", "metadata kl_start"},
        {"[2.5,", "[-25,", "metadata kl_zeros"},
        {"[2.5,", "[2.5 ", "metadata kl_zeros"},
        {"kl_zeros", "kl_zerox", "kl_zeros has 0 entries and kl_start 3"},
        {"\"trained\":\"true\"", "\"trained\":\"tree\"", "metadata trained: expected \"true\", found \"tree\""},
    };
    m->loop_start->kl.trained = true;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        save_with_start(m, path, DTYPE_COUNT);
        edit_file(file, cases[i].from, cases[i].to);
        FAILS(load_with_start(d, path, &again), LCKV_ERROR_FORMAT, cases[i].message);
        if (!strstr(lckv_last_error(), "loop_start.safetensors")) fail_msg("%s", lckv_last_error());
        assert_null(again);
    }
    model_free(m);
    device_close(d);
}

/* The start of another model, and of a layer map without loops. */
static void a_start_belongs_to_its_model(void **state) {
    device *d = cpu();
    const char *path = in(*state, "model");
    model *m = model_with_start(d), *again;
    save_with_start(m, path, DTYPE_COUNT);
    checkpoint_load_options options = {
        .type = DTYPE_COUNT, .loop_start = true, .config_overrides = "layer_types=0_0_2_3"};
    FAILS(checkpoint_load(d, path, &options, &again), LCKV_ERROR_UNSUPPORTED, "loops");
    options.loop_start = false;
    OK(checkpoint_load(d, path, &options, &again));
    model_free(again);
    model_free(m);
    device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(values_and_metadata_come_back),       IN_FOLDER(a_start_can_be_left_out),
        IN_FOLDER(new_weights_never_meet_an_old_start), IN_FOLDER(bad_files_are_errors),
        IN_FOLDER(a_start_belongs_to_its_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
