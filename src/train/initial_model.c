/* The initial model of a run, see initial_model.h. */
#include "train/initial_model.h"

#include "base/rng.h"
#include "io/hf_folder.h"
#include "lckv.h"

#include <stdlib.h>

static const uint64_t ROWS_STREAM = 0x726f777300000000; /* "rows"; separate from the streams of initial weights */

int initial_model_load(device *d, const char *folder, const char *overrides, dtype type, weight_format format,
                       const collectives *divide, model **out) {
    checkpoint_load_options options = {.config_overrides = overrides, .type = type, .format = format, .divide = divide};
    return checkpoint_load(d, folder, &options, out);
}

/* Copies a config and creates its table of weights, without values, which are f32. The caller owns both, also on
 * failure. */
static int make_table(device *d, const model_config *config, const collectives *divide, params_has_tensor has,
                      void *user, model_config **copy, params **weights) {
    *copy = NULL;
    *weights = NULL;
    int status = config_copy(config, copy);
    if (status >= 0) status = params_create(*copy, has, user, weights);
    if (status >= 0 && divide) status = params_divide(*weights, divide);
    if (status >= 0) status = params_allocate(*weights, d, DTYPE_F32);
    return status;
}

static int finish(device *d, int status, model_config *config, params *weights, model **out) {
    *out = NULL;
    if (status >= 0) return model_create(d, config, weights, out);
    params_free(weights);
    config_free(config);
    return status;
}

int initial_model_random(device *d, const model_config *config, uint64_t seed, const collectives *divide, model **out) {
    model_config *copy;
    params *weights;
    int status = make_table(d, config, divide, NULL, NULL, &copy, &weights);
    if (status >= 0) status = params_randomize(weights, copy, seed);
    return finish(d, status, copy, weights, out);
}

/* ---------------------------------------------------------------- embedding rows */

static void draw(float *values, int64_t count, double deviation, uint64_t seed, uint64_t stream) {
    for (int64_t i = 0; i < count; i += 2) {
        double pair[2];
        rng_normal2(seed, stream, (uint64_t)i / 2, pair);
        values[i] = (float)(deviation * pair[0]);
        if (i + 1 < count) values[i + 1] = (float)(deviation * pair[1]);
    }
}

/* Values that stay in the file are read once. */
static void drop_if_mapped(view v) {
    if (v.data && lckv_mapped_file_at(v.data)) file_drop_pages(v.data, view_bytes(v));
}

/* Copies the entry of the same name to entry i of `to`, and draws additional rows at random. */
static int copy_entry(params *from, params *to, int i, double deviation, uint64_t seed) {
    const weight *w = &to->table[i];
    int old = (int)(params_find(from, w->name) - from->table);
    int64_t old_count = from->table[old].rows * w->cols, new_count = w->rows * w->cols;
    float *values = malloc((size_t)new_count * sizeof *values);
    REQUIRE(values, LCKV_ERROR_MEMORY, "no memory for the %lld values of %s", (long long)new_count, w->name);
    draw(values + old_count, new_count - old_count, deviation, seed, ROWS_STREAM + (uint64_t)i);
    int status = params_get(from, old, values);
    drop_if_mapped(from->table[old].tensor.value);
    if (status >= 0) status = params_set(to, i, values, DTYPE_F32);
    free(values);
    return status;
}

static bool has_entry(void *user, const char *name) {
    return params_find(user, name) != NULL;
}

int initial_model_add_rows(model **m, device *d, int64_t vocab_size, uint64_t seed, const collectives *divide) {
    model *old = *m, *wider = NULL;
    model_config config = *old->config, *copy; /* shallow; make_table() copies it */
    params *weights;
    config.vocab_size = vocab_size;
    int status = make_table(d, &config, divide, has_entry, old->params, &copy, &weights);
    for (int i = 0; status >= 0 && i < weights->count; i++)
        status = copy_entry(old->params, weights, i, config.initializer_range, seed);
    TRY(finish(d, status, copy, weights, &wider));
    wider->folder = old->folder;
    old->folder = NULL;
    model_free(old);
    *m = wider;
    return LCKV_OK;
}
