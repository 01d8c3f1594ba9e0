/* Values out of a file, see tensor_values.h. */
#include "io/tensor_values.h"

#include <stdlib.h>
#include <string.h>

/* What lies in the file is aligned to nothing. */
int tensor_values(device *d, const safetensors_entry *e, dtype type, void *out) {
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

int tensor_values_adapted(device *d, const safetensors_entry *e, const adapter_file *a, dtype type, void *out) {
    if (!a || !adapter_file_has(a, e->name)) return tensor_values(d, e, type, out);
    REQUIRE(e->dimensions == 2, LCKV_ERROR_FORMAT, "%s should be a matrix, found %d dimensions", e->name,
            e->dimensions);
    float *sum = malloc((size_t)e->elements * sizeof *sum);
    REQUIRE(sum, LCKV_ERROR_MEMORY, "no memory for %s", e->name);
    int64_t cols = e->shape[1];
    int status = tensor_values(d, e, DTYPE_F32, sum);
    if (status >= 0) status = adapter_file_merge(a, e->name, e->elements / cols, cols, sum);
    struct op_cast cast = {{sum, 1, e->elements, DTYPE_F32}, {out, 1, e->elements, type}};
    if (status >= 0) status = DEVICE_RUN(d, cast, &cast);
    free(sum);
    return status;
}
