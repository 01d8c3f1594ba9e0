/* Converting tensors of a file, see tensor_values.h. */
#include "io/tensors/tensor_values.h"

#include <stdlib.h>
#include <string.h>

/* Data in the file is not aligned. */
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
