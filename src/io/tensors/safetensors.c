/* Reading safetensors files, see safetensors.h. Everything in the header is checked. */
#include "io/tensors/safetensors.h"

#include "base/files/content.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define METADATA "__metadata__"

enum { LENGTH_BYTES = 8, MAX_HEADER_BYTES = 100000000 /* as in the reference implementation */ };

static const struct {
    const char *name;
    size_t bytes;
    dtype type;
} STORED_TYPES[] = {
    {"F32", 4, DTYPE_F32},    {"BF16", 2, DTYPE_BF16},     {"F16", 2, DTYPE_F16},       {"F64", 8, DTYPE_F64},
    {"I64", 8, DTYPE_I64},    {"I32", 4, DTYPE_I32},       {"U8", 1, DTYPE_U8},         {"I16", 2, DTYPE_COUNT},
    {"I8", 1, DTYPE_COUNT},   {"U64", 8, DTYPE_COUNT},     {"U32", 4, DTYPE_COUNT},     {"U16", 2, DTYPE_COUNT},
    {"BOOL", 1, DTYPE_COUNT}, {"F8_E4M3", 1, DTYPE_COUNT}, {"F8_E5M2", 1, DTYPE_COUNT},
};

/* ---------------------------------------------------------------- one tensor */

static int read_type(const safetensors_file *file, const json_t *info, safetensors_entry *e, size_t *element_bytes) {
    const char *name = json_string_value(json_object_get(info, "dtype"));
    REQUIRE(name, LCKV_ERROR_FORMAT, "%s: tensor %s has no dtype", file->path, e->name);
    for (size_t i = 0; i < sizeof STORED_TYPES / sizeof *STORED_TYPES; i++) {
        if (strcmp(STORED_TYPES[i].name, name) != 0) continue;
        e->stored_type = STORED_TYPES[i].name;
        e->type = STORED_TYPES[i].type;
        *element_bytes = STORED_TYPES[i].bytes;
        return LCKV_OK;
    }
    return fail(LCKV_ERROR_FORMAT, "%s: tensor %s: unknown dtype '%.40s'", file->path, e->name, name);
}

/* Also ensures that the size in bytes does not overflow. */
static int read_shape(const safetensors_file *file, const json_t *info, safetensors_entry *e, size_t element_bytes) {
    const json_t *shape = json_object_get(info, "shape");
    size_t dimensions = json_array_size(shape);
    REQUIRE(json_is_array(shape) && dimensions <= SAFETENSORS_MAX_DIMENSIONS, LCKV_ERROR_FORMAT,
            "%s: tensor %s: expected a shape of at most %d dimensions", file->path, e->name,
            SAFETENSORS_MAX_DIMENSIONS);
    int64_t limit = INT64_MAX / (int64_t)element_bytes;
    e->elements = 1;
    e->dimensions = (int)dimensions;
    for (size_t i = 0; i < dimensions; i++) {
        const json_t *value = json_array_get(shape, i);
        int64_t size = json_integer_value(value);
        REQUIRE(json_is_integer(value) && size >= 0, LCKV_ERROR_FORMAT,
                "%s: tensor %s: dimension %zu: expected an integer of at least 0", file->path, e->name, i);
        REQUIRE(size == 0 || e->elements <= limit / size, LCKV_ERROR_FORMAT, "%s: tensor %s: the shape is too large",
                file->path, e->name);
        e->shape[i] = size;
        e->elements *= size;
    }
    return LCKV_OK;
}

