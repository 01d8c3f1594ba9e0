/* The values of a tensor of a safetensors file as numbers of another type. */
#ifndef IO_TENSOR_VALUES_H
#define IO_TENSOR_VALUES_H

#include "device/device.h"
#include "io/adapter_file.h"

/* Into out [elements] of `type`; `d` computes in host memory. */
int tensor_values(device *d, const safetensors_entry *e, dtype type, void *out);

/* The same of a weight, with what the adapter (NULL: none) adds to it: summed in f32, then of `type`. */
int tensor_values_adapted(device *d, const safetensors_entry *e, const adapter_file *a, dtype type, void *out);

#endif
