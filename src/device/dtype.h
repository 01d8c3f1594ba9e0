/* Element types of device memory. */
#ifndef DEVICE_DTYPE_H
#define DEVICE_DTYPE_H

#include <stddef.h>

typedef enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_I32, DTYPE_I64, DTYPE_F64, DTYPE_U8, DTYPE_COUNT } dtype;

size_t dtype_bytes(dtype type);
const char *dtype_name(dtype type); /* "float32", "bfloat16", ... as config.json spells them */

#endif
