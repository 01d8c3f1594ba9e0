/* peft's adapters, read and written: see adapter_file.h. */
#include "io/adapter_file.h"

#include "io/staging.h"
#include "io/tensor_values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- the config */

/* null, false, or nothing in it. */
static bool is_off(const json_t *value) {
    return !value || json_is_null(value) || json_is_false(value) ||
           (json_is_object(value) && !json_object_size(value)) || (json_is_array(value) && !json_array_size(value));
}

/* What changes the result and shows in no tensor. */
static int check_extras(const json_t *tree, const char *path) {
    static const char *const extras[] = {"fan_in_fan_out", "use_dora", "alpha_pattern", "layer_replication",
                                         "use_qalora"};
    for (size_t i = 0; i < sizeof extras / sizeof *extras; i++)
        REQUIRE(is_off(json_object_get(tree, extras[i])), LCKV_ERROR_UNSUPPORTED, "%s asks for %s, which is not done",
                path, extras[i]);
    return LCKV_OK;
}

static int read_tree(const json_t *tree, const char *path, adapter_file *f) {
    const char *kind, *base;
    REQUIRE(json_is_object(tree), LCKV_ERROR_FORMAT, "%s should be an object", path);
    TRY(json_get_string(tree, path, "peft_type", "", &kind));
    REQUIRE(!strcmp(kind, "LORA"), LCKV_ERROR_UNSUPPORTED, "%s should have the peft_type LORA, found '%.40s'", path,
            kind);
    TRY(check_extras(tree, path));
    TRY(json_get_int(tree, path, "r", 8, &f->options.rank));
    TRY(json_get_number(tree, path, "lora_alpha", 8, &f->options.alpha));
    TRY(json_get_bool(tree, path, "use_rslora", false, &f->rank_stabilized));
    TRY(json_get_string(tree, path, "base_model_name_or_path", NULL, &base));
    REQUIRE(f->options.rank >= 1 && isfinite(f->options.alpha), LCKV_ERROR_FORMAT,
            "%s should have r from 1 and a finite lora_alpha, found %lld and %g", path, (long long)f->options.rank,
            f->options.alpha);
    if (!base || !*base) return LCKV_OK;
    f->base = strdup(base);
    REQUIRE(f->base, LCKV_ERROR_MEMORY, "no memory for a path");
    return LCKV_OK;
}

static int read_config(adapter_file *f) {
    char *path;
    json_t *tree = NULL;
    TRY(path_join(f->folder, ADAPTER_CONFIG, &path));
    int status = json_read_file(path, &tree);
    if (status >= 0) status = read_tree(tree, path, f);
    json_decref(tree);
    free(path);
    return status;
}

/* ---------------------------------------------------------------- opening */

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
    free(f->folder);
    free(f->base);
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

/* A and B of one weight; *found counts those that are there. */
static int check_pair(const adapter_file *f, const weight *w, int *found) {
    const safetensors_entry *a = find(f, w->name, 'A'), *b = find(f, w->name, 'B');
    if (!a && !b) return LCKV_OK;
    REQUIRE(a && b, LCKV_ERROR_FORMAT, "%s: %s has a lora_%c and no lora_%c", f->tensors.path, w->name, a ? 'A' : 'B',
            a ? 'B' : 'A');
    int64_t rank = a->dimensions == 2 && a->shape[0] > 0 ? a->shape[0] : f->options.rank;
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

int adapter_file_check(const adapter_file *f, const params *base) {
    int found = 0;
    for (int i = 0; i < base->count; i++) TRY(check_pair(f, &base->table[i], &found));
    if (found == f->tensors.count) return LCKV_OK;
    for (int i = 0; i < f->tensors.count; i++)
        REQUIRE(belongs(base, f->tensors.entries[i].name), LCKV_ERROR_FORMAT,
                "%s: tensor %s belongs to no matrix of the model's layers (of layers without a KV slot there is no "
                "k_proj and no v_proj)",
                f->tensors.path, f->tensors.entries[i].name);
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

static float scale_of(const adapter_file *f, int64_t rank) {
    return (float)(f->options.alpha / (f->rank_stabilized ? sqrt((double)rank) : (double)rank));
}

int adapter_file_merge(const adapter_file *f, const char *weight_name, int64_t rows, int64_t cols, float *values) {
    const safetensors_entry *a = find(f, weight_name, 'A'), *b = find(f, weight_name, 'B');
    if (!a || !b) return LCKV_OK;
    float *factors = malloc((size_t)(2 * a->elements + b->elements) * sizeof *factors);
    float *product = malloc((size_t)(rows * cols) * sizeof *product);
    int status = factors && product ? multiply(f, a, b, factors, product)
                                    : fail(LCKV_ERROR_MEMORY, "no memory to merge %s", weight_name);
    struct op_accumulate sum = {.src = {product, rows, cols, DTYPE_F32},
                                .dst = {values, rows, cols, DTYPE_F32},
                                .scale = scale_of(f, a->shape[0])};
    if (status >= 0) status = DEVICE_RUN(f->host, accumulate, &sum);
    free(factors);
    free(product);
    return status;
}
