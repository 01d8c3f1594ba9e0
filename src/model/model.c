/* Creates and frees a model; see model.h. */
#include "model/model.h"

#include "model/ranks/rank_group.h"

#include <stdlib.h>

static int check_values(const params *p) {
    for (int i = 0; i < p->count; i++)
        REQUIRE(params_has_value(p, i), LCKV_ERROR_ARGUMENT, "%s has no value", p->table[i].name);
    return LCKV_OK;
}

/* One table of rotary frequencies serves all layers. */
static int check_head_sizes(const model_config *c) {
    for (int i = 0; i < c->layers; i++)
        REQUIRE(c->map.layer[i].head_dim == c->head_dim, LCKV_ERROR_UNSUPPORTED,
                "layer %d has heads of %d and the model heads of %d: RoPE supports one head size", i,
                c->map.layer[i].head_dim, c->head_dim);
    return LCKV_OK;
}

static int send_frequencies(model *m) {
    const rope_scaling *scaling = &m->config->rope_scaling;
    view v = {NULL, config_frequency_sets(m->config), m->config->head_dim / 2, DTYPE_F64};
    double *host = malloc(view_bytes(v));
    REQUIRE(host, LCKV_ERROR_MEMORY, "no memory for %d rotary frequencies", (int)v.cols);
    config_inverse_frequencies(m->config, host);
    int status = m->device->memory.alloc(m->device, view_bytes(v), &v.data);
    m->rope = (struct op_rope_angles){.inverse_frequencies = v,
                                      .limit = config_plain_length(m->config),
                                      .growth = scaling->factor,
                                      .scale = (float)scaling->attention_factor};
    if (status >= 0) status = m->device->memory.copy_in(m->device, v.data, host, view_bytes(v));
    if (status >= 0) status = m->device->memory.wait(m->device);
    free(host);
    return status;
}

static int complete(model *m) {
    const layer_map *map = &m->config->map;
    TRY(check_values(m->params));
    TRY(check_head_sizes(m->config));
    TRY(plan_make(map, m->config->forward_passes, m->config->backward_passes, &m->plan));
    m->last_slot_layer = map->slot[map->slots - 1].layer;
    return send_frequencies(m);
}

int model_create(device *d, model_config *config, params *weights, model **out) {
    *out = NULL;
    model *m = calloc(1, sizeof *m);
    if (!m) {
        params_free(weights);
        config_free(config);
        return fail(LCKV_ERROR_MEMORY, "no memory for a model");
    }
    *m = (model){.device = d, .config = config, .params = weights};
    int status = complete(m);
    if (status < 0)
        model_free(m);
    else
        *out = m;
    return status;
}

/* Memory of `type`, and of the config's format for matrices. */
static int allocate(params *p, device *d, const model_config *config, dtype type) {
    params_choose_types(p, type, config->weight_format);
    return params_allocate_as_typed(p, d);
}

static int random_params(device *d, const model_config *config, dtype type, uint64_t seed, params **out) {
    TRY(params_create(config, NULL, NULL, out));
    int status = allocate(*out, d, config, type);
    if (status >= 0) status = params_randomize(*out, config, seed);
    if (status < 0) {
        params_free(*out);
        *out = NULL;
    }
    return status;
}

int model_create_random(device *d, model_config *config, dtype type, uint64_t seed, model **out) {
    *out = NULL;
    params *weights;
    int status = random_params(d, config, type, seed, &weights);
    if (status >= 0) return model_create(d, config, weights, out);
    config_free(config);
    return status;
}

int model_create_empty(device *d, const model_config *config, dtype type, model **out) {
    model_config *copy = NULL;
    params *weights = NULL;
    *out = NULL;
    int status = config_copy(config, &copy);
    if (status >= 0) status = params_create(copy, NULL, NULL, &weights);
    if (status >= 0) status = allocate(weights, d, copy, type);
    if (status >= 0) return model_create(d, copy, weights, out);
    params_free(weights);
    config_free(copy);
    return status;
}

params *model_trainable(const model *m) {
    return m->adapter ? m->adapter->weights : m->params;
}

int model_default_iterations(const model *m) {
    int iterations = m->config->forward_passes + m->config->backward_passes;
    return m->loop_start ? loop_start_iterations(m->loop_start, iterations) : iterations;
}

static void close_files(model *m) {
    for (int i = 0; i < m->file_count; i++) file_unmap(&m->files[i]);
    free(m->files);
    m->files = NULL;
    m->file_count = 0;
}

void model_drop_files(model *m) {
    if (!m->params->adopted) close_files(m);
}

void model_free(model *m) {
    if (!m) return;
    rank_group_free(m->ranks);
    if (m->rope.inverse_frequencies.data) m->device->memory.release(m->device, m->rope.inverse_frequencies.data);
    adapter_free(m->adapter);
    loop_start_free(m->loop_start);
    params_free(m->params);
    close_files(m);
    free(m->folder);
    plan_free(&m->plan);
    config_free(m->config);
    config_free(m->whole);
    free(m);
}
