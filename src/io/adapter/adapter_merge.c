/* Adding an adapter to weights, see adapter_merge.h. */
#include "io/adapter/adapter_merge.h"

#include "io/tensors/tensor_values.h"

#include <stdlib.h>

/* [rows, cols] -> [cols, rows] */
static void transpose(const float *in, int64_t rows, int64_t cols, float *out) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) out[c * rows + r] = in[r * cols + c];
}

/* product [rows, cols] = b [rows, rank] a [rank, cols]. `factors` has room for b and for a twice. */
static int multiply(const adapter_file *f, const safetensors_entry *a, const safetensors_entry *b, float *factors,
                    float *product) {
    int64_t rank = a->shape[0], cols = a->shape[1], rows = b->shape[0];
    float *left = factors, *right = left + b->elements, *turned = right + a->elements;
    TRY(tensor_values(f->host, b, DTYPE_F32, left));
    TRY(tensor_values(f->host, a, DTYPE_F32, right));
    transpose(right, rank, cols, turned);
    struct op_linear linear = {.x = {left, rows, rank, DTYPE_F32},
                               .weight = {turned, cols, rank, DTYPE_F32},
                               .y = {product, rows, cols, DTYPE_F32}};
    TRY(DEVICE_RUN(f->host, linear, &linear));
    return f->host->memory.wait(f->host);
}

int adapter_merge(const adapter_file *f, const char *weight_name, int64_t rows, int64_t cols, float *values) {
    const safetensors_entry *a = adapter_file_tensor(f, weight_name, 'A'),
                            *b = adapter_file_tensor(f, weight_name, 'B');
    float scale;
    if (!a || !b) return LCKV_OK;
    TRY(adapter_file_scale(f, weight_name, a->shape[0], &scale));
    float *factors = malloc((size_t)(2 * a->elements + b->elements) * sizeof *factors);
    float *product = malloc((size_t)(rows * cols) * sizeof *product);
    int status = factors && product ? multiply(f, a, b, factors, product)
                                    : fail(LCKV_ERROR_MEMORY, "no memory to merge %s", weight_name);
    struct op_accumulate sum = {
        .src = {product, rows, cols, DTYPE_F32}, .dst = {values, rows, cols, DTYPE_F32}, .scale = scale};
    if (status >= 0) status = DEVICE_RUN(f->host, accumulate, &sum);
    free(factors);
    free(product);
    return status;
}

int adapter_merged_values(device *d, const safetensors_entry *e, const adapter_file *a, dtype type, void *out) {
    if (!a || !adapter_file_has(a, e->name)) return tensor_values(d, e, type, out);
    REQUIRE(e->dimensions == 2, LCKV_ERROR_FORMAT, "%s should be a matrix, found %d dimensions", e->name,
            e->dimensions);
    float *sum = malloc((size_t)e->elements * sizeof *sum);
    REQUIRE(sum, LCKV_ERROR_MEMORY, "no memory for %s", e->name);
    int64_t cols = e->shape[1];
    int status = tensor_values(d, e, DTYPE_F32, sum);
    if (status >= 0) status = adapter_merge(a, e->name, e->elements / cols, cols, sum);
    struct op_cast cast = {{sum, 1, e->elements, DTYPE_F32}, {out, 1, e->elements, type}};
    if (status >= 0) status = DEVICE_RUN(d, cast, &cast);
    free(sum);
    return status;
}
