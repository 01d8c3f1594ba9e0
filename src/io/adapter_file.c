/* peft's adapters, read and written: see adapter_file.h. */
#include "io/adapter_file.h"

#include "io/staging.h"
#include "io/tensor_values.h"

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
    bool there = file_exists(path);
    free(path);
    return there;
}

bool adapter_folder(const char *folder) {
    return has_file(folder, ADAPTER_CONFIG) && !has_file(folder, "config.json");
}

static int open_weights(adapter_file *f) {
    char *path;
    REQUIRE(has_file(f->folder, ADAPTER_WEIGHTS) || !has_file(f->folder, "adapter_model.bin"), LCKV_ERROR_UNSUPPORTED,
            "%s has its weights as adapter_model.bin only, which lckv does not read; peft writes %s by default",
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
    if (status >= 0) status = device_open("cpu", 0, &out->host);
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

/* ---------------------------------------------------------------- which tensors */

static const safetensors_entry *find(const adapter_file *f, const char *weight_name, char a_or_b) {
    char name[ADAPTER_NAME_BYTES];
    return adapter_name(weight_name, a_or_b, name) ? safetensors_find(&f->tensors, name) : NULL;
}

bool adapter_file_has(const adapter_file *f, const char *weight_name) {
    return find(f, weight_name, 'A') != NULL;
}

static int check_shape(const adapter_file *f, const safetensors_entry *e, int64_t rows, int64_t cols) {
    bool same = e->dimensions == 2 && e->shape[0] == rows && e->shape[1] == cols;
    bool typed = e->type == DTYPE_F32 || e->type == DTYPE_BF16 || e->type == DTYPE_F16;
    REQUIRE(same && typed, LCKV_ERROR_FORMAT, "%s: tensor %s should be F32, BF16 or F16 of the shape [%lld, %lld]",
            f->tensors.path, e->name, (long long)rows, (long long)cols);
    return LCKV_OK;
}

/* "model.layers.0.self_attn.q_proj" of "model.layers.0.self_attn.q_proj.weight": what peft goes by. */
static void module_of(const char *weight_name, char out[ADAPTER_NAME_BYTES]) {
    size_t length = strlen(weight_name), tail = strlen(".weight");
    bool ends = length > tail && !strcmp(weight_name + length - tail, ".weight");
    snprintf(out, ADAPTER_NAME_BYTES, "%.*s", (int)(ends ? length - tail : length), weight_name);
}

/* The config's rank, which the tensors have too: peft would not load them otherwise. */
static int check_rank(const adapter_file *f, const char *module, const safetensors_entry *a, int64_t *rank) {
    bool targeted;
    TRY(adapter_config_targets(&f->config, module, &targeted));
    REQUIRE(targeted, LCKV_ERROR_FORMAT,
            "%s has tensors for %s, which target_modules, exclude_modules or layers_to_transform of %s leave out",
            f->tensors.path, module, f->config.path);
    TRY(adapter_config_rank(&f->config, module, rank));
    REQUIRE(a->dimensions != 2 || a->shape[0] == *rank, LCKV_ERROR_FORMAT,
            "%s says rank %lld for %s (r or rank_pattern), but its tensors in %s have rank %lld", f->config.path,
            (long long)*rank, module, f->tensors.path, (long long)a->shape[0]);
    return LCKV_OK;
}

/* A and B of one weight; *found counts those that are there. */
static int check_pair(const adapter_file *f, const weight *w, int *found) {
    const safetensors_entry *a = find(f, w->name, 'A'), *b = find(f, w->name, 'B');
    if (!a && !b) return LCKV_OK;
    REQUIRE(a && b, LCKV_ERROR_FORMAT, "%s: %s has a lora_%c and no lora_%c", f->tensors.path, w->name, a ? 'A' : 'B',
            a ? 'B' : 'A');
    char module[ADAPTER_NAME_BYTES];
    int64_t rank;
    module_of(w->name, module);
    TRY(check_rank(f, module, a, &rank));
    TRY(check_shape(f, a, rank, w->cols));
    TRY(check_shape(f, b, w->rows, rank));
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

/* A tensor that belongs to no matrix of a layer: what it is of, where its name says so. */
static int refuse_tensor(const adapter_file *f, const char *name) {
    static const char *const features[][2] = {
        {"lora_embedding_", "LoRA on embeddings"},
        {"lora_magnitude_vector", "DoRA (use_dora)"},
        {"lm_head.lora_", "LoRA on lm_head"},
        {"lora_B.bias", "a bias of LoRA's own (lora_bias)"},
        {".bias", "trained biases (bias)"},
        {"embed_tokens.weight", "trained embeddings (modules_to_save)"},
        {"lm_head.weight", "a trained lm_head (modules_to_save)"},
        {"norm.weight", "trained norms (modules_to_save)"},
        {"modules_to_save", "modules trained as a whole (modules_to_save)"},
    };
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        REQUIRE(!strstr(name, features[i][0]), LCKV_ERROR_UNSUPPORTED, "%s: tensor %s is %s, which lckv does not do",
                f->tensors.path, name, features[i][1]);
    return fail(LCKV_ERROR_FORMAT,
                "%s: tensor %s belongs to no matrix of the model's layers (of layers without a KV slot there is no "
                "k_proj and no v_proj)",
                f->tensors.path, name);
}

int adapter_file_check(const adapter_file *f, const params *base) {
    int found = 0;
    for (int i = 0; i < base->count; i++) TRY(check_pair(f, &base->table[i], &found));
    if (found == f->tensors.count) return LCKV_OK;
    for (int i = 0; i < f->tensors.count; i++)
        if (!belongs(base, f->tensors.entries[i].name)) return refuse_tensor(f, f->tensors.entries[i].name);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- merging */

/* [rows, cols] -> [cols, rows] */
static void transpose(const float *in, int64_t rows, int64_t cols, float *out) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) out[c * rows + r] = in[r * cols + c];
}

/* product [rows, cols] = b [rows, rank] a [rank, cols]; the others are room for the same numbers of floats. */
static int multiply(const adapter_file *f, const safetensors_entry *a, const safetensors_entry *b, float *factors,
                    float *product) {
    int64_t rank = a->shape[0], cols = a->shape[1], rows = b->shape[0];
    float *left = factors, *right = left + b->elements, *turned = right + a->elements;
    TRY(tensor_values(f->host, b, DTYPE_F32, left));
    TRY(tensor_values(f->host, a, DTYPE_F32, right));
    transpose(right, rank, cols, turned);
    struct op_linear linear = {.x = {left, rows, rank, DTYPE_F32},
                               .weight = {turned, cols, rank, DTYPE_F32},
                               .y = {product, rows, cols, DTYPE_F32}};
    TRY(DEVICE_RUN(f->host, linear, &linear));
    return f->host->memory.wait(f->host);
}

static int scale_of(const adapter_file *f, const char *weight_name, int64_t rank, float *out) {
    char module[ADAPTER_NAME_BYTES];
    double alpha;
    module_of(weight_name, module);
    TRY(adapter_config_alpha(&f->config, module, &alpha));
    *out = (float)(alpha / (f->config.rank_stabilized ? sqrt((double)rank) : (double)rank));
    return LCKV_OK;
}

int adapter_file_merge(const adapter_file *f, const char *weight_name, int64_t rows, int64_t cols, float *values) {
    const safetensors_entry *a = find(f, weight_name, 'A'), *b = find(f, weight_name, 'B');
    float scale;
    if (!a || !b) return LCKV_OK;
    TRY(scale_of(f, weight_name, a->shape[0], &scale));
    float *factors = malloc((size_t)(2 * a->elements + b->elements) * sizeof *factors);
    float *product = malloc((size_t)(rows * cols) * sizeof *product);
    int status = factors && product ? multiply(f, a, b, factors, product)
                                    : fail(LCKV_ERROR_MEMORY, "no memory to merge %s", weight_name);
    struct op_accumulate sum = {
        .src = {product, rows, cols, DTYPE_F32}, .dst = {values, rows, cols, DTYPE_F32}, .scale = scale};
    if (status >= 0) status = DEVICE_RUN(f->host, accumulate, &sum);
    free(factors);
    free(product);
    return status;
}
