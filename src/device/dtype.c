/* Element types, see dtype.h. */
#include "device/dtype.h"

static const struct {
    size_t bytes;
    const char *name;
} types[DTYPE_COUNT] = {
    [DTYPE_F32] = {4, "float32"}, [DTYPE_BF16] = {2, "bfloat16"}, [DTYPE_F16] = {2, "float16"},
    [DTYPE_I32] = {4, "int32"},   [DTYPE_I64] = {8, "int64"},     [DTYPE_F64] = {8, "float64"},
    [DTYPE_U8] = {1, "uint8"},
};

size_t dtype_bytes(dtype type) {
    return types[type].bytes;
}

const char *dtype_name(dtype type) {
    return types[type].name;
}
