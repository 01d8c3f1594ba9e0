/* Quantized matrices in safetensors files, see quantized_tensors.h. */
#include "io/tensors/quantized_tensors.h"

#include "device/half.h"
#include "device/quantize.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PACKED, SCALE, SHAPE };
static const char *const endings[QUANTIZED_TENSORS] = {"_packed", "_scale", "_shape"};
enum { PACKED_BYTES = 4 };

static int64_t packed_cols(dtype type, int64_t cols) {
    return ((int64_t)dtype_row_bytes(type, cols) + PACKED_BYTES - 1) / PACKED_BYTES;
}

static int64_t groups(int64_t cols) {
    return (cols + DTYPE_GROUP - 1) / DTYPE_GROUP;
}

/* ---------------------------------------------------------------- finding and checking */

static const checkpoint_tensor *find(const checkpoint_files *files, const char *weight_name, int which) {
    char name[QUANTIZED_NAME_BYTES];
    snprintf(name, sizeof name, "%s%s", weight_name, endings[which]);
    return checkpoint_files_find(files, name);
}

bool quantized_tensors_expected(const model_config *c) {
    return json_is_object(json_object_get(c->raw, "quantization_config"));
}

bool quantized_tensors_find(const checkpoint_files *files, const char *weight_name, quantized_tensors *out) {
    *out = (quantized_tensors){find(files, weight_name, PACKED), find(files, weight_name, SCALE),
                               find(files, weight_name, SHAPE)};
    return out->packed != NULL;
}

static bool has_shape(const safetensors_entry *e, int64_t rows, int64_t cols) {
    return e->dimensions == 2 && e->shape[0] == rows && e->shape[1] == cols;
}

/* A number of NAME.weight_shape, which is not aligned in the file. */
static int64_t shape_value(const safetensors_entry *e, int i) {
    int64_t wide;
    int32_t narrow;
    memcpy(&wide, e->data + (e->type == DTYPE_I64 ? i * 8 : 0), 8);
    memcpy(&narrow, e->data + i * 4, 4);
    return e->type == DTYPE_I64 ? wide : narrow;
}

static int check_shape_tensor(const checkpoint_tensor *t, const weight *w) {
    const safetensors_entry *e = t->entry;
    REQUIRE((e->type == DTYPE_I64 || e->type == DTYPE_I32) && e->dimensions == 1 && e->shape[0] == 2, LCKV_ERROR_FORMAT,
            "%s: tensor %s: expected two numbers of dtype I64 or I32", t->file->path, e->name);
    REQUIRE(shape_value(e, 0) == w->all_rows && shape_value(e, 1) == w->all_cols, LCKV_ERROR_FORMAT,
            "%s: tensor %s: expected [%lld, %lld], found [%lld, %lld]", t->file->path, e->name, (long long)w->all_rows,
            (long long)w->all_cols, (long long)shape_value(e, 0), (long long)shape_value(e, 1));
    return LCKV_OK;
}

static int check_scale(const checkpoint_tensor *t, const weight *w) {
    const safetensors_entry *e = t->entry;
    REQUIRE(DTYPE_BIT(e->type) & DTYPE_FLOATS, LCKV_ERROR_FORMAT,
            "%s: tensor %s: expected dtype F16, BF16 or F32, found %s", t->file->path, e->name, e->stored_type);
    REQUIRE(has_shape(e, w->all_rows, groups(w->all_cols)), LCKV_ERROR_FORMAT,
            "%s: tensor %s: expected shape [%lld, %lld], one scale for %d columns", t->file->path, e->name,
            (long long)w->all_rows, (long long)groups(w->all_cols), DTYPE_GROUP);
    return LCKV_OK;
}

static int check_packed(const checkpoint_tensor *t, weight *w) {
    const safetensors_entry *e = t->entry;
    int64_t rows = w->all_rows, narrow = packed_cols(DTYPE_INT4, w->all_cols),
            wide = packed_cols(DTYPE_INT8, w->all_cols);
    REQUIRE(e->type == DTYPE_I32, LCKV_ERROR_FORMAT, "%s: tensor %s: expected dtype I32, found %s", t->file->path,
            e->name, e->stored_type);
    REQUIRE(narrow < wide && (has_shape(e, rows, narrow) || has_shape(e, rows, wide)), LCKV_ERROR_FORMAT,
            "%s: tensor %s: expected shape [%lld, %lld] of int4 or [%lld, %lld] of int8", t->file->path, e->name,
            (long long)rows, (long long)narrow, (long long)rows, (long long)wide);
    w->tensor.value.type = has_shape(e, rows, narrow) ? DTYPE_INT4 : DTYPE_INT8;
    return LCKV_OK;
}

int quantized_tensors_check(const quantized_tensors *t, const char *source, weight *w) {
    REQUIRE(w->dimensions == 2, LCKV_ERROR_FORMAT, "%s: tensor %s: only matrices can be quantized", source, w->name);
    REQUIRE(t->scale, LCKV_ERROR_FORMAT, "%s: tensor %s_scale is missing", source, w->name);
    REQUIRE(t->shape, LCKV_ERROR_FORMAT, "%s: tensor %s_shape is missing", source, w->name);
    TRY(check_shape_tensor(t->shape, w));
    TRY(check_scale(t->scale, w));
    return check_packed(t->packed, w);
}

