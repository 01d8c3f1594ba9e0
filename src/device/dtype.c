/* Formats of values, see dtype.h. */
#include "device/dtype.h"

#include <stdio.h>

static const struct {
    const char *name;
    size_t element_bytes;
    unsigned bits; /* per value of a grouped format */
} formats[DTYPE_COUNT] = {
    [DTYPE_F32] = {"float32", 4, 0},  [DTYPE_BF16] = {"bfloat16", 2, 0}, [DTYPE_F16] = {"float16", 2, 0},
    [DTYPE_I32] = {"int32", 4, 0},    [DTYPE_I64] = {"int64", 8, 0},     [DTYPE_F64] = {"float64", 8, 0},
    [DTYPE_U8] = {"uint8", 1, 0},     [DTYPE_INT8] = {"int8", 0, 8},     [DTYPE_INT4] = {"int4", 0, 4},
    [DTYPE_KV_INT8] = {"int8", 1, 0},
};

const char *dtype_name(dtype type) {
    return formats[type].name;
}

size_t dtype_element_bytes(dtype type) {
    return formats[type].element_bytes;
}

size_t dtype_row_bytes(dtype type, int64_t cols) {
    size_t bytes = formats[type].element_bytes;
    return bytes ? (size_t)cols * bytes : ((size_t)cols * formats[type].bits + 7) / 8;
}

size_t dtype_row_scale_bytes(dtype type, int64_t cols) {
    if (formats[type].element_bytes) return 0;
    return ((size_t)cols + DTYPE_GROUP - 1) / DTYPE_GROUP * dtype_element_bytes(DTYPE_F16);
}

void dtype_list(unsigned set, char *out, size_t bytes) {
    size_t length = 0;
    *out = 0;
    for (int type = 0; type < DTYPE_COUNT && length < bytes; type++) {
        if (!(set & DTYPE_BIT(type))) continue;
        set &= ~DTYPE_BIT(type);
        const char *separator = !length ? "" : set ? ", " : " or ";
        length += (size_t)snprintf(out + length, bytes - length, "%s%s", separator, dtype_name((dtype)type));
    }
}
