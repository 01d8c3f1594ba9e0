/* Loading a model: checkpoint_load() of hf_folder.h. */
#include "io/adapter/adapter_attach.h"
#include "io/adapter/adapter_merge.h"
#include "io/hf_folder.h"
#include "io/loop_start_file.h"
#include "io/tensors/checkpoint_table.h"
#include "io/tensors/quantized_tensors.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- values */

static bool usable_in_place(const device *d, const safetensors_entry *e, dtype wanted) {
    return d->host_memory && !d->counts_only && e->type == wanted &&
           (uintptr_t)e->data % dtype_element_bytes(wanted) == 0;
}

/* Where the values of the weights come from. */
typedef struct source {
    const checkpoint_files *files;
    adapter_file adapter; /* all zeros: none */
    bool merged;          /* the adapter is merged into the weights; else it is added beside them */
} source;

static bool is_merged(const source *s, const char *name) {
    return s->merged && adapter_file_has(&s->adapter, name);
}

/* Sets the values of entries that stay in the mapped file. */
static void adopt_in_place(const source *s, device *d, params *p) {
    for (int i = 0; i < p->count; i++) {
        const checkpoint_tensor *t = checkpoint_files_find(s->files, p->table[i].name);
        dtype wanted = p->table[i].tensor.value.type;
        if (t && usable_in_place(d, t->entry, wanted) && !is_merged(s, t->entry->name))
            params_adopt(p, i, d, (void *)(uintptr_t)t->entry->data, wanted);
    }
}

/* Merges in f32 and rounds to the weight's data type. */
static int set_merged(const source *s, params *p, int i, const safetensors_entry *e) {
    float *values = malloc((size_t)e->elements * sizeof *values);
    REQUIRE(values, LCKV_ERROR_MEMORY, "no memory for the %lld values of %s", (long long)e->elements, e->name);
    int status = adapter_merged_values(s->adapter.host, e, &s->adapter, DTYPE_F32, values);
    if (status >= 0) status = params_set(p, i, values, DTYPE_F32);
    free(values);
    return status;
}

/* Copies the stored integers if the weight has their format, else converts their values. */
static int set_from_quantized(const source *s, params *p, int i) {
    weight stored = p->table[i]; /* with the stored type */
    const view *v = &p->table[i].tensor.value;
    quantized_tensors t;
    REQUIRE(quantized_tensors_find(s->files, stored.name, &t), LCKV_ERROR_FORMAT, "%s: tensor %s is missing",
            s->files->source, stored.name);
    TRY(quantized_tensors_check(&t, s->files->source, &stored));
    dtype type = stored.tensor.value.type;
    size_t elements = (size_t)(stored.rows * stored.cols);
    bool same = type == v->type;
    void *values = malloc(same ? view_bytes(*v) + 1 : elements * sizeof(float) + 1), *scales = NULL;
    if (same) scales = malloc(view_scale_bytes(*v) + 1);
    int status = LCKV_OK;
    if (!values || (same && !scales)) status = fail(LCKV_ERROR_MEMORY, "no memory for the values of %s", stored.name);
    if (status >= 0)
        status = same ? quantized_tensors_read(&t, &stored, values, scales)
                      : quantized_tensors_values(&t, type, stored.rows, stored.cols, values);
    if (status >= 0 && is_merged(s, stored.name))
        status = adapter_merge(&s->adapter, stored.name, stored.rows, stored.cols, values);
    if (status >= 0) status = same ? params_set_quantized(p, i, values, scales) : params_set(p, i, values, DTYPE_F32);
    free(values);
    free(scales);
    return status;
}

static int set_values(const source *s, params *p, int i) {
    const checkpoint_tensor *t = checkpoint_files_find(s->files, p->table[i].name);
    if (!t) return set_from_quantized(s, p, i);
    const safetensors_entry *e = t->entry;
    if (p->table[i].tensor.value.data == e->data) return LCKV_OK;
    return is_merged(s, e->name) ? set_merged(s, p, i, e) : params_set(p, i, e->data, e->type);
}

static int load_values(const source *s, device *d, params *p) {
    adopt_in_place(s, d, p);
    TRY(params_allocate_as_typed(p, d));
    for (int i = 0; i < p->count && !d->counts_only; i++) TRY(set_values(s, p, i));
    return LCKV_OK;
}

/* Without a format in the options it is the config's: that of the files, or what an override asks for. */
static void choose_types(params *p, const model_config *c, const checkpoint_load_options *o) {
    weight_format format = o->format;
    if (format == WEIGHT_AUTO && c->weight_format != params_format(p)) format = c->weight_format;
    params_choose_types(p, o->type, format);
}

static int load_adapted(source *s, device *d, const model_config *c, const checkpoint_load_options *o, params *p,
                        adapter **beside) {
    if (o->adapter) {
        TRY(adapter_file_open(o->adapter, &s->adapter));
        TRY(adapter_file_check(&s->adapter, p));
    }
    choose_types(p, c, o);
    s->merged = o->adapter && !params_quantized(p);
    TRY(load_values(s, d, p));
    return o->adapter && !s->merged ? adapter_attach(&s->adapter, p, beside) : LCKV_OK;
}

static int load_params(const checkpoint_files *files, const model_config *c, device *d,
                       const checkpoint_load_options *o, params **out, adapter **beside) {
    source s = {.files = files};
    TRY(checkpoint_table(files, c, out));
    int status = load_adapted(&s, d, c, o, *out, beside);
    adapter_file_close(&s.adapter);
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

int checkpoint_load(device *d, const char *folder, const checkpoint_load_options *options, model **out) {
    *out = NULL;
    model_config *config;
    TRY(config_read(folder, options->config_overrides, &config));
    if (options->type != DTYPE_COUNT) config->torch_dtype = config_type(options->type);
    checkpoint_files files;
    params *p = NULL;
    adapter *beside = NULL;
    int status = checkpoint_files_open(folder, &files);
    if (status >= 0) status = load_params(&files, config, d, options, &p, &beside);
    if (status >= 0) {
        config->weight_format = params_format(p);
        status = make_model(&files, d, config, p, folder, options, out);
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
