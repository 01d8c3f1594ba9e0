/* The format of a model's matrices, and quantization_config in config.json.
 *
 * A quantized checkpoint has the layout "pack-quantized" of compressed-tensors, which transformers and vLLM read:
 * integers of 4 or 8 bits, symmetric, in groups of 32 along the input, without quantized activations. Leaves out:
 * the tensors (io/tensors/quantized_tensors.h). */
#ifndef CONFIG_QUANTIZATION_H
#define CONFIG_QUANTIZATION_H

#include "base/text/json.h"

typedef enum weight_format {
    WEIGHT_AUTO,  /* as stored */
    WEIGHT_FLOAT, /* float32, bfloat16 or float16 */
    WEIGHT_INT8,
    WEIGHT_INT4,
    WEIGHT_FORMATS
} weight_format;

const char *weight_format_name(weight_format format); /* "auto", "float", "int8", "int4" */
/* The format of a name; NULL is "auto". */
int weight_format_parse(const char *name, weight_format *out);

/* The format that a config.json asks for: WEIGHT_FLOAT without a quantization_config. The key weight_dtype, which
 * is for overrides, takes precedence. LCKV_ERROR_UNSUPPORTED, with the key and its value, if weights are quantized
 * in a way that lckv does not read. `name` is for errors. */
int quantization_read(const json_t *tree, const char *name, weight_format *out);

/* Sets or removes quantization_config. Returns a negative number if memory ran out, like jansson. */
int quantization_write(weight_format format, json_t *tree);

#endif
