/* Loading a model: checkpoint_load() of hf_folder.h. */
#include "io/adapter/adapter_merge.h"
#include "io/hf_folder.h"
#include "io/host_device.h"
#include "io/loop_start_file.h"
#include "io/tensors/checkpoint_table.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- values */

static bool usable_in_place(const device *d, const safetensors_entry *e, dtype wanted) {
    return d->host_memory && !d->counts_only && e->type == wanted && !e->format &&
           (uintptr_t)e->data % dtype_element_bytes(wanted) == 0;
}

/* Where the values of the weights come from. */
typedef struct source {
    const checkpoint_files *files;
    device *host;         /* computes in host memory */
    adapter_file adapter; /* all zeros: none */
} source;

static bool is_adapted(const source *s, const char *name) {
    return s->adapter.folder && adapter_file_has(&s->adapter, name);
}

/* Sets the values of entries that stay in the mapped file, and the data type of the others. */
static void adopt_in_place(const source *s, device *d, dtype type, params *p) {
    for (int i = 0; i < p->count; i++) {
        const safetensors_entry *e = checkpoint_files_find(s->files, p->table[i].name)->entry;
        dtype wanted = type == DTYPE_COUNT ? e->type : type;
        if (!p->shards && usable_in_place(d, e, wanted) && !is_adapted(s, e->name))
            params_adopt(p, i, d, (void *)(uintptr_t)e->data, wanted);
        else
            p->table[i].tensor.value.type = wanted;
    }
}

/* Values that are computed: in f32 with what the adapter adds, and rounded to the weight's data type. */
static int set_computed(const source *s, params *p, int i, const safetensors_entry *e) {
    dtype type = p->table[i].tensor.value.type;
    void *values = malloc((size_t)e->elements * dtype_element_bytes(type));
    REQUIRE(values, LCKV_ERROR_MEMORY, "no memory for the %lld values of %s", (long long)e->elements, e->name);
    int status = adapter_merged_values(s->host, e, s->adapter.folder ? &s->adapter : NULL, type, values);
    if (status >= 0) status = params_set(p, i, values, type);
    free(values);
    return status;
}

static int load_values(const source *s, device *d, dtype type, params *p) {
    adopt_in_place(s, d, type, p);
    TRY(params_allocate_as_typed(p, d));
    for (int i = 0; i < p->count && !d->counts_only; i++) {
        const safetensors_entry *e = checkpoint_files_find(s->files, p->table[i].name)->entry;
        if (p->table[i].tensor.value.data == e->data) continue;
        bool computed = e->format || is_adapted(s, e->name);
        TRY(computed ? set_computed(s, p, i, e) : params_set(p, i, e->data, e->type));
    }
    return LCKV_OK;
}

static int load_adapted(source *s, const char *folder, device *d, dtype type, params *p) {
    if (folder) {
        TRY(adapter_file_open(folder, &s->adapter));
        TRY(adapter_file_check(&s->adapter, p));
    }
    return load_values(s, d, type, p);
}

/* Whether values have to be decoded. */
static bool has_blocks(const checkpoint_files *files) {
    for (int i = 0; i < files->count; i++)
        if (files->tensors[i].entry->format) return true;
    return false;
}

static int load_params(const checkpoint_files *files, const model_config *c, device *d,
                       const checkpoint_load_options *o, params **out) {
    source s = {.files = files};
    TRY(checkpoint_table(files, c, out));
    int status = o->adapter || has_blocks(files) ? host_device_open(&s.host) : LCKV_OK;
    if (status >= 0 && o->divide) status = params_divide(*out, o->divide);
    if (status >= 0) status = load_adapted(&s, o->adapter, d, o->type, *out);
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

int checkpoint_load(device *d, const char *folder, const checkpoint_load_options *options, model **out) {
    *out = NULL;
    model_config *config;
    TRY(config_read(folder, options->config_overrides, &config));
    if (options->type != DTYPE_COUNT) config->torch_dtype = config_type(options->type);
    checkpoint_files files;
    params *p = NULL;
    int status = checkpoint_files_open(folder, &files);
    if (status >= 0) status = load_params(&files, config, d, options, &p);
    if (status >= 0)
        status = make_model(&files, d, config, p, folder, options, out);
    else
        config_free(config);
    checkpoint_files_close(&files);
    return status;
}
