/* Formats of the values in device memory: their names, and their sizes by shape.
 *
 * Most formats are arrays of elements. Grouped formats store DTYPE_GROUP values of a row with one scale: int8 has a
 * byte per value, int4 half a byte (the even column in the low half, -8 .. 7). Their scales are f16 [rows, groups per
 * row], in memory of their own (view.scales); value = scale * integer. A row begins at a whole byte, and with a group
 * of its own. */
#ifndef DEVICE_DTYPE_H
#define DEVICE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum dtype {
    DTYPE_F32,
    DTYPE_BF16,
    DTYPE_F16,
    DTYPE_I32,
    DTYPE_I64,
    DTYPE_F64,
    DTYPE_U8,
    DTYPE_INT8,
    DTYPE_INT4,
    DTYPE_COUNT
} dtype;

enum { DTYPE_GROUP = 32 };

/* Sets of formats. */
#define DTYPE_BIT(type) (1u << (type))
#define DTYPE_FLOATS (DTYPE_BIT(DTYPE_F32) | DTYPE_BIT(DTYPE_BF16) | DTYPE_BIT(DTYPE_F16))
#define DTYPE_GROUPED (DTYPE_BIT(DTYPE_INT8) | DTYPE_BIT(DTYPE_INT4))

const char *dtype_name(dtype type); /* "float32", "bfloat16", ... as in config.json */

/* Bytes of the values of a row, and of its scales (0 if the format has none). */
size_t dtype_row_bytes(dtype type, int64_t cols);
size_t dtype_row_scale_bytes(dtype type, int64_t cols);

/* Bytes of one element; 0 for grouped formats, whose values have no address of their own. */
size_t dtype_element_bytes(dtype type);

/* The names of a set, as in "float32, bfloat16 or float16". */
void dtype_list(unsigned set, char *out, size_t bytes);

#endif
