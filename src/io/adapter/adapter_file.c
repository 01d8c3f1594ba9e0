/* Adapter folders in the layout of peft: see adapter_file.h. */
#include "io/adapter/adapter_file.h"

#include "base/files/file.h"
#include "io/host_device.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- opening */

static int read_config(adapter_file *f) {
    char *path;
    TRY(path_join(f->folder, ADAPTER_CONFIG, &path));
    int status = adapter_config_read(path, &f->config);
    free(path);
    return status;
}

static bool has_file(const char *folder, const char *name) {
    char *path;
    if (path_join(folder, name, &path) < 0) return false;
    bool there = path_exists(path);
    free(path);
    return there;
}

bool adapter_folder(const char *folder) {
    return has_file(folder, ADAPTER_CONFIG) && !has_file(folder, "config.json");
}

static int open_weights(adapter_file *f) {
    char *path;
    REQUIRE(has_file(f->folder, ADAPTER_WEIGHTS) || !has_file(f->folder, "adapter_model.bin"), LCKV_ERROR_UNSUPPORTED,
            "%s has only adapter_model.bin, which lckv does not read; save the adapter as %s, as peft does by default",
            f->folder, ADAPTER_WEIGHTS);
    TRY(path_join(f->folder, ADAPTER_WEIGHTS, &path));
    int status = safetensors_open(path, &f->tensors);
    free(path);
    return status;
}

int adapter_file_open(const char *folder, adapter_file *out) {
    *out = (adapter_file){.folder = strdup(folder)};
    REQUIRE(out->folder, LCKV_ERROR_MEMORY, "no memory for a path");
    int status = read_config(out);
    if (status >= 0) status = open_weights(out);
    if (status >= 0) status = host_device_open(&out->host);
    if (status < 0) adapter_file_close(out);
    return status;
}

void adapter_file_close(adapter_file *f) {
    safetensors_close(&f->tensors);
    device_close(f->host);
    adapter_config_free(&f->config);
    free(f->folder);
    *f = (adapter_file){0};
}

/* ---------------------------------------------------------------- tensors */

const safetensors_entry *adapter_file_tensor(const adapter_file *f, const char *weight_name, char a_or_b) {
    char name[ADAPTER_NAME_BYTES];
    return adapter_name(weight_name, a_or_b, name) ? safetensors_find(&f->tensors, name) : NULL;
}

bool adapter_file_has(const adapter_file *f, const char *weight_name) {
    return adapter_file_tensor(f, weight_name, 'A') != NULL;
}

static int check_shape(const adapter_file *f, const safetensors_entry *e, int64_t rows, int64_t cols) {
    bool same = e->dimensions == 2 && e->shape[0] == rows && e->shape[1] == cols;
    bool typed = e->type == DTYPE_F32 || e->type == DTYPE_BF16 || e->type == DTYPE_F16;
    REQUIRE(same && typed, LCKV_ERROR_FORMAT, "%s: tensor %s: expected F32, BF16 or F16 of shape [%lld, %lld]",
            f->tensors.path, e->name, (long long)rows, (long long)cols);
    return LCKV_OK;
}

/* The module of a weight: its name without ".weight". */
static void module_of(const char *weight_name, char out[ADAPTER_NAME_BYTES]) {
    size_t length = strlen(weight_name), tail = strlen(".weight");
    bool ends = length > tail && !strcmp(weight_name + length - tail, ".weight");
    snprintf(out, ADAPTER_NAME_BYTES, "%.*s", (int)(ends ? length - tail : length), weight_name);
}

