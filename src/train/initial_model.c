/* The initial model of a run, see initial_model.h. */
#include "train/initial_model.h"

#include "io/hf_folder.h"

int initial_model_load(device *d, const char *folder, const char *overrides, dtype type, weight_format format,
                       const collectives *divide, const added_rows *added, model **out) {
    checkpoint_load_options options = {.config_overrides = overrides, .type = type, .format = format, .divide = divide};
    if (added) options.added = *added;
    return checkpoint_load(d, folder, &options, out);
}

static int fill_random(const model_config *config, uint64_t seed, const collectives *divide, device *d, params *p) {
    if (divide) TRY(params_divide(p, divide));
    TRY(params_allocate(p, d, DTYPE_F32));
    return params_randomize(p, config, seed);
}

int initial_model_random(device *d, const model_config *config, uint64_t seed, const collectives *divide, model **out) {
    model_config *copy = NULL;
    params *weights = NULL;
    *out = NULL;
    int status = config_copy(config, &copy);
    if (status >= 0) status = params_create(copy, NULL, NULL, &weights);
    if (status >= 0) status = fill_random(copy, seed, divide, d, weights);
    if (status >= 0) return model_create(d, copy, weights, out);
    params_free(weights);
    config_free(copy);
    return status;
}