bool quantized_tensors_belong(params *p, const char *name) {
    size_t length = strlen(name);
    for (int i = 0; i < QUANTIZED_TENSORS; i++) {
        size_t tail = strlen(endings[i]);
        char base[sizeof((weight *)0)->name];
        if (length <= tail || length - tail >= sizeof base || strcmp(name + length - tail, endings[i]) != 0) continue;
        memcpy(base, name, length - tail);
        base[length - tail] = 0;
        const weight *w = params_find(p, base);
        return w && (DTYPE_BIT(w->tensor.value.type) & DTYPE_GROUPED);
    }
    return false;
}

/* ---------------------------------------------------------------- reading */

/* Integers are stored with an offset of half their range: the upper bit is inverted. */
static unsigned char offset_bits(dtype type) {
    return type == DTYPE_INT8 ? 0x80 : 0x88;
}

/* The part of the tensor that w has, whose first column is that of a group. */
static void read_integers(const safetensors_entry *e, const weight *w, unsigned char *data) {
    dtype type = w->tensor.value.type;
    size_t bytes = dtype_row_bytes(type, w->cols), stored = (size_t)packed_cols(type, w->all_cols) * PACKED_BYTES;
    unsigned char offset = offset_bits(type);
    const unsigned char *from = e->data + (size_t)w->first_row * stored + dtype_row_bytes(type, w->first_col);
    for (int64_t r = 0; r < w->rows; r++, from += stored, data += bytes) {
        for (size_t i = 0; i < bytes; i++) data[i] = from[i] ^ offset;
        if (type == DTYPE_INT4 && w->cols % 2) data[bytes - 1] &= 0x0f; /* padding of the row */
    }
}

static int read_scale(const checkpoint_tensor *t, int64_t i, uint16_t *scale) {
    const safetensors_entry *e = t->entry;
    size_t each = dtype_element_bytes(e->type);
    uint32_t bits = 0;
    memcpy(&bits, e->data + (size_t)i * each, each);
    uint16_t half = (uint16_t)bits;
    float value = e->type == DTYPE_F32 ? float_of_bits(bits) : cpu_widened(&half, e->type, 0);
    *scale = f16_of_float(value);
    REQUIRE(isfinite(float_of_f16(*scale)), LCKV_ERROR_FORMAT,
            "%s: tensor %s: scale %lld: expected a finite f16, found %g", t->file->path, e->name, (long long)i,
            (double)value);
    return LCKV_OK;
}

static int read_scales(const checkpoint_tensor *t, const weight *w, uint16_t *scales) {
    int64_t stored = groups(w->all_cols), first = w->first_row * stored + w->first_col / DTYPE_GROUP;
    for (int64_t r = 0; r < w->rows; r++)
        for (int64_t g = 0; g < groups(w->cols); g++) TRY(read_scale(t, first + r * stored + g, scales++));
    return LCKV_OK;
}

int quantized_tensors_read(const quantized_tensors *t, const weight *w, void *data, void *scales) {
    read_integers(t->packed->entry, w, data);
    return read_scales(t->scale, w, scales);
}

int quantized_tensors_values(const quantized_tensors *t, const weight *w, float *out) {
    weight whole = *w;
    whole.rows = w->all_rows, whole.cols = w->all_cols, whole.first_row = whole.first_col = 0;
    dtype type = w->tensor.value.type;
    unsigned char *data = malloc((size_t)whole.rows * dtype_row_bytes(type, whole.cols) + 1);
    uint16_t *scales = malloc((size_t)whole.rows * dtype_row_scale_bytes(type, whole.cols) + 1);
    int status = data && scales ? quantized_tensors_read(t, &whole, data, scales)
                                : fail(LCKV_ERROR_MEMORY, "no memory for the values of %s", t->packed->entry->name);
    if (status >= 0) dequantize_rows(type, whole.rows, whole.cols, data, scales, out, 1);
    free(data);
    free(scales);
    return status;
}

/* ---------------------------------------------------------------- writing */

int quantized_items_make(const weight *w, dtype type, quantized_items *out) {
    REQUIRE(packed_cols(DTYPE_INT4, w->cols) < packed_cols(DTYPE_INT8, w->cols), LCKV_ERROR_UNSUPPORTED,
            "%s has %lld column%s: a matrix of fewer than 5 is not stored as %s", w->name, (long long)w->cols,
            plural(w->cols), dtype_name(type));
    *out =
        (quantized_items){.item = {{.type = DTYPE_I32, .dimensions = 2, .shape = {w->rows, packed_cols(type, w->cols)}},
                                   {.type = DTYPE_F16, .dimensions = 2, .shape = {w->rows, groups(w->cols)}},
                                   {.type = DTYPE_I64, .dimensions = 1, .shape = {2}}}};
    for (int i = 0; i < QUANTIZED_TENSORS; i++)
        snprintf(out->name[i], sizeof out->name[i], "%s%s", w->name, endings[i]);
    return LCKV_OK;
}

void quantized_item_values(int which, const weight *w, dtype type, const void *data, const void *scales, void *bytes) {
    const int64_t shape[2] = {w->rows, w->cols};
    const unsigned char *from = data;
    unsigned char *to = bytes, offset = offset_bits(type);
    size_t row = dtype_row_bytes(type, w->cols), stored = (size_t)packed_cols(type, w->cols) * PACKED_BYTES;
    if (which == SHAPE) memcpy(bytes, shape, sizeof shape);
    if (which == SCALE) memcpy(bytes, scales, (size_t)w->rows * dtype_row_scale_bytes(type, w->cols));
    if (which != PACKED) return;
    memset(bytes, 0, (size_t)w->rows * stored);
    for (int64_t r = 0; r < w->rows; r++)
        for (size_t i = 0; i < row; i++) to[(size_t)r * stored + i] = from[(size_t)r * row + i] ^ offset;
}
