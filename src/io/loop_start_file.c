/* Reading and writing loop_start.safetensors, see loop_start_file.h. */
#include "io/loop_start_file.h"

#include "io/tensors/checkpoint_table.h"
#include "io/tensors/tensor_part.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WIDTH = 1 << 24 };

/* ---------------------------------------------------------------- metadata */

static int read_column(const json_t *list, double out[LOOP_START_COLUMNS], int *count) {
    size_t n = json_array_size(list), i;
    json_t *value;
    bool valid = json_is_array(list) && n <= LOOP_START_COLUMNS;
    *count = (int)n;
    json_array_foreach(list, i, value) {
        valid = valid && json_is_number(value) && isfinite(json_number_value(value)) && json_number_value(value) >= 0;
        if (valid) out[i] = json_number_value(value);
    }
    return valid ? LCKV_OK : LCKV_ERROR_FORMAT;
}

/* Absent metadata is a start that has not been measured. */
static int read_metadata(const safetensors_file *f, const char *key, double out[LOOP_START_COLUMNS], int *count) {
    const char *text = safetensors_metadata(f, key);
    json_t *list = NULL;
    *count = 0;
    if (!text) return LCKV_OK;
    int status = json_parse(text, strlen(text), f->path, &list);
    if (status >= 0) status = read_column(list, out, count);
    json_decref(list);
    REQUIRE(status >= 0, LCKV_ERROR_FORMAT,
            "%s: metadata %s: expected a JSON array of at most %d finite numbers of at least 0", f->path, key,
            LOOP_START_COLUMNS);
    return LCKV_OK;
}

static int read_trained(const safetensors_file *f, bool *out) {
    const char *text = safetensors_metadata(f, "trained");
    *out = text && !strcmp(text, "true");
    REQUIRE(!text || *out, LCKV_ERROR_FORMAT, "%s: metadata trained: expected \"true\", found \"%s\"", f->path, text);
    return LCKV_OK;
}

static int read_kl(const safetensors_file *f, loop_start_kl *kl) {
    int zeros;
    TRY(read_metadata(f, "kl_zeros", kl->zeros, &zeros));
    TRY(read_metadata(f, "kl_start", kl->start, &kl->count));
    REQUIRE(zeros == kl->count, LCKV_ERROR_FORMAT,
            "%s: metadata kl_zeros has %d entries and kl_start %d: expected equal numbers", f->path, zeros, kl->count);
    return read_trained(f, &kl->trained);
}

static int set_column(json_t *metadata, const char *key, const double *values, int count) {
    json_t *list = json_array();
    int failed = list ? 0 : -1;
    for (int i = 0; i < count && !failed; i++) failed = json_array_append_new(list, json_real(values[i]));
    char *text = failed ? NULL : json_dumps(list, JSON_COMPACT | JSON_REAL_PRECISION(6));
    if (!text || json_object_set_new(metadata, key, json_string(text)) < 0) failed = -1;
    free(text);
    json_decref(list);
    return failed;
}

static int make_metadata(const loop_start_kl *kl, json_t **out) {
    *out = json_pack("{s:s}", "format", "pt");
    int failed = *out ? 0 : -1;
    if (kl->count && !failed) failed = set_column(*out, "kl_zeros", kl->zeros, kl->count);
    if (kl->count && !failed) failed = set_column(*out, "kl_start", kl->start, kl->count);
    if (kl->trained && !failed) failed = json_object_set_new(*out, "trained", json_string("true"));
    if (!failed) return LCKV_OK;
    json_decref(*out);
    return fail(LCKV_ERROR_MEMORY, "no memory for the metadata of %s", LOOP_START_FILE);
}

/* ---------------------------------------------------------------- reading */

/* Width of the hidden layer, from the first matrix. */
static int find_width(const safetensors_file *f, int64_t *width) {
    const safetensors_entry *e = safetensors_find(f, "loops.0.gate_proj.weight");
    REQUIRE(e && e->dimensions == 2 && e->shape[0] >= 1 && e->shape[0] <= MAX_WIDTH, LCKV_ERROR_FORMAT,
            "%s: tensor loops.0.gate_proj.weight: expected shape [width, inputs] with a width of 1 to %d, found %s",
            f->path, MAX_WIDTH, e ? "another shape" : "no such tensor");
    *width = e->shape[0];
    return LCKV_OK;
}

