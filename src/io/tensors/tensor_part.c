/* The part of a tensor that a rank has; see tensor_part.h. */
#include "io/tensors/tensor_part.h"

#include <stdlib.h>
#include <string.h>

const void *tensor_part_in(const weight *w, dtype type, const void *whole) {
    if (w->rows > 1 && w->cols < w->all_cols) return NULL;
    return (const char *)whole + (size_t)(w->first_row * w->all_cols + w->first_col) * dtype_element_bytes(type);
}

int tensor_part_set(params *p, int i, const void *whole, dtype type) {
    const weight *w = &p->table[i];
    const void *in_place = tensor_part_in(w, type, whole);
    if (in_place) return params_set(p, i, in_place, type);
    size_t size = dtype_element_bytes(type), row = (size_t)w->cols * size;
    char *part = malloc((size_t)w->rows * row);
    REQUIRE(part, LCKV_ERROR_MEMORY, "no memory for the %lld values of %s", (long long)(w->rows * w->cols), w->name);
    for (int64_t r = 0; r < w->rows; r++)
        memcpy(part + (size_t)r * row,
               (const char *)whole + (size_t)((w->first_row + r) * w->all_cols + w->first_col) * size, row);
    int status = params_set(p, i, part, type);
    free(part);
    return status;
}
