/* Small models in folders, for tests of checkpoints and conversion. */
#ifndef TESTS_MODEL_FIXTURE_H
#define TESTS_MODEL_FIXTURE_H

#include "io/hf_folder.h"
#include "io/tensors/checkpoint_files.h"

#include "folder_fixture.h"
#include "log_capture.h"

static inline device *cpu(void) {
    device *d;
    OK(device_open("cpu", 2, &d));
    return d;
}

/* `more`: additional keys of config.json, starting with a comma. */
static inline model_config *small_config(const char *type, int layers, const char *more) {
    char text[2048];
    json_t *tree;
    model_config *c;
    snprintf(text, sizeof text,
             "{\"model_type\":\"%s\",\"hidden_size\":16,\"intermediate_size\":20,\"num_attention_heads\":4,"
             "\"num_key_value_heads\":2,\"vocab_size\":31,\"num_hidden_layers\":%d%s}",
             type, layers, more);
    OK(json_parse(text, strlen(text), "test", &tree));
    OK(config_from_json(tree, "test", NULL, &c));
    json_decref(tree);
    return c;
}

static inline model *small_model(device *d, const char *type, int layers, const char *more, dtype stored,
                                 uint64_t seed) {
    model *m;
    OK(model_create_random(d, small_config(type, layers, more), stored, seed, &m));
    return m;
}

static inline void save_model(model *m, const char *path, int64_t shard_bytes) {
    checkpoint_save_options options = {.type = DTYPE_COUNT, .shard_bytes = shard_bytes};
    OK(checkpoint_save(m->config, m->params, &options, path));
}

static inline model *load_model(device *d, const char *path, dtype type) {
    checkpoint_load_options options = {.type = type};
    model *m;
    OK(checkpoint_load(d, path, &options, &m));
    return m;
}

/* The same tensors, of the same types, with the same bits. */
static inline bool same_weights(model *a, model *b) {
    if (a->params->count != b->params->count) return false;
    bool same = true;
    for (int i = 0; i < a->params->count && same; i++) {
        const weight *w = &a->params->table[i];
        dtype type = params_type(a->params, i);
        size_t bytes = (size_t)w->rows * dtype_row_bytes(type, w->cols);
        char *x = malloc(bytes), *y = malloc(bytes);
        assert_true(x && y);
        same = strcmp(w->name, b->params->table[i].name) == 0 && params_type(b->params, i) == type;
        OK(params_read(a->params, i, type, x));
        OK(params_read(b->params, i, type, y));
        same = same && memcmp(x, y, bytes) == 0;
        free(x);
        free(y);
    }
    return same;
}

/* ---------------------------------------------------------------- damage */

/* Replaces the first occurrence of `from` in a file by the same number of bytes. */
static inline void edit_file(const char *path, const char *from, const char *to) {
    size_t count, length = strlen(from);
    char *bytes = get(path, &count);
    assert_int_equal(length, strlen(to));
    char *at = memmem(bytes, count, from, length);
    if (!at) fail_msg("%s has no %s", path, from);
    memcpy(at, to, length);
    put(path, bytes, count);
    free(bytes);
}

#endif
