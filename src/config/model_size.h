/* Sizes that follow from a config alone: parameters and KV bytes. Memory for a run is the counting device's answer. */
#ifndef CONFIG_MODEL_SIZE_H
#define CONFIG_MODEL_SIZE_H

#include "config/model_config.h"

/* Weights of the model: biases and head norms that the config announces, K and V of slot owners alone, tied embeddings
 * once. */
int64_t model_parameters(const model_config *config);

/* K and V of one token in all slots, at `bytes_per_value`; and the same were every layer to own a slot. */
int64_t model_kv_bytes_per_token(const model_config *config, int bytes_per_value);
int64_t model_kv_bytes_per_token_unshared(const model_config *config, int bytes_per_value);

int config_dtype_bytes(config_dtype dtype);

#endif
