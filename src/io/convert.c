/* Converting weights between layer maps, see convert.h. */
#include "io/convert.h"

#include "base/log.h"
#include "device/quantize.h"
#include "io/adapter/adapter_merge.h"
#include "io/gguf/gguf_groups.h"
#include "io/gguf/gguf_save.h"
#include "io/hf_folder.h"
#include "io/host_device.h"
#include "io/tensors/checkpoint_table.h"
#include "io/tensors/quantized_tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct conversion {
    device *device;
    const convert_options *options;
    const model_config *to;
    model_config *from;
    checkpoint_files files;
    params *source, *target; /* without memory, except for the target of checkpoint_load_converted() */
    adapter_file adapter;    /* merged into the source; all zeros: none */
};

/* ---------------------------------------------------------------- checks */

static int check_sizes(const model_config *from, const model_config *to) {
    const struct {
        const char *name;
        int64_t from, to;
    } sizes[] = {
        {"hidden_size", from->hidden_size, to->hidden_size},
        {"intermediate_size", from->intermediate_size, to->intermediate_size},
        {"vocab_size", from->vocab_size, to->vocab_size},
        {"num_hidden_layers", from->layers, to->layers},
        {"num_attention_heads", from->heads, to->heads},
        {"num_key_value_heads", from->kv_heads, to->kv_heads},
        {"head_dim", from->head_dim, to->head_dim},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        REQUIRE(sizes[i].from == sizes[i].to, LCKV_ERROR_ARGUMENT,
                "%s has %s %lld, but %s has %lld: expected equal sizes", to->name, sizes[i].name,
                (long long)sizes[i].to, from->name, (long long)sizes[i].from);
    REQUIRE(from->head_norm == to->head_norm, LCKV_ERROR_ARGUMENT,
            "%s (%s) %s norms of queries and keys, but %s (%s) %s", to->name, config_model_type(to),
            to->head_norm ? "has" : "has no", from->name, config_model_type(from),
            from->head_norm ? "does" : "does not");
    REQUIRE(from->tie_word_embeddings || !to->tie_word_embeddings, LCKV_ERROR_ARGUMENT,
            "%s has tie_word_embeddings, but %s has a separate lm_head", to->name, from->name);
    return LCKV_OK;
}

/* Settings that the weights depend on and that are not visible in them. */
static void warn_of_differences(const model_config *from, const model_config *to) {
    if (from->rope_theta != to->rope_theta)
        log_message(LCKV_LOG_WARNING, "%s has rope_theta %g, but the weights were trained with %g", to->name,
                    to->rope_theta, from->rope_theta);
    else if (!config_same_rope(from, to))
        log_message(LCKV_LOG_WARNING, "%s has another rope_scaling than the weights were trained with", to->name);
    if (from->rms_norm_eps != to->rms_norm_eps)
        log_message(LCKV_LOG_WARNING, "%s has rms_norm_eps %g, but the weights were trained with %g", to->name,
                    to->rms_norm_eps, from->rms_norm_eps);
}

/* ---------------------------------------------------------------- sources of a tensor */

/* Splits "model.layers.L.self_attn.{k_proj,v_proj,k_norm}..." into L and what follows "self_attn.". */
static bool is_kv(const char *name, int *layer, const char **part) {
    int at = 0;
    if (sscanf(name, "model.layers.%d.self_attn.%n", layer, &at) != 1 || !at) return false;
    *part = name + at;
    return strncmp(*part, "k_", 2) == 0 || strncmp(*part, "v_", 2) == 0;
}

/* K or V of a source layer: its own, or if it owns no slot those of the slot that it reads. */
static const weight *kv_of_layer(const struct conversion *c, int layer, const char *part) {
    const layer_map *map = &c->from->map;
    char name[sizeof((weight *)0)->name];
    const layer_description *l = &map->layer[layer];
    bool keys = *part == 'k';
    bool owns = keys ? layer_map_stores_keys(map, layer) : layer_map_stores_values(map, layer);
    int owner = owns ? layer : keys ? l->k_source : l->v_source;
    snprintf(name, sizeof name, "model.layers.%d.self_attn.%s", owner, part);
    return params_find(c->source, name);
}

/* A weight that both models have. An untied head starts as a copy of the embeddings. */
static const weight *counterpart(const struct conversion *c, const char *name) {
    bool untied = strcmp(name, "lm_head.weight") == 0 && c->from->tie_word_embeddings;
    return params_find(c->source, untied ? "model.embed_tokens.weight" : name);
}

/* Lists the source weights whose mean becomes an entry of the target; out has room for [layers]. Returns the count,
 * 1 if all are the same weight: layers that read one slot in both models. */
static int list_sources(const struct conversion *c, const char *name, const weight **out) {
    int owner, count = 0;
    const char *part;
    if (!is_kv(name, &owner, &part)) {
        out[0] = counterpart(c, name);
        return 1;
    }
    bool copy = c->options->kv == KV_COPY;
    for (int layer = 0; layer < c->to->layers; layer++) {
        const layer_description *l = &c->to->map.layer[layer];
        int source = *part == 'k' ? l->k_source : l->v_source;
        if (copy ? layer == owner : source == owner) out[count++] = kv_of_layer(c, layer, part);
    }
    bool same = true;
    for (int i = 1; i < count; i++) same = same && out[i] == out[0];
    return same && count ? 1 : count;
}

static const weight *first_source(const struct conversion *c, const char *name) {
    int layer;
    const char *part;
    return is_kv(name, &layer, &part) ? kv_of_layer(c, layer, part) : counterpart(c, name);
}

static bool target_has(void *user, const char *name) {
    return first_source(user, name) != NULL;
}

/* ---------------------------------------------------------------- values */

static bool is_quantized(const weight *w) {
    return (DTYPE_BIT(w->tensor.value.type) & DTYPE_GROUPED) != 0;
}

/* checkpoint_table() has found and checked the tensors. */
static int dequantized_values(const struct conversion *c, const weight *w, dtype type, void *out) {
    quantized_tensors t;
    int64_t elements = w->rows * w->cols;
    quantized_tensors_find(&c->files, w->name, &t);
    float *values = malloc((size_t)elements * sizeof *values + 1);
    REQUIRE(values, LCKV_ERROR_MEMORY, "no memory for the values of %s", w->name);
    int status = quantized_tensors_values(&t, w, values);
    if (status >= 0 && c->adapter.folder) status = adapter_merge(&c->adapter, w->name, w->rows, w->cols, values);
    struct op_cast cast = {{values, 1, elements, DTYPE_F32}, {out, 1, elements, type}};
    if (status >= 0) status = DEVICE_RUN(c->device, cast, &cast);
    free(values);
    return status;
}

static int source_values(const struct conversion *c, const weight *w, dtype type, void *out) {
    const adapter_file *a = c->adapter.folder ? &c->adapter : NULL;
    const checkpoint_tensor *t = checkpoint_files_find(&c->files, w->name);
    if (!t) return dequantized_values(c, w, type, out);
    TRY(adapter_merged_values(c->device, t->entry, a, type, out));
    safetensors_drop(t->entry);
    return LCKV_OK;
}

/* The mean of weights of one shape. `sums` is zeroed. */
static int take_mean(const struct conversion *c, const weight **weights, int count, double *sums, float *mean) {
    int64_t elements = weights[0]->rows * weights[0]->cols;
    for (int t = 0; t < count; t++) {
        TRY(source_values(c, weights[t], DTYPE_F32, mean));
        for (int64_t i = 0; i < elements; i++) sums[i] += mean[i];
    }
    for (int64_t i = 0; i < elements; i++) mean[i] = (float)(sums[i] / count);
    return LCKV_OK;
}

static int mean_values(const struct conversion *c, const weight **weights, int count, dtype type, void *out) {
    int64_t elements = weights[0]->rows * weights[0]->cols;
    double *sums = calloc((size_t)elements, sizeof *sums);
    float *mean = malloc((size_t)elements * sizeof *mean);
    int status = sums && mean ? take_mean(c, weights, count, sums, mean)
                              : fail(LCKV_ERROR_MEMORY, "no memory for the mean of %lld numbers", (long long)elements);
    struct op_cast cast = {{mean, 1, elements, DTYPE_F32}, {out, 1, elements, type}};
    if (status >= 0) status = DEVICE_RUN(c->device, cast, &cast);
    free(sums);
    free(mean);
    return status;
}

static int report_progress(const struct conversion *c, int entry) {
    const convert_options *o = c->options;
    if (!o->go_on || o->go_on(o->user, (double)entry / c->target->count)) return LCKV_OK;
    return fail(LCKV_ERROR_INTERRUPTED, "stopped before %s", c->target->table[entry].name);
}

static int compute_values(const struct conversion *c, int entry, const weight **weights, dtype type, void *host) {
    const char *name = c->target->table[entry].name;
    int count = list_sources(c, name, weights);
    TRY(count == 1 ? source_values(c, weights[0], type, host) : mean_values(c, weights, count, type, host));
    log_message(LCKV_LOG_DEBUG, "%s: from %d tensors", name, count);
    return LCKV_OK;
}

static int target_values(void *user, int entry, dtype type, void *host) {
    const struct conversion *c = user;
    TRY(report_progress(c, entry));
    const weight **weights = calloc((size_t)c->to->layers, sizeof *weights);
    REQUIRE(weights, LCKV_ERROR_MEMORY, "no memory for a list of %d tensors", c->to->layers);
    int status = compute_values(c, entry, weights, type, host);
    free(weights);
    return status;
}

/* The weight of the source that becomes an entry of the target without a change; NULL if there is none. */
static const weight *find_unchanged(const struct conversion *c, int entry) {
    const weight **weights = calloc((size_t)c->to->layers, sizeof *weights);
    if (!weights) return NULL;
    bool single = list_sources(c, c->target->table[entry].name, weights) == 1;
    const weight *w = weights[0];
    free(weights);
    return single && !c->adapter.folder ? w : NULL;
}

/* Copies the integers and scales of the source. *done: whether it has them in this type. */
static int copy_quantized(const struct conversion *c, const weight *w, dtype type, void *data, void *scales,
                          bool *done) {
    const checkpoint_tensor *t = checkpoint_files_find(&c->files, w->name);
    quantized_tensors q;
    bool blocks = t && t->entry->format && gguf_groups_fit(t->entry->format, type);
    *done = blocks || (!t && w->tensor.value.type == type && quantized_tensors_find(&c->files, w->name, &q));
    if (!*done) return LCKV_OK;
    return blocks ? gguf_groups_read(t->file->path, t->entry, w, type, data, scales)
                  : quantized_tensors_read(&q, w, data, scales);
}

static int target_quantized(void *user, int entry, dtype type, void *data, void *scales) {
    const struct conversion *c = user;
    const weight *w = find_unchanged(c, entry);
    bool done = false;
    TRY(report_progress(c, entry));
    if (w) TRY(copy_quantized(c, w, type, data, scales, &done));
    if (done) return LCKV_OK;
    w = &c->target->table[entry];
    float *values = malloc((size_t)(w->rows * w->cols) * sizeof *values + 1);
    REQUIRE(values, LCKV_ERROR_MEMORY, "no memory for the values of %s", w->name);
    int status = target_values(user, entry, DTYPE_F32, values);
    if (status >= 0) {
        status = quantize_rows(type, w->rows, w->cols, values, data, scales, c->device->threads);
        if (status < 0) fail_within(status, "%s", w->name);
    }
    free(values);
    return status;
}

/* ---------------------------------------------------------------- folders */

/* Each entry of the target has the data type of its source. */
static int make_target(struct conversion *c) {
    TRY(params_create(c->to, target_has, c, &c->target));
    for (int i = 0; i < c->target->count; i++) {
        weight *w = &c->target->table[i];
        w->tensor.value.type = first_source(c, w->name)->tensor.value.type;
    }
    return LCKV_OK;
}

/* The folder of a config.json, which contains the code of auto_map. */
static int code_folder(const model_config *config, char **out) {
    size_t length = (size_t)(path_base(config->name) - config->name);
    *out = length ? strndup(config->name, length) : strdup(".");
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for a path");
    return LCKV_OK;
}

/* Rounding the sum to the integers again would lose most of an adapter, whose values are smaller than a step. */
static int check_merging(const struct conversion *c) {
    REQUIRE(
        c->options->format != WEIGHT_AUTO || !params_quantized(c->source), LCKV_ERROR_UNSUPPORTED,
        "%s has quantized weights, into which no adapter is merged without loss: merge it into the checkpoint that was "
        "quantized, use the adapter without merging it, or choose weight_dtype float",
        c->options->source);
    return LCKV_OK;
}

static int open_both(struct conversion *c) {
    TRY(config_read(c->options->source, NULL, &c->from));
    TRY(check_sizes(c->from, c->to));
    warn_of_differences(c->from, c->to);
    TRY(checkpoint_files_open(c->options->source, &c->files));
    TRY(checkpoint_table(&c->files, c->from, &c->source));
    if (c->options->format == WEIGHT_FLOAT) checkpoint_dequantize_blocks(&c->files, c->source);
    if (c->options->adapter) {
        TRY(adapter_file_open(c->options->adapter, &c->adapter));
        TRY(adapter_file_check(&c->adapter, c->source));
        TRY(check_merging(c));
    }
    return make_target(c);
}

static void close_both(struct conversion *c) {
    params_free(c->target);
    params_free(c->source);
    adapter_file_close(&c->adapter);
    checkpoint_files_close(&c->files);
    config_free(c->from);
}

static int target_floats(void *user, int entry, float *host) {
    return target_values(user, entry, DTYPE_F32, host);
}

/* The range is that of the whole entry. */
static int target_range(void *user, int entry, element_range range, dtype type, void *host) {
    (void)range;
    return target_values(user, entry, type, host);
}

/* The types that --weight_dtype asks for. */
static void choose_target_types(struct conversion *c, weight_format format) {
    for (int i = 0; i < c->target->count; i++) {
        weight *w = &c->target->table[i];
        bool layer = w->dimensions == 2 && !params_is_outer(c->target, i);
        if (format == WEIGHT_FLOAT && is_quantized(w)) w->tensor.value.type = DTYPE_BF16;
        if (format == WEIGHT_INT8 && layer) w->tensor.value.type = DTYPE_INT8;
        if (format == WEIGHT_INT4 && layer) w->tensor.value.type = DTYPE_INT4;
    }
}

static int write_gguf(struct conversion *c) {
    const convert_options *o = c->options;
    const gguf_save_options save = {.format = o->gguf_dtype,
                                    .tokenizer = o->tokenizer ? o->tokenizer : o->source,
                                    .values = target_floats,
                                    .quantized = target_quantized,
                                    .user = c};
    choose_target_types(c, o->format);
    return gguf_save(c->to, c->target, &save, o->gguf_file);
}

static int write_target(struct conversion *c) {
    const convert_options *o = c->options;
    char *code;
    TRY(open_both(c));
    if (o->gguf_file) return write_gguf(c);
    TRY(code_folder(c->to, &code));
    checkpoint_save_options save = {.type = o->type,
                                    .format = o->format,
                                    .shard_bytes = o->shard_bytes,
                                    .source = o->source,
                                    .code = code,
                                    .tokenizer = o->tokenizer ? o->tokenizer : o->source,
                                    .values = target_range,
                                    .whole_entries = true,
                                    .quantized = target_quantized,
                                    .user = c};
    int status = checkpoint_save(c->to, c->target, &save, o->output);
    free(code);
    return status;
}

int checkpoint_convert(device *d, const convert_options *options) {
    struct conversion c = {.device = d, .options = options, .to = options->config};
    int status = write_target(&c);
    close_both(&c);
    return status;
}

/* ---------------------------------------------------------------- conversion in memory */

static int set_value(struct conversion *c, const added_rows *added, int i) {
    const weight *w = &c->target->table[i];
    dtype type = is_quantized(w) ? DTYPE_F32 : w->tensor.value.type;
    void *host = malloc((size_t)w->rows * dtype_row_bytes(type, w->cols));
    REQUIRE(host, LCKV_ERROR_MEMORY, "no memory for the values of %s", w->name);
    int status = target_values(c, i, type, host);
    if (added_rows_belong(added, c->target, i))
        added_rows_draw(added, c->target, i, c->to->vocab_size, c->to->initializer_range, host);
    if (status >= 0) status = params_set(c->target, i, host, type);
    free(host);
    return status;
}

/* Fills the target's table and hands it to the model, with a copy of the config. */
static int make_model(struct conversion *c, device *d, const collectives *divide, const added_rows *added,
                      model **out) {
    model_config *config;
    TRY(open_both(c));
    if (c->to->weight_format != params_format(c->target))
        params_choose_types(c->target, c->options->type, c->to->weight_format);
    else if (c->options->type != DTYPE_COUNT)
        params_choose_types(c->target, c->options->type, WEIGHT_AUTO);
    added_rows_extend(added, c->target);
    if (divide) TRY(params_divide(c->target, divide));
    TRY(params_allocate_as_typed(c->target, d));
    for (int i = 0; i < c->target->count; i++) TRY(set_value(c, added, i));
    TRY(config_copy(c->to, &config));
    if (added->vocab_size) config->vocab_size = added->vocab_size;
    params *weights = c->target;
    c->target = NULL;
    return model_create(d, config, weights, out);
}

int checkpoint_load_converted(device *d, const char *folder, const model_config *config, kv_merge kv, dtype type,
                              const collectives *divide, const added_rows *added, model **out) {
    convert_options options = {.source = folder, .config = config, .kv = kv, .type = type};
    struct conversion c = {.options = &options, .to = config};
    *out = NULL;
    TRY(host_device_open(&c.device));
    int status = make_model(&c, d, divide, added, out);
    close_both(&c);
    device_close(c.device);
    return status;
}