/* The rank in the config has to be that of the tensors; peft does not load them otherwise. */
static int check_rank(const adapter_file *f, const char *module, const safetensors_entry *a, int64_t *rank) {
    bool targeted;
    TRY(adapter_config_targets(&f->config, module, &targeted));
    REQUIRE(targeted, LCKV_ERROR_FORMAT,
            "%s has tensors for %s, which %s excludes (target_modules, exclude_modules or layers_to_transform)",
            f->tensors.path, module, f->config.path);
    TRY(adapter_config_rank(&f->config, module, rank));
    REQUIRE(a->dimensions != 2 || a->shape[0] == *rank, LCKV_ERROR_FORMAT,
            "%s has rank %lld for %s (r or rank_pattern), but its tensors in %s have rank %lld", f->config.path,
            (long long)*rank, module, f->tensors.path, (long long)a->shape[0]);
    return LCKV_OK;
}

/* Checks A and B of one weight and adds the number of tensors to *found. */
static int check_pair(const adapter_file *f, const weight *w, int *found) {
    const safetensors_entry *a = adapter_file_tensor(f, w->name, 'A'), *b = adapter_file_tensor(f, w->name, 'B');
    if (!a && !b) return LCKV_OK;
    REQUIRE(a && b, LCKV_ERROR_FORMAT, "%s: %s has lora_%c but no lora_%c", f->tensors.path, w->name, a ? 'A' : 'B',
            a ? 'B' : 'A');
    char module[ADAPTER_NAME_BYTES];
    int64_t rank;
    module_of(w->name, module);
    TRY(check_rank(f, module, a, &rank));
    TRY(check_shape(f, a, rank, w->all_cols));
    TRY(check_shape(f, b, w->all_rows, rank));
    *found += 2;
    return LCKV_OK;
}

static bool belongs(const params *base, const char *name) {
    char wanted[ADAPTER_NAME_BYTES];
    for (int i = 0; i < base->count; i++)
        for (char which = 'A'; which <= 'B'; which++)
            if (adapter_name(base->table[i].name, which, wanted) && !strcmp(wanted, name)) return true;
    return false;
}

/* Reports a tensor that belongs to no matrix of a layer, with its feature if the name tells it. */
static int reject_tensor(const adapter_file *f, const char *name) {
    static const char *const features[][2] = {
        {"lora_embedding_", "LoRA on embeddings"},
        {"lora_magnitude_vector", "DoRA (use_dora)"},
        {"lm_head.lora_", "LoRA on lm_head"},
        {"lora_B.bias", "LoRA biases (lora_bias)"},
        {".bias", "trained biases (bias)"},
        {"embed_tokens.weight", "trained embeddings (modules_to_save)"},
        {"lm_head.weight", "a trained lm_head (modules_to_save)"},
        {"norm.weight", "trained norms (modules_to_save)"},
        {"modules_to_save", "fully trained modules (modules_to_save)"},
    };
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        REQUIRE(!strstr(name, features[i][0]), LCKV_ERROR_UNSUPPORTED,
                "%s: tensor %s is of %s, which lckv does not support", f->tensors.path, name, features[i][1]);
    return fail(LCKV_ERROR_FORMAT,
                "%s: tensor %s belongs to no matrix of the model's layers (layers without a KV slot have no k_proj and "
                "v_proj)",
                f->tensors.path, name);
}

int adapter_file_check(const adapter_file *f, const params *base) {
    int found = 0;
    for (int i = 0; i < base->count; i++) TRY(check_pair(f, &base->table[i], &found));
    if (found == f->tensors.count) return LCKV_OK;
    for (int i = 0; i < f->tensors.count; i++)
        if (!belongs(base, f->tensors.entries[i].name)) return reject_tensor(f, f->tensors.entries[i].name);
    return LCKV_OK;
}

int adapter_file_scale(const adapter_file *f, const char *weight_name, int64_t rank, float *out) {
    char module[ADAPTER_NAME_BYTES];
    double alpha;
    module_of(weight_name, module);
    TRY(adapter_config_alpha(&f->config, module, &alpha));
    *out = (float)(alpha / (f->config.rank_stabilized ? sqrt((double)rank) : (double)rank));
    return LCKV_OK;
}
