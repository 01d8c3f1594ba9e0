/* Loading a model: checkpoint_load() of hf_folder.h. */
#include "gguf/gguf.h"
#include "io/adapter/adapter_attach.h"
#include "io/adapter/adapter_merge.h"
#include "io/gguf/gguf_groups.h"
#include "io/hf_folder.h"
#include "io/host_device.h"
#include "io/loop_start_file.h"
#include "io/tensors/checkpoint_table.h"
#include "io/tensors/quantized_tensors.h"
#include "io/tensors/tensor_part.h"
#include "io/tensors/tensor_values.h"
#include "model/ranks/rank_part.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- values */

/* Where the weight can stay in the mapped file; NULL: nowhere. */
static const void *place_in_file(const device *d, const weight *w, const safetensors_entry *e, dtype wanted) {
    bool usable = d->host_memory && !d->counts_only && e->type == wanted && !e->format &&
                  (uintptr_t)e->data % dtype_element_bytes(wanted) == 0;
    return usable ? tensor_part_in(w, wanted, e->data) : NULL;
}

/* Where the values of the weights come from. */
typedef struct source {
    const checkpoint_files *files;
    device *host;               /* computes in host memory */
    adapter_file adapter;       /* all zeros: none */
    bool merged;                /* the adapter is merged into the weights; else it is added beside them */
    const model_config *config; /* of the files */
    added_rows added;
} source;

static bool is_merged(const source *s, const char *name) {
    return s->merged && adapter_file_has(&s->adapter, name);
}

/* Sets the values of entries that stay in the mapped file. */
static void adopt_in_place(const source *s, device *d, params *p) {
    for (int i = 0; i < p->count; i++) {
        const checkpoint_tensor *t = checkpoint_files_find(s->files, p->table[i].name);
        dtype wanted = p->table[i].tensor.value.type;
        bool computed = !t || p->shards || is_merged(s, t->entry->name) || added_rows_belong(&s->added, p, i);
        const void *place = computed ? NULL : place_in_file(d, &p->table[i], t->entry, wanted);
        if (place) params_adopt(p, i, d, (void *)(uintptr_t)place, wanted);
    }
}

/* Values that are computed: in f32 with what the adapter adds, and rounded to the weight's data type. */
static int set_computed(const source *s, params *p, int i, const safetensors_entry *e) {
    dtype type = p->table[i].tensor.value.type;
    if (DTYPE_BIT(type) & DTYPE_GROUPED) type = DTYPE_F32;
    void *values = malloc((size_t)e->elements * dtype_element_bytes(type));
    REQUIRE(values, LCKV_ERROR_MEMORY, "no memory for the %lld values of %s", (long long)e->elements, e->name);
    int status = adapter_merged_values(s->host, e, s->merged ? &s->adapter : NULL, type, values);
    if (status >= 0) status = tensor_part_set(p, i, values, type);
    free(values);
    return status;
}

/* Copies the stored integers of what the weight has. `stored` is the weight in the format of the files. */
static int set_integers(const quantized_tensors *t, params *p, int i, const weight *stored) {
    const view *v = &p->table[i].tensor.value;
    void *data = malloc(view_bytes(*v) + 1), *scales = malloc(view_scale_bytes(*v) + 1);
    int status = data && scales ? quantized_tensors_read(t, stored, data, scales)
                                : fail(LCKV_ERROR_MEMORY, "no memory for the values of %s", stored->name);
    if (status >= 0) status = params_set_quantized(p, i, data, scales);
    free(data);
    free(scales);
    return status;
}

static int set_dequantized(const source *s, const quantized_tensors *t, params *p, int i, const weight *stored) {
    int64_t rows = stored->all_rows, cols = stored->all_cols;
    float *values = malloc((size_t)(rows * cols) * sizeof *values + 1);
    REQUIRE(values, LCKV_ERROR_MEMORY, "no memory for the values of %s", stored->name);
    int status = quantized_tensors_values(t, stored, values);
    if (status >= 0 && is_merged(s, stored->name))
        status = adapter_merge(&s->adapter, stored->name, rows, cols, values);
    if (status >= 0) status = tensor_part_set(p, i, values, DTYPE_F32);
    free(values);
    return status;
}

/* `stored` gets the format of the files. */
static int find_quantized(const source *s, weight *stored, quantized_tensors *out) {
    REQUIRE(quantized_tensors_find(s->files, stored->name, out), LCKV_ERROR_FORMAT, "%s: tensor %s is missing",
            s->files->source, stored->name);
    return quantized_tensors_check(out, s->files->source, stored);
}

