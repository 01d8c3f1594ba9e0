/* Opening GGUF files, see gguf.h. gguf_keys.c reads the values of keys. */
#include "gguf/gguf.h"

#include "base/files/content.h"
#include "base/text/utf8.h"
#include "base/work.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char MAGIC[] = "GGUF";

enum { MAGIC_BYTES = 4, DEFAULT_ALIGNMENT = 32, MAX_ALIGNMENT = 1 << 20, MAX_KEY_BYTES = 65535 };

/* The least that a key and a tensor take in a file: limits their numbers before memory is allocated. */
enum { LEAST_KEY_BYTES = 14, LEAST_TENSOR_BYTES = 33 };

static const size_t type_bytes[GGUF_TYPES] = {
    [GGUF_UINT8] = 1,   [GGUF_INT8] = 1, [GGUF_UINT16] = 2, [GGUF_INT16] = 2, [GGUF_UINT32] = 4,  [GGUF_INT32] = 4,
    [GGUF_FLOAT32] = 4, [GGUF_BOOL] = 1, [GGUF_UINT64] = 8, [GGUF_INT64] = 8, [GGUF_FLOAT64] = 8,
};

/* ---------------------------------------------------------------- parts of the header */

/* The rest of the header. */
typedef struct cursor {
    const gguf_file *file;
    const unsigned char *at;
    size_t left;
} cursor;

static int take(cursor *c, void *out, size_t bytes) {
    REQUIRE(bytes <= c->left, LCKV_ERROR_FORMAT,
            "%s: the header ends too early: it needs more than the file's %zu bytes", c->file->path,
            c->file->map.bytes);
    if (out) memcpy(out, c->at, bytes);
    c->at += bytes;
    c->left -= bytes;
    return LCKV_OK;
}

static int take_string(cursor *c, gguf_text *out) {
    uint64_t bytes;
    TRY(take(c, &bytes, sizeof bytes));
    REQUIRE(bytes <= c->left, LCKV_ERROR_FORMAT, "%s: a string of %llu bytes is longer than the rest of the file",
            c->file->path, (unsigned long long)bytes);
    *out = (gguf_text){(const char *)c->at, (size_t)bytes};
    return take(c, NULL, (size_t)bytes);
}

/* ---------------------------------------------------------------- keys */

static int skip_items(cursor *c, const gguf_key *key) {
    const char *name = key->name.data;
    int bytes = (int)key->name.bytes;
    size_t least = key->type == GGUF_STRING ? sizeof(uint64_t) : type_bytes[key->type];
    REQUIRE((uint64_t)key->count <= c->left / least, LCKV_ERROR_FORMAT,
            "%s: key '%.*s': %lld items are longer than the rest of the file", c->file->path, bytes, name,
            (long long)key->count);
    work_count((size_t)key->count);
    if (key->type != GGUF_STRING) return take(c, NULL, (size_t)key->count * least);
    gguf_text unused;
    for (int64_t i = 0; i < key->count; i++) {
        int status = take_string(c, &unused);
        if (status < 0) return fail_within(status, "key '%.*s', item %lld", bytes, name, (long long)i);
    }
    return LCKV_OK;
}

static int take_type(cursor *c, const gguf_key *key, bool nested, gguf_type *out) {
    uint32_t type;
    TRY(take(c, &type, sizeof type));
    REQUIRE(type < GGUF_TYPES, LCKV_ERROR_FORMAT, "%s: key '%.*s' has the unknown type %u", c->file->path,
            (int)key->name.bytes, key->name.data, (unsigned)type);
    REQUIRE(!nested || type != GGUF_ARRAY, LCKV_ERROR_UNSUPPORTED,
            "%s: key '%.*s' is an array of arrays, which lckv does not read", c->file->path, (int)key->name.bytes,
            key->name.data);
    *out = (gguf_type)type;
    return LCKV_OK;
}

