/* The tensors of a GGUF file, see gguf_tensors.h. */
#include "io/gguf/gguf_tensors.h"

#include "gguf/gguf.h"
#include "io/gguf/gguf_groups.h"
#include "io/gguf/gguf_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Heads of queries and keys; 0: their rows are in the order of transformers. */
typedef struct heads {
    int64_t queries, keys;
} heads;

static int read_heads(const gguf_file *f, heads *out) {
    gguf_text family;
    *out = (heads){0};
    TRY(gguf_get_string(f, "general.architecture", &family));
    if (!gguf_text_is(family, "llama")) return LCKV_OK;
    TRY(gguf_get_int(f, "llama.attention.head_count", 1, 1, UINT16_MAX, &out->queries));
    return gguf_get_int(f, "llama.attention.head_count_kv", out->queries, 1, UINT16_MAX, &out->keys);
}

/* The type of a weight with these values. */
static dtype type_of(const gguf_tensor *t) {
    dtype groups = gguf_groups_type(t->format);
    if (groups != DTYPE_COUNT && t->dimensions == 2) return groups;
    if (t->format == gguf_format_of(GGUF_F32)) return DTYPE_F32;
    return t->format == gguf_format_of(GGUF_F16) ? DTYPE_F16 : DTYPE_BF16;
}

static int describe(const gguf_file *f, const gguf_tensor *t, const heads *h, safetensors_entry *e) {
    gguf_rows rows = gguf_rows_of(e->name);
    int64_t count = rows == GGUF_ROWS_QUERIES ? h->queries : rows == GGUF_ROWS_KEYS ? h->keys : 0;
    REQUIRE(t->dimensions <= 2, LCKV_ERROR_FORMAT, "%s: tensor %s: expected 1 or 2 dimensions, found %d", f->path,
            t->name, t->dimensions);
    int64_t first = t->dimensions == 2 ? t->shape[1] : t->shape[0]; /* rows, or the numbers of a vector */
    REQUIRE(!count || first % (2 * count) == 0, LCKV_ERROR_FORMAT,
            "%s: tensor %s: expected an even number of rows for each of %lld heads, found %lld rows", f->path, t->name,
            (long long)count, (long long)first);
    bool array = t->format->block == 1 && !count;
    e->type = type_of(t);
    e->stored_type = t->format->name;
    e->format = array ? NULL : t->format;
    e->head_rows = count ? first / count : 0;
    e->data = t->data;
    e->bytes = t->bytes;
    e->elements = t->elements;
    e->dimensions = t->dimensions;
    e->shape[0] = first;
    e->shape[1] = t->dimensions == 2 ? t->shape[0] : 0;
    return LCKV_OK;
}

static bool is_of_config(const char *name) {
    return !strcmp(name, "rope_freqs.weight") || !strcmp(name, "rope_factors_long.weight") ||
           !strcmp(name, "rope_factors_short.weight");
}

static int by_name(const void *left, const void *right) {
    return strcmp(((const safetensors_entry *)left)->name, ((const safetensors_entry *)right)->name);
}

/* The header of the result is a list of the names, which it owns. */
static int add_entry(const gguf_file *f, const gguf_tensor *t, const heads *h, safetensors_file *out) {
    char name[TENSOR_NAME_BYTES];
    if (is_of_config(t->name)) return LCKV_OK;
    REQUIRE(gguf_name_to_hf(t->name, name), LCKV_ERROR_UNSUPPORTED, "%s: tensor %s is unknown", f->path, t->name);
    json_t *owned = json_string(name);
    REQUIRE(json_array_append_new(out->header, owned) == 0, LCKV_ERROR_MEMORY, "%s: no memory for the name of %s",
            f->path, t->name);
    safetensors_entry *e = &out->entries[out->count++];
    *e = (safetensors_entry){.name = json_string_value(owned)};
    return describe(f, t, h, e);
}

static int add_entries(const gguf_file *f, safetensors_file *out) {
    heads h;
    TRY(read_heads(f, &h));
    out->path = strdup(f->path);
    out->header = json_array();
    out->entries = calloc((size_t)f->count + 1, sizeof *out->entries);
    REQUIRE(out->path && out->header && out->entries, LCKV_ERROR_MEMORY, "%s: no memory for a list of %lld tensors",
            f->path, (long long)f->count);
    for (int64_t i = 0; i < f->count; i++) TRY(add_entry(f, &f->tensors[i], &h, out));
    qsort(out->entries, (size_t)out->count, sizeof *out->entries, by_name);
    return LCKV_OK;
}

int gguf_tensors_open(const char *path, safetensors_file *out) {
    gguf_file file;
    *out = (safetensors_file){0};
    TRY(gguf_open(path, &file));
    int status = add_entries(&file, out);
    if (status >= 0) {
        out->map = file.map; /* which the entries point into */
        file.map = (mapped_file){0};
    } else {
        safetensors_close(out);
    }
    gguf_close(&file);
    return status;
}
