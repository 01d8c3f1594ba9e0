/* The values of a tensor in a safetensors or GGUF file, converted to another data type. */
#ifndef IO_TENSOR_VALUES_H
#define IO_TENSOR_VALUES_H

#include "device/device.h"
#include "io/tensors/safetensors.h"

/* Into out [elements] of `type`; `d` computes in host memory. */
int tensor_values(device *d, const safetensors_entry *e, dtype type, void *out);

#endif