static int read_offsets(const safetensors_file *file, const json_t *info, safetensors_entry *e, size_t data_at) {
    const json_t *offsets = json_object_get(info, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    REQUIRE(json_array_size(offsets) == 2 && json_is_integer(first) && json_is_integer(last), LCKV_ERROR_FORMAT,
            "%s: tensor %s: expected two data_offsets", file->path, e->name);
    int64_t begin = json_integer_value(first), end = json_integer_value(last);
    int64_t data_bytes = (int64_t)(file->map.bytes - data_at);
    REQUIRE(begin >= 0 && begin <= end && end <= data_bytes, LCKV_ERROR_FORMAT,
            "%s: tensor %s: expected offsets within the file's %lld bytes of data, found %lld to %lld", file->path,
            e->name, (long long)data_bytes, (long long)begin, (long long)end);
    e->data = file->map.data + data_at + begin;
    e->bytes = (size_t)(end - begin);
    return LCKV_OK;
}

static int read_entry(const safetensors_file *file, const char *name, const json_t *info, size_t data_at,
                      safetensors_entry *e) {
    *e = (safetensors_entry){.name = name};
    REQUIRE(json_is_object(info), LCKV_ERROR_FORMAT, "%s: tensor %s: expected dtype, shape and data_offsets",
            file->path, name);
    size_t element_bytes;
    TRY(read_type(file, info, e, &element_bytes));
    TRY(read_shape(file, info, e, element_bytes));
    TRY(read_offsets(file, info, e, data_at));
    REQUIRE(e->bytes == (size_t)e->elements * element_bytes, LCKV_ERROR_FORMAT,
            "%s: tensor %s: the shape needs %zu bytes, the data_offsets have %zu", file->path, name,
            (size_t)e->elements * element_bytes, e->bytes);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- all tensors */

static int by_offset(const void *left, const void *right) {
    const safetensors_entry *a = left, *b = right;
    if (a->data != b->data) return a->data < b->data ? -1 : 1;
    return a->bytes < b->bytes ? -1 : a->bytes > b->bytes; /* empty ones first */
}

static int by_name(const void *left, const void *right) {
    return strcmp(((const safetensors_entry *)left)->name, ((const safetensors_entry *)right)->name);
}

/* The tensors cover everything after the header, without overlaps and gaps. */
static int check_cover(safetensors_file *file, size_t data_at) {
    qsort(file->entries, (size_t)file->count, sizeof *file->entries, by_offset);
    const unsigned char *at = file->map.data + data_at, *end = file->map.data + file->map.bytes;
    for (int i = 0; i < file->count; i++) {
        const safetensors_entry *e = &file->entries[i];
        REQUIRE(e->data >= at, LCKV_ERROR_FORMAT, "%s: tensor %s overlaps tensor %s", file->path, e->name,
                file->entries[i - 1].name);
        REQUIRE(e->data == at, LCKV_ERROR_FORMAT, "%s: %zu byte%s before tensor %s belong%s to no tensor", file->path,
                (size_t)(e->data - at), plural((int64_t)(e->data - at)), e->name, verb_ending((int64_t)(e->data - at)));
        at += e->bytes;
    }
    REQUIRE(at == end, LCKV_ERROR_FORMAT, "%s: the last %zu byte%s belong%s to no tensor", file->path,
            (size_t)(end - at), plural((int64_t)(end - at)), verb_ending((int64_t)(end - at)));
    return LCKV_OK;
}

static int read_entries(safetensors_file *file, size_t data_at) {
    file->entries = calloc(json_object_size(file->header) + 1, sizeof *file->entries);
    REQUIRE(file->entries, LCKV_ERROR_MEMORY, "%s: no memory for a list of %zu tensors", file->path,
            json_object_size(file->header));
    const char *name;
    json_t *info;
    json_object_foreach(file->header, name, info) {
        if (strcmp(name, METADATA) == 0) continue;
        TRY(read_entry(file, name, info, data_at, &file->entries[file->count++]));
    }
    TRY(check_cover(file, data_at));
    qsort(file->entries, (size_t)file->count, sizeof *file->entries, by_name);
    return LCKV_OK;
}

static int read_length(const safetensors_file *file, int fd, size_t *out) {
    unsigned char stored[LENGTH_BYTES];
    REQUIRE(file->map.bytes >= LENGTH_BYTES, LCKV_ERROR_FORMAT, "%s: too short for a safetensors file: %zu bytes",
            file->path, file->map.bytes);
    TRY(file_read_open(fd, file->path, (char *)stored, sizeof stored));
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) length = length << 8 | stored[i];
    REQUIRE(length <= MAX_HEADER_BYTES, LCKV_ERROR_FORMAT, "%s: expected a header of at most %d bytes, found %llu",
            file->path, MAX_HEADER_BYTES, (unsigned long long)length);
    REQUIRE(length <= file->map.bytes - LENGTH_BYTES, LCKV_ERROR_FORMAT,
            "%s: the header of %llu bytes is longer than the file of %zu bytes", file->path, (unsigned long long)length,
            file->map.bytes);
    *out = (size_t)length;
    return LCKV_OK;
}

static int parse_header(safetensors_file *file, int fd, char *text, size_t length) {
    TRY(file_read_open(fd, file->path, text, length));
    REQUIRE(length >= 2 && text[0] == '{', LCKV_ERROR_FORMAT, "%s: expected a JSON object as header", file->path);
    return json_parse(text, length, file->path, &file->header);
}

/* Reads the header instead of using the mapping: a file that is truncated meanwhile gives an error, not SIGBUS. */
static int read_header(safetensors_file *file, int fd) {
    size_t length;
    TRY(read_length(file, fd, &length));
    char *text = malloc(length + 1);
    REQUIRE(text, LCKV_ERROR_MEMORY, "%s: no memory for the header of %zu bytes", file->path, length);
    int status = parse_header(file, fd, text, length);
    free(text);
    TRY(status);
    const json_t *metadata = json_object_get(file->header, METADATA);
    REQUIRE(!metadata || json_is_object(metadata), LCKV_ERROR_FORMAT, "%s: %s: expected an object of strings",
            file->path, METADATA);
    return read_entries(file, LENGTH_BYTES + length);
}

int safetensors_open(const char *path, safetensors_file *out) {
    *out = (safetensors_file){.path = strdup(path)};
    REQUIRE(out->path, LCKV_ERROR_MEMORY, "no memory for a path");
    int fd;
    size_t bytes;
    int status = file_open(path, &fd, &bytes);
    if (status >= 0) status = file_map_open(fd, path, bytes, &out->map);
    if (status >= 0) status = content_check(path, out->map.data, out->map.bytes);
    if (status >= 0) status = read_header(out, fd);
    if (fd >= 0) close(fd);
    if (status < 0) safetensors_close(out);
    return status;
}

void safetensors_close(safetensors_file *file) {
    json_decref(file->header);
    free(file->entries);
    file_unmap(&file->map);
    free(file->path);
    *file = (safetensors_file){0};
}

const safetensors_entry *safetensors_find(const safetensors_file *file, const char *name) {
    safetensors_entry key = {.name = name};
    return bsearch(&key, file->entries, (size_t)file->count, sizeof key, by_name);
}

void safetensors_drop(const safetensors_entry *e) {
    file_drop_pages(e->data, e->bytes);
}

const char *safetensors_metadata(const safetensors_file *file, const char *key) {
    return json_string_value(json_object_get(json_object_get(file->header, METADATA), key));
}
