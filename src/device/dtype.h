/* Formats of the values in device memory: their names, and their sizes by shape.
 *
 * Most formats are arrays of elements. Grouped formats store DTYPE_GROUP values of a row with one scale: int8 has a
 * byte per value, int4 half a byte (the even column in the low half, -8 .. 7). Their scales are f16 [rows, groups per
 * row], in memory of their own (view.scales); value = scale * integer. A row begins at a whole byte, and with a group
 * of its own.
 *
 * kv_int8, of KV pages, is signed bytes -127 .. 127 with an f32 scale for each token and KV head: view.scales [rows,
 * cols / view.group], where view.group is the head size. scale = max |x| / 127 over the head, value = scale * integer
 * with the integer x / scale rounded to nearest: the error is at most scale / 2. A head whose scale would be below the
 * smallest normal f32 is stored as zeros. A head with a NaN or an infinity has the scale NaN, so that all of it reads
 * as NaN. */
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
    DTYPE_KV_INT8,
    DTYPE_COUNT
} dtype;

enum { DTYPE_GROUP = 32 };

/* Consecutive elements of an array. */
typedef struct element_range {
    int64_t first, count;
} element_range;

/* Sets of formats. */
#define DTYPE_BIT(type) (1u << (type))
#define DTYPE_FLOATS (DTYPE_BIT(DTYPE_F32) | DTYPE_BIT(DTYPE_BF16) | DTYPE_BIT(DTYPE_F16))
#define DTYPE_GROUPED (DTYPE_BIT(DTYPE_INT8) | DTYPE_BIT(DTYPE_INT4))
#define DTYPE_PAGES (DTYPE_BIT(DTYPE_F32) | DTYPE_BIT(DTYPE_BF16) | DTYPE_BIT(DTYPE_KV_INT8)) /* of the KV cache */

const char *dtype_name(dtype type); /* "float32", "bfloat16", ... as in config.json */

/* Bytes of the values of a row, and of its scales (0 if the format has none; see view_row_scale_bytes() for
 * kv_int8). */
size_t dtype_row_bytes(dtype type, int64_t cols);
size_t dtype_row_scale_bytes(dtype type, int64_t cols);

/* Bytes of one element; 0 for grouped formats, whose values have no address of their own. */
size_t dtype_element_bytes(dtype type);

/* The names of a set, as in "float32, bfloat16 or float16". */
void dtype_list(unsigned set, char *out, size_t bytes);

#endif
