/* Invalid checkpoints with their error messages, and checkpoints with additional tensors. */
#define _GNU_SOURCE /* memmem */
#include "bad_files/checkpoints.h"
#include "model_fixture.h"

static void damage(const folder *f, const bad_checkpoint *bad) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "model/%s", bad->file ? bad->file : "");
    if (bad->from) edit_file(in(f, path), bad->from, bad->to);
    snprintf(path, sizeof path, "model/%s", bad->remove ? bad->remove : "");
    if (bad->remove) assert_int_equal(unlink(in(f, path)), 0);
    snprintf(path, sizeof path, "model/%s", bad->put ? bad->put : "");
    if (bad->put) put_text(in(f, path), bad->text);
}

static void refuses_bad_checkpoints(void **state) {
    device *d = cpu();
    model *sound = small_model(d, "llama", 2, "", DTYPE_F32, 1);
    for (size_t i = 0; i < sizeof BAD_CHECKPOINTS / sizeof *BAD_CHECKPOINTS; i++) {
        const bad_checkpoint *bad = &BAD_CHECKPOINTS[i];
        const char *path = in(*state, "model");
        remove_tree(path);
        save_model(sound, path, bad->sharded ? 6000 : 0);
        damage(*state, bad);
        checkpoint_load_options options = {.type = DTYPE_COUNT, .config_overrides = bad->overrides};
        model *m;
        FAILS(checkpoint_load(d, path, &options, &m), bad->code ? bad->code : LCKV_ERROR_FORMAT, bad->error);
        if (!strstr(lckv_last_error(), bad->names)) fail_msg("%s does not name %s", lckv_last_error(), bad->names);
        assert_null(m);
    }
    model_free(sound);
    device_close(d);
}

/* A name that is a folder or a broken link is not a missing file, also where the file is optional. */
static void names_that_are_no_files_are_refused(void **state) {
    static const char *const names[] = {"model.safetensors", "config.json", "generation_config.json",
                                        "loop_start.safetensors"};
    device *d = cpu();
    model *sound = small_model(d, "lckv-llama", 4, ",\"layer_types\":\"0_2_2_3\"", DTYPE_F32, 1), *m;
    checkpoint_load_options options = {.type = DTYPE_COUNT, .loop_start = true};
    char name[PATH_BYTES], error[PATH_BYTES];
    for (size_t i = 0; i < 2 * (sizeof names / sizeof *names); i++) {
        const char *path = in(*state, "model");
        remove_tree(path);
        save_model(sound, path, 0);
        snprintf(name, sizeof name, "model/%s", names[i / 2]);
        unlink(in(*state, name));
        assert_int_equal(i % 2 ? mkdir(in(*state, name), 0777) : symlink("gone", in(*state, name)), 0);
        snprintf(error, sizeof error, "%s'%s", names[i / 2],
                 i % 2 ? " is not a regular file: it is a folder" : ": it is a symbolic link to a file");
        FAILS(checkpoint_load(d, path, &options, &m), LCKV_ERROR_FILE, error);
    }
    model_free(sound);
    device_close(d);
}

/* ---------------------------------------------------------------- additional tensors */

/* Writes a tensor of `bytes` to a separate file, and an index of it and the valid file. */
static int zeros(void *user, int index, element_range range, void *bytes) {
    (void)user, (void)index;
    memset(bytes, 0, (size_t)range.count * 4);
    return LCKV_OK;
}

static void add_tensors(const folder *f, const safetensors_item *items, int count) {
    new_file file;
    OK(file_begin(in(f, "model/more.safetensors"), &file));
    OK(safetensors_write(&file, items, count, zeros, (void *)(uintptr_t)items));
    OK(file_commit(&file));
    json_t *index;
    char *text;
    OK(json_read_file(in(f, "model/" INDEX), &index));
    for (int i = 0; i < count; i++)
        json_object_set_new(json_object_get(index, "weight_map"), items[i].name, json_string("more.safetensors"));
    OK(json_format(index, 2, &text));
    put_text(in(f, "model/" INDEX), text);
    free(text);
    json_decref(index);
}