/* Copies the stored integers if the weight has their format, else converts their values. */
static int set_from_quantized(const source *s, params *p, int i) {
    weight stored = p->table[i];
    quantized_tensors t;
    TRY(find_quantized(s, &stored, &t));
    bool same = stored.tensor.value.type == p->table[i].tensor.value.type;
    return same ? set_integers(&t, p, i, &stored) : set_dequantized(s, &t, p, i, &stored);
}

/* Copies integers and scales of blocks of a GGUF file. */
static int set_from_blocks(const checkpoint_tensor *t, params *p, int i) {
    const view *v = &p->table[i].tensor.value;
    void *data = malloc(view_bytes(*v) + 1), *scales = malloc(view_scale_bytes(*v) + 1);
    int status = data && scales ? gguf_groups_read(t->file->path, t->entry, &p->table[i], v->type, data, scales)
                                : fail(LCKV_ERROR_MEMORY, "no memory for the values of %s", t->entry->name);
    if (status >= 0) status = params_set_quantized(p, i, data, scales);
    free(data);
    free(scales);
    return status;
}

/* The values in the files, which adapters do not change. */
static int stored_values(const source *s, weight *stored, float *values) {
    const checkpoint_tensor *t = checkpoint_files_find(s->files, stored->name);
    quantized_tensors q;
    if (t) return tensor_values(s->host, t->entry, DTYPE_F32, values);
    TRY(find_quantized(s, stored, &q));
    return quantized_tensors_values(&q, stored, values);
}

static int set_extended(const source *s, params *p, int i) {
    weight stored = p->table[i];
    float *values = malloc((size_t)(stored.rows * stored.cols) * sizeof *values);
    REQUIRE(values, LCKV_ERROR_MEMORY, "no memory for the values of %s", stored.name);
    stored.rows = stored.all_rows = s->config->vocab_size;
    int status = stored_values(s, &stored, values);
    added_rows_draw(&s->added, p, i, stored.rows, s->config->initializer_range, values);
    if (status >= 0) status = tensor_part_set(p, i, values, DTYPE_F32);
    free(values);
    return status;
}

static int set_values(const source *s, params *p, int i) {
    const weight *w = &p->table[i];
    if (added_rows_belong(&s->added, p, i)) return set_extended(s, p, i);
    const checkpoint_tensor *t = checkpoint_files_find(s->files, w->name);
    if (!t) return set_from_quantized(s, p, i);
    const safetensors_entry *e = t->entry;
    const void *value = w->tensor.value.data;
    if (e->format && gguf_groups_fit(e->format, w->tensor.value.type)) return set_from_blocks(t, p, i);
    if (value && value == tensor_part_in(w, e->type, e->data)) return LCKV_OK; /* it stays in the file */
    return e->format || is_merged(s, e->name) ? set_computed(s, p, i, e) : tensor_part_set(p, i, e->data, e->type);
}

/* What has been read of the file is not needed again. */
static void drop(const source *s, const char *name) {
    const checkpoint_tensor *t = checkpoint_files_find(s->files, name);
    if (t) safetensors_drop(t->entry);
}

static int load_values(const source *s, device *d, params *p) {
    adopt_in_place(s, d, p);
    TRY(params_allocate_as_typed(p, d));
    for (int i = 0; i < p->count && !d->counts_only; i++) {
        TRY(set_values(s, p, i));
        drop(s, p->table[i].name);
    }
    return LCKV_OK;
}

/* Without a format in the options it is the config's: that of the files, or what an override asks for. */
static void choose_types(const checkpoint_files *files, params *p, const model_config *c,
                         const checkpoint_load_options *o) {
    weight_format format = o->format;
    if (format == WEIGHT_AUTO && c->weight_format != params_format(p)) format = c->weight_format;
    if (format == WEIGHT_FLOAT) checkpoint_dequantize_blocks(files, p);
    params_choose_types(p, o->type, format);
}

static int check_division(const char *folder, const params *p, const checkpoint_load_options *o) {
    if (!params_quantized(p)) return LCKV_OK;
    REQUIRE(!o->divide, LCKV_ERROR_UNSUPPORTED,
            "%s: quantized weights (int8, int4) are not divided between processes that train; %s", folder,
            gguf_is_file(folder) ? "choose weight_dtype float, which dequantizes them"
                                 : "lckv convert --weight_dtype float dequantizes a checkpoint");
    return LCKV_OK;
}