static int check_tensors(const safetensors_file *f, params *p, dtype type) {
    for (int i = 0; i < p->count; i++) {
        const checkpoint_tensor t = {safetensors_find(f, p->table[i].name), f};
        TRY(checkpoint_check_tensor(t.entry ? &t : NULL, f->path, &p->table[i]));
        if (type != DTYPE_COUNT) p->table[i].tensor.value.type = type;
    }
    for (int i = 0; i < f->count; i++)
        REQUIRE(params_find(p, f->entries[i].name), LCKV_ERROR_FORMAT,
                "%s: tensor %s does not belong to a learned start of this model", f->path, f->entries[i].name);
    return LCKV_OK;
}

static int read_values(const safetensors_file *f, device *d, params *p) {
    TRY(params_allocate_as_typed(p, d));
    for (int i = 0; i < p->count && !d->counts_only; i++) {
        const safetensors_entry *e = safetensors_find(f, p->table[i].name);
        TRY(tensor_part_set(p, i, e->data, e->type));
    }
    return LCKV_OK;
}

static int read_file(const safetensors_file *f, device *d, const model_config *config, dtype type, loop_start **out) {
    int64_t width;
    TRY(find_width(f, &width));
    TRY(loop_start_create(d, config, width, out));
    TRY(check_tensors(f, (*out)->weights, type));
    TRY(read_values(f, d, (*out)->weights));
    return read_kl(f, &(*out)->kl);
}

static int read_path(const char *path, device *d, const model_config *config, dtype type, loop_start **out) {
    safetensors_file f;
    TRY(safetensors_open(path, &f));
    int status = read_file(&f, d, config, type, out);
    safetensors_close(&f);
    return status;
}

int loop_start_read(device *d, const char *folder, const model_config *config, dtype type, loop_start **out) {
    char *path;
    *out = NULL;
    TRY(path_join(folder, LOOP_START_FILE, &path));
    int status = path_exists(path) ? read_path(path, d, config, type, out) : LCKV_OK;
    free(path);
    if (status >= 0) return LCKV_OK;
    loop_start_free(*out);
    *out = NULL;
    return status;
}

/* ---------------------------------------------------------------- writing */

static dtype stored_type(const loop_start_save *save, int entry) {
    return save->type == DTYPE_COUNT ? params_type(save->start->weights, entry) : save->type;
}

static int item_values(void *user, int index, element_range range, void *bytes) {
    const loop_start_save *save = user;
    int entry = save->start->first + index;
    dtype type = stored_type(save, entry);
    if (save->values) return save->values(save->user, entry, range, type, bytes);
    return params_read_range(save->start->weights, entry, range, type, bytes);
}

static int write_tensors(new_file *file, const loop_start_save *save, const json_t *metadata) {
    const loop_start *start = save->start;
    safetensors_item *items = calloc((size_t)start->count, sizeof *items);
    REQUIRE(items, LCKV_ERROR_MEMORY, "no memory for a list of %d tensors", start->count);
    for (int i = 0; i < start->count; i++) {
        int entry = start->first + i;
        const weight *w = &start->weights->table[entry];
        items[i] = (safetensors_item){.name = w->name, .type = stored_type(save, entry), .dimensions = w->dimensions};
        items[i].shape[0] = w->dimensions == 2 ? w->rows : w->cols;
        items[i].shape[1] = w->cols;
    }
    int status = safetensors_write_with(file, metadata, items, start->count, item_values, (void *)(uintptr_t)save);
    free(items);
    return status;
}

int loop_start_stage(staging *s, const loop_start_save *save) {
    new_file *file;
    json_t *metadata;
    TRY(make_metadata(&save->start->kl, &metadata));
    int status = staging_begin(s, LOOP_START_FILE, &file);
    if (status >= 0) status = write_tensors(file, save, metadata);
    json_decref(metadata);
    return status;
}

int loop_start_write(const loop_start_save *save, const char *folder) {
    staging s = {.folder = folder};
    int status = loop_start_stage(&s, save);
    if (status >= 0) status = staging_sync(&s);
    if (status >= 0) status = staging_commit(&s);
    staging_abandon(&s);
    return status;
}
