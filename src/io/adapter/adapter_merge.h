/* Weights plus an adapter: value + scale B A, computed in f32 in host memory. */
#ifndef IO_ADAPTER_MERGE_H
#define IO_ADAPTER_MERGE_H

#include "io/adapter/adapter_file.h"

/* values [rows, cols] += scale b a, for the weight of this name. Does nothing if the adapter has no tensors for it. The
 * caller has checked the file with adapter_file_check(). */
int adapter_merge(const adapter_file *f, const char *weight_name, int64_t rows, int64_t cols, float *values);

/* Like tensor_values(), for a weight and what the adapter (NULL: none) adds to it. The sum is computed in f32 and then
 * converted to `type`. `d` computes in host memory. */
int adapter_merged_values(device *d, const safetensors_entry *e, const adapter_file *a, dtype type, void *out);

#endif
