/* Blocks in q8_0 and q4_0 of GGUF files as weights in int8 and int4 (dtype.h), and back.
 *
 * Both sides have an f16 scale for 32 integers, so that nothing is rounded. They differ in the order of the bytes: a
 * block has its scale and its integers together. In q4_0 the first 16 integers are in the lower halves of the bytes,
 * and all are stored plus 8. */
#ifndef IO_GGUF_GGUF_GROUPS_H
#define IO_GGUF_GGUF_GROUPS_H

#include "io/tensors/safetensors.h"
#include "model/params.h"

/* The type of a matrix in q8_0 or q4_0: int8 or int4. DTYPE_COUNT for other formats. */
dtype gguf_groups_type(const gguf_format *format);

/* Whether a weight of `type` holds the values of blocks exactly: int8 those of q8_0 and q4_0, int4 those of q4_0. */
bool gguf_groups_fit(const gguf_format *format, dtype type);
/* Copies the integers and scales of what w has of a matrix into memory of the caller in the layout of dtype.h, for a
 * `type` that fits. The first column is a multiple of DTYPE_GROUP. LCKV_ERROR_FORMAT if a scale is not finite; `path`
 * is for this error. */
int gguf_groups_read(const char *path, const safetensors_entry *e, const weight *w, dtype type, void *data,
                     void *scales);

/* Whether blocks of a format hold the values of a weight of `type` and `cols` exactly: q8_0 those of int8 and int4,
 * q4_0 those of int4, if the rows are whole blocks. */
bool gguf_groups_hold(const gguf_format *format, dtype type, int64_t cols);
/* Copies the integers and scales of a matrix into blocks of a format that holds them. */
void gguf_groups_write(const gguf_format *format, dtype type, int64_t rows, int64_t cols, const void *data,
                       const void *scales, void *blocks);

#endif
