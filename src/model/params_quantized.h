/* Values of quantized weights, for params_values.c. */
#ifndef MODEL_PARAMS_QUANTIZED_H
#define MODEL_PARAMS_QUANTIZED_H

#include "model/params.h"

static inline bool view_is_quantized(view v) {
    return (DTYPE_BIT(v.type) & DTYPE_GROUPED) != 0;
}

/* A weight from and to host memory of f32, bf16 or f16. */
int quantize_weight(params *p, const weight *w, const void *host, dtype type);
int dequantize_weight(params *p, const weight *w, dtype type, void *host);

#endif