static int load_adapted(source *s, device *d, const model_config *c, const checkpoint_load_options *o, params *p,
                        adapter **beside) {
    if (o->adapter) {
        TRY(adapter_file_open(o->adapter, &s->adapter));
        TRY(adapter_file_check(&s->adapter, p));
    }
    choose_types(s->files, p, c, o);
    TRY(check_division(s->files->source, p, o));
    added_rows_extend(&o->added, p);
    if (o->divide) TRY(params_divide(p, o->divide));
    s->merged = o->adapter && !params_quantized(p);
    TRY(load_values(s, d, p));
    return o->adapter && !s->merged ? adapter_attach(&s->adapter, p, beside) : LCKV_OK;
}

/* Whether values have to be decoded. */
static bool has_blocks(const checkpoint_files *files) {
    for (int i = 0; i < files->count; i++)
        if (files->tensors[i].entry->format) return true;
    return false;
}

static int load_params(const checkpoint_files *files, const model_config *c, device *d,
                       const checkpoint_load_options *o, params **out, adapter **beside) {
    source s = {.files = files, .config = c, .added = o->added};
    TRY(checkpoint_table(files, c, out));
    int status = o->adapter || o->added.vocab_size || has_blocks(files) ? host_device_open(&s.host) : LCKV_OK;
    if (status >= 0) status = load_adapted(&s, d, c, o, *out, beside);
    adapter_file_close(&s.adapter);
    device_close(s.host);
    if (status < 0) {
        params_free(*out);
        *out = NULL;
    }
    return status;
}

/* ---------------------------------------------------------------- the model */

static config_dtype config_type(dtype type) {
    return type == DTYPE_F32 ? CONFIG_DTYPE_F32 : type == DTYPE_BF16 ? CONFIG_DTYPE_BF16 : CONFIG_DTYPE_F16;
}

/* Weights in the mapped files keep these open, without their headers. */
static int keep_files(checkpoint_files *files, model *m) {
    m->files = calloc((size_t)files->file_count, sizeof *m->files);
    REQUIRE(m->files, LCKV_ERROR_MEMORY, "no memory for a list of %d files", files->file_count);
    for (int i = 0; i < files->file_count; i++) {
        m->files[m->file_count++] = files->files[i].map;
        files->files[i].map = (mapped_file){0};
    }
    return LCKV_OK;
}

static int make_model(checkpoint_files *files, device *d, model_config *config, params *p, const char *folder,
                      const checkpoint_load_options *o, model **out) {
    model *m;
    TRY(model_create(d, config, p, &m));
    int status = p->adopted ? keep_files(files, m) : LCKV_OK;
    if (status >= 0 && !(m->folder = strdup(folder))) status = fail(LCKV_ERROR_MEMORY, "no memory for a path");
    if (status >= 0 && o->loop_start) status = loop_start_read(d, folder, config, o->type, &m->loop_start);
    if (status < 0)
        model_free(m);
    else
        *out = m;
    return status;
}

/* Takes ownership of `config`, also on failure. */
static int load(device *d, const char *folder, model_config *config, const checkpoint_load_options *o, model **out) {
    checkpoint_files files;
    params *p = NULL;
    adapter *beside = NULL;
    int status = checkpoint_files_open(folder, &files);
    if (status >= 0) status = load_params(&files, config, d, o, &p, &beside);
    if (status >= 0) {
        config->weight_format = params_format(p);
        if (o->added.vocab_size) config->vocab_size = o->added.vocab_size;
        status = make_model(&files, d, config, p, folder, o, out);
    } else {
        config_free(config);
    }
    if (status >= 0)
        (*out)->adapter = beside;
    else
        adapter_free(beside);
    checkpoint_files_close(&files);
    return status;
}

static int load_part(device *d, const char *folder, model_config *whole, const checkpoint_load_options *o,
                     model **out) {
    model_config *part;
    if (o->format != WEIGHT_AUTO) whole->weight_format = o->format;
    int status = rank_part_config(whole, o->rank, o->ranks, &part);
    if (status >= 0) status = load(d, folder, part, o, out);
    if (status < 0)
        config_free(whole);
    else
        (*out)->whole = whole;
    return status;
}

int checkpoint_load(device *d, const char *folder, const checkpoint_load_options *options, model **out) {
    *out = NULL;
    model_config *config;
    TRY(config_read(folder, options->config_overrides, &config));
    if (options->type != DTYPE_COUNT) config->torch_dtype = config_type(options->type);
    return options->ranks > 1 ? load_part(d, folder, config, options, out) : load(d, folder, config, options, out);
}
