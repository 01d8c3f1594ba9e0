/* Fuzz target: a safetensors file. Reads every value of every tensor. */
#include "fuzz.h"

#include "io/tensors/tensor_values.h"

#include <stdlib.h>

static void use_entry(const safetensors_file *file, const safetensors_entry *e) {
    unsigned sum = 0;
    FUZZ_CHECK(safetensors_find(file, e->name) == e);
    for (size_t i = 0; i < e->bytes; i++) sum += e->data[i];
    FUZZ_CHECK(sum <= 255 * e->bytes);
    bool computed = e->type == DTYPE_F32 || e->type == DTYPE_BF16 || e->type == DTYPE_F16;
    if (!computed || e->bytes == 0) return;
    float *values = malloc((size_t)e->elements * sizeof *values);
    FUZZ_CHECK(values);
    if (tensor_values(fuzz_device(), e, DTYPE_F32, values) < 0) fuzz_end(LCKV_ERROR_UNSUPPORTED, true);
    free(values);
}

int fuzz_run(const uint8_t *data, size_t size) {
    safetensors_file file;
    fuzz_clear();
    int status = safetensors_open(fuzz_put("model.safetensors", fuzz_all(data, size)), &file);
    status = fuzz_end(status, !file.path && !file.entries && !file.header);
    for (int i = 0; i < file.count; i++) use_entry(&file, &file.entries[i]);
    const char *format = status >= 0 ? safetensors_metadata(&file, "format") : NULL;
    FUZZ_CHECK(!format || *format || !*format);
    safetensors_close(&file);
    return status;
}