static int read_key(cursor *c, gguf_key *key) {
    TRY(take_string(c, &key->name));
    REQUIRE(key->name.bytes && key->name.bytes <= MAX_KEY_BYTES, LCKV_ERROR_FORMAT,
            "%s: expected a key of 1 to %d bytes, found %zu", c->file->path, MAX_KEY_BYTES, key->name.bytes);
    REQUIRE(utf8_valid(key->name.data, key->name.bytes) && !memchr(key->name.data, 0, key->name.bytes),
            LCKV_ERROR_FORMAT, "%s: a key is not UTF-8", c->file->path);
    TRY(take_type(c, key, false, &key->type));
    uint64_t count = 1;
    key->array = key->type == GGUF_ARRAY;
    if (key->array) {
        TRY(take_type(c, key, true, &key->type));
        TRY(take(c, &count, sizeof count));
    }
    REQUIRE(count <= c->left, LCKV_ERROR_FORMAT, "%s: key '%.*s': %llu items are longer than the rest of the file",
            c->file->path, (int)key->name.bytes, key->name.data, (unsigned long long)count);
    key->count = (int64_t)count;
    key->data = c->at;
    return skip_items(c, key);
}

static int compare_names(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int by_key(const void *left, const void *right) {
    const gguf_key *a = left, *b = right;
    return compare_names(a->name.data, a->name.bytes, b->name.data, b->name.bytes);
}

static int read_keys(cursor *c, gguf_file *f, int64_t count) {
    f->keys = calloc((size_t)count + 1, sizeof *f->keys);
    REQUIRE(f->keys, LCKV_ERROR_MEMORY, "%s: no memory for %lld keys", f->path, (long long)count);
    for (; f->key_count < count; f->key_count++) TRY(read_key(c, &f->keys[f->key_count]));
    qsort(f->keys, (size_t)count, sizeof *f->keys, by_key);
    for (int64_t i = 1; i < count; i++)
        REQUIRE(by_key(&f->keys[i - 1], &f->keys[i]) != 0, LCKV_ERROR_FORMAT, "%s: the key '%.*s' occurs twice",
                f->path, (int)f->keys[i].name.bytes, f->keys[i].name.data);
    return LCKV_OK;
}

const gguf_key *gguf_find(const gguf_file *file, const char *name) {
    gguf_key wanted = {.name = {name, strlen(name)}};
    return file->key_count ? bsearch(&wanted, file->keys, (size_t)file->key_count, sizeof wanted, by_key) : NULL;
}

/* ---------------------------------------------------------------- tensors */

static int read_name(cursor *c, gguf_tensor *t) {
    gguf_text name;
    TRY(take_string(c, &name));
    REQUIRE(name.bytes && name.bytes < sizeof t->name && utf8_valid(name.data, name.bytes) &&
                !memchr(name.data, 0, name.bytes),
            LCKV_ERROR_FORMAT, "%s: expected the name of a tensor in 1 to %zu bytes of UTF-8, found %zu bytes",
            c->file->path, sizeof t->name - 1, name.bytes);
    memcpy(t->name, name.data, name.bytes);
    return LCKV_OK;
}

static int read_shape(cursor *c, gguf_tensor *t) {
    uint32_t dimensions;
    TRY(take(c, &dimensions, sizeof dimensions));
    REQUIRE(dimensions >= 1 && dimensions <= GGUF_MAX_DIMENSIONS, LCKV_ERROR_FORMAT,
            "%s: tensor %s: expected 1 to %d dimensions, found %u", c->file->path, t->name, GGUF_MAX_DIMENSIONS,
            (unsigned)dimensions);
    t->dimensions = (int)dimensions;
    t->elements = 1;
    for (int i = 0; i < GGUF_MAX_DIMENSIONS; i++) {
        uint64_t size = 1;
        if (i < t->dimensions) TRY(take(c, &size, sizeof size));
        REQUIRE(size >= 1 && size <= (uint64_t)(INT64_MAX / 8 / t->elements), LCKV_ERROR_FORMAT,
                "%s: tensor %s: dimension %d is %llu, which is 0 or too large", c->file->path, t->name, i,
                (unsigned long long)size);
        t->shape[i] = (int64_t)size;
        t->elements *= t->shape[i];
    }
    return LCKV_OK;
}

static int read_format(cursor *c, gguf_tensor *t) {
    uint32_t number;
    TRY(take(c, &number, sizeof number));
    t->format = gguf_format_of(number);
    const char *name = gguf_format_name(number);
    REQUIRE(
        t->format || !name, LCKV_ERROR_UNSUPPORTED,
        "%s: tensor %s has the format %s, which lckv does not read; it reads f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, "
        "q5_1, q4_K, q5_K and q6_K",
        c->file->path, t->name, name);
    REQUIRE(t->format, LCKV_ERROR_UNSUPPORTED, "%s: tensor %s has the unknown format %u", c->file->path, t->name,
            (unsigned)number);
    REQUIRE(t->shape[0] % t->format->block == 0, LCKV_ERROR_FORMAT,
            "%s: tensor %s: rows of format %s have a multiple of %d values, found %lld", c->file->path, t->name,
            t->format->name, t->format->block, (long long)t->shape[0]);
    t->bytes = (size_t)(t->elements / t->format->block) * t->format->bytes;
    return LCKV_OK;
}

/* The place of the data is known only after all keys and tensors are read. */
static int read_tensor(cursor *c, gguf_tensor *t, uint64_t *offset) {
    TRY(read_name(c, t));
    TRY(read_shape(c, t));
    TRY(read_format(c, t));
    return take(c, offset, sizeof *offset);
}

static int place_tensor(const gguf_file *f, gguf_tensor *t, uint64_t offset, uint64_t alignment) {
    size_t data_bytes = f->map.bytes - f->header_bytes;
    REQUIRE(offset % alignment == 0, LCKV_ERROR_FORMAT, "%s: tensor %s: the offset %llu is not a multiple of %llu",
            f->path, t->name, (unsigned long long)offset, (unsigned long long)alignment);
    REQUIRE(offset <= data_bytes && t->bytes <= data_bytes - offset, LCKV_ERROR_FORMAT,
            "%s: tensor %s: expected %zu bytes from %llu on within the file's %zu bytes of data", f->path, t->name,
            t->bytes, (unsigned long long)offset, data_bytes);
    t->data = f->map.data + f->header_bytes + offset;
    return LCKV_OK;
}

static int by_data(const void *left, const void *right) {
    const gguf_tensor *a = left, *b = right;
    return (a->data > b->data) - (a->data < b->data);
}

static int by_name(const void *left, const void *right) {
    return strcmp(((const gguf_tensor *)left)->name, ((const gguf_tensor *)right)->name);
}

static int check_tensors(gguf_file *f) {
    qsort(f->tensors, (size_t)f->count, sizeof *f->tensors, by_data);
    for (int64_t i = 1; i < f->count; i++)
        REQUIRE(f->tensors[i - 1].data + f->tensors[i - 1].bytes <= f->tensors[i].data, LCKV_ERROR_FORMAT,
                "%s: tensor %s overlaps tensor %s", f->path, f->tensors[i].name, f->tensors[i - 1].name);
    qsort(f->tensors, (size_t)f->count, sizeof *f->tensors, by_name);
    for (int64_t i = 1; i < f->count; i++)
        REQUIRE(by_name(&f->tensors[i - 1], &f->tensors[i]) != 0, LCKV_ERROR_FORMAT, "%s: the tensor %s occurs twice",
                f->path, f->tensors[i].name);
    return LCKV_OK;
}

const gguf_tensor *gguf_find_tensor(const gguf_file *file, const char *name) {
    gguf_tensor wanted = {.format = NULL};
    size_t bytes = strlen(name);
    if (!file->count || bytes >= sizeof wanted.name) return NULL;
    memcpy(wanted.name, name, bytes);
    return bsearch(&wanted, file->tensors, (size_t)file->count, sizeof wanted, by_name);
}

static int place_tensors(const cursor *c, gguf_file *f, const uint64_t *offsets) {
    int64_t alignment;
    TRY(gguf_get_int(f, "general.alignment", DEFAULT_ALIGNMENT, 1, MAX_ALIGNMENT, &alignment));
    REQUIRE((alignment & (alignment - 1)) == 0, LCKV_ERROR_FORMAT,
            "%s: general.alignment should be a power of two, found %lld", f->path, (long long)alignment);
    size_t header = (size_t)(c->at - f->map.data), step = (size_t)alignment;
    header = (header + step - 1) / step * step;
    REQUIRE(header <= f->map.bytes || !f->count, LCKV_ERROR_FORMAT, "%s: the file ends before its tensors", f->path);
    f->header_bytes = header <= f->map.bytes ? header : f->map.bytes;
    for (int64_t i = 0; i < f->count; i++) TRY(place_tensor(f, &f->tensors[i], offsets[i], step));
    return check_tensors(f);
}

static int read_tensors(cursor *c, gguf_file *f, int64_t count) {
    f->tensors = calloc((size_t)count + 1, sizeof *f->tensors);
    uint64_t *offsets = calloc((size_t)count + 1, sizeof *offsets);
    int status = f->tensors && offsets
                     ? LCKV_OK
                     : fail(LCKV_ERROR_MEMORY, "%s: no memory for a list of %lld tensors", f->path, (long long)count);
    for (; status >= 0 && f->count < count; f->count++)
        status = read_tensor(c, &f->tensors[f->count], &offsets[f->count]);
    if (status >= 0) status = place_tensors(c, f, offsets);
    free(offsets);
    return status;
}

/* ---------------------------------------------------------------- the file */

static int check_version(const gguf_file *f, uint32_t version) {
    REQUIRE(version == 2 || version == 3, LCKV_ERROR_UNSUPPORTED, "%s: expected version 2 or 3 of GGUF, found %u%s",
            f->path, (unsigned)version,
            version && (version & 0xffff) == 0 ? "; the file is for big-endian computers" : "");
    return LCKV_OK;
}

/* A count that the rest of the file can hold. */
static int take_count(cursor *c, const char *what, size_t least, int64_t *out) {
    uint64_t count;
    TRY(take(c, &count, sizeof count));
    REQUIRE(count <= c->left / least, LCKV_ERROR_FORMAT, "%s: %llu %s do not fit into a file of %zu bytes",
            c->file->path, (unsigned long long)count, what, c->file->map.bytes);
    *out = (int64_t)count;
    return LCKV_OK;
}

static int read_header(gguf_file *f) {
    cursor c = {f, f->map.data, f->map.bytes};
    char magic[MAGIC_BYTES];
    uint32_t version;
    int64_t tensors, keys;
    TRY(content_check(f->path, f->map.data, f->map.bytes));
    TRY(take(&c, magic, sizeof magic));
    REQUIRE(memcmp(magic, MAGIC, sizeof magic) == 0, LCKV_ERROR_FORMAT, "%s: a GGUF file begins with 'GGUF'", f->path);
    TRY(take(&c, &version, sizeof version));
    TRY(check_version(f, version));
    TRY(take_count(&c, "tensors", LEAST_TENSOR_BYTES, &tensors));
    TRY(take_count(&c, "keys", LEAST_KEY_BYTES, &keys));
    TRY(read_keys(&c, f, keys));
    return read_tensors(&c, f, tensors);
}

int gguf_open(const char *path, gguf_file *out) {
    *out = (gguf_file){.path = strdup(path)};
    REQUIRE(out->path, LCKV_ERROR_MEMORY, "no memory for a path");
    int status = file_map(path, &out->map);
    if (status >= 0) status = read_header(out);
    if (status < 0) gguf_close(out);
    return status;
}

void gguf_close(gguf_file *file) {
    free(file->keys);
    free(file->tensors);
    file_unmap(&file->map);
    free(file->path);
    *file = (gguf_file){0};
}

bool gguf_is_file(const char *path) {
    char magic[MAGIC_BYTES];
    int fd;
    size_t bytes;
    if (!file_exists(path) || file_open(path, &fd, &bytes) < 0) return false;
    bool is = bytes >= sizeof magic && file_read_open(fd, path, magic, sizeof magic) >= 0 &&
              memcmp(magic, MAGIC, sizeof magic) == 0;
    close(fd);
    return is;
}
