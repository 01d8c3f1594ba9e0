/* Fuzz target: adapter_config.json, then the header of adapter_model.safetensors. Checked against a small model, and
 * merged. */
#include "fuzz.h"

#include "io/adapter/adapter_merge.h"

#include <stdlib.h>

static const char CONFIG[] = "{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":12,"
                             "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":4,"
                             "\"num_hidden_layers\":2,\"vocab_size\":16}";

static const params *base(void) {
    static params *p;
    json_t *tree;
    model_config *c;
    if (p) return p;
    FUZZ_CHECK(json_parse(CONFIG, sizeof CONFIG - 1, "base", &tree) >= 0);
    FUZZ_CHECK(config_from_json(tree, "base", NULL, &c) >= 0 && params_create(c, NULL, NULL, &p) >= 0);
    json_decref(tree);
    config_free(c);
    return p;
}

static int merge(const adapter_file *f) {
    int status = adapter_file_check(f, base());
    for (int i = 0; status >= 0 && i < base()->count; i++) {
        const weight *w = &base()->table[i];
        float *values = calloc((size_t)(w->rows * w->cols), sizeof *values);
        FUZZ_CHECK(values);
        status = adapter_merge(f, w->name, w->rows, w->cols, values);
        free(values);
    }
    return status;
}

int fuzz_run(const uint8_t *data, size_t size) {
    fuzz_part rest = fuzz_all(data, size);
    adapter_file file;
    fuzz_clear();
    fuzz_put(ADAPTER_CONFIG, fuzz_next(&rest));
    fuzz_put_tensors(ADAPTER_WEIGHTS, rest);
    int status = adapter_file_open(fuzz_folder(), &file);
    status = fuzz_end(status, !file.folder && !file.host);
    if (status >= 0) status = fuzz_end(merge(&file), true);
    adapter_file_close(&file);
    return status;
}
