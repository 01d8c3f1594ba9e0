/* Writing GGUF files, see gguf_write.h. */
#include "gguf/gguf_write.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 32, VERSION = 3 };

/* ---------------------------------------------------------------- keys */

static int add(text_buffer *b, const void *bytes, size_t count) {
    return text_append(b, bytes, count);
}

static int add_uint32(text_buffer *b, uint32_t value) {
    return add(b, &value, sizeof value);
}

static int add_uint64(text_buffer *b, uint64_t value) {
    return add(b, &value, sizeof value);
}

static int add_text(text_buffer *b, const char *text, size_t bytes) {
    TRY(add_uint64(b, bytes));
    return add(b, text, bytes);
}

static int begin_key(gguf_keys *k, const char *name, gguf_type type) {
    TRY(add_text(&k->bytes, name, strlen(name)));
    k->count++;
    return add_uint32(&k->bytes, type);
}

int gguf_put_uint(gguf_keys *k, const char *name, uint32_t value) {
    TRY(begin_key(k, name, GGUF_UINT32));
    return add_uint32(&k->bytes, value);
}

int gguf_put_float(gguf_keys *k, const char *name, float value) {
    TRY(begin_key(k, name, GGUF_FLOAT32));
    return gguf_add_float(k, value);
}

int gguf_put_bool(gguf_keys *k, const char *name, bool value) {
    TRY(begin_key(k, name, GGUF_BOOL));
    return add(&k->bytes, value ? "\1" : "\0", 1);
}

int gguf_put_string(gguf_keys *k, const char *name, const char *value) {
    TRY(begin_key(k, name, GGUF_STRING));
    return gguf_add_string(k, value, strlen(value));
}

void gguf_keys_free(gguf_keys *k) {
    text_free(&k->bytes);
}

int gguf_begin_array(gguf_keys *k, const char *name, gguf_type type, uint64_t count) {
    TRY(begin_key(k, name, GGUF_ARRAY));
    TRY(add_uint32(&k->bytes, type));
    return add_uint64(&k->bytes, count);
}

int gguf_add_string(gguf_keys *k, const char *text, size_t bytes) {
    return add_text(&k->bytes, text, bytes);
}

int gguf_add_int(gguf_keys *k, int32_t value) {
    return add(&k->bytes, &value, sizeof value);
}

int gguf_add_float(gguf_keys *k, float value) {
    return add(&k->bytes, &value, sizeof value);
}

/* ---------------------------------------------------------------- tensors */

static size_t padded(size_t bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static size_t item_bytes(const gguf_item *item) {
    const gguf_format *f = gguf_format_of(item->format);
    return (size_t)(item->rows * item->cols / f->block) * f->bytes;
}

static int write_padding(new_file *file, size_t written) {
    static const char zeros[ALIGNMENT];
    return file_write(file, zeros, padded(written) - written);
}

static int describe_items(text_buffer *b, const gguf_item *items, int count) {
    uint64_t offset = 0;
    for (int i = 0; i < count; i++) {
        const gguf_item *item = &items[i];
        TRY(add_text(b, item->name, strlen(item->name)));
        TRY(add_uint32(b, (uint32_t)item->dimensions));
        TRY(add_uint64(b, (uint64_t)item->cols));
        if (item->dimensions == 2) TRY(add_uint64(b, (uint64_t)item->rows));
        TRY(add_uint32(b, item->format));
        TRY(add_uint64(b, offset));
        offset += padded(item_bytes(item));
    }
    return LCKV_OK;
}

static int make_header(text_buffer *b, const gguf_keys *keys, const gguf_item *items, int count) {
    TRY(add(b, "GGUF", 4));
    TRY(add_uint32(b, VERSION));
    TRY(add_uint64(b, (uint64_t)count));
    TRY(add_uint64(b, keys->count));
    TRY(add(b, keys->bytes.data, keys->bytes.length));
    return describe_items(b, items, count);
}

static int write_item(new_file *file, const gguf_item *item, int index, gguf_values values, void *user) {
    const gguf_format *f = gguf_format_of(item->format);
    int64_t elements = item->rows * item->cols;
    size_t bytes = item_bytes(item);
    float *numbers = item->encoded ? NULL : malloc((size_t)elements * sizeof *numbers);
    void *blocks = malloc(bytes);
    int status = blocks && (numbers || item->encoded)
                     ? values(user, index, item->encoded ? blocks : numbers)
                     : fail(LCKV_ERROR_MEMORY, "no memory for the values of %s", item->name);
    if (status >= 0 && !item->encoded) {
        status = gguf_encode(f, numbers, elements, blocks);
        if (status < 0) fail_within(status, "%s", item->name);
    }
    if (status >= 0) status = file_write(file, blocks, bytes);
    if (status >= 0) status = write_padding(file, bytes);
    free(numbers);
    free(blocks);
    return status;
}

int gguf_write(new_file *file, const gguf_keys *keys, const gguf_item *items, int count, gguf_values values,
               void *user) {
    text_buffer header = {0};
    int status = make_header(&header, keys, items, count);
    if (status >= 0) status = file_write(file, header.data, header.length);
    if (status >= 0) status = write_padding(file, header.length);
    for (int i = 0; i < count && status >= 0; i++) status = write_item(file, &items[i], i, values, user);
    text_free(&header);
    return status;
}
