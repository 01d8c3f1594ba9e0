/* Quantized matrices in safetensors files, in the layout "pack-quantized" of compressed-tensors.
 *
 * In place of NAME.weight [rows, cols] there are three tensors:
 *   NAME.weight_packed  I32 [rows, ceil(cols * bits / 32)]: integers plus 2^(bits - 1), the first column in the lowest
 *                       bits
 *   NAME.weight_scale   F16 [rows, ceil(cols / 32)]: value = scale * integer; BF16 and F32 are read too, rounded to F16
 *   NAME.weight_shape   I64 [2]: rows and cols; I32 is read too
 * The bytes of a row are those of dtype.h with the upper bit of each integer inverted. */
#ifndef IO_QUANTIZED_TENSORS_H
#define IO_QUANTIZED_TENSORS_H

#include "io/tensors/checkpoint_files.h"
#include "model/params.h"

/* The tensors of a quantized matrix. */
typedef struct quantized_tensors {
    const checkpoint_tensor *packed, *scale, *shape;
} quantized_tensors;

/* Whether files of this config may have quantized matrices. */
bool quantized_tensors_expected(const model_config *c);
/* Finds the tensors of a matrix in files that have no tensor of its name. Returns false if there is no packed one. */
bool quantized_tensors_find(const checkpoint_files *files, const char *weight_name, quantized_tensors *out);
/* Fails unless all three have the matrix's shape. Sets its data type, int8 or int4. */
int quantized_tensors_check(const quantized_tensors *t, const char *source, weight *w);

/* Whether a tensor of this name is one of the three of a quantized weight in the table. */
bool quantized_tensors_belong(params *p, const char *name);

/* Integers and scales in the layout of dtype.h, into memory of the caller of that size. w has the data type of the
 * tensors; of a rank's part, the first column is a multiple of DTYPE_GROUP. LCKV_ERROR_FORMAT if a scale is not finite.
 */
int quantized_tensors_read(const quantized_tensors *t, const weight *w, void *data, void *scales);
/* The values of the whole matrix as f32, [w->all_rows, w->all_cols]. */
int quantized_tensors_values(const quantized_tensors *t, const weight *w, float *out);

/* Writing: what one weight becomes. */
enum { QUANTIZED_TENSORS = 3, QUANTIZED_NAME_BYTES = 112 };
typedef struct quantized_items {
    char name[QUANTIZED_TENSORS][QUANTIZED_NAME_BYTES];
    safetensors_item item[QUANTIZED_TENSORS];
} quantized_items;

/* Fills *out for a weight that is stored as `type`. The names are in *out. LCKV_ERROR_UNSUPPORTED if the weight has
 * so few columns that int8 and int4 have the same packed shape. */
int quantized_items_make(const weight *w, dtype type, quantized_items *out);
/* The bytes of item `which`, from integers and scales in the layout of dtype.h. */
void quantized_item_values(int which, const weight *w, dtype type, const void *data, const void *scales, void *bytes);

#endif
