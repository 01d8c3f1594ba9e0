/* Writing safetensors files, see safetensors.h. Spaces pad the header so that the data starts at a multiple of 8 bytes.
 */
#include "io/tensors/safetensors.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER_ALIGNMENT = 8, PART_BYTES = 4 << 20 };

static const char *stored_name(dtype type) {
    static const char *const names[DTYPE_COUNT] = {
        [DTYPE_F32] = "F32", [DTYPE_BF16] = "BF16", [DTYPE_F16] = "F16", [DTYPE_F64] = "F64",
        [DTYPE_I32] = "I32", [DTYPE_I64] = "I64",   [DTYPE_U8] = "U8"};
    return names[type];
}

static int64_t item_elements(const safetensors_item *item) {
    int64_t elements = 1;
    for (int i = 0; i < item->dimensions; i++) elements *= item->shape[i];
    return elements;
}

static size_t item_bytes(const safetensors_item *item) {
    return (size_t)item_elements(item) * dtype_element_bytes(item->type);
}

/* ---------------------------------------------------------------- order */

struct ordered_item {
    const safetensors_item *item;
    int index;
};

static int by_size_and_name(const void *left, const void *right) {
    const safetensors_item *a = ((const struct ordered_item *)left)->item,
                           *b = ((const struct ordered_item *)right)->item;
    size_t a_bytes = dtype_element_bytes(a->type), b_bytes = dtype_element_bytes(b->type);
    if (a_bytes != b_bytes) return a_bytes > b_bytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

static int make_order(const safetensors_item *items, int count, struct ordered_item **out) {
    *out = malloc((size_t)count * sizeof **out + 1);
    REQUIRE(*out, LCKV_ERROR_MEMORY, "no memory for the order of %d tensors", count);
    for (int i = 0; i < count; i++) (*out)[i] = (struct ordered_item){&items[i], i};
    qsort(*out, (size_t)count, sizeof **out, by_size_and_name);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- header */

static json_t *describe(const safetensors_item *item, size_t begin) {
    json_t *shape = json_array();
    int failed = 0;
    for (int i = 0; i < item->dimensions; i++) failed += json_array_append_new(shape, json_integer(item->shape[i]));
    json_t *line = json_pack("{s:s, s:o, s:[I, I]}", "dtype", stored_name(item->type), "shape", shape, "data_offsets",
                             (json_int_t)begin, (json_int_t)(begin + item_bytes(item)));
    if (!failed) return line;
    json_decref(line);
    return NULL;
}

static json_t *header_tree(const json_t *metadata, const struct ordered_item *order, int count) {
    json_t *tree = metadata ? json_pack("{s:O}", "__metadata__", metadata)
                            : json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    size_t at = 0;
    int failed = tree ? 0 : -1;
    for (int i = 0; i < count && !failed; i++) {
        failed = json_object_set_new(tree, order[i].item->name, describe(order[i].item, at));
        at += item_bytes(order[i].item);
    }
    if (!failed) return tree;
    json_decref(tree);
    return NULL;
}

static int write_header(new_file *file, const json_t *metadata, const struct ordered_item *order, int count) {
    json_t *tree = header_tree(metadata, order, count);
    char *text = tree ? json_dumps(tree, JSON_COMPACT) : NULL;
    json_decref(tree);
    REQUIRE(text, LCKV_ERROR_MEMORY, "no memory for the header of %d tensors", count);
    size_t length = strlen(text);
    size_t padded = (length + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
    unsigned char size[8];
    for (int i = 0; i < 8; i++) size[i] = (unsigned char)((uint64_t)padded >> (8 * i));
    int status = file_write(file, size, sizeof size);
    if (status >= 0) status = file_write(file, text, length);
    if (status >= 0) status = file_write(file, "        ", padded - length);
    free(text);
    return status;
}

/* ---------------------------------------------------------------- values */

/* Elements that values() gives at a time. */
static int64_t part_elements(const safetensors_item *item) {
    int64_t most = PART_BYTES / (int64_t)dtype_element_bytes(item->type), all = item_elements(item);
    return item->whole || all < most ? all : most;
}

static int write_item(new_file *file, const struct ordered_item *o, safetensors_values values, void *user,
                      void *buffer) {
    int64_t all = item_elements(o->item), each = part_elements(o->item);
    size_t size = dtype_element_bytes(o->item->type);
    for (int64_t first = 0; first < all; first += each) {
        element_range range = {first, all - first < each ? all - first : each};
        TRY(values(user, o->index, range, buffer));
        TRY(file_write(file, buffer, (size_t)range.count * size));
    }
    return LCKV_OK;
}

static int write_values(new_file *file, const struct ordered_item *order, int count, safetensors_values values,
                        void *user) {
    size_t largest = 1;
    for (int i = 0; i < count; i++) {
        size_t bytes = (size_t)part_elements(order[i].item) * dtype_element_bytes(order[i].item->type);
        if (bytes > largest) largest = bytes;
    }
    void *buffer = malloc(largest);
    REQUIRE(buffer, LCKV_ERROR_MEMORY, "no memory for %zu bytes of a tensor", largest);
    int status = LCKV_OK;
    for (int i = 0; i < count && status >= 0; i++) status = write_item(file, &order[i], values, user, buffer);
    free(buffer);
    return status;
}

static int check_types(const safetensors_item *items, int count) {
    for (int i = 0; i < count; i++)
        REQUIRE(stored_name(items[i].type), LCKV_ERROR_UNSUPPORTED, "%s: format %s cannot be written to safetensors",
                items[i].name, dtype_name(items[i].type));
    return LCKV_OK;
}

int safetensors_write_with(new_file *file, const json_t *metadata, const safetensors_item *items, int count,
                           safetensors_values values, void *user) {
    struct ordered_item *order;
    TRY(check_types(items, count));
    TRY(make_order(items, count, &order));
    int status = write_header(file, metadata, order, count);
    if (status >= 0) status = write_values(file, order, count, values, user);
    free(order);
    return status;
}

int safetensors_write(new_file *file, const safetensors_item *items, int count, safetensors_values values, void *user) {
    return safetensors_write_with(file, NULL, items, count, values, user);
}
