/* Converting tensors of a file, see tensor_values.h. */
#include "io/tensors/tensor_values.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1 << 18 /* values decoded at a time, at least a row */ };

/* Rows [first, first + count) as f32. */
static void decode_rows(const safetensors_entry *e, int64_t cols, int64_t first, int64_t count, float *out) {
    size_t bytes = (size_t)(cols / e->format->block) * e->format->bytes;
    for (int64_t r = first; r < first + count; r++)
        gguf_decode(e->format, e->data + (size_t)safetensors_stored_row(e, r) * bytes, cols, out + (r - first) * cols);
}

/* Blocks of a GGUF file. A vector has rows of one number if it is reordered, else it is a row. */
static int decode(device *d, const safetensors_entry *e, dtype type, char *out) {
    int64_t cols = e->dimensions == 2 ? e->shape[1] : e->head_rows ? 1 : e->elements, rows = e->elements / cols;
    int64_t step = CHUNK / cols > 1 ? CHUNK / cols : 1;
    if (step > rows) step = rows;
    float *values = malloc((size_t)(step * cols) * sizeof *values);
    REQUIRE(values, LCKV_ERROR_MEMORY, "no memory for %s", e->name);
    int status = LCKV_OK;
    for (int64_t first = 0; first < rows && status >= 0; first += step) {
        int64_t count = rows - first < step ? rows - first : step;
        decode_rows(e, cols, first, count, values);
        struct op_cast cast = {{values, 1, count * cols, DTYPE_F32},
                               {out + (size_t)(first * cols) * dtype_element_bytes(type), 1, count * cols, type}};
        status = DEVICE_RUN(d, cast, &cast);
    }
    free(values);
    return status;
}

/* Data in the file is not aligned. */
int tensor_values(device *d, const safetensors_entry *e, dtype type, void *out) {
    if (e->format) return decode(d, e, type, out);
    if (e->type == type) {
        memcpy(out, e->data, e->bytes);
        return LCKV_OK;
    }
    void *aligned = malloc(e->bytes);
    REQUIRE(aligned, LCKV_ERROR_MEMORY, "no memory for %s", e->name);
    memcpy(aligned, e->data, e->bytes);
    struct op_cast cast = {{aligned, 1, e->elements, e->type}, {out, 1, e->elements, type}};
    int status = DEVICE_RUN(d, cast, &cast);
    free(aligned);
    return status;
}
