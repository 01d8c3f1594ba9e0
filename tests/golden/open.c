/* Opens a golden folder: the model on the device, with gradients, and the expected tensors. */
#include "golden.h"
#include "io/hf_folder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int open_expected(golden *g) {
    char *path;
    TRY(path_join(g->folder, "expected.safetensors", &path));
    int status = safetensors_open(path, &g->expected);
    free(path);
    TRY(status);
    g->checked = calloc((size_t)g->expected.count + 1, sizeof *g->checked);
    REQUIRE(g->checked, LCKV_ERROR_MEMORY, "no memory");
    const safetensors_entry *ids = golden_expected(g, "ids"), *logits = safetensors_find(&g->expected, "plan.logits");
    REQUIRE(ids && ids->type == DTYPE_I32 && logits && logits->type == DTYPE_F32, LCKV_ERROR_FORMAT,
            "%s: expected.safetensors has no ids or no plan.logits", g->folder);
    g->ids = (const int32_t *)(const void *)ids->data; /* the writer aligns tensors to their elements */
    g->length = (int32_t)ids->elements;
    for (int64_t i = 0; i < logits->elements; i++) {
        float value;
        memcpy(&value, logits->data + 4 * i, 4);
        if (fabs((double)value) > g->largest_logit) g->largest_logit = fabs((double)value);
    }
    return LCKV_OK;
}

/* Reads a line "f32 tolerance: X" in the folder's README.md, for folders with expected values of other origin. */
static int read_tolerance(golden *g) {
    char *path, line[256];
    TRY(path_join(g->folder, "README.md", &path));
    FILE *f = fopen(path, "r");
    free(path);
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "f32 tolerance:", 14)) g->readme_tolerance = atof(line + 14);
    if (f) fclose(f);
    REQUIRE(isfinite(g->readme_tolerance) && g->readme_tolerance >= 0, LCKV_ERROR_FORMAT,
            "%s/README.md: 'f32 tolerance' should be a positive number", g->folder);
    return LCKV_OK;
}

bool golden_is_exact(const golden *g) {
    return g->compute == DTYPE_F32 && g->weights == GOLDEN_STORED && g->kv_type == DTYPE_F32;
}

static bool has_weight(void *user, const char *name) {
    return params_find(user, name) != NULL;
}

/* Replaces the model by one with the same values in f32. */
static int dequantize(golden *g) {
    model *from = g->model;
    model_config *config;
    params *p;
    TRY(config_copy(from->config, &config));
    TRY(params_create(config, has_weight, from->params, &p));
    TRY(params_allocate(p, g->device, DTYPE_F32));
    for (int i = 0; i < p->count; i++) {
        float *values = malloc((size_t)(p->table[i].rows * p->table[i].cols) * sizeof *values);
        int status = params_get(from->params, i, values);
        if (status >= 0) status = params_set(p, i, values, DTYPE_F32);
        free(values);
        TRY(status);
    }
    g->model = NULL;
    model_free(from);
    return model_create(g->device, config, p, &g->model);
}

int golden_open(device *d, const char *folder, dtype compute, dtype kv_type, enum golden_weights weights, golden *g) {
    *g = (golden){.folder = folder, .device = d, .compute = compute, .kv_type = kv_type, .weights = weights};
    const checkpoint_load_options options = {.type = DTYPE_COUNT,
                                             .format = weights == GOLDEN_STORED ? WEIGHT_AUTO : WEIGHT_INT8};
    TRY(open_expected(g));
    TRY(read_tolerance(g));
    TRY(checkpoint_load(d, folder, &options, &g->model));
    if (weights == GOLDEN_DEQUANTIZED) TRY(dequantize(g));
    if (weights == GOLDEN_STORED) {
        TRY(params_enable_masters(g->model->params, DTYPE_F32, NULL));
        TRY(params_enable_gradients(g->model->params));
    }
    return graph_create(d, compute, true, &g->graph);
}

void golden_close(golden *g) {
    graph_free(g->graph);
    model_free(g->model);
    safetensors_close(&g->expected);
    free(g->checked);
}