static void passes_over_what_nothing_reads(void **state) {
    static const safetensors_item more[] = {
        {.name = "model.layers.0.self_attn.rotary_emb.inv_freq", .shape = {2}, .dimensions = 1},
        {.name = "model.rotary_emb.inv_freq", .shape = {2}, .dimensions = 1},
        {.name = "model.layers.0.self_attn.k_proj.bias", .shape = {8}, .dimensions = 1},
        {.name = "model.layers.0.self_attn.v_proj.bias", .shape = {8}, .dimensions = 1},
        {.name = "model.layers.0.self_attn.k_norm.weight", .shape = {4}, .dimensions = 1},
    };
    device *d = cpu();
    model *m = small_model(d, "llama", 2, "", DTYPE_F32, 1), *shared;
    save_model(m, in(*state, "model"), 6000);
    add_tensors(*state, more, 5);
    checkpoint_load_options options = {.type = DTYPE_COUNT,
                                       .config_overrides = "model_type=lckv-llama,layer_types=1_1"};
    capture_log(LCKV_LOG_INFO);
    OK(checkpoint_load(d, in(*state, "model"), &options, &shared));
    end_capture();
    assert_non_null(strstr(logged, "ignored 7 unused tensors"));
    assert_null(packed_matrix(&shared->params->layers[0].qkv, "k"));
    assert_null(packed_bias(&shared->params->layers[1].qkv, "k"));
    model_free(shared);
    options.config_overrides = NULL; /* a plain model needs K and V biases in both layers */
    FAILS(checkpoint_load(d, in(*state, "model"), &options, &shared), LCKV_ERROR_FORMAT,
          "tensor model.layers.1.self_attn.k_proj.bias is missing");
    options.config_overrides = "model_type=lckv-llama,layer_types=0_0";
    FAILS(checkpoint_load(d, in(*state, "model"), &options, &shared), LCKV_ERROR_FORMAT,
          "more.safetensors: tensor model.layers.0.self_attn.k_norm.weight does not belong to this model");
    model_free(m);
    device_close(d);
}

static void nothing_else_is_passed_over(void **state) {
    static const char *const names[] = {
        "model.layers.0.self_attn.k_proj.weight_scale",
        "model.layers.0.self_attn.k_proj",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.7.self_attn.k_proj.weight",
        "model.layers.-1.self_attn.k_proj.weight",
        "model.layers.0.self_attn.inv_freq",
        "xmodel.norm.weight",
        "",
    };
    device *d = cpu();
    model *m = small_model(d, "lckv-llama", 2, ",\"layer_types\":\"1_1\"", DTYPE_F32, 1);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        safetensors_item item = {.name = names[i], .shape = {1}, .dimensions = 1};
        char sentence[128];
        remove_tree(in(*state, "model"));
        save_model(m, in(*state, "model"), 6000);
        add_tensors(*state, &item, 1);
        snprintf(sentence, sizeof sentence, "more.safetensors: tensor %s does not belong to this model", names[i]);
        checkpoint_load_options options = {.type = DTYPE_COUNT};
        model *none;
        FAILS(checkpoint_load(d, in(*state, "model"), &options, &none), LCKV_ERROR_FORMAT, sentence);
    }
    model_free(m);
    device_close(d);
}

/* As in transformers 4.45.2: the embeddings are used. */
static void a_tied_head_is_passed_over(void **state) {
    device *d = cpu();
    model *m = small_model(d, "llama", 1, "", DTYPE_F32, 1), *tied;
    save_model(m, in(*state, "model"), 0);
    checkpoint_load_options options = {.type = DTYPE_COUNT, .config_overrides = "tie_word_embeddings=true"};
    capture_log(LCKV_LOG_INFO);
    OK(checkpoint_load(d, in(*state, "model"), &options, &tied));
    assert_non_null(strstr(logged, "lm_head.weight differs from the embeddings"));
    assert_non_null(strstr(logged, "ignored 1 unused tensors"));
    assert_ptr_equal(tied->params->head, tied->params->embed);
    assert_memory_equal(tied->params->embed->value.data, m->params->embed->value.data, 31 * 16 * 4);
    model_free(tied);
    OK(params_set(m->params, m->params->count - 1, m->params->embed->value.data, DTYPE_F32));
    save_model(m, in(*state, "model"), 0);
    capture_log(LCKV_LOG_INFO);
    OK(checkpoint_load(d, in(*state, "model"), &options, &tied));
    assert_null(strstr(logged, "differs from the embeddings"));
    end_capture();
    model_free(tied);
    model_free(m);
    device_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(refuses_bad_checkpoints),        IN_FOLDER(names_that_are_no_files_are_refused),
        IN_FOLDER(passes_over_what_nothing_reads), IN_FOLDER(nothing_else_is_passed_over),
        IN_FOLDER(a_tied_head_is_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
